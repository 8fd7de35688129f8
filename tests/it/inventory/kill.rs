//! kill -9 of a real process that commits as fast as it can, two hundred times.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use multinic_operator::inventory::store::Store;

use crate::inventory::support::{PROVIDER, commit, get, open, record, upsert};

const ROUNDS: usize = 200;
const FOLDER_VARIABLE: &str = "INVENTORY_KILL_TEST_FOLDER";
const NODES: u64 = 40;

/// The commit with a number: its counter, and two nodes that follow from the number.
fn changes(number: u64) -> Vec<multinic_operator::inventory::record::Change> {
    let node =
        |node: u64| upsert(&format!("node-{}", node % NODES), &[number as u32 % 4000], number);
    vec![upsert("counter", &[], number), node(number), node(number * 7)]
}

fn counter(store: &Store) -> u64 {
    let seconds =
        |time: jiff::Timestamp| time.as_second() - crate::inventory::support::start().as_second();
    get(store, "counter").map_or(0, |stored| seconds(stored.record.updated_at) as u64)
}

/// What is found must be exactly what the first `number` commits leave.
fn check(store: &Store, number: u64) {
    let mut last = std::collections::BTreeMap::new();
    for earlier in 1..=number {
        last.insert(earlier % NODES, earlier);
        last.insert(earlier * 7 % NODES, earlier);
    }
    let inventory = store.snapshot();
    for (node, earlier) in &last {
        let name = format!("node-{node}");
        let expected = record(&name, &format!("vm-{name}"), &[*earlier as u32 % 4000], *earlier);
        assert_eq!(inventory.get(PROVIDER, &name).unwrap().record, expected);
    }
    assert_eq!(inventory.len(), last.len() + usize::from(number > 0));
}

/// Not a test of its own: what [`kill_nine_loses_nothing_that_was_acknowledged`] starts and kills.
#[test]
#[ignore = "started by the kill test"]
fn commits_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER_VARIABLE) else { return };
    let store = open(&Path::new(&folder).join("inventory.json"));
    let mut number = counter(&store);
    let mut out = std::io::stdout().lock();
    writeln!(out, "found {number}").unwrap();
    loop {
        number += 1;
        commit(&store, changes(number)).unwrap();
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn kill_nine_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.json");
    let mut random = fastrand::Rng::with_seed(9);
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "inventory::kill::commits_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER_VARIABLE, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = total;
        // Counting commits, not time, makes the kill fall into the work on any machine.
        let mut until_kill = random.usize(0..40);
        let mut killed = false;
        for line in lines {
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = number.parse().unwrap();
            }
            if line.contains("found ") || line.contains("acknowledged ") {
                if until_kill == 0 && !killed {
                    std::thread::park_timeout(Duration::from_micros(random.u64(0..900)));
                    child.kill().unwrap();
                    killed = true;
                }
                until_kill = until_kill.saturating_sub(1);
            }
        }
        child.wait().unwrap();
        assert!(killed, "round {round}: the child ended by itself");
        let store = open(&path);
        assert!(store.state().is_healthy(), "round {round}: {}", store.state());
        assert_eq!(store.findings(), Vec::<String>::new(), "round {round}");
        let found = counter(&store);
        assert!(found >= acknowledged, "round {round}: {found} of {acknowledged}");
        assert!(found <= acknowledged + 1, "round {round}: {found} of {acknowledged}");
        check(&store, found);
        store.flush_and_close();
        total = found;
    }
    println!("{ROUNDS} kills, {total} commits");
    assert!(total > ROUNDS as u64, "the child hardly got to work: {total} commits");
}
