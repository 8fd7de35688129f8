//! Services that answer by a script, and what the cloud's clients make of it.
//!
//! This file has the services and the stage, which tests of a whole sync use too. What there is no
//! script for is answered as it usually is: one subnet, the ports given, a server for each VM.

mod keystone;
mod neutron;
mod nova;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::CloudError;
use super::fetch::Fetch;
use super::neutron::Port;
use super::nova::ServerName;
use super::session::{Cloud, Clouds};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::http::client::{Answer, Clients, Failure, Request, Service, Transport};
use crate::resources::{PortFilter, Spec, SubnetSelector};

pub(crate) const PROVIDER: &str = "provider-1";
pub(crate) const PROJECT: &str = "project-1";
pub(crate) const SUBNET: &str = "subnet-1";

/// One answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    header: Option<(&'static str, &'static str)>,
    body: Value,
}

impl Reply {
    /// The same with a header.
    pub(crate) fn with(self, name: &'static str, value: &'static str) -> Reply {
        Reply { header: Some((name, value)), ..self }
    }
}

/// An answer of this status.
pub(crate) fn reply(status: u16, body: Value) -> Reply {
    Reply { status, header: None, body }
}

/// What Contrabass says of a provider whose cloud is there.
pub(crate) fn provider(keystone_url: &str) -> Reply {
    let password = "AAECAwQFBgcICQoLDA0OD44bCQYZHUjTgcX1QlwdojH/EL8T07ToLB+bASjmJFxL";
    provider_with(keystone_url, password)
}

fn provider_with(keystone_url: &str, encrypted_password: &str) -> Reply {
    let attributes =
        json!({"adminId": "admin", "domain": "default", "adminPw": encrypted_password});
    reply(
        200,
        json!({"returnCode": "200", "data": {"url": keystone_url, "attributes": attributes}}),
    )
}

/// A token that is good for six hours, with a catalog of Neutron and Nova there.
pub(crate) fn token(neutron_url: &str, nova_url: &str) -> Reply {
    let service = |kind: &str, url: &str| json!({"type": kind, "endpoints": [{"interface": "public", "url": url}]});
    let catalog = json!([service("network", neutron_url), service("compute", nova_url)]);
    let token = json!({"issued_at": "2026-01-02T03:04:05.000000Z",
        "expires_at": "2026-01-02T09:04:05.000000Z", "catalog": catalog});
    reply(201, json!({"token": token})).with("x-subject-token", "made-up-token")
}

/// An ACTIVE port of the VM in the subnet; the number makes its MAC and its address.
pub(crate) fn port(id: &str, vm_id: &str, number: u8) -> Value {
    json!({"id": id, "device_id": vm_id, "mac_address": format!("fa:16:3e:00:00:{number:02x}"),
        "status": "ACTIVE", "network_id": "network-1", "project_id": PROJECT,
        "fixed_ips": [{"subnet_id": SUBNET, "ip_address": format!("10.0.0.{number}")}]})
}

/// How Neutron and Nova refuse a token.
pub(crate) fn refused() -> Reply {
    let message = "The request you have made requires authentication.";
    reply(401, json!({"error": {"code": 401, "message": message}}))
}

/// The replies to requests of a service whose URLs have this in them, the last one for ever.
struct Script {
    service: Service,
    url_has: String,
    replies: VecDeque<Reply>,
}

/// All services in one, and what they were asked.
#[derive(Default)]
pub(crate) struct Services {
    scripts: Mutex<Vec<Script>>,
    ports: Mutex<Vec<Value>>,
    asked: Mutex<Vec<(Service, String)>>,
    users: Mutex<Option<User>>,
    /// Logins that wait here for each other.
    logins_meet: Mutex<Option<Arc<Barrier>>>,
}

/// Keystone's one user. Without it each login is accepted.
struct User {
    password: &'static str,
    /// The user's domain in the spelling that Keystone takes.
    domain: Value,
    projects: Vec<&'static str>,
    /// Each login: its project, and whether it was accepted.
    logins: Vec<(Option<String>, bool)>,
}

impl User {
    fn log_in(&mut self, body: &[u8]) -> Option<Reply> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let user = &body["auth"]["identity"]["password"]["user"];
        let project = body["auth"]["scope"]["project"]["id"].as_str();
        let is_right = user["password"] == self.password
            && user["domain"] == self.domain
            && project.is_none_or(|project| self.projects.contains(&project));
        self.logins.push((project.map(str::to_owned), is_right));
        (!is_right).then(refused)
    }
}

impl Services {
    /// From now on these requests are answered so, whatever was said of them before.
    pub(crate) fn say(
        &self,
        service: Service,
        url_has: &str,
        replies: impl IntoIterator<Item = Reply>,
    ) {
        let (url_has, replies) = (url_has.to_owned(), replies.into_iter().collect());
        self.scripts.lock().unwrap().insert(0, Script { service, url_has, replies });
    }

    /// Requests of this service are answered as usual again.
    pub(crate) fn forget(&self, service: Service) {
        self.scripts.lock().unwrap().retain(|script| script.service != service);
    }

    /// The ports that are there from now on.
    pub(crate) fn set_ports(&self, ports: Vec<Value>) {
        *self.ports.lock().unwrap() = ports;
    }

