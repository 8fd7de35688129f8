//! The crash tests: the store is stopped at every single operation on the disk, what wasn't synced
//! is kept, lost, torn and reordered, and what is found on restart must be a prefix of the commits
//! that includes every acknowledged one.

use std::path::Path;

use multinic_operator::inventory::record::Change;
use multinic_operator::inventory::store::Store;

use crate::inventory::support::{commit, open_on, record, remove, seen, upsert};
use crate::simulated_disk::{Fault, Restart, SimulatedDisk};

const PATH: &str = "/data/inventory.json";

/// Seeds of random survival per stop.
const SEEDS: u64 = 12;

/// Commits of one to five changes, with renames, removals and a node that comes back.
fn workload() -> Vec<Vec<Change>> {
    let many = (0..5).map(|n| upsert(&format!("many-{n}"), &[n * 10 + 1, n * 10 + 2], 5)).collect();
    vec![
        vec![upsert("a", &[1, 2], 1)],
        vec![upsert("b", &[3], 2), upsert("c", &[4, 5, 6], 2)],
        vec![upsert("a", &[1, 7], 3)],
        many,
        vec![remove("b"), Change::Upsert(record("b-new", "vm-b", &[3, 8], 6))],
        vec![upsert("c", &[4], 7)],
        vec![remove("many-0")],
        vec![upsert("b", &[9], 8), upsert("a", &[2], 8)],
    ]
}

/// What is seen after no commit, after one, after two …
fn expected_states() -> Vec<Vec<String>> {
    let store = open_on(SimulatedDisk::default(), Path::new(PATH));
    let mut states = vec![seen(&store.snapshot())];
    for changes in workload() {
        commit(&store, changes).unwrap();
        states.push(seen(&store.snapshot()));
    }
    states
}

/// Commits from the `from`th on until one fails; gives how many of all commits are acknowledged.
fn run(store: &Store, from: usize) -> usize {
    for (number, changes) in workload().into_iter().enumerate().skip(from) {
        if commit(store, changes).is_err() {
            return number;
        }
    }
    store.flush_and_close();
    workload().len()
}

fn restarts() -> impl Iterator<Item = Restart> {
    let fixed = [Restart::Killed, Restart::NothingUnsynced, Restart::EverythingUnsynced];
    fixed.into_iter().chain((0..SEEDS).map(Restart::Some))
}

/// Opens what a restart found and says how many commits it holds.
fn check(
    disk: &SimulatedDisk,
    states: &[Vec<String>],
    acknowledged: usize,
    context: &str,
) -> (Store, usize) {
    let store = open_on(disk.clone(), Path::new(PATH));
    assert!(store.state().is_healthy(), "{context}: {}", store.state());
    assert_eq!(store.findings(), Vec::<String>::new(), "{context}: an honest crash is no damage");
    let found = seen(&store.snapshot());
    let prefix = states.iter().position(|state| *state == found);
    let prefix =
        prefix.unwrap_or_else(|| panic!("{context}: no prefix of the commits: {found:#?}"));
    assert!(prefix >= acknowledged, "{context}: {acknowledged} acknowledged, {prefix} found");
    assert!(prefix <= acknowledged + 1, "{context}: {prefix} found of {acknowledged}");
    (store, prefix)
}

fn total_operations() -> usize {
    let disk = SimulatedDisk::default();
    run(&open_on(disk.clone(), Path::new(PATH)), 0);
    disk.operations()
}

#[test]
fn a_stop_at_any_operation_leaves_a_prefix_with_every_acknowledged_commit() {
    let states = expected_states();
    let total = total_operations();
    let mut checks = 0;
    for stop in 0..total {
        let disk = SimulatedDisk::with(Fault::StopAt(stop));
        let acknowledged = run(&open_on(disk.clone(), Path::new(PATH)), 0);
        for restart in restarts() {
            let context = format!("stopped at operation {stop} of {total}, {restart:?}");
            check(&disk.after(restart), &states, acknowledged, &context);
            checks += 1;
        }
    }
    println!("{total} operations, {checks} restarts checked");
    assert!(total > 50, "the workload is too small to prove anything: {total} operations");
}

#[test]
fn a_second_stop_at_any_operation_of_the_recovery_loses_nothing_either() {
    let states = expected_states();
    let total = total_operations();
    let mut checks = 0;
    for stop in (0..total).step_by(2) {
        let disk = SimulatedDisk::with(Fault::StopAt(stop));
        let acknowledged = run(&open_on(disk.clone(), Path::new(PATH)), 0);
        for (restart, second) in [
            (Restart::Killed, Restart::NothingUnsynced),
            (Restart::Killed, Restart::Some(stop as u64)),
            (Restart::EverythingUnsynced, Restart::Some(stop as u64 + 1)),
            (Restart::Some(stop as u64 + 2), Restart::NothingUnsynced),
        ] {
            for second_stop in 0..25 {
                let context = format!("{stop} {restart:?}, then {second_stop} {second:?}");
                let again = disk.after(restart);
                again.plan(Some(Fault::StopAt(second_stop)));
                let store = open_on(again.clone(), Path::new(PATH));
                let acknowledged = match store.state().is_healthy() {
                    // What was found counts as acknowledged from here on: a sync relied on it.
                    true => {
                        let found = seen(&store.snapshot());
                        let found = states.iter().position(|state| *state == found).unwrap();
                        run(&store, found)
                    }
                    false => acknowledged,
                };
                check(&again.after(second), &states, acknowledged, &context);
                checks += 1;
            }
        }
    }
    println!("{checks} double crashes checked");
}

/// Without timelines: commits that met in memory are written as one and so have fewer steps.
fn records(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.split(" {").next().unwrap().to_owned()).collect()
}

#[test]
fn a_disk_that_fails_for_a_while_at_any_operation_has_everything_once_it_is_back() {
    let states = expected_states();
    let total = total_operations();
    for from in 0..total {
        for length in [1, 2, 5] {
            let context = format!("operations {from} to {} fail", from + length);
            let disk = SimulatedDisk::with(Fault::FailFrom(from, from + length));
            let store = open_on(disk.clone(), Path::new(PATH));
            for (number, changes) in workload().into_iter().enumerate() {
                let written = commit(&store, changes);
                assert_eq!(
                    written.is_ok(),
                    store.state().is_healthy(),
                    "{context}: commit and state must say the same"
                );
                let memory = seen(&store.snapshot());
                assert_eq!(records(&memory), records(&states[number + 1]), "{context}: memory");
                if number % 4 == 3 {
                    store.retry();
                }
            }
            for _ in 0..12 {
                store.retry();
            }
            assert!(store.state().is_healthy(), "{context}: {}", store.state());
            let found = open_on(disk.after(Restart::NothingUnsynced), Path::new(PATH));
            let expected = records(states.last().unwrap());
            assert_eq!(records(&seen(&found.snapshot())), expected, "{context}: disk");
        }
    }
}
