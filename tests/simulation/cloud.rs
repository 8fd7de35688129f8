//! The clouds of a simulation and what happens to them: two providers that lead to one OpenStack with
//! two projects, few VMs and fewer names, so that collisions are common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use simulated_cloud::state::{
    CatalogService, CloudState, Domain, Endpoint, FixedIp, Network, Port, Project, Provider,
    RabbitMq, Server, SharedState, Subnet, User,
};
use simulated_cloud::wire::Handler;
use simulated_cloud::{Contrabass, Keystone, Neutron, Nova};

/// Part of every secret of these clouds, so that a leak is found by one search. Tokens have
/// [`TOKEN_MARK`].
pub(crate) const SECRET_MARK: &str = "S3CR3T";
/// How every token of the simulated Keystone begins.
pub(crate) const TOKEN_MARK: &str = "gAAAAAB";
/// Decrypts what Contrabass says.
pub(crate) const ENCRYPTION_KEY: &str = "S3CR3T-key-16byt";
/// The server metadata key that holds a node name, in simulations that have one.
pub(crate) const NAME_KEY: &str = "k8s-node";
/// Cloud providers that exist at the beginning.
pub(crate) const PROVIDERS: [&str; 2] = ["provider-1", "provider-2"];
/// The projects, each with its network, its subnets and its VMs.
pub(crate) const PROJECTS: [&str; 2] =
    ["11111111111111111111111111111111", "22222222222222222222222222222222"];
/// VMs a project may have.
const VMS: usize = 5;

/// The id of a VM that exists, did, or may some day.
pub(crate) fn vm_id(project: usize, number: usize) -> String {
    format!("0000000{project}-0000-4000-8000-{number:012x}")
}

/// The ids of all VMs of a project that are ever spoken of.
pub(crate) fn vm_ids(project: usize) -> Vec<String> {
    (0..VMS).map(|number| vm_id(project, number)).collect()
}

/// Subnets of a project: the first is there from the beginning, the others come and go.
pub(crate) fn subnet_id(project: usize, number: usize) -> String {
    format!("5b5b000{project}-0000-4000-8000-{number:012x}")
}

fn network_id(project: usize) -> String {
    format!("4e4e000{project}-0000-4000-8000-000000000000")
}

/// The services of one state of the cloud.
pub(crate) struct Services {
    pub(crate) state: Arc<SharedState>,
    pub(crate) contrabass: Arc<dyn Handler>,
    pub(crate) keystone: Arc<dyn Handler>,
    pub(crate) neutron: Arc<dyn Handler>,
    pub(crate) nova: Arc<dyn Handler>,
}

impl Services {
    pub(crate) fn of(state: CloudState) -> Services {
        let state = Arc::new(SharedState::new(state));
        Services {
            contrabass: Contrabass::new(Arc::clone(&state)),
            keystone: Keystone::new(Arc::clone(&state)),
            neutron: Neutron::new(Arc::clone(&state)),
            nova: Nova::new(Arc::clone(&state)),
            state,
        }
    }
}

/// How the cloud is at the beginning.
pub(crate) fn beginning(random: &mut fastrand::Rng) -> CloudState {
    let mut cloud = CloudState::default();
    cloud.encryption_key = ENCRYPTION_KEY.to_owned();
    cloud.settings.keep_alive = true;
    cloud.settings.token_lifetime_seconds = random.choice([300, 1800, 3600, 86_400]).unwrap();
    cloud.settings.pagination_max_limit = random.choice([None, Some(1), Some(2), Some(5)]).unwrap();
    cloud.settings.nova_max_limit = random.choice([1, 2, 1000]).unwrap();
    cloud.settings.unknown_provider_status = random.choice([200, 404]).unwrap();
    cloud.urls.keystone = "http://keystone-0.test".to_owned();
    cloud.urls.neutron = "http://neutron-0.test".to_owned();
    cloud.urls.nova = "http://nova-0.test".to_owned();
    cloud.domains = vec![Domain { id: "default".to_owned(), name: "Default".to_owned() }];
    for id in PROVIDERS {
        cloud.providers.push(provider(id));
        cloud.users.push(User {
            id: format!("user-of-{id}"),
            name: format!("admin-of-{id}"),
            password: first_password(id),
            domain_id: "default".to_owned(),
            admin: true,
            projects: None,
        });
    }
    cloud.catalog =
        vec![service("compute", "nova", "{nova}/v2.1"), service("network", "neutron", "{neutron}")];
    for (number, id) in PROJECTS.into_iter().enumerate() {
        cloud.projects.push(Project {
            id: id.to_owned(),
            name: format!("project-{number}"),
            domain_id: "default".to_owned(),
        });
        cloud.networks.push(Network {
            id: network_id(number),
            name: format!("network-{number}"),
            project_id: id.to_owned(),
            mtu: 1450,
            shared: number == 0,
        });
        cloud.subnets.push(subnet(number, 0));
        for vm in 0..random.usize(2..VMS) {
            cloud.add_server(server(number, vm, random));
            for _ in 0..random.usize(1..4) {
                let port = port(&mut cloud, number, vm, random);
                cloud.add_port(port);
            }
        }
    }
    cloud
}

