//! Every fuzz target over its corpus: seeds, what the fuzzer found to reach further, and each input
//! that once showed a bug. `make fuzz` looks for more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking and is nobody's library"
)]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/targets/mod.rs"]
mod targets;

fn every_input_of(name: &str) {
    let (_, target) = targets::TARGETS.into_iter().find(|(found, _)| *found == name).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        count += 1;
        // Half of it, too: what is cut off must do as little harm.
        for data in [&data[..], &data[..data.len() / 2]] {
            if catch_unwind(|| target(data)).is_err() {
                failed.push(path.display().to_string());
            }
        }
    }
    assert!(count > 2, "{name} has no corpus");
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_message_broker() {
    every_input_of("amqp_session");
}

#[test]
fn answers_of_every_service() {
    every_input_of("answers");
}

#[test]
fn decryption() {
    every_input_of("decryption");
}

#[test]
fn the_environment() {
    every_input_of("environment");
}

#[test]
fn files_of_the_inventory() {
    every_input_of("inventory_files");
}

#[test]
fn requests_to_the_inventory() {
    every_input_of("inventory_requests");
}

#[test]
fn the_watch_stream() {
    every_input_of("watch_stream");
}

#[test]
fn every_target_has_its_program() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
