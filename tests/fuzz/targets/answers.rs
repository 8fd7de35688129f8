//! The answers of Contrabass, Keystone, Neutron, Nova and Viola: one of them says anything, the
//! others what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use multinic_operator::clock::{Clock, Now};
use multinic_operator::cloud::Clouds;
use multinic_operator::cloud::fetch::Fetch;
use multinic_operator::config::Config;
use multinic_operator::http::client::{Answer, Clients, Failure, Request, Service, Transport};
use multinic_operator::inventory::contents::Inventory;
use multinic_operator::kube::objects::Page;
use multinic_operator::node_config::{MAX_INTERFACES, NodeConfig};
use multinic_operator::reconcile::plan::{Sources, plan};
use multinic_operator::resources::OpenstackConfig;
use multinic_operator::targets::viola::Viola;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

const PROVIDER: &str = r#"{"returnCode":"200","data":{"uuid":"cloud-1","url":"http://keystone",
    "attributes":{"adminId":"admin","domain":"Default","rabbitMQId":"openstack",
    "adminPw":"AAECAwQFBgcICQoLDA0OD44bCQYZHUjTgcX1QlwdojH/EL8T07ToLB+bASjmJFxL",
    "rabbitMQPw":"8ODQwLCgkIBwYFBAMCAQALQ4qDi6YAaeloA0dOZVAjbhZUkdN324oz8oN5BRju1l",
    "rabbitMQUrls":["10.0.0.5:5672"]}}}"#;
const TOKEN: &str = r#"{"token":{"expires_at":"2026-11-23T01:00:00.000000Z","catalog":[
    {"type":"network","name":"neutron","endpoints":[{"interface":"public","region":"RegionOne",
    "region_id":"RegionOne","url":"http://neutron"}]},
    {"type":"compute","name":"nova","endpoints":[{"interface":"public","region":"RegionOne",
    "region_id":"RegionOne","url":"http://nova/v2.1"}]}]}}"#;
const SUBNETS: &str = r#"{"subnet":{"id":"subnet-1","name":"one","network_id":"network-1",
    "project_id":"project-1","cidr":"10.20.0.0/24"}}"#;
const NETWORK: &str =
    r#"{"network":{"id":"network-1","mtu":1450,"project_id":"project-1","subnets":["subnet-1"]}}"#;
const PORTS: &str = r#"{"ports":[{"id":"port-1","network_id":"network-1","device_id":"vm-1",
    "mac_address":"fa:16:3e:00:00:01","status":"ACTIVE","project_id":"project-1",
    "fixed_ips":[{"subnet_id":"subnet-1","ip_address":"10.20.0.5"}]}]}"#;
const SERVER: &str =
    r#"{"server":{"id":"vm-1","name":"worker-1"},"servers":[{"id":"vm-1","name":"worker-1"}]}"#;

const OBJECTS: &str = r#"{"metadata":{"resourceVersion":"1"},"items":[{"apiVersion":
    "multinic.example.com/v1alpha1","kind":"OpenstackConfig","metadata":{"name":"a",
    "namespace":"b","uid":"u","generation":1},"spec":{"subnetID":"subnet-1","vmNames":["vm-1",
    "vm-2"],"credentials":{"openstackProviderID":"cloud-1","projectID":"project-1"}}}]}"#;

static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let value = |name: &str| {
        Some(match name {
            "CONTRABASS_ENDPOINT" => "http://contrabass",
            "CONTRABASS_ENCRYPT_KEY" => "multinic-demo-16",
            "VIOLA_ENDPOINT" => "http://viola",
            "KUBE_API_URL" => "http://127.0.0.1:1",
            _ => return None,
        })
    };
    let config = Config::read(|name| value(name).map(str::to_owned));
    Arc::new(config.unwrap_or_else(|report| unreachable!("{report}")))
});

static OBJECT: LazyLock<OpenstackConfig> = LazyLock::new(|| {
    let page = Page::read(OBJECTS.as_bytes());
    let object = page.ok().and_then(|page| page.objects.into_iter().next());
    let object = object.unwrap_or_else(|| unreachable!("the object is well formed"));
    OpenstackConfig::from_raw(&object, &Default::default())
});

/// One service speaks the fuzzer's words, part after part, the last one for ever.
struct Voice {
    strange: Service,
    parts: Mutex<(Vec<Vec<u8>>, usize)>,
}

/// More questions than a sync of two VMs may ever put to one service.
const MOST_QUESTIONS: usize = 64;

impl Transport for Voice {
    fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
        if request.service != self.strange {
            return Ok(expected(request));
        }
        let mut parts = self.parts.lock().unwrap_or_else(|held| held.into_inner());
        parts.1 += 1;
        assert!(parts.1 < MOST_QUESTIONS, "{} is asked for ever", request.service);
        let part = if parts.0.len() > 1 { parts.0.remove(0) } else { parts.0[0].clone() };
        let Some((first, body)) = part.split_first() else { return Err(Failure::Lost) };
        let status = match first {
            b'0' => return Err(Failure::Timeout { waiting_for: "the answer" }),
            b'a' => 201,
            b'b' => 202,
            b'c' => 204,
            b'd' => 300,
            b'e' => 401,
            b'f' => 403,
            b'g' => 404,
            b'h' => 409,
            b'i' => 429,
            b'j' => 500,
            b'k' => 503,
            _ => 200,
        };
        Ok(answer(status, body))
    }
}