/// A cloud in which nothing is odd: so many VMs in the first project, each with two ports.
pub(crate) fn quiet(vms: usize, random: &mut fastrand::Rng) -> CloudState {
    let mut cloud = beginning(random);
    cloud.settings.pagination_max_limit = None;
    cloud.settings.nova_max_limit = 1000;
    cloud.settings.token_lifetime_seconds = 86_400;
    (cloud.ports, cloud.servers) = Default::default();
    cloud.subnets[0].cidr = "10.0.0.0/16".to_owned();
    for vm in 0..vms {
        let server = Server { name: format!("node-0-{vm}"), ..server(0, vm, random) };
        cloud.add_server(server);
        for number in 0..2 {
            let address = FixedIp {
                subnet_id: subnet_id(0, 0),
                ip_address: format!("10.0.{}.{}", vm / 100, 2 * (vm % 100) + number + 2),
            };
            let id = format!("{:08x}-0000-4000-8000-{vm:012x}", random.u32(..));
            let status = "ACTIVE".to_owned();
            let port = port(&mut cloud, 0, vm, random);
            cloud.add_port(Port { id, status, fixed_ips: vec![address], ..port });
        }
    }
    cloud
}

fn first_password(provider: &str) -> String {
    format!("{SECRET_MARK}-of-{provider}-0")
}

fn provider(id: &str) -> Provider {
    Provider {
        id: id.to_owned(),
        url: "{keystone}".to_owned(),
        admin_id: format!("admin-of-{id}"),
        admin_password: first_password(id),
        admin_password_ciphertext: None,
        domain: "default".to_owned(),
        rabbitmq: Some(RabbitMq {
            user: "openstack".to_owned(),
            password: format!("{SECRET_MARK}-rabbit-0"),
            urls: vec!["10.0.0.5:5672".to_owned()],
        }),
    }
}

fn service(kind: &str, name: &str, url: &str) -> CatalogService {
    let endpoint = Endpoint {
        interface: "public".to_owned(),
        region: Some("RegionOne".to_owned()),
        region_id: Some("RegionOne".to_owned()),
        url: url.to_owned(),
    };
    CatalogService { kind: kind.to_owned(), name: name.to_owned(), endpoints: vec![endpoint] }
}

fn subnet(project: usize, number: usize) -> Subnet {
    Subnet {
        id: subnet_id(project, number),
        name: "lan".to_owned(),
        network_id: network_id(project),
        project_id: None,
        cidr: format!("10.{project}.{number}.0/24"),
        gateway_ip: None,
        dns_nameservers: Vec::new(),
        host_routes: Vec::new(),
    }
}

fn name(random: &mut fastrand::Rng) -> String {
    // Few, so that they meet; with blanks around them and of mixed case, as people write.
    random
        .choice(["worker-0", "worker-1", "worker-2", "worker-3", " worker-4 ", "Worker-0"])
        .unwrap()
        .to_owned()
}

fn server(project: usize, vm: usize, random: &mut fastrand::Rng) -> Server {
    let mut metadata = BTreeMap::new();
    if random.u8(0..4) == 0 {
        metadata.insert(NAME_KEY.to_owned(), format!("meta-{vm}"));
    }
    let name = if random.u8(0..4) == 0 { name(random) } else { format!("node-{project}-{vm}") };
    let status = "ACTIVE".to_owned();
    Server {
        id: vm_id(project, vm),
        name,
        project_id: PROJECTS[project].to_owned(),
        status,
        metadata,
    }
}

fn address(project: usize, subnet: usize, random: &mut fastrand::Rng) -> FixedIp {
    let host = random.u8(2..250);
    FixedIp {
        subnet_id: subnet_id(project, subnet),
        ip_address: format!("10.{project}.{subnet}.{host}"),
    }
}

