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
[[ $1 == -n && $3 == get ]] && set -- get "$4" "$5"
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
    [[ $1 != apply && $1 != delete ]] || cat >"$folder/applied"
    [[ ! -e $folder/fails || " $* " != *" $(cat "$folder/fails") "* ]]
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
    let names = "there are: default ha namespaced own-cluster prometheus-operator pvc test";
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
    let own = "multinic-operator-own-cluster-rolebinding";
    let in_target = format!("-n multinic-system rolebinding.rbac.authorization.k8s.io {own}");
    let with_own = Cluster::with(&[(&in_target, own)]);
    assert!(with_own.deploy(&["OVERLAY=default"]).success);
    let delete = format!("delete --ignore-not-found {in_target}");
    assert_eq!(with_own.calls(), ["apply -f -", delete.as_str()]);
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
    let cluster = Cluster::with(&[("persistentvolumeclaim", "ReadWriteMany")]);
    let answer = cluster.deploy(&["OVERLAY=pvc"]);
    assert!(!answer.success && cluster.calls().is_empty(), "{:?}", cluster.calls());
    for part in
        ["is ReadWriteMany", "wants ReadWriteOnce", "delete pvc multinic-operator-inventory"]
    {
        assert!(answer.errors.contains(part), "{part}: {}", answer.errors);
    }
    assert!(cluster.deploy(&["OVERLAY=ha"]).success);
}

const NAME: (&str, &str) = ("jsonpath={.metadata.name}", "multinic-operator-controller-manager");
const STORE: &str = "@.name==\"INVENTORY_STORE\"";
const CLAIM: (&str, &str) = ("persistentVolumeClaim.claimName", "multinic-operator-inventory");

#[test]
fn an_operator_that_would_start_without_its_records_is_refused_until_they_are_moved() {
    if !has_kubectl() {
        return;
    }
    for (store, claim, overlay, place) in [
        ("file", Some(CLAIM), "default", "the claim multinic-operator-inventory"),
        ("", Some(CLAIM), "ha", "the claim multinic-operator-inventory"),
        ("", None, "default", "a volume that goes with its pod"),
        ("kubernetes", None, "pvc", "NodeInterfaces of namespace multinic-operator-system"),
    ] {
        let objects: Vec<_> = [(STORE, store), NAME].into_iter().chain(claim).collect();
        let cluster = Cluster::with(&objects);
        let overlay = format!("OVERLAY={overlay}");
        let answer = cluster.deploy(&[&overlay]);
        assert!(!answer.success && cluster.calls().is_empty(), "{:?}", cluster.calls());
        for part in [place, "MOVED=yes"] {
            assert!(answer.errors.contains(part), "{part}: {}", answer.errors);
        }
        let answer = cluster.deploy(&[&overlay, "MOVED=yes"]);
        assert!(answer.success, "{}", answer.errors);
    }
    for (store, claim, overlay) in
        [("kubernetes", None, "default"), ("kubernetes", None, "ha"), ("file", Some(CLAIM), "pvc")]
    {
        let objects: Vec<_> = [(STORE, store), NAME].into_iter().chain(claim).collect();
        let answer = Cluster::with(&objects).deploy(&[&format!("OVERLAY={overlay}")]);
        assert!(answer.success, "{overlay}: {}", answer.errors);
    }
}

#[test]
fn an_operator_is_taken_away_after_an_export_and_its_namespace_stays() {
    if !has_kubectl() {
        return;
    }
    let there = [("get deployment", "deployment.apps/multinic-operator-controller-manager")];
    let cluster = Cluster::with(&there);
    let undeploy = |cluster: &Cluster, forget: &str| {
        let mut command = Command::new(repository("tools/manifests/undeploy"));
        let path = format!("{}:{}", cluster.path().display(), std::env::var("PATH").unwrap());
        command.arg("default").current_dir(cluster.path());
        ask(command.env("PATH", path).env("FORGET", forget), "")
    };
    let answer = undeploy(&cluster, "");
    assert!(answer.success, "{}", answer.errors);
    let exec = "-n multinic-operator-system exec deploy/multinic-operator-controller-manager -- \
                /multinic-operator export";
    assert_eq!(cluster.calls(), [exec, "delete --ignore-not-found -f -"]);
    let kinds: Vec<_> = documents(&cluster.applied())
        .into_iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(kinds.contains(&"Deployment".to_owned()) && !kinds.contains(&"Namespace".to_owned()));
    assert!(answer.errors.contains("multinic-operator-records-"), "{}", answer.errors);
    // Without an export nothing is taken away.
    let cluster = Cluster::with(&there);
    fs::write(cluster.path().join("fails"), "exec").unwrap();
    let answer = undeploy(&cluster, "");
    assert!(!answer.success && answer.errors.contains("FORGET=yes"), "{}", answer.errors);
    assert_eq!(cluster.calls(), [exec]);
    assert!(undeploy(&cluster, "yes").success);
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
