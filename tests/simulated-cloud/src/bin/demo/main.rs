//! The demo: the whole chain on one machine, from an object that a user writes to the objects that
//! an agent on each node would read.
//!
//! `demo [--stay] OPERATOR VIOLA_TEST_API FIXTURE_FOLDER`. The two programs are real, what is around
//! them is the simulated cloud; environment variables are all that joins them. It ends by itself:
//! with 0 if everything came out as the fixture says. With `--stay` it goes on until Enter. SIGTERM,
//! SIGHUP and Ctrl-C end it early, with the programs and without the inventory's folder.

mod programs;
mod show;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use simulated_cloud::{Cloud, LoggedRequest, Scenario, Service};

use programs::{Processes, Program};
use show::{Out, curl, interfaces, on_few_lines, table};

/// A sync takes milliseconds; a busy machine gets its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where viola-test-api writes.
const NAMESPACE: &str = "multinic-system";
const KIND: &str = "MultiNicNodeConfig";
const OBJECTS: &str = "apis/multinic.io/v1alpha1/namespaces/multinic-system/multinicnodeconfigs";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // When standard error is gone, too, there is nowhere left to write to.
            drop(writeln!(io::stderr(), "the demo failed: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let stays = arguments.first().is_some_and(|first| first == Path::new("--stay"));
    arguments.drain(..usize::from(stays));
    let [operator, viola, folder] = arguments.as_slice() else {
        return Err("usage: demo [--stay] OPERATOR VIOLA_TEST_API FIXTURE_FOLDER".to_owned());
    };
    let scenario = Scenario::load(folder).map_err(|error| error.to_string())?;
    let processes = Processes::default();
    let inventory = Folder(env::temp_dir().join(format!("multinic-demo-{}", std::process::id())));
    end_with_signals(processes.clone(), Folder(inventory.0.clone()))?;
    let chain = Chain::start(scenario, operator, viola, &inventory.0, &processes, stays)?;
    let mut out = Out(Box::new(io::stdout()));
    let shown = chain.show(&mut out);
    if shown.is_ok() && stays {
        chain.play(&mut out)?;
    }
    if shown.is_err() {
        chain.operator.show_log();
        chain.viola.show_log();
    }
    let ended = chain.end(&mut out);
    shown.and(ended)
}

/// A folder that goes with its value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Ends programs, folder and demo at the first signal.
#[expect(clippy::disallowed_methods, reason = "it ends with the process")]
fn end_with_signals(processes: Processes, inventory: Folder) -> Result<(), String> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            processes.end();
            drop(inventory);
            // What a shell says of a process that a signal has ended.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Everything that runs.
struct Chain {
    operator: Program,
    viola: Program,
    /// Outlives the programs that ask it.
    cloud: Cloud,
}

impl Chain {
    fn start(
        scenario: Scenario,
        operator: &Path,
        viola: &Path,
        inventory: &Path,
        processes: &Processes,
        is_loud: bool,
    ) -> Result<Chain, String> {
        let cloud = Cloud::start(scenario).map_err(|error| error.to_string())?;
        cloud.kubernetes().load(vec![json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        })]);
        let environment = [
            ("KUBE_API_URL", cloud.url(Service::Kubernetes)),
            ("TARGET_NAMESPACE", NAMESPACE.to_owned()),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let marker = "viola-test-api listens on ";
        let viola = Program::start(processes, viola, &environment, marker, is_loud)?;
        let mut environment = cloud.environment();
        environment.retain(|(name, _)| name != "VIOLA_ENDPOINT");
        let settings = [
            ("VIOLA_ENDPOINT", viola.url()),
            ("HEALTH_ADDR", "127.0.0.1:0".to_owned()),
            ("INVENTORY_ADDR", "127.0.0.1:0".to_owned()),
            ("INVENTORY_DB_PATH", inventory.join("inventory.json").display().to_string()),
            // A change in Neutron is seen at the next poll; here that needn't take 20 s.
            ("POLL_FAST_INTERVAL", "1s".to_owned()),
            ("POLL_SLOW_INTERVAL", "1s".to_owned()),
        ];
        environment.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        let marker = "inventory listens on ";
        let operator = Program::start(processes, operator, &environment, marker, is_loud)?;
        Ok(Chain { operator, viola, cloud })
    }

    fn show(&self, out: &mut Out) -> Result<(), String> {
        out.text(
            "Two real programs, multinic-operator and viola-test-api, and a simulated cloud around\n\
             them: Contrabass, Keystone, Neutron, Nova and a Kubernetes API. All on 127.0.0.1.",
        )?;
        self.show_request(out)?;
        self.wait_for_sync()?;
        self.show_way(out)?;
        out.heading("4. One MultiNicNodeConfig per node, for the agent on that node")?;
        let nodes = self.expected();
        self.show_objects(out, &nodes)?;
        self.show_state(out, &nodes)?;
        self.show_change(out, nodes)?;
        out.text("\nEverything came out as the fixture says.")
    }

    fn show_request(&self, out: &mut Out) -> Result<(), String> {
        out.heading("1. A user writes an OpenstackConfig: these VMs, this subnet, this cloud")?;
        for object in &self.cloud.scenario().objects {
            out.text(&on_few_lines(&object["spec"]))?;
        }
        Ok(())
    }

    /// Until each object says what the fixture expects.
    fn wait_for_sync(&self) -> Result<(), String> {
        let expected = &self.cloud.scenario().expected.status;
        let as_expected = self.cloud.kubernetes().wait_until(
            |view| {
                expected.iter().all(|(key, wanted)| {
                    let (namespace, name) = key.split_once('/').unwrap_or_default();
                    let object = view.get("OpenstackConfig", namespace, name).unwrap_or_default();
                    // The next poll may already have found that nothing changed since.
                    let reason = ready(&object)["reason"].as_str().unwrap_or_default().to_owned();
                    reason == wanted.reason || (wanted.reason == "Synced" && reason == "NoChange")
                })
            },
            PATIENCE,
        );
        if as_expected { Ok(()) } else { Err("the status isn't what the fixture says".to_owned()) }
    }

    fn show_way(&self, out: &mut Out) -> Result<(), String> {
        out.heading("2. The operator asks the cloud")?;
        let log = self.cloud.journal().all();
        let is_object = |request: &&LoggedRequest| {
            request.method == "PATCH" && request.path().contains("/multinicnodeconfigs/")
        };
        let until = log.iter().position(|request| is_object(&request)).unwrap_or(log.len());
        for request in &log[..until] {
            if !matches!(request.service, Service::Kubernetes | Service::Control) {
                out.text(&line(request))?;
            }
        }
        out.heading(
            "3. It posts what each node should have to Viola, for which viola-test-api stands in",
        )?;
        out.text(&format!("POST {}{}", self.viola.url(), simulated_cloud::NODE_CONFIGS))?;
        for request in log.iter().filter(is_object).take(self.expected().len()) {
            out.text(&line(request))?;
        }
        let created = self.viola.lines_from("multinicnodeconfig.multinic.io/");
        out.text(&format!("viola-test-api says: {}", created.join("\n                     ")))
    }

    /// All objects, which must be `nodes` and nothing else.
    fn show_objects(&self, out: &mut Out, nodes: &[Value]) -> Result<(), String> {
        let objects = self.cloud.kubernetes().objects(KIND);
        out.text(&interfaces(&objects))?;
        let specs: Vec<&Value> = objects.iter().map(|object| &object["spec"]).collect();
        let nodes: Vec<Value> = nodes.iter().map(applied).collect();
        match specs.iter().copied().eq(&nodes) {
            true => Ok(()),
            false => Err(format!("the objects are {specs:?}, not {nodes:?}")),
        }
    }

    fn show_state(&self, out: &mut Out, nodes: &[Value]) -> Result<(), String> {
        let name = nodes.first().and_then(|node| node["nodeName"].as_str()).unwrap_or_default();
        let url = format!("{}/{OBJECTS}/{name}", self.cloud.url(Service::Kubernetes));
        out.text(&format!("\n$ curl {url}"))?;
        let mut object = curl(&url, &[])?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        out.text(&on_few_lines(&object))?;
        out.heading("5. The operator says what it did")?;
        self.show_statuses(out)?;
        let inventory = self.operator.url();
        let url = format!("{inventory}/v1/inventory/node-configs?nodeName={name}");
        out.text(&format!("\n$ curl '{url}'"))?;
        out.text(&on_few_lines(&curl(&url, &[])?))
    }

    fn show_statuses(&self, out: &mut Out) -> Result<(), String> {
        let kubernetes = self.cloud.url(Service::Kubernetes);
        // What kubectl asks for, and prints.
        out.text("(what kubectl get openstackconfigs -A prints)")?;
        let form = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io";
        let url = format!("{kubernetes}/apis/multinic.example.com/v1alpha1/openstackconfigs");
        out.text(&table(&curl(&url, &["--header", form])?))?;
        for object in self.cloud.kubernetes().objects("OpenstackConfig") {
            let message = ready(&object)["message"].as_str().unwrap_or_default().to_owned();
            out.text(&format!("its message: {message}"))?;
        }
        Ok(())
    }

    /// A port gets another address; it must arrive in its node's object, and in no other.
    fn show_change(&self, out: &mut Out, mut nodes: Vec<Value>) -> Result<(), String> {
        let node = nodes.first_mut().ok_or("the fixture expects no node")?;
        let name = node["nodeName"].as_str().unwrap_or_default().to_owned();
        let last = node["interfaces"].as_array_mut().and_then(|list| list.last_mut());
        let interface = last.ok_or("the first node has no interface")?;
        let text = |name: &str| interface[name].as_str().unwrap_or_default().to_owned();
        let (port, before) = (text("portId"), text("address"));
        let network = before.rsplit_once('.').ok_or("the last address isn't IPv4")?.0;
        let after = format!("{network}.250");
        out.heading("6. A port changes in Neutron")?;
        out.text(&format!("port {port} of {name}: {before} becomes {after}"))?;
        interface["address"] = json!(after);
        let wanted = applied(node);
        self.cloud.edit(|state| {
            state.ports.update(&port, |port| {
                port.fixed_ips.iter_mut().for_each(|ip| ip.ip_address.clone_from(&after));
            });
        });
        let arrived = self.cloud.kubernetes().wait_until(
            |view| view.get(KIND, NAMESPACE, &name).is_some_and(|object| object["spec"] == wanted),
            PATIENCE,
        );
        if !arrived {
            return Err(format!("the change never arrived in the object of {name}"));
        }
        out.text(
            "The operator polls (every second here, every 20 s to 2 min by default) and sends that\n\
             node, and no other: its object is of generation 2 now.\n",
        )?;
        self.show_objects(out, &nodes)?;
        let objects = self.cloud.kubernetes().objects(KIND);
        let changed = |object: &&Value| object["metadata"]["generation"] != 1;
        match objects.iter().filter(changed).count() {
            1 => Ok(()),
            count => Err(format!("{count} objects were changed, not one")),
        }
    }

    /// The nodes that the fixture expects, by name, which is the order of their objects.
    fn expected(&self) -> Vec<Value> {
        let posts = &self.cloud.scenario().expected.posts;
        let mut nodes: Vec<Value> = posts.iter().flat_map(|post| post.nodes.clone()).collect();
        nodes.sort_by_key(|node| node["nodeName"].to_string());
        nodes
    }

    fn play(&self, out: &mut Out) -> Result<(), String> {
        let control = self.cloud.url(Service::Control);
        let kubernetes = self.cloud.url(Service::Kubernetes);
        out.text("\nEverything goes on running. Some things to try in another terminal:")?;
        out.text(&format!("  open {}/", self.operator.url()))?;
        out.text(&format!("  kubectl --server {kubernetes} get osc -A"))?;
        out.text(&format!(
            "  kubectl --server {kubernetes} -n {NAMESPACE} get multinicnodeconfigs"
        ))?;
        let object = self.cloud.scenario().objects.first().map(|object| &object["metadata"]);
        if let Some(name) = object.and_then(|metadata| metadata["name"].as_str()) {
            out.text(&format!(
                "  kubectl --server {kubernetes} annotate osc {name} --overwrite \
                 multinic.example.com/force-reconcile=\"$(date)\""
            ))?;
        }
        // One that the object is about: another would change nothing.
        let expected = self.expected();
        let port = expected.first().and_then(|node| node["interfaces"][0]["portId"].as_str());
        if let Some(port) = port {
            let body = format!("{{\"port\":\"{port}\",\"status\":\"DOWN\"}}");
            out.text(&format!("  curl -X POST {control}/edit -d '{body}'"))?;
        }
        let body = "{\"service\":\"nova\",\"milliseconds\":500}";
        out.text(&format!("  curl -X POST {control}/latency -d '{body}'"))?;
        out.text(&format!("  curl '{control}/requests?service=neutron'"))?;
        out.text("Enter ends it.")?;
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// In the order in which they need each other, as Kubernetes would end them.
    fn end(self, out: &mut Out) -> Result<(), String> {
        let Chain { operator, viola, cloud } = self;
        let stopped = operator.stop();
        let stopped = stopped.and(viola.stop());
        drop(cloud);
        stopped?;
        out.text("Both programs were asked to stop, and ended with exit code 0. Nothing is left running.")
    }
}

fn ready(object: &Value) -> Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default()
}

fn line(request: &LoggedRequest) -> String {
    let status = request.status.map(|status| status.to_string()).unwrap_or_default();
    let (service, method) = (request.service.name(), &request.method);
    format!("{service:<11} {method:<5} {status:<3} {}", request.path())
}

/// The node without what the agent's CustomResourceDefinition doesn't declare.
fn applied(node: &Value) -> Value {
    let mut node = node.clone();
    let interfaces = node["interfaces"].as_array_mut();
    for interface in interfaces.into_iter().flatten().filter_map(Value::as_object_mut) {
        interface.retain(|field, _| !["networkId", "subnetId"].contains(&field.as_str()));
    }
    node
}
