//! From a file to records and back: `export` and `import` with either store.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use simulated_cloud::Service;
use tempfile::TempDir;

use super::super::guide::{commands, printed, shell};
use super::super::process::{Finished, Operator, command, run};
use super::super::world::World;
use super::{PORT, RENUMBER, STORE, cards, change, name, posts, record, records, reordered, start};
use super::{wait_for_polls, wait_for_posts};

const FILE: [(&str, &str); 4] = [
    ("POLL_FAST_INTERVAL", "200ms"),
    ("POLL_SLOW_INTERVAL", "300ms"),
    ("POLL_ERROR_INTERVAL", "200ms"),
    ("POLL_FAST_WINDOW", "1s"),
];

fn export(world: &World, variables: &[(&str, &str)], folder: &Path) -> String {
    let exported = run(world, variables, folder, &["export"]);
    assert_eq!(exported.code, 0, "{}", exported.errors);
    exported.output
}

fn import(world: &World, variables: &[(&str, &str)], folder: &Path, text: &str) -> Finished {
    let outside = TempDir::new().unwrap();
    let file = outside.path().join("inventory.json");
    fs::write(&file, text).unwrap();
    run(world, variables, folder, &["import", file.to_str().unwrap(), "--yes"])
}

fn records_of(document: &str) -> Value {
    serde_json::from_str::<Value>(document).unwrap()["records"].clone()
}

#[test]
fn an_inventory_moves_from_a_file_to_records_and_back_with_all_ids() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &FILE);
    world.wait_for_reason("NoChange");
    change(&world, "FA:16:3E:FF:00:01");
    wait_for_posts(&world, 2);
    wait_for_polls(&world, 2);
    let before = cards(&world, "worker-0");
    assert_eq!(before[0], (PORT.to_owned(), 0), "numbered anew it would be the second");
    let left = operator.folder();
    let folder = left.path();
    let document = export(&world, &FILE, folder);
    operator.stop();
    let imported = import(&world, &STORE, folder, &document);
    assert_eq!(imported.code, 0, "{}{}", imported.output, imported.errors);
    assert!(imported.output.contains("add worker-0 of "), "{}", imported.output);
    assert_eq!(records(&world).len(), 3);
    assert_eq!(records_of(&export(&world, &STORE, folder)), records_of(&document));
    let sent = posts(&world);
    let operator = start(&world);
    world.wait_for_reason("NoChange");
    wait_for_polls(&world, 2);
    assert_eq!(posts(&world), sent, "nothing has changed for Viola");
    change(&world, "FA:16:3E:FF:00:02");
    wait_for_posts(&world, sent + 1);
    assert_eq!(cards(&world, "worker-0"), before);
    wait_for_polls(&world, 2);
    // Beside a running operator there is an export, but no import.
    let document = export(&world, &STORE, folder);
    let refused = import(&world, &STORE, folder, &document);
    assert_eq!(refused.code, 1, "{}", refused.output);
    assert!(refused.errors.contains("multinic-operator (pod-a_"), "{}", refused.errors);
    operator.stop();
    let back = TempDir::new().unwrap();
    let imported = import(&world, &FILE, back.path(), &document);
    assert_eq!(imported.code, 0, "{}", imported.errors);
    assert_eq!(records_of(&export(&world, &FILE, back.path())), records_of(&document));
}

#[test]
fn an_import_takes_the_place_of_a_record_that_cannot_be_read() {
    let (world, operator) = reordered();
    let folder = TempDir::new().unwrap();
    let document = export(&world, &STORE, folder.path());
    operator.stop();
    let before = record(&world, "worker-0");
    let broken = json!({"spec": {"updatedAt": 7}});
    world.kubernetes().patch("NodeInterfaces", "default", name(&before), &broken).unwrap();
    let imported = import(&world, &STORE, folder.path(), &document);
    assert_eq!(imported.code, 0, "{}{}", imported.output, imported.errors);
    assert!(imported.output.contains("add worker-0 of "), "{}", imported.output);
    assert_eq!(record(&world, "worker-0")["spec"], before["spec"]);
    assert_eq!(record(&world, "worker-0")["metadata"]["annotations"][RENUMBER], Value::Null);
}

#[test]
fn the_guides_commands_bring_a_backup_into_kubernetes() {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &FILE);
    world.wait_for_reason("NoChange");
    let (left, folder) = (operator.folder(), TempDir::new().unwrap());
    let document = export(&world, &FILE, left.path());
    fs::write(folder.path().join("inventory.json"), &document).unwrap();
    operator.stop();
    let blocks = commands("Move the records");
    let mut import = blocks[1].clone();
    for (text, here) in [
        ("make install\n", ""),
        ("kubectl proxy --port=8001 & sleep 1\n", "sleep 60 &\n"),
        ("POD_NAMESPACE=multinic-operator-system", "POD_NAMESPACE=default"),
        ("http://127.0.0.1:8001", &world.url(Service::Kubernetes)),
        ("target/x86_64-unknown-linux-gnu/release/multinic-operator", "\"$PROGRAM\""),
    ] {
        assert!(import.contains(text), "{text}: {import}");
        import = import.replace(text, here);
    }
    let program = command(&world, &[], left.path());
    let mut shell = shell(&(blocks[0].clone() + &import), folder.path(), left.path());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PROGRAM", program.get_program()).env("RUST_LOG", "off");
    let shown = printed(&shell.output().unwrap());
    assert!(shown.contains("add worker-0 of ") && shown.ends_with("written\n"), "{shown}");
    assert_eq!(records_of(&export(&world, &STORE, left.path())), records_of(&document));
}
