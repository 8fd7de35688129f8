//! How many requests a poll round makes, and which objects one node that Viola fails on holds up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{HeaderMap, HeaderValue};

use super::object;
use super::passes::{context, outcomes, pass};
use crate::cloud::tests::{SUBNET, stage};
use crate::http::client::{Answer, Clients, Failure, Request, Service, Transport};
use crate::reconcile::report::{Ready, Reason};
use crate::reconcile::{Context, Lane};
use crate::resources::OpenstackConfig;

/// Servers of one page, as Nova's default has it.
const PAGE: usize = 1_000;

/// A cloud of so many VMs in each project, with at most one port each; ids say where they belong.
#[derive(Default)]
struct Services {
    vms: usize,
    /// VMs without ports cost as many requests, and no POST and no record.
    has_ports: bool,
    /// Requests to Keystone, Neutron and Nova.
    asked: AtomicUsize,
    /// Viola answers 500 to a request with a node of this name.
    broken: Mutex<Option<String>>,
}

fn vm_id(project: &str, number: usize) -> String {
    let project: u32 = project.rsplit('-').next().unwrap().parse().unwrap();
    format!("{project:08x}-0000-4000-8000-{number:012x}")
}

fn number_of(vm_id: &str) -> usize {
    usize::from_str_radix(vm_id.rsplit('-').next().unwrap(), 16).unwrap()
}

/// The values of a query parameter.
fn values<'a>(url: &'a str, key: &str) -> Vec<&'a str> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

impl Services {
    fn answer(&self, request: &Request<'_>) -> (u16, Value) {
        let url = request.url;
        let path = url.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let project = request.secret_header.map_or("", |(_, _, token)| token.expose());
        match (request.service, last) {
            (Service::Contrabass, _) => {
                let attributes = json!({"adminId": "admin", "domain": "default",
                    "adminPw": "AAECAwQFBgcICQoLDA0OD44bCQYZHUjTgcX1QlwdojH/EL8T07ToLB+bASjmJFxL"});
                let data = json!({"url": "http://keystone.test", "attributes": attributes});
                (200, json!({"returnCode": "200", "data": data}))
            }
            (Service::Keystone, _) => {
                let service = |kind, url| json!({"type": kind, "endpoints": [{"interface": "public", "url": url}]});
                let catalog = [
                    service("network", "http://neutron.test"),
                    service("compute", "http://nova.test/v2.1"),
                ];
                let token = json!({"issued_at": "2026-01-02T03:04:05.000000Z",
                    "expires_at": "2026-01-02T09:04:05.000000Z", "catalog": catalog});
                (201, json!({ "token": token }))
            }
            (Service::Neutron, "ports") => {
                let port = |vm_id: &str| {
                    let [_, a, b, c] = u32::try_from(number_of(vm_id) + 1).unwrap().to_be_bytes();
                    json!({"id": format!("port of {vm_id}"), "device_id": vm_id,
                        "mac_address": format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}"),
                        "status": "ACTIVE", "network_id": "network-1", "project_id": project,
                        "fixed_ips": [{"subnet_id": SUBNET, "ip_address": format!("10.{a}.{b}.{c}")}]})
                };
                let vm_ids = values(url, "device_id").into_iter().filter(|_| self.has_ports);
                let ports: Vec<Value> = vm_ids.map(port).collect();
                (200, json!({ "ports": ports }))
            }
            (Service::Neutron, _) if path.contains("/networks/") => {
                (200, json!({"network": {"id": last, "mtu": 1450, "subnets": [SUBNET]}}))
            }
            (Service::Neutron, _) => {
                let subnet = json!({"id": last, "network_id": "network-1", "cidr": "10.0.0.0/8"});
                (200, json!({ "subnet": subnet }))
            }
            (Service::Nova, "servers" | "detail") => {
                let first = values(url, "marker").first().map_or(0, |id| number_of(id) + 1);
                let server = |number| {
                    let id = vm_id(project, number);
                    json!({"id": id, "name": format!("node-{id}"), "tenant_id": project})
                };
                let numbers = first..self.vms.min(first + PAGE);
                let mut page = json!({"servers": numbers.clone().map(server).collect::<Vec<_>>()});
                // An exactly full page has a link to the next, which may be empty.
                if numbers.len() == PAGE {
                    let href = format!("{path}?marker={}", vm_id(project, numbers.end - 1));
                    page["servers_links"] = json!([{"rel": "next", "href": href}]);
                }
                (200, page)
            }
            (Service::Nova, id) => {
                let name = format!("node-{id}");
                (200, json!({"server": {"id": id, "name": name, "tenant_id": project}}))
            }
            (Service::Viola, _) => {
                let body = String::from_utf8_lossy(request.body.unwrap_or_default());
                let broken = self.broken.lock().unwrap();
                let is_broken = broken.as_ref().is_some_and(|name| body.contains(name.as_str()));
                (if is_broken { 500 } else { 200 }, json!({}))
            }
            _ => (404, json!({})),
        }
    }
}

