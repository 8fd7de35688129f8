//! `export` and `import`: documents of both kinds, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{halt_once_settled, run_in};
use crate::process::{Finished, Operator};
use crate::world::World;

/// What an operator with a settled world leaves behind: its folder, and its API's list.
struct Left {
    world: World,
    operator: Operator,
    list: String,
}

fn left() -> Left {
    let world = World::of("three-nodes");
    let operator = Operator::start(&world, &[]);
    world.wait_for_reason("Synced");
    let (status, list) = operator.inventory("/v1/inventory/node-configs");
    assert_eq!(status, 200, "{list}");
    halt_once_settled(&world, &operator);
    Left { world, operator, list }
}

fn document(folder: &Path, text: &str) -> String {
    let path: PathBuf = folder.join("document");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn records(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["records"].clone()
}

fn export(world: &World, folder: &Path) -> Finished {
    run_in(world, &[], folder, &["export"])
}

#[test]
fn each_kind_of_document_brings_the_records_to_an_empty_place() {
    let Left { world, operator, list } = left();
    let exported = export(&world, operator.folder().path());
    assert_eq!(exported.code, 0, "{}", exported.errors);
    let expected = records(&exported.output);
    assert_eq!(expected.as_array().unwrap().len(), 3);
    for text in [&exported.output, &list] {
        let folder = TempDir::new().unwrap();
        let file = document(folder.path(), text);
        let shown = run_in(&world, &[], folder.path(), &["import", &file]);
        assert_eq!(shown.code, 0, "{}", shown.errors);
        assert!(shown.output.contains("add worker-1 of "), "{}", shown.output);
        assert!(shown.output.contains("--yes"), "{}", shown.output);
        assert!(!folder.path().join("inventory.json").exists(), "it was written unasked");
        let done = run_in(&world, &[], folder.path(), &["import", &file, "--yes"]);
        assert_eq!(done.code, 0, "{}", done.errors);
        assert_eq!(records(&export(&world, folder.path()).output), expected);
        let again = run_in(&world, &[], folder.path(), &["import", &file, "--yes"]);
        assert!(again.output.contains("0 changes, 3 the same"), "{}", again.output);
    }
}

#[test]
fn an_import_keeps_what_only_the_inventory_has_and_shows_what_it_replaces() {
    let Left { world, list, .. } = left();
    let folder = TempDir::new().unwrap();
    let mut kept: Vec<Value> = serde_json::from_str(&list).unwrap();
    kept[0]["reservedIds"] = json!([{ "portId": "away", "id": 7 }]);
    let present = json!({ "records": kept }).to_string();
    fs::write(folder.path().join("inventory.json"), present).unwrap();
    // As the Go operator has it: the six fields, and one node only.
    let mut old = kept[0].clone();
    for field in ["acceptedBy", "owner", "reservedIds"] {
        old.as_object_mut().unwrap().remove(field);
    }
    old["config"]["interfaces"][0]["id"] = json!(5);
    old["config"]["interfaces"][0]["name"] = json!("multinic5");
    let file = document(folder.path(), &json!({ "records": [old] }).to_string());
    let done = run_in(&world, &[], folder.path(), &["import", &file, "--yes"]);
    assert_eq!(done.code, 0, "{}", done.errors);
    for text in ["replace worker-", "reservedIds: [{", "owner: {", "\"id\":5", "2 only in the"] {
        assert!(done.output.contains(text), "{text}: {}", done.output);
    }
    let after = records(&export(&world, folder.path()).output);
    assert_eq!(after.as_array().unwrap().len(), 3);
    assert_eq!(after[0]["config"]["interfaces"][0]["id"], 5);
    assert_eq!(after[1], kept[1]);
}

#[test]
fn what_cannot_be_imported_is_refused_and_changes_nothing() {
    let Left { world, operator, list } = left();
    let exported = export(&world, operator.folder().path()).output;
    let path = operator.folder().path().join("inventory.json");
    let before = fs::read(&path).unwrap();
    let outside = TempDir::new().unwrap();
    let file = document(outside.path(), &list);
    for arguments in [vec!["import", &file], vec!["import", &file, "--yes"]] {
        let refused = run_in(&world, &[], operator.folder().path(), &arguments);
        assert_eq!(refused.code, 1, "{}", refused.output);
        assert!(refused.errors.contains("is in use by an"), "{}", refused.errors);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    for (text, problem) in [
        (&exported[..exported.len() / 2], "is damaged"),
        ("{\"error\": \"not the leader\"}", "holds no records"),
        ("[]", "holds no records"),
        ("{\"format\": 9, \"records\": []}", "has format 9"),
    ] {
        let folder = TempDir::new().unwrap();
        let file = document(folder.path(), text);
        let refused = run_in(&world, &[], folder.path(), &["import", &file, "--yes"]);
        assert_eq!(refused.code, 1, "{text}: {}", refused.output);
        assert!(refused.errors.contains(problem), "{text}: {}", refused.errors);
        assert!(!folder.path().join("inventory.json").exists(), "{text}");
    }
    let missing = run_in(&world, &[], outside.path(), &["export"]);
    assert_eq!((missing.code, missing.output.as_str()), (1, ""));
}