fn answer(status: u16, body: &[u8]) -> Answer {
    let pairs = [
        ("x-subject-token", "gAAAAAtoken"),
        ("date", "Mon, 23 Nov 2026 00:00:00 GMT"),
        ("retry-after", "7"),
    ];
    let header = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers: HeaderMap = pairs.into_iter().map(header).collect();
    Answer::new(status, headers, body.to_vec())
}

fn expected(request: &Request<'_>) -> Answer {
    let (status, body) = match request.service {
        Service::Contrabass => (200, PROVIDER),
        Service::Keystone => (201, TOKEN),
        Service::Neutron if request.url.contains("/networks/") => (200, NETWORK),
        Service::Neutron if request.url.contains("/subnets") => (200, SUBNETS),
        Service::Neutron => (200, PORTS),
        Service::Nova if request.url.ends_with("vm-2") => (404, ""),
        Service::Nova => (200, SERVER),
        Service::Viola | Service::Kubernetes => (200, ""),
    };
    answer(status, body.as_bytes())
}

/// Whatever is answered, a sync ends after a bounded number of questions; what it plans is whole
/// and makes sense, and what Viola is taken to have accepted is a part of what was sent.
pub fn run(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let services =
        [Service::Contrabass, Service::Keystone, Service::Neutron, Service::Nova, Service::Viola];
    let strange = services[usize::from(*choice) % services.len()];
    let parts = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let voice = Arc::new(Voice { strange, parts: Mutex::new((parts, 0)) });
    let clients = Clients::new(&Arc::default()).over(voice);
    let wall = "2026-11-23T00:00:00Z".parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let clock = Clock::invented(Now { uptime: Duration::ZERO, wall });
    let cloud = Clouds::new(&CONFIG, clock, &clients).with(&CONFIG.settings);
    let Ok(spec) = &OBJECT.spec else { unreachable!("the object is well formed") };
    let mut fetch = Fetch::new(&cloud, &spec.provider_id, &spec.project_id, true);
    let fetched = fetch.slice(&[spec], &[spec]);
    let answers = match fetched.and_then(|()| fetch.answers(spec)) {
        Ok(answers) => answers,
        Err(failed) => {
            // A service may echo what it was told, and only that.
            let told = match strange {
                Service::Keystone => "Adm1n-pässwörd!",
                Service::Neutron | Service::Nova => "gAAAAAtoken",
                _ => "multinic-demo-16",
            };
            assert!(!failed.message.contains(told), "{}", failed.message);
            assert!(strange != Service::Viola, "{}", failed.message);
            return;
        }
    };
    let inventory = Inventory::default();
    let plan = plan(&Sources {
        spec,
        uid: &OBJECT.uid,
        answers: &answers,
        statuses: CONFIG.settings.openstack.port_statuses.as_deref(),
        ports_created_after: None,
        held_before: None,
        inventory: &inventory,
        cluster_ids: &BTreeMap::new(),
        building_since: &BTreeMap::new(),
        uptime: Duration::ZERO,
    });
    let nodes: Vec<&NodeConfig> = plan.nodes.iter().map(|node| &node.config).collect();
    nodes.iter().for_each(|node| check(node));
    let delivery = Viola::new(&CONFIG, &clients).deliver(
        &CONFIG.settings,
        "cluster",
        std::slice::from_ref(&nodes),
        &|| true,
    );
    let sent: BTreeSet<String> = nodes.iter().map(|node| node.node_name.clone()).collect();
    let accepted: BTreeSet<String> = delivery.accepted.iter().cloned().collect();
    let refused: BTreeSet<String> =
        delivery.problems.iter().flat_map(|problem| problem.nodes.iter().cloned()).collect();
    assert!(accepted.is_disjoint(&refused), "{accepted:?} and {refused:?}");
    assert_eq!(&accepted | &refused, sent);
}

fn check(node: &NodeConfig) {
    assert!(!node.node_name.is_empty() && node.node_name.trim() == node.node_name);
    assert!((1..=MAX_INTERFACES).contains(&node.interfaces.len()));
    assert!(node.ids_are_ours());
    let ids: BTreeSet<u8> = node.interfaces.iter().map(|interface| interface.id).collect();
    let ports: BTreeSet<&str> =
        node.interfaces.iter().map(|interface| interface.port_id.as_str()).collect();
    assert_eq!(ids.len(), node.interfaces.len());
    assert_eq!(ports.len(), node.interfaces.len());
    for interface in &node.interfaces {
        assert!(interface.mtu > 0 && !interface.port_id.is_empty());
        assert_eq!(interface.mac_address, interface.mac_address.to_lowercase());
        assert!(!matches!(interface.address, IpAddr::V4(address) if address.is_unspecified()));
    }
}