/// A new port. MAC addresses are at random, so that a younger port may come before an older one.
fn port(cloud: &mut CloudState, project: usize, vm: usize, random: &mut fastrand::Rng) -> Port {
    let subnets = cloud.subnets.iter().filter(|s| s.network_id == network_id(project)).count();
    let subnet = if subnets > 1 && random.u8(0..6) == 0 { 1 } else { 0 };
    let status = random.choice(["ACTIVE", "ACTIVE", "DOWN", "BUILD"]).unwrap();
    Port {
        id: format!("{:08x}-0000-4000-8000-{:012x}", random.u32(..), vm),
        name: String::new(),
        network_id: network_id(project),
        project_id: PROJECTS[project].to_owned(),
        mac_address: format!(
            "FA:16:3e:{:02x}:{:02x}:{:02x}",
            random.u8(..),
            random.u8(..),
            random.u8(..)
        ),
        status: status.to_owned(),
        device_id: vm_id(project, vm),
        fixed_ips: vec![address(project, subnet, random)],
        created_at: None,
        tags: Vec::new(),
    }
}

fn some_port(cloud: &CloudState, random: &mut fastrand::Rng) -> Option<String> {
    let ids: Vec<&str> = cloud.ports.iter().map(|port| port.id.as_str()).collect();
    random.choice(ids).map(str::to_owned)
}

/// Takes away each second port, or each port but one of every VM, as one who may not see them would
/// have it.
pub(crate) fn hide_ports(cloud: &mut CloudState, random: &mut fastrand::Rng) -> Vec<Port> {
    let is_half = random.bool();
    let mut seen = BTreeSet::new();
    let ports = cloud.ports.iter().enumerate();
    let hidden = ports.filter(|(at, port)| match is_half {
        true => at % 2 == 0,
        false => !seen.insert(port.device_id.clone()),
    });
    let ids: Vec<String> = hidden.map(|(_, port)| port.id.clone()).collect();
    ids.iter().filter_map(|id| cloud.ports.remove(id)).collect()
}

fn project_of(port: &Port) -> usize {
    usize::from(port.project_id == PROJECTS[1])
}

/// One thing that happens to the cloud: which kind, and in words. None if it didn't come to it.
pub(crate) fn change(
    cloud: &mut CloudState,
    random: &mut fastrand::Rng,
) -> Option<(&'static str, String)> {
    match random.u8(0..100) {
        0..18 => port_status(cloud, random),
        18..36 => port_comes_or_goes(cloud, random),
        36..48 => port_changes(cloud, random),
        48..64 => vm(cloud, random),
        64..72 => network(cloud, random),
        72..88 => access(cloud, random),
        _ => settings(cloud, random),
    }
}

fn port_status(
    cloud: &mut CloudState,
    random: &mut fastrand::Rng,
) -> Option<(&'static str, String)> {
    let id = some_port(cloud, random)?;
    let status = random.choice(["ACTIVE", "ACTIVE", "DOWN", "DOWN", "BUILD", "ERROR"]).unwrap();
    cloud.ports.update(&id, |port| port.status = status.to_owned());
    Some(("port status", format!("port {id} is {status}")))
}

fn port_comes_or_goes(
    cloud: &mut CloudState,
    random: &mut fastrand::Rng,
) -> Option<(&'static str, String)> {
    if random.bool() {
        let (project, vm) = (random.usize(0..2), random.usize(0..VMS));
        // Now and then so many that no node has room for them.
        let count = if random.u8(0..8) == 0 { 11 } else { 1 };
        let mut ids = Vec::new();
        for _ in 0..count {
            let port = port(cloud, project, vm, random);
            ids.push(format!("{} ({})", port.id, port.status));
            cloud.add_port(port);
        }
        let text = format!("VM {} gets ports {}", vm_id(project, vm), ids.join(", "));
        return Some(("port created", text));
    }
    let id = some_port(cloud, random)?;
    let port = cloud.ports.remove(&id)?;
    Some(("port deleted", format!("port {id} of VM {} is deleted", port.device_id)))
}