    /// The URLs a service was asked for, in order.
    pub(crate) fn asked(&self, service: Service) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(of, _)| *of == service).map(|(_, url)| url.clone()).collect()
    }

    fn scripted(&self, request: &Request<'_>) -> Option<Reply> {
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.iter_mut().find(|script| {
            script.service == request.service && request.url.contains(&script.url_has)
        })?;
        match script.replies.len() {
            1 => script.replies.front().cloned(),
            _ => script.replies.pop_front(),
        }
    }

    fn usual(&self, request: &Request<'_>) -> Reply {
        let path = request.url.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        match request.service {
            Service::Contrabass => provider("http://keystone.test"),
            Service::Keystone => token("http://neutron.test", "http://nova.test/v2.1"),
            Service::Neutron if path.contains("/subnets/") => {
                let subnet = json!({"id": last, "network_id": "network-1", "cidr": "10.0.0.0/16"});
                reply(200, json!({"subnet": subnet}))
            }
            Service::Neutron if path.contains("/networks/") => {
                reply(200, json!({"network": {"id": last, "mtu": 1450, "subnets": [SUBNET]}}))
            }
            Service::Neutron => reply(200, json!({"ports": *self.ports.lock().unwrap()})),
            Service::Nova if matches!(last, "servers" | "detail") => {
                reply(200, json!({"servers": []}))
            }
            Service::Nova => {
                let name = format!("node-{last}");
                let server =
                    json!({"id": last, "name": name, "tenant_id": PROJECT, "metadata": {}});
                reply(200, json!({"server": server}))
            }
            _ => reply(200, json!({})),
        }
    }
}

impl Transport for Services {
    fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
        self.asked.lock().unwrap().push((request.service, request.url.to_owned()));
        let meet = self.logins_meet.lock().unwrap().clone();
        if let Some(meet) = meet.filter(|_| request.service == Service::Keystone) {
            meet.wait();
        }
        let mut users = self.users.lock().unwrap();
        let user = users.as_mut().filter(|_| request.service == Service::Keystone);
        let refused = user.and_then(|user| user.log_in(request.body.unwrap_or_default()));
        drop(users);
        let reply = refused.or_else(|| self.scripted(request));
        let Reply { status, header, body } = reply.unwrap_or_else(|| self.usual(request));
        let header = header
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = header.into_iter().collect();
        Ok(Answer::new(status, headers, body.to_string().into_bytes()))
    }
}

/// The services, and a cloud that asks them in invented time.
pub(crate) struct Stage {
    pub(crate) services: Arc<Services>,
    pub(crate) clients: Clients,
    pub(crate) clock: Clock,
    pub(crate) config: Arc<Config>,
    pub(crate) cloud: Arc<Cloud>,
}

/// A stage with these settings beside those that are required.
pub(crate) fn stage(settings: &[(&str, &str)]) -> Stage {
    let required = [
        ("CONTRABASS_ENDPOINT", "http://contrabass.test"),
        ("CONTRABASS_ENCRYPT_KEY", "multinic-demo-16"),
        ("VIOLA_ENDPOINT", "http://viola.test"),
        ("KUBE_API_URL", "http://kubernetes.test"),
    ];
    let config = Config::read(|name| {
        let value = settings.iter().chain(&required).find(|(known, _)| *known == name);
        value.map(|(_, value)| (*value).to_owned())
    });
    let config = Arc::new(config.unwrap());
    let services = Arc::<Services>::default();
    let clients = Clients::new(&Arc::default()).over(Arc::clone(&services) as _);
    let wall = "2026-01-02T03:04:05Z".parse().unwrap();
    let clock = Clock::invented(Now { uptime: Duration::ZERO, wall });
    let cloud = Clouds::new(&config, clock.clone(), &clients).with(&config.settings);
    Stage { services, clients, clock, config, cloud }
}

/// What [`Fetch::answers`] says, without what it borrows.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ports: Vec<Port>,
    pub(crate) names: HashMap<String, ServerName>,
}

/// What an object with this subnet and these VMs asks for.
pub(crate) fn spec(subnet: SubnetSelector, vm_ids: &[&str]) -> Spec {
    Spec {
        subnets: vec![subnet],
        vm_ids: vm_ids.iter().map(|id| (*id).to_owned()).collect(),
        provider_id: PROVIDER.to_owned(),
        project_id: PROJECT.to_owned(),
        identity_ref: None,
        k8s_provider_id: None,
        destination: Default::default(),
        paused: false,
        ports: PortFilter::default(),
        settings: Arc::default(),
        encrypt_key: None,
        encrypt_key_ref: None,
    }
}

impl Stage {
    /// All that is asked about these VMs and the subnet.
    fn ask(&self, vm_ids: &[&str]) -> Result<Asked, CloudError> {
        self.ask_with(SubnetSelector::Id(SUBNET.to_owned()), vm_ids)
    }

    fn ask_with(&self, subnet: SubnetSelector, vm_ids: &[&str]) -> Result<Asked, CloudError> {
        let spec = spec(subnet, vm_ids);
        let mut fetch = Fetch::new(&self.cloud, PROVIDER, PROJECT, false);
        fetch.slice(&[&spec], &[&spec])?;
        let answers = fetch.answers(&spec)?;
        Ok(Asked {
            ports: answers.vms.iter().flat_map(|vm| vm.ports).cloned().collect(),
            names: answers.vms.iter().map(|vm| (vm.id.to_owned(), vm.name.clone())).collect(),
        })
    }
}
