//! The restore procedure of docs/operations.md: the helper pod is admitted by the namespace and
//! mounts the operator's claim, and the commands put the backup in place.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{document, documents};
use crate::manifests::tools::validator;
use crate::{guide, repository};

/// The section's commands, in order.
fn commands() -> String {
    let blocks = guide::commands("Restore");
    assert_eq!(blocks.len(), 3);
    blocks.concat()
}

fn helper_pod() -> String {
    let section = guide::section("Restore");
    let manifest = section.split("<<'END'\n").nth(1).unwrap();
    manifest.split("\nEND\n").next().unwrap().to_owned()
}

#[test]
fn the_helper_pod_is_restricted_and_runs_as_the_operators_user() {
    let pod = helper_pod();
    if let Some(answer) = validator(&["objects", "1.37"], &pod) {
        assert!(answer.success, "{}", answer.errors);
    }
    let pod = documents(&pod).remove(0);
    let spec = &pod["spec"];
    let operator = &document("manifests/manager/manager.yaml")["spec"]["template"]["spec"];
    assert_eq!(spec["securityContext"], operator["securityContext"]);
    let container = &spec["containers"][0];
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        })
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(container["volumeMounts"][0]["name"], spec["volumes"][0]["name"]);
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/inventory");
    let mut claims = Vec::new();
    for folder in ["manifests/overlays", "manifests/components"] {
        for entry in fs::read_dir(repository(folder)).into_iter().flatten() {
            let file = entry.unwrap().path().join("inventory_claim.yaml");
            claims.extend(file.exists().then(|| document(file.to_str().unwrap())));
        }
    }
    assert_eq!(claims.len(), 1);
    for claim in claims {
        let of_pod = &spec["volumes"][0]["persistentVolumeClaim"]["claimName"];
        let name = |object: &Value, key: &str| object["metadata"][key].clone();
        assert_eq!(*of_pod, name(&claim, "name"));
        assert_eq!(name(&pod, "namespace"), name(&claim, "namespace"));
    }
}

/// Runs the procedure in `folder`, which holds the backup, on the volume `volume`.
fn restore(folder: &Path, volume: &Path) -> Output {
    guide::shell(&commands(), folder, volume).output().unwrap()
}

#[test]
fn the_procedure_puts_the_backup_in_place_of_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    let there = |name: &str| fs::read_to_string(volume.path().join(name));
    fs::write(folder.path().join("inventory.json"), "{\"records\":[]}\n").unwrap();
    fs::write(volume.path().join("inventory.json"), "lost").unwrap();
    fs::write(volume.path().join("inventory.json.journal-00000000000000000001"), "old").unwrap();
    // Each time keeps what was there before.
    for kept in [vec!["lost"], vec!["lost", "{\"records\":[]}\n"]] {
        let output = restore(folder.path(), volume.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(there("inventory.json").unwrap(), "{\"records\":[]}\n");
        let names = fs::read_dir(volume.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.filter(|name| name.to_str().unwrap().starts_with("before-restore-"));
        let mut texts: Vec<_> = names.map(|name| there(name.to_str().unwrap()).unwrap()).collect();
        texts.sort_unstable();
        assert_eq!(texts, kept);
        assert!(there("inventory.json.journal-00000000000000000001").is_err());
    }
    assert!(there("restored.json").is_err());
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let verbs = ["scale", "wait", "apply", "wait", "exec", "exec", "delete", "scale"].repeat(2);
    assert_eq!(calls.lines().count(), verbs.len());
    for (call, verb) in calls.lines().zip(verbs) {
        assert!(call.split(' ').any(|word| word == verb), "{call}: {verb} was expected");
    }
}

#[test]
fn the_procedure_works_on_an_empty_volume() {
    let folder = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("inventory.json"), "{\"records\":[]}\n").unwrap();
    let output = restore(folder.path(), volume.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = fs::read_dir(volume.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(found.collect::<Vec<_>>(), ["inventory.json"]);
}
