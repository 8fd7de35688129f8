//! The demo: the simulated cloud and the real operator, joined by nothing but environment variables.
//!
//! `demo OPERATOR FIXTURE_FOLDER`. Shows what went in, what Viola was sent, the object's status and
//! the inventory over HTTP. On a terminal it goes on running to be played with, otherwise it ends
//! by itself: with 0 if everything came out as the fixture says.

use std::env;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use simulated_cloud::{Cloud, Scenario, Service};

/// A first sync takes milliseconds; a busy machine gets its time.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to be told when standard error is gone.
            drop(writeln!(io::stderr(), "the demo failed: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut dyn Write) -> Result<(), String> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [operator, folder] = arguments.as_slice() else {
        return Err("usage: demo OPERATOR FIXTURE_FOLDER".to_owned());
    };
    let scenario = Scenario::load(folder).map_err(|error| error.to_string())?;
    let cloud = Cloud::start(scenario).map_err(|error| error.to_string())?;
    let inventory = env::temp_dir().join(format!("multinic-demo-{}", std::process::id()));
    let mut running = Operator::start(operator, &cloud, &inventory)?;
    let shown = show(out, &cloud, &mut running);
    if shown.is_ok() && io::stdin().is_terminal() {
        play(out, &cloud, &running).map_err(|error| error.to_string())?;
    }
    let stopped = running.stop();
    drop(std::fs::remove_dir_all(&inventory));
    shown.and(stopped)
}

fn show(out: &mut dyn Write, cloud: &Cloud, operator: &mut Operator) -> Result<(), String> {
    let say = |out: &mut dyn Write, text: &str| writeln!(out, "{text}").map_err(|e| e.to_string());
    say(out, "\n== The object a user wrote")?;
    for object in &cloud.scenario().objects {
        say(out, &pretty(&object["spec"]))?;
    }
    let as_expected = cloud.kubernetes().wait_until(
        |view| {
            cloud.scenario().expected.status.iter().all(|(key, wanted)| {
                let (namespace, name) = key.split_once('/').unwrap_or_default();
                let object = view.get("OpenstackConfig", namespace, name);
                object
                    .and_then(|object| ready(&object))
                    .is_some_and(|ready| ready["reason"] == wanted.reason.as_str())
            })
        },
        PATIENCE,
    );
    say(out, "\n== What Viola was sent")?;
    for received in cloud.viola().received() {
        say(
            out,
            &format!(
                "POST {}, x-provider-id: {}",
                simulated_cloud::NODE_CONFIGS,
                received.provider_id
            ),
        )?;
        say(out, &pretty(&Value::Array(received.nodes)))?;
    }
    say(out, "\n== The object's status")?;
    for object in cloud.kubernetes().objects("OpenstackConfig") {
        say(out, &pretty(&object["status"]))?;
    }
    let url = format!("{}/v1/inventory/node-configs?nodeName=worker-0", operator.inventory);
    say(out, &format!("\n== The inventory\n$ curl '{url}'"))?;
    say(out, &pretty(&curl(&url)?))?;
    say(out, "\n== The questions that were asked for it, in order")?;
    for request in cloud.journal().all() {
        if !matches!(request.service, Service::Kubernetes | Service::Control) {
            let path = request.path();
            let status = request.status.unwrap_or_default();
            say(
                out,
                &format!("{:<11} {:<5} {status} {path}", request.service.name(), request.method),
            )?;
        }
    }
    if !as_expected {
        return Err("the status isn't what the fixture expects".to_owned());
    }
    compare(cloud)?;
    say(out, "\nEverything came out as the fixture says.")
}

/// Viola must hold exactly what the fixture says.
fn compare(cloud: &Cloud) -> Result<(), String> {
    for post in &cloud.scenario().expected.posts {
        let held = cloud.viola().current(&post.provider_id);
        for node in &post.nodes {
            let name = node["nodeName"].as_str().unwrap_or_default();
            if held.get(name) != Some(node) {
                return Err(format!("Viola holds {:?} for {name}, not {node}", held.get(name)));
            }
        }
    }
    Ok(())
}

fn play(out: &mut dyn Write, cloud: &Cloud, operator: &Operator) -> io::Result<()> {
    let control = cloud.url(Service::Control);
    let kubernetes = cloud.url(Service::Kubernetes);
    let port = cloud.edit(|state| state.ports.iter().next().map(|port| port.id.clone()));
    writeln!(out, "\nEverything goes on running. Some things to try in another terminal:")?;
    writeln!(out, "  open {}/", operator.inventory)?;
    writeln!(out, "  kubectl --server {kubernetes} get osc -A")?;
    writeln!(
        out,
        "  kubectl --server {kubernetes} annotate osc demo --overwrite multinic.example.com/force-reconcile=\"$(date)\""
    )?;
    if let Some(port) = port {
        writeln!(
            out,
            "  curl -X POST {control}/edit -d '{{\"port\":\"{port}\",\"status\":\"DOWN\"}}'"
        )?;
    }
    writeln!(
        out,
        "  curl -X POST {control}/latency -d '{{\"service\":\"nova\",\"milliseconds\":500}}'"
    )?;
    writeln!(out, "  curl '{control}/requests?service=viola'")?;
    writeln!(out, "Enter ends it.")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(())
}

fn ready(object: &Value) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready").cloned()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn curl(url: &str) -> Result<Value, String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10", url])
        .output()
        .map_err(|error| format!("curl: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("curl {url}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The real operator, as a process.
struct Operator {
    child: Child,
    inventory: String,
}

impl Operator {
    fn start(program: &Path, cloud: &Cloud, folder: &Path) -> Result<Operator, String> {
        let mut child = Command::new(program)
            .env_clear()
            .envs(cloud.environment())
            .env("HEALTH_ADDR", "127.0.0.1:0")
            .env("INVENTORY_ADDR", "127.0.0.1:0")
            .env("INVENTORY_DB_PATH", folder.join("inventory.json"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let lines = child.stderr.take().map(follow).ok_or("the operator has no log")?;
        let marker = "inventory listens on ";
        let mut operator = Operator { child, inventory: String::new() };
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if let Some((_, address)) = line.split_once(marker) {
                operator.inventory = format!("http://{}", address.trim());
                return Ok(operator);
            }
        }
        Err("the operator didn't start; its log is above".to_owned())
    }

    /// Ends it as Kubernetes would.
    fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the operator ended with {status}")) }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Where `stop` has waited for its end, there is nothing left to kill.
        drop(self.child.kill());
    }
}

/// Passes the operator's log on, and gives its lines to whoever listens.
#[expect(clippy::disallowed_methods, reason = "it ends with the operator's log")]
fn follow(log: ChildStderr) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            drop(writeln!(io::stderr(), "{line}"));
            drop(tell.send(line));
        }
    });
    told
}
