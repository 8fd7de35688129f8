//! What objects name is there, also after a kustomization on top has changed names and namespaces.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::documents;
use crate::manifests::rendered::{DEPLOYMENTS, deployment_in};
use crate::manifests::tools::kustomize_at;
use crate::{repository, text};

const PREFIX: &str = "namePrefix: mine-\n";
const SUFFIX: &str = "nameSuffix: -here\n";
const NAMESPACE: &str = "namespace: my-operators\n";

/// A folder of kustomizations on top of ours.
struct Layers {
    folder: tempfile::TempDir,
}

impl Layers {
    fn new() -> Layers {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Layers { folder }
    }

    /// Writes a kustomization; `{ours}` in it becomes the relative path of `manifests`.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let ours = relative(&folder, &repository("manifests"));
        fs::write(folder.join("kustomization.yaml"), text.replace("{ours}", &ours)).unwrap();
        folder
    }
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to) = (from.canonicalize().unwrap(), to.canonicalize().unwrap());
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", to.strip_prefix("/").unwrap().display())
}

/// The objects of one of our folders below a kustomization with these lines; none without kubectl.
fn below(lines: &str, ours: &str) -> Option<Vec<Value>> {
    let layers = Layers::new();
    let text = format!("{lines}resources:\n  - {{ours}}/{ours}\n");
    Some(documents(&kustomize_at(&layers.write("top", &text))?))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// References that lead nowhere.
pub(super) fn dangling(objects: &[Value]) -> Vec<String> {
    let mut dangling = Vec::new();
    let mut check = |from: &Value, kind: &str, place: &str, to: &Value| {
        let there = objects.iter().any(|object| {
            let is_in_place = kind == "ClusterRole" || namespace(object) == place;
            object["kind"] == kind && name(object) == to && is_in_place
        });
        if !there {
            let from = format!("{} {}", from["kind"], name(from));
            dangling.push(format!("{from} names {kind} {to} in {place:?}"));
        }
    };
    for object in objects {
        let place = namespace(object);
        if object["kind"].as_str().unwrap().ends_with("RoleBinding") {
            let role = &object["roleRef"];
            check(object, role["kind"].as_str().unwrap(), place, &role["name"]);
            for subject in list(&object["subjects"]) {
                let kind = subject["kind"].as_str().unwrap();
                check(object, kind, subject["namespace"].as_str().unwrap(), &subject["name"]);
            }
        }
        let pod = &object["spec"]["template"]["spec"];
        if pod.is_null() {
            continue;
        }
        check(object, "ServiceAccount", place, &pod["serviceAccountName"]);
        for source in list(&pod["containers"]).iter().flat_map(|each| list(&each["envFrom"])) {
            for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
                if !source[field].is_null() {
                    check(object, kind, place, &source[field]["name"]);
                }
            }
        }
        for volume in list(&pod["volumes"]) {
            if !volume["persistentVolumeClaim"].is_null() {
                let claim = &volume["persistentVolumeClaim"]["claimName"];
                check(object, "PersistentVolumeClaim", place, claim);
            }
            for (source, kind, field) in
                [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")]
            {
                let source = &volume[source];
                // What is optional is made by the user, under the name that instructions give.
                if !source.is_null() && source["optional"] != true {
                    check(object, kind, place, &source[field]);
                }
            }
        }
    }
    dangling
}

/// Selectors without a pod in their own namespace.
pub(super) fn selecting_nothing(objects: &[Value], pods: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for object in objects {
        let spec = &object["spec"];
        let selector = match object["kind"].as_str().unwrap() {
            "Service" => &spec["selector"],
            "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget" => &spec["selector"]["matchLabels"],
            _ => continue,
        };
        let selects = |pod: &Value| {
            let labels = &pod["spec"]["template"]["metadata"]["labels"];
            let mut wanted = selector.as_object().unwrap().iter();
            pod["kind"] == "Deployment"
                && namespace(pod) == namespace(object)
                && wanted.all(|(label, value)| labels[label] == *value)
        };
        if !pods.iter().any(selects) {
            found.push(format!("{} {}", object["kind"], name(object)));
        }
    }
    found
}

/// Namespaces whose objects the operator may read.
fn bound_namespaces(objects: &[Value]) -> Vec<&str> {
    let to_manager = |object: &&Value| {
        object["kind"] == "RoleBinding" && object["roleRef"]["kind"] == "ClusterRole"
    };
    objects.iter().filter(to_manager).map(namespace).collect()
}

fn environment<'a>(objects: &'a [Value], variable: &str) -> Option<&'a str> {
    let container = &deployment_in(objects)["spec"]["template"]["spec"]["containers"][0];
    let found = list(&container["env"]).iter().find(|each| each["name"] == variable);
    found.and_then(|each| each["value"].as_str())
}