fn port_changes(
    cloud: &mut CloudState,
    random: &mut fastrand::Rng,
) -> Option<(&'static str, String)> {
    let id = some_port(cloud, random)?;
    let project = project_of(cloud.ports.get(&id)?);
    let new = address(project, 0, random);
    let (kind, text) = match random.u8(0..4) {
        0 => {
            let vms_project = if random.u8(0..3) == 0 { 1 - project } else { project };
            let vm = vm_id(vms_project, random.usize(0..VMS));
            cloud.ports.update(&id, |port| port.device_id.clone_from(&vm));
            ("port moved", format!("port {id} moves to VM {vm}"))
        }
        1 => {
            let text = format!("port {id} has {} as well", new.ip_address);
            cloud.ports.update(&id, |port| port.fixed_ips.push(new));
            ("port re-addressed", text)
        }
        2 => {
            cloud.ports.update(&id, |port| port.fixed_ips.clear());
            ("port re-addressed", format!("port {id} has no address any more"))
        }
        _ => {
            let text = format!("port {id} has {} only", new.ip_address);
            cloud.ports.update(&id, |port| port.fixed_ips = vec![new]);
            ("port re-addressed", text)
        }
    };
    Some((kind, text))
}

fn vm(cloud: &mut CloudState, random: &mut fastrand::Rng) -> Option<(&'static str, String)> {
    let (project, number) = (random.usize(0..2), random.usize(0..VMS));
    let id = vm_id(project, number);
    if cloud.servers.get(&id).is_none() {
        let server = server(project, number, random);
        let text = format!("VM {id} is created, named {:?}", server.name);
        cloud.add_server(server);
        return Some(("VM created", text));
    }
    match random.u8(0..8) {
        0..4 => {
            let name = if random.bool() {
                name(random)
            } else {
                format!("node-{project}-{}", random.usize(0..VMS + 2))
            };
            cloud.servers.update(&id, |server| server.name.clone_from(&name));
            Some(("VM renamed", format!("VM {id} is renamed to {name:?}")))
        }
        4 => {
            let other = vm_id(project, random.usize(0..VMS));
            let name_of = |id: &str| cloud.servers.get(id).map(|(_, server)| server.name.clone());
            let (mine, theirs) = (name_of(&id)?, name_of(&other)?);
            cloud.servers.update(&id, |server| server.name = theirs);
            cloud.servers.update(&other, |server| server.name = mine);
            Some(("VM renamed", format!("VMs {id} and {other} swap names")))
        }
        5 => {
            let name = format!("meta-{}", random.usize(0..VMS));
            cloud.servers.update(&id, |server| {
                server.metadata.insert(NAME_KEY.to_owned(), name.clone());
            });
            Some(("VM renamed", format!("VM {id} has the node name {name:?} in its metadata")))
        }
        6 => {
            cloud.servers.remove(&id);
            Some(("VM deleted", format!("VM {id} is deleted, its ports are left")))
        }
        _ => {
            cloud.servers.remove(&id);
            let ports: Vec<String> =
                cloud.ports.of_device(&id).map(|port| port.id.clone()).collect();
            for port in ports {
                cloud.ports.remove(&port);
            }
            Some(("VM deleted", format!("VM {id} is deleted with its ports")))
        }
    }
}

fn network(cloud: &mut CloudState, random: &mut fastrand::Rng) -> Option<(&'static str, String)> {
    let project = random.usize(0..2);
    let (first, second) = (subnet_id(project, 0), subnet_id(project, 1));
    match random.u8(0..4) {
        0 | 1 => {
            let mtu = random.choice([1400, 1450, 1500, 8950]).unwrap();
            cloud.networks[project].mtu = mtu;
            Some(("MTU changed", format!("network-{project} has an MTU of {mtu}")))
        }
        2 => {
            let name = random.choice(["lan", "lan", "LAN", "wan"]).unwrap();
            let subnet = cloud.subnets.iter_mut().find(|subnet| subnet.id == first)?;
            name.clone_into(&mut subnet.name);
            Some(("subnet renamed", format!("subnet {first} is named {name:?}")))
        }
        _ => {
            let before = cloud.subnets.len();
            cloud.subnets.retain(|subnet| subnet.id != second);
            if cloud.subnets.len() < before {
                return Some(("subnet deleted", format!("subnet {second} is deleted")));
            }
            cloud.subnets.push(subnet(project, 1));
            Some(("subnet created", format!("subnet {second} is created, named \"lan\"")))
        }
    }
}

