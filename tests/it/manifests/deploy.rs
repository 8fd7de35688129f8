//! `make deploy`, with a kubectl that renders as ever, answers from a list of what the cluster has, and
//! notes down everything else.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::documents;
use crate::manifests::tools::{Answer, ask, kustomize};
use crate::repository;

/// `kubectl get` prints the value of the first line of `cluster` whose key is among its arguments.
const KUBECTL: &str = r#"#!/usr/bin/env bash
folder=$(dirname "$0")
case $1 in
kustomize) PATH=${PATH#*:} exec kubectl "$@" ;;
get)
    while IFS='|' read -r key value; do
        [[ " $* " == *"$key"* ]] && { printf %s "$value"; exit; }
    done <"$folder/cluster"
    exit 0
    ;;
*)
    echo "$*" >>"$folder/calls"
    [[ $1 != apply ]] || cat >"$folder/applied"
    ;;
esac
"#;

struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    /// A cluster with these objects, each as a part of kubectl's arguments and what it answers.
    fn with(objects: &[(&str, &str)]) -> Cluster {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let lines: String = objects.iter().map(|(key, value)| format!("{key}|{value}\n")).collect();
        fs::write(folder.path().join("cluster"), lines).unwrap();
        let program = folder.path().join("kubectl");
        fs::write(&program, KUBECTL).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Cluster { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn deploy(&self, variables: &[&str]) -> Answer {
        let mut command = Command::new("make");
        let path = format!("{}:{}", self.path().display(), std::env::var("PATH").unwrap());
        command.arg("--directory").arg(repository("")).args(["--no-print-directory", "deploy"]);
        command.arg("IMG=r.example.com/operator:1").args(variables).env("PATH", path);
        ask(&mut command, "")
    }

    /// What was called besides `get` and `kustomize`.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn applied(&self) -> String {
        fs::read_to_string(self.path().join("applied")).unwrap()
    }
}

fn has_kubectl() -> bool {
    kustomize("crd").is_some()
}

#[test]
fn an_overlay_is_named_by_its_folder_or_its_name() {
    if !has_kubectl() {
        return;
    }
    let applied: Vec<String> = ["pvc", "overlays/pvc"]
        .into_iter()
        .map(|overlay| {
            let cluster = Cluster::with(&[]);
            let answer = cluster.deploy(&[&format!("OVERLAY={overlay}")]);
            assert!(answer.success, "{}", answer.errors);
            assert_eq!(cluster.calls(), ["apply -f -"]);
            assert!(!answer.errors.contains("deploy:"), "{}", answer.errors);
            cluster.applied()
        })
        .collect();
    assert_eq!(applied[0], applied[1]);
    assert!(applied[0].contains("claimName") && applied[0].contains("r.example.com/operator:1"));
    let cluster = Cluster::with(&[]);
    let answer = cluster.deploy(&["OVERLAY=pcv"]);
    assert!(!answer.success && cluster.calls().is_empty());
    let names = "there are: default ha namespaced prometheus-operator pvc test";
    assert!(answer.errors.contains(names), "{}", answer.errors);
}

#[test]
fn rights_that_another_overlay_has_left_are_taken_away() {
    if !has_kubectl() {
        return;
    }
    let binding = "multinic-operator-manager-rolebinding";
    let cluster_wide = format!("clusterrolebinding.rbac.authorization.k8s.io {binding}");
    let cluster = Cluster::with(&[(&cluster_wide, binding)]);
    let answer = cluster.deploy(&["OVERLAY=namespaced"]);
    assert!(answer.success, "{}", answer.errors);
    let delete = format!("delete --ignore-not-found {cluster_wide}");
    assert_eq!(cluster.calls(), ["apply -f -", delete.as_str()]);
    assert!(answer.errors.contains("is of another overlay"), "{}", answer.errors);
    // What the overlay itself brings stays.
    let answer = cluster.deploy(&["OVERLAY=default"]);
    assert!(answer.success, "{}", answer.errors);
    assert_eq!(cluster.calls().len(), 3, "{:?}", cluster.calls());
}

#[test]
fn a_claim_that_cannot_be_changed_is_said_before_anything_is_applied() {
    if !has_kubectl() {
        return;
    }
    let cluster = Cluster::with(&[("persistentvolumeclaim", "ReadWriteOnce")]);
    let answer = cluster.deploy(&["OVERLAY=ha"]);
    assert!(!answer.success && cluster.calls().is_empty(), "{:?}", cluster.calls());
    for part in
        ["is ReadWriteOnce", "wants ReadWriteMany", "delete pvc multinic-operator-inventory"]
    {
        assert!(answer.errors.contains(part), "{part}: {}", answer.errors);
    }
    assert!(cluster.deploy(&["OVERLAY=pvc"]).success);
}

#[test]
fn an_overlay_without_the_inventorys_volume_is_refused_until_that_is_meant() {
    if !has_kubectl() {
        return;
    }
    let cluster = Cluster::with(&[("deployment.apps", "multinic-operator-inventory")]);
    let answer = cluster.deploy(&["OVERLAY=default"]);
    assert!(!answer.success && cluster.calls().is_empty(), "{:?}", cluster.calls());
    assert!(answer.errors.contains("FORGET=yes"), "{}", answer.errors);
    let answer = cluster.deploy(&["OVERLAY=default", "FORGET=yes"]);
    assert!(answer.success, "{}", answer.errors);
    assert!(answer.errors.contains("it is lost with the pod"), "{}", answer.errors);
}

#[test]
fn every_pod_gets_the_secret_of_its_images_registry() {
    if !has_kubectl() {
        return;
    }
    let cluster = Cluster::with(&[]);
    let answer = cluster.deploy(&["OVERLAY=test", "PULL_SECRET=registry-login"]);
    assert!(answer.success, "{}", answer.errors);
    let pods: Vec<_> = documents(&cluster.applied())
        .into_iter()
        .filter(|object| object["kind"] == "Deployment")
        .map(|object| object["spec"]["template"]["spec"].clone())
        .collect();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(pod["imagePullSecrets"][0]["name"], "registry-login");
        assert!(pod["serviceAccountName"].is_string());
    }
    let answer = cluster.deploy(&["PULL_SECRET=not/a/name"]);
    assert!(!answer.success && answer.errors.contains("isn't the name of a Secret"));
}