impl Transport for Services {
    fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
        if matches!(request.service, Service::Keystone | Service::Neutron | Service::Nova) {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        let (status, body) = self.answer(request);
        let mut headers = HeaderMap::new();
        if request.service == Service::Keystone {
            // The token is the project's id, so that requests say whose they are.
            let login: Value = serde_json::from_slice(request.body.unwrap()).unwrap();
            let project = login["auth"]["scope"]["project"]["id"].as_str().unwrap();
            headers.insert("x-subject-token", HeaderValue::from_str(project).unwrap());
        }
        Ok(Answer::new(status, headers, body.to_string().into_bytes()))
    }
}

struct Operator {
    services: Arc<Services>,
    context: Context,
    /// The objects of each project.
    projects: Vec<Vec<Arc<OpenstackConfig>>>,
    _folder: tempfile::TempDir,
}

/// So many objects of so many VMs, in equal shares of these projects.
fn operator(objects: usize, vms: usize, projects: usize, has_ports: bool) -> Operator {
    let stage = stage(&[]);
    let each = objects / projects;
    let services = Arc::new(Services { vms: each * vms, has_ports, ..Services::default() });
    let clients = Clients::new(&Arc::default()).over(Arc::clone(&services) as _);
    let folder = tempfile::tempdir().unwrap();
    let context = context(&stage, &clients, folder.path());
    let object_of = |project: usize, number: usize| {
        let project_id = format!("project-{project}");
        let vm_ids: Vec<String> =
            (number * vms..(number + 1) * vms).map(|vm| vm_id(&project_id, vm)).collect();
        let vm_ids: Vec<&str> = vm_ids.iter().map(String::as_str).collect();
        let mut object = object(&format!("object-{project}-{number}"), 0, &vm_ids);
        object.spec.as_mut().unwrap().project_id = project_id;
        context.ownership.know(&object);
        Arc::new(object)
    };
    let projects = (0..projects)
        .map(|project| (0..each).map(|number| object_of(project, number)).collect())
        .collect();
    Operator { services, context, projects, _folder: folder }
}

impl Operator {
    /// A pass of each project; gives the requests to OpenStack.
    fn round(&self, lane: Lane) -> usize {
        let before = self.services.asked.load(Ordering::SeqCst);
        for objects in &self.projects {
            for (name, outcome) in outcomes(&self.context, &pass(lane, objects)) {
                let Ready { reason, message } = outcome.ready;
                assert_eq!(reason, Reason::NoChange, "{name}: {message}");
            }
        }
        self.services.asked.load(Ordering::SeqCst) - before
    }
}

#[test]
fn requests_of_a_poll_round_grow_with_the_vms_and_not_with_the_objects() {
    for (objects, vms, projects, most) in
        [(200, 10, 1, 60), (1_000, 3, 1, 80), (1_000, 3, 100, 310), (1_000, 10, 1, 260)]
    {
        let operator = operator(objects, vms, projects, false);
        operator.round(Lane::Fresh);
        operator.context.clock.advance(Duration::from_secs(120));
        let asked = operator.round(Lane::Poll);
        let what = format!("{objects} objects of {vms} VMs in {projects} projects");
        assert!(asked <= most, "{what}: {asked} requests");
        assert!(asked >= objects * vms / 50, "{what}: {asked} requests");
    }
}

#[test]
fn a_node_that_viola_fails_on_holds_up_no_other_object() {
    let operator = operator(50, 2, 1, true);
    let broken = format!("node-{}", vm_id("project-0", 40));
    *operator.services.broken.lock().unwrap() = Some(broken.clone());
    let round = || outcomes(&operator.context, &pass(Lane::Retry, &operator.projects[0]));
    let first = round();
    assert!(first.values().all(|outcome| outcome.ready.reason == Reason::ViolaPostError));
    // The request was for many, so the next pass sends each object by itself.
    for (name, outcome) in round() {
        let is_broken = name == "object-0-20";
        let reason = if is_broken { Reason::ViolaPostError } else { Reason::Synced };
        let message = &outcome.ready.message;
        assert_eq!(outcome.ready.reason, reason, "{name}: {message}");
        assert_eq!(message.contains(&broken), is_broken, "{name}: {message}");
    }
    *operator.services.broken.lock().unwrap() = None;
    assert_eq!(round()["object-0-20"].ready.reason, Reason::Synced);
}