fn access(cloud: &mut CloudState, random: &mut fastrand::Rng) -> Option<(&'static str, String)> {
    let number = random.usize(0..2);
    let id = PROVIDERS[number];
    match random.u8(0..6) {
        0 | 1 => {
            cloud.revoke_tokens();
            Some(("tokens revoked", "all tokens are revoked".to_owned()))
        }
        2 => {
            let password = format!("{SECRET_MARK}-of-{id}-{}", random.u16(1..));
            // In one stroke, or one of the two lags behind until somebody notices.
            let (keystone, contrabass) =
                random.choice([(true, true), (true, true), (true, false), (false, true)]).unwrap();
            if keystone {
                cloud.users[number].password.clone_from(&password);
            }
            if contrabass && let Some(known) = cloud.providers.iter_mut().find(|p| p.id == id) {
                known.admin_password = password;
            }
            let text = format!(
                "the password of {id} changes (Keystone: {keystone}, Contrabass: {contrabass})"
            );
            Some(("password rotated", text))
        }
        3 => {
            let moved = format!("http://keystone-{}.test", random.u8(..));
            let text = format!("Keystone moves to {moved}");
            cloud.urls.keystone = moved;
            Some(("provider changed", text))
        }
        4 => {
            let known = cloud.providers.iter_mut().find(|provider| provider.id == id)?;
            known.rabbitmq = match &known.rabbitmq {
                Some(_) => None,
                None => Some(RabbitMq {
                    user: "openstack".to_owned(),
                    password: format!("{SECRET_MARK}-rabbit-{}", random.u16(..)),
                    urls: vec!["10.0.0.5:5672".to_owned()],
                }),
            };
            Some(("provider changed", format!("RabbitMQ of {id} changes")))
        }
        _ => {
            let before = cloud.providers.len();
            cloud.providers.retain(|provider| provider.id != id);
            if cloud.providers.len() < before {
                return Some(("provider removed", format!("Contrabass forgets {id}")));
            }
            let mut provider = provider(id);
            provider.admin_password.clone_from(&cloud.users[number].password);
            cloud.providers.push(provider);
            Some(("provider changed", format!("Contrabass knows {id} again")))
        }
    }
}

fn settings(cloud: &mut CloudState, random: &mut fastrand::Rng) -> Option<(&'static str, String)> {
    match random.u8(0..6) {
        0 => {
            let limit = random.choice([None, Some(1), Some(2), Some(3)]).unwrap();
            cloud.settings.pagination_max_limit = limit;
            Some(("settings changed", format!("Neutron's pages have at most {limit:?} rows")))
        }
        1 => {
            let limit = random.choice([1, 2, 1000]).unwrap();
            cloud.settings.nova_max_limit = limit;
            Some(("settings changed", format!("Nova's pages have at most {limit} rows")))
        }
        2 => {
            let moved = format!("http://neutron-{}.test", random.u8(..));
            let text = format!("Neutron moves to {moved}");
            cloud.urls.neutron = moved;
            Some(("catalog changed", text))
        }
        3 => {
            let moved = format!("http://nova-{}.test", random.u8(..));
            let text = format!("Nova moves to {moved}");
            cloud.urls.nova = moved;
            Some(("catalog changed", text))
        }
        4 => {
            let before = cloud.catalog.len();
            cloud.catalog.retain(|service| service.kind != "network");
            if cloud.catalog.len() < before {
                return Some(("catalog changed", "the catalog loses Neutron".to_owned()));
            }
            cloud.catalog.push(service("network", "neutron", "{neutron}"));
            Some(("catalog changed", "the catalog has Neutron again".to_owned()))
        }
        _ => {
            cloud.settings.keystone_unreachable = !cloud.settings.keystone_unreachable;
            let reached = if cloud.settings.keystone_unreachable { "can't" } else { "can" };
            let text = format!("Neutron and Nova {reached} ask Keystone");
            Some(("settings changed", text))
        }
    }
}

/// Ends what only an operator of the cloud could end: after this everything can be done again.
/// Whatever is a state of its own, such as a subnet's name, stays as it is.
pub(crate) fn heal(cloud: &mut CloudState, random: &mut fastrand::Rng) {
    cloud.settings.keystone_unreachable = false;
    for (number, id) in PROVIDERS.into_iter().enumerate() {
        // Now and then somebody never puts a password right.
        if random.u8(0..8) > 0
            && let Some(known) = cloud.providers.iter_mut().find(|p| p.id == id)
        {
            // The other way round only a forced sync may find it out.
            known.admin_password.clone_from(&cloud.users[number].password);
        }
    }
    if random.u8(0..10) > 0 && !cloud.catalog.iter().any(|service| service.kind == "network") {
        cloud.catalog.push(service("network", "neutron", "{neutron}"));
    }
}
