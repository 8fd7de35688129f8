//! The way to each service: certificates, proxies and redirects, each service for itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use simulated_cloud::{Fault, FaultKind, Service};
use tempfile::TempDir;

use super::process::{Operator, run};
use super::world::World;
use crate::http::certificates::Authority;
use crate::http::proxy::Proxy;
use crate::http::server::listen;

const QUICK: [(&str, &str); 3] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
];

/// Speaks TLS in front of a service that doesn't; its certificate can be exchanged.
pub(crate) struct Relay {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Relay {
    pub(crate) fn of(world: &World, service: Service, authority: &Authority) -> Relay {
        let config = Arc::new(Mutex::new(authority.server(&["127.0.0.1"])));
        let target = world.url(service);
        let target = target.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        let current = Arc::clone(&config);
        let address = listen(move |socket| {
            let config = Arc::clone(&current.lock().unwrap());
            let Ok(service) = TcpStream::connect(&target) else { return };
            relay(StreamOwned::new(ServerConnection::new(config).unwrap(), socket), service);
        });
        Relay { address, config }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    fn show(&self, authority: &Authority) {
        *self.config.lock().unwrap() = authority.server(&["127.0.0.1"]);
    }
}

/// Carries bytes both ways, a look at each side in turn, until one of them ends.
fn relay(mut client: StreamOwned<ServerConnection, TcpStream>, mut service: TcpStream) {
    let look = Some(Duration::from_millis(3));
    let mut buffer = [0; 16 * 1024];
    // The handshake first: a read that gives up in the middle of one is nothing to rely on.
    if client.conn.complete_io(&mut client.sock).is_err() {
        return;
    }
    client.sock.set_read_timeout(look).unwrap();
    service.set_read_timeout(look).unwrap();
    let waits = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    };
    loop {
        match client.read(&mut buffer) {
            Ok(count @ 1..) if service.write_all(&buffer[..count]).is_ok() => {}
            Err(error) if waits(&error) => {}
            _ => return,
        }
        match service.read(&mut buffer) {
            Ok(count @ 1..) => {
                if client.write_all(&buffer[..count]).and_then(|()| client.flush()).is_err() {
                    return;
                }
            }
            Err(error) if waits(&error) => {}
            _ => {
                client.conn.send_close_notify();
                let _ = client.flush();
                return;
            }
        }
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, authority: &Authority) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

const UNTRUSTED: &str = "signed by an authority that isn't trusted here";

/// The path behind the host, which the scenario may have.
fn path_of(world: &World, variable: &str) -> String {
    let environment = world.environment();
    let (_, url) = environment.iter().find(|(name, _)| name == variable).unwrap();
    let authority = url.split("://").nth(1).unwrap();
    authority.find('/').map_or(String::new(), |at| authority[at..].to_owned())
}

#[test]
fn each_service_is_verified_or_not_by_its_own_switch_alone() {
    let world = World::of("three-nodes");
    let (theirs, others) = (Authority::new("theirs"), Authority::new("others"));
    // One operator that is set up anew again and again, so it keeps its inventory.
    let (files, folder) = (Files::new(), Arc::new(TempDir::new().unwrap()));
    let (right, wrong) = (files.write("right.pem", &theirs), files.write("wrong.pem", &others));
    let contrabass = Relay::of(&world, Service::Contrabass, &theirs);
    let contrabass = contrabass.url(&path_of(&world, "CONTRABASS_ENDPOINT"));
    let neutron = Relay::of(&world, Service::Neutron, &theirs).url("");
    let viola = Relay::of(&world, Service::Viola, &theirs).url("");
    let kubernetes = Relay::of(&world, Service::Kubernetes, &theirs).url("");
    // The system's roots are somebody else's.
    let all = [
        ("SSL_CERT_FILE", wrong.as_str()),
        ("CONTRABASS_ENDPOINT", &contrabass),
        ("OPENSTACK_NEUTRON_ENDPOINT", &neutron),
        ("VIOLA_ENDPOINT", &viola),
    ];
    let with = |more: &[(&'static str, &'static str)], files: &[(&'static str, &str)]| {
        let variables = all.iter().chain(&QUICK).chain(more).copied();
        let variables: Vec<(&str, String)> = variables
            .chain(files.iter().copied())
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let borrowed: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Operator::start_in(&world, &borrowed, Arc::clone(&folder))
    };
    let expect = |operator: Operator, reason: &str| {
        let message = world.wait_for_reason(reason);
        assert!(message.contains(UNTRUSTED), "{reason}: {message}");
        drop(operator);
    };
    // Contrabass and OpenStack aren't verified unless told so; Viola is.
    expect(with(&[], &[]), "ViolaPostError");
    // Viola's switch is Viola's.
    let viola_off = ("VIOLA_INSECURE_TLS", "true");
    expect(with(&[viola_off, ("CONTRABASS_INSECURE_TLS", "false")], &[]), "ContrabassError");
    expect(with(&[viola_off], &[("CONTRABASS_CA_FILE", &wrong)]), "ContrabassError");
    expect(with(&[viola_off, ("OPENSTACK_INSECURE_TLS", "false")], &[]), "NeutronSubnetError");
    // All switches are off, and the Kubernetes API is verified nevertheless: nothing is asked.
    let off = [viola_off, ("CONTRABASS_INSECURE_TLS", "true"), ("OPENSTACK_INSECURE_TLS", "true")];
    world.journal().clear();
    let operator = with(&off, &[("KUBE_API_URL", &kubernetes)]);
    operator.line_with(UNTRUSTED);
    assert_eq!(world.journal().count(Service::Kubernetes), 0);
    drop(operator);
    // Each by its own file, all is well.
    let files = [
        ("KUBE_API_URL", kubernetes.as_str()),
        ("KUBE_CA_FILE", &right),
        ("CONTRABASS_CA_FILE", &right),
        ("OPENSTACK_CA_FILE", &right),
        ("VIOLA_CA_FILE", &right),
    ];
    let _operator = with(&[], &files);
    world.wait_for_ready(|ready| ready["status"] == "True");
    assert_eq!(world.held(), world.expected());
}

#[test]
fn a_ca_file_that_is_exchanged_while_we_run_is_taken_up() {
    let world = World::of("three-nodes");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files::new();
    let path = files.write("ca.pem", &old);
    let relay = Relay::of(&world, Service::Contrabass, &old);
    let endpoint = relay.url(&path_of(&world, "CONTRABASS_ENDPOINT"));
    let variables = [("CONTRABASS_ENDPOINT", endpoint.as_str()), ("CONTRABASS_CA_FILE", &path)];
    let variables: Vec<(&str, &str)> = variables.into_iter().chain(QUICK).collect();
    let _operator = Operator::start(&world, &variables);
    world.wait_for_reason("NoChange");
    // The service goes first, as it does: its kept connections end with it.
    relay.show(&new);
    world.faults().add(Fault::always(Service::Contrabass, FaultKind::CloseWithoutAnswer));
    world.wait_for_reason("ContrabassError");
    world.faults().clear();
    world.wait_for_ready(|ready| ready["message"].to_string().contains(UNTRUSTED));
    files.write("ca.pem", &new);
    world.wait_for_reason("NoChange");
}

#[test]
fn a_ca_file_that_is_missing_ends_the_program_with_the_name_of_its_variable() {
    let world = World::of("three-nodes");
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("OPENSTACK_CA_FILE", "/no/such/ca.pem"),
        ("HTTPS_PROXY", "https://me:hunter2@proxy.example"),
    ];
    let ended = run(&world, &variables, folder.path(), &[]);
    assert_eq!(ended.code, 2, "{}", ended.errors);
    let expected =
        "OPENSTACK_CA_FILE: OPENSTACK_CA_FILE names /no/such/ca.pem, which can't be read";
    assert!(ended.errors.contains(expected), "{}", ended.errors);
    assert!(ended.errors.contains("HTTPS_PROXY: is a proxy of the kind https://"));
    assert!(!ended.errors.contains("hunter2"), "{}", ended.errors);
}

#[test]
fn services_by_name_go_through_the_proxy_and_its_password_is_shown_nowhere() {
    let world = World::of("three-nodes");
    let proxy = Proxy::open();
    let through = |url: String| url.replace("127.0.0.1", "cloud.example");
    let contrabass = world.environment();
    let contrabass = contrabass.iter().find(|(name, _)| name == "CONTRABASS_ENDPOINT").unwrap();
    let contrabass = through(contrabass.1.clone());
    let (viola, kubernetes) =
        (through(world.url(Service::Viola)), through(world.url(Service::Kubernetes)));
    let address = format!("http://me:pr0xy-passw0rd@{}", proxy.address);
    let operator = Operator::start(
        &world,
        &[
            ("CONTRABASS_ENDPOINT", &contrabass),
            ("VIOLA_ENDPOINT", &viola),
            ("KUBE_API_URL", &kubernetes),
            ("HTTP_PROXY", &address),
        ],
    );
    world.wait_for_reason("Synced");
    assert_eq!(world.held(), world.expected());
    let port = |service| world.url(service).rsplit(':').next().unwrap().to_owned();
    for service in [Service::Contrabass, Service::Viola, Service::Kubernetes] {
        let target = format!("CONNECT cloud.example:{} ", port(service));
        let heads = proxy.heads();
        assert!(heads.iter().any(|head| head.starts_with(&target)), "{service}: {heads:?}");
        assert!(heads.iter().all(|head| head.contains("Basic ")), "{heads:?}");
    }
    // Keystone and those of its catalog are at 127.0.0.1.
    let keystone = format!(":{} ", port(Service::Keystone));
    assert!(!proxy.heads().iter().any(|head| head.contains(&keystone)));
    operator.line_with(&format!("http services are reached through the proxy {}", proxy.address));
    let log = operator.log();
    // `me:pr0xy-passw0rd`, as it is sent.
    for secret in ["pr0xy-passw0rd", "bWU6cHIweHktcGFzc3cwcmQ="] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_redirect_is_a_failure_that_says_so_and_nothing_goes_where_it_points() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let elsewhere = listen(move |mut socket| {
        let mut bytes = vec![0; 4096];
        let count = socket.read(&mut bytes).unwrap_or(0);
        seen.lock().unwrap().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
    });
    let cases = [
        (Service::Contrabass, "ContrabassError"),
        (Service::Keystone, "KeystoneError"),
        (Service::Neutron, "NeutronSubnetError"),
        (Service::Nova, "NovaError"),
        (Service::Viola, "ViolaPostError"),
    ];
    for (number, (service, reason)) in cases.into_iter().enumerate() {
        let world = World::of("three-nodes");
        let status = [301, 302, 303, 307, 308][number];
        let headers = vec![("Location".to_owned(), format!("http://{elsewhere}/"))];
        let kind = FaultKind::Status { status, headers, body: Vec::new() };
        world.faults().add(Fault::always(service, kind));
        let _operator = Operator::start(&world, &QUICK);
        let message = world.wait_for_reason(reason);
        let expected = format!("HTTP {status} (redirects aren't followed; check the URL)");
        assert!(message.contains(&expected), "{service}: {message}");
    }
    let world = World::of("three-nodes");
    let headers = vec![("Location".to_owned(), format!("http://{elsewhere}/"))];
    let kind = FaultKind::Status { status: 307, headers, body: Vec::new() };
    world.faults().add(Fault::always(Service::Kubernetes, kind));
    let operator = Operator::start(&world, &QUICK);
    operator.line_with("307: redirects aren't followed; check KUBE_API_URL");
    assert!(asked.lock().unwrap().is_empty(), "{:?}", asked.lock().unwrap());
}
