//! Measurements, left out of ordinary runs: `cargo test --release --test it inventory::figures -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_operator::clock::Clock;
use multinic_operator::http::server::{Limits, Server};
use multinic_operator::inventory::api::{Api, ApiSettings};
use multinic_operator::inventory::record::Change;
use multinic_operator::inventory::store::Store;
use multinic_operator::overview::Overview;

use crate::inventory::support::{commit, open, upsert};

const PORTS: [u32; 4] = [1, 2, 3, 4];

fn nodes(count: usize, step: u64) -> Vec<Change> {
    (0..count).map(|number| upsert(&format!("worker-{number:05}"), &PORTS, step)).collect()
}

/// Bytes this process has given to the disk or its cache.
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find(|line| line.starts_with("wchar")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
#[ignore = "a measurement"]
fn a_first_sync_of_2000_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("inventory.json"));
    let (changes, before) = (nodes(2000, 1), written());
    let began = Instant::now();
    commit(&store, changes).unwrap();
    println!("2000 nodes: {:?}, {} bytes written", began.elapsed(), written() - before);
}

#[test]
#[ignore = "a measurement"]
fn two_hundred_commits_of_ten_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("inventory.json"));
    let (all, before) = (nodes(2000, 1), written());
    let began = Instant::now();
    for changes in all.chunks(10) {
        commit(&store, changes.to_vec()).unwrap();
    }
    println!("200 commits of 10: {:?}, {} bytes written", began.elapsed(), written() - before);
}

#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_commit() {
    for count in [100, 2000, 5000, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("inventory.json"));
        commit(&store, nodes(count, 1)).unwrap();
        for (kind, first) in [
            ("no reader", 0),
            ("a reader of every version", 200),
            ("look-ups of every version", 400),
        ] {
            let times = (first..first + 200).map(|step: usize| {
                let held = (kind != "no reader").then(|| store.snapshot());
                let node = format!("worker-{:05}", step * 7919 % count);
                let began = Instant::now();
                commit(&store, vec![upsert(&node, &[step as u32], step as u64)]).unwrap();
                if kind.starts_with("look-ups") {
                    let inventory = store.snapshot();
                    assert!(!inventory.by_vm(&format!("vm-{node}")).is_empty());
                    assert!(!inventory.by_target("biz-1", &node).is_empty());
                }
                drop(held);
                began.elapsed()
            });
            let (median, worst) = median(times.collect());
            println!("{count} records, {kind}: commit median {median:?}, worst {worst:?}");
        }
    }
}

fn serve(store: Arc<Store>, address: &str) -> Server {
    let overview = Arc::<Overview>::default();
    let leads = Arc::new(|| None);
    let api = Api::new(store, overview, ApiSettings::default(), leads);
    let address = address.parse().unwrap();
    let (limits, clock) = (Limits::default(), Clock::system());
    Server::start("inventory", address, limits, Arc::new(api), clock, Arc::default()).unwrap()
}

/// Serves 2,000 records until `FIGURES_FOLDER/stop` appears, and leaves the same bytes and the tag
/// there for the yardstick (`yardstick.mjs`).
#[test]
#[ignore = "a measurement"]
fn serve_2000_records() {
    let Ok(folder) = std::env::var("FIGURES_FOLDER") else { return };
    let folder = Path::new(&folder);
    let store = open(&folder.join("inventory.json"));
    commit(&store, nodes(2000, 1)).unwrap();
    let inventory = store.snapshot();
    let texts: Vec<_> =
        inventory.iter().map(|stored| String::from_utf8_lossy(&stored.json).into_owned()).collect();
    let mut list = String::from("[");
    write!(list, "{}]", texts.join(",")).unwrap();
    fs::write(folder.join("list.json"), list).unwrap();
    fs::write(folder.join("single.json"), format!("[{}]", texts[1000])).unwrap();
    let server = serve(store, "127.0.0.1:18181");
    println!("serving on {}", server.address());
    let stop = folder.join("stop");
    while !stop.exists() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
