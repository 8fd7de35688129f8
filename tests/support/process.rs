//! The operator as a process of its own, set up by its environment alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use simulated_cloud::Cloud;
use tempfile::TempDir;

/// Long enough for anything that should happen at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running operator; killed when dropped.
pub(crate) struct Operator {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    /// Holds the inventory; shared by successors of the same operator.
    folder: Arc<TempDir>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Operator {
    /// Starts the operator with the cloud's environment and these further variables.
    pub(crate) fn start(cloud: &Cloud, variables: &[(&str, &str)]) -> Operator {
        Operator::start_in(cloud, variables, Arc::new(TempDir::new().unwrap()))
    }

    /// Starts it where another one has worked: the inventory is found again.
    pub(crate) fn start_in(
        cloud: &Cloud,
        variables: &[(&str, &str)],
        folder: Arc<TempDir>,
    ) -> Operator {
        let mut command = command(cloud, variables, folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().unwrap();
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lines.lock().unwrap().push(line);
                written.grown.notify_all();
            }
        });
        Operator { child, log, reader: Some(reader), folder }
    }

    /// The folder of the inventory, for a successor.
    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// The lines logged after so many.
    pub(crate) fn lines_after(&self, count: usize) -> Vec<String> {
        self.log.lines.lock().unwrap().iter().skip(count).cloned().collect()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The first log line that holds this text, waited for.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let lines = self.log.lines.lock().unwrap();
        let has = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, _) = self.log.grown.wait_timeout_while(lines, SOON, has).unwrap();
        let found = lines.iter().find(|line| line.contains(text)).cloned();
        found.unwrap_or_else(|| panic!("{text:?} was never logged:\n{}", lines.join("\n")))
    }

    /// Where it listens for one of its two services, `health` or `inventory`.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let text = format!("{name} listens on ");
        let line = self.line_with(&text);
        line.split(&text).nth(1).unwrap().trim().parse().unwrap()
    }

    /// Status and body of a GET at the inventory's API.
    pub(crate) fn inventory(&self, path: &str) -> (u16, String) {
        get(self.address("inventory"), path)
    }

    /// The answer to a GET at one of its two addresses, `health` or `inventory`, if there is one.
    pub(crate) fn try_get(&self, name: &str, path: &str) -> Option<Answer> {
        let text = format!("{name} listens on ");
        let lines = self.log.lines.lock().unwrap();
        let line = lines.iter().find_map(|line| line.split_once(&text));
        let address = line?.1.trim().parse().ok()?;
        drop(lines);
        try_ask(address, "GET", path, &[]).ok()
    }

    /// The whole answer of the inventory's API.
    pub(crate) fn ask_inventory(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        ask(self.address("inventory"), method, path, headers)
    }

    /// Status and body of a GET at the health port.
    pub(crate) fn health(&self, path: &str) -> (u16, String) {
        get(self.address("health"), path)
    }

    /// Sends SIGTERM and waits for the end; gives the exit status and how long it took.
    pub(crate) fn stop(mut self) -> (ExitStatus, Duration) {
        let started = std::time::Instant::now();
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        (status, started.elapsed())
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.folder)
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        // The log is whole once its pipe has ended.
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command that ends by itself came to.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) took: Duration,
}

/// Runs the program with arguments to its end, in an operator's folder and environment.
pub(crate) fn run(
    cloud: &Cloud,
    variables: &[(&str, &str)],
    folder: &Path,
    arguments: &[&str],
) -> Finished {
    let started = std::time::Instant::now();
    let output = command(cloud, variables, folder).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished {
        code: output.status.code().unwrap(),
        output: text(output.stdout),
        errors: text(output.stderr),
        took: started.elapsed(),
    }
}

/// The program that was built with the tests, or the one `MULTINIC_OPERATOR` names.
pub(crate) fn command(cloud: &Cloud, variables: &[(&str, &str)], folder: &Path) -> Command {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_multinic-operator"));
    let program = std::env::var_os("MULTINIC_OPERATOR").map_or_else(built, PathBuf::from);
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(cloud.environment())
        .env("HEALTH_ADDR", "127.0.0.1:0")
        .env("INVENTORY_ADDR", "127.0.0.1:0")
        .env("INVENTORY_DB_PATH", folder.join("inventory.json"))
        .env("RUST_LOG", "trace")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

/// An answer over HTTP.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let Answer { status, body, .. } = ask(address, "GET", path, &[]);
    (status, body)
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    try_ask(address, method, path, headers).unwrap()
}

fn try_ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(SOON))
        .build()
        .into();
    let request = ureq::http::Request::builder().method(method);
    let request = request.uri(format!("http://{address}{path}"));
    let with = |request: ureq::http::request::Builder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    let request = headers.iter().fold(request, with).body(()).unwrap();
    let mut answer = agent.run(request)?;
    let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers().iter();
    Ok(Answer {
        status: answer.status().as_u16(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: answer.body_mut().read_to_string()?,
    })
}

/// The repository's fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}