#[test]
fn references_hold_below_a_kustomization_that_changes_names_and_namespaces() {
    for lines in ["", NAMESPACE, PREFIX, SUFFIX, &format!("{NAMESPACE}{PREFIX}{SUFFIX}")] {
        for folder in DEPLOYMENTS {
            // It has two Namespaces, which would become one: kustomize refuses that.
            if *folder == "test" && lines.contains(NAMESPACE) {
                continue;
            }
            let Some(objects) = below(lines, folder) else { return };
            let what = format!("{folder} below {lines:?}");
            assert_eq!(dangling(&objects), Vec::<String>::new(), "{what}");
            assert_eq!(selecting_nothing(&objects, &objects), Vec::<String>::new(), "{what}");
            if lines.contains(NAMESPACE) {
                let elsewhere = objects.iter().find(|object| {
                    !object["metadata"]["namespace"].is_null()
                        && namespace(object) != "my-operators"
                });
                assert!(elsewhere.is_none(), "{what}: {elsewhere:?}");
            }
        }
    }
}

#[test]
fn a_replica_may_use_the_lease_in_its_own_namespace_wherever_that_is() {
    for lines in ["", NAMESPACE, PREFIX, &format!("{NAMESPACE}{PREFIX}{SUFFIX}")] {
        let Some(objects) = below(lines, "overlays/ha") else { return };
        assert_eq!(environment(&objects, "LEADER_ELECT"), Some("true"));
        let pod = deployment_in(&objects);
        let account = &pod["spec"]["template"]["spec"]["serviceAccountName"];
        let may = objects.iter().any(|binding| {
            binding["kind"] == "RoleBinding"
                && namespace(binding) == namespace(pod)
                && binding["subjects"][0]["name"] == *account
                && objects.iter().any(|role| {
                    role["kind"] == "Role"
                        && namespace(role) == namespace(pod)
                        && binding["roleRef"]["name"] == name(role)
                        && role["rules"][0]["resources"][0] == "leases"
                })
        });
        assert!(may, "below {lines:?}");
    }
}

#[test]
fn monitoring_selects_the_pods_of_an_operator_below_the_same_kustomization() {
    for lines in ["", NAMESPACE, &format!("{NAMESPACE}{PREFIX}")] {
        for folder in ["monitoring", "overlays/prometheus-operator"] {
            let Some(objects) = below(lines, folder) else { return };
            let operator = below(lines, "default").unwrap();
            assert_eq!(selecting_nothing(&objects, &operator), Vec::<String>::new());
        }
    }
}

/// The two kustomizations of manifests/README.md: one places the operator, another one on top of it,
/// which has no `namespace:`, binds it in the watched namespaces.
fn documented() -> [String; 2] {
    let document = text("manifests/README.md");
    let blocks = document.split("```yaml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let ours = |block: &str| {
        let block = block.replace("../multinic-operator/manifests", "{ours}");
        block.replace("multinic-operator/manifests", "{ours}")
    };
    blocks.map(ours).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn an_operator_in_a_namespace_of_its_own_may_be_bound_in_chosen_namespaces() {
    let layers = Layers::new();
    let [operator, bound] = documented();
    layers.write("operator", &operator);
    let Some(rendered) = kustomize_at(&layers.write("bound", &bound)) else { return };
    let objects = documents(&rendered);
    assert_eq!(dangling(&objects), Vec::<String>::new());
    let operator = deployment_in(&objects);
    assert_eq!(namespace(operator), "network-operators");
    let pod = &operator["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "registry.example.com/multinic-operator:0.1.0");
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry-login");
    let watched = environment(&objects, "WATCH_NAMESPACES").unwrap();
    assert_eq!(watched, bound_namespaces(&objects).join(","));
    assert!(!objects.iter().any(|object| object["kind"] == "ClusterRoleBinding"));
}

#[test]
fn components_can_be_combined() {
    let layers = Layers::new();
    let text = "resources:\n  - {ours}/default\ncomponents:\n  - {ours}/components/ha\n  - {ours}/components/namespaced\n";
    let Some(rendered) = kustomize_at(&layers.write("both", text)) else { return };
    let objects = documents(&rendered);
    assert_eq!(dangling(&objects), Vec::<String>::new());
    assert_eq!(environment(&objects, "LEADER_ELECT"), Some("true"));
    assert_eq!(environment(&objects, "WATCH_NAMESPACES"), Some("default"));
}
