//! What kustomize makes of each folder.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use multinic_operator::config::{Config, VARIABLES};
use serde_json::{Value, json};

use super::{document, documents};
use crate::manifests::tools::{ask, kustomize, validator};
use crate::{repository, text};

/// Each folder that is applied, and how many objects come out of it.
const FOLDERS: &[(&str, usize)] = &[
    ("crd", 2),
    ("default", 15),
    ("samples", 1),
    ("test", 25),
    ("overlays/pvc", 14),
    ("overlays/ha", 16),
    ("overlays/namespaced", 15),
    ("overlays/own-cluster", 17),
    ("monitoring", 4),
    ("overlays/prometheus-operator", 6),
];
/// Those that bring the operator up.
pub(crate) const DEPLOYMENTS: &[&str] = &[
    "default",
    "overlays/pvc",
    "overlays/ha",
    "overlays/namespaced",
    "overlays/own-cluster",
    "test",
];
/// Kinds without a schema of Kubernetes; tests/it/monitoring has those of the Prometheus Operator.
const CUSTOM: &[&str] = &["OpenstackConfig", "PrometheusRule", "ServiceMonitor"];
/// The oldest Kubernetes the manifests are for, the one most clusters have, the newest.
const KUBERNETES: &[&str] = &["1.27", "1.32", "1.37"];
/// A stop takes up to ten seconds.
const STOP: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "multinic-operator-system";
const OPERATOR: &str = "multinic-operator-controller-manager";

/// The objects of a folder; none without kubectl.
fn rendered(folder: &str) -> Option<Vec<Value>> {
    Some(documents(&kustomize(folder)?))
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn deployment(objects: &[Value]) -> &Value {
    find(objects, "Deployment", OPERATOR).unwrap()
}

/// The operator's Deployment, whatever a kustomization calls it.
pub(crate) fn deployment_in(objects: &[Value]) -> &Value {
    let is_operator = |object: &&Value| {
        object["kind"] == "Deployment"
            && object["metadata"]["name"].as_str().unwrap().contains(OPERATOR)
    };
    objects.iter().find(is_operator).unwrap()
}

#[test]
fn every_folder_renders_to_valid_objects() {
    for (folder, number) in FOLDERS {
        let Some(yaml) = kustomize(folder) else { return };
        let objects = documents(&yaml);
        assert_eq!(objects.len(), *number, "{folder}");
        let mut arguments = vec!["objects"];
        arguments.extend(KUBERNETES);
        let Some(answer) = validator(&arguments, &yaml) else { return };
        assert!(answer.success, "{folder}: {}", answer.errors);
        let custom =
            objects.iter().filter(|object| CUSTOM.iter().any(|kind| object["kind"] == *kind));
        let custom = custom.count();
        let said = format!("{} validated, {custom} custom\n", number - custom);
        assert_eq!(answer.output, said, "{folder}");
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let good = text("manifests/manager/inventory_service.yaml");
    let Some(answer) = validator(&["objects", "1.37"], &good) else { return };
    assert!(answer.success, "{}", answer.errors);
    for (before, after) in [("port: 18081", "port: often"), ("targetPort:", "targetport:")] {
        let bad = good.replace(before, after);
        assert_ne!(bad, good);
        let answer = validator(&["objects", "1.37"], &bad).unwrap();
        assert!(!answer.success && answer.errors.contains("Service/"), "{}", answer.errors);
    }
}

/// A document whose commands have no continuation lines any more.
fn joined_lines(path: &str) -> String {
    text(path).replace("\\\n  ", "")
}

#[test]
fn objects_have_the_names_that_instructions_go_by() {
    let Some(objects) = rendered("default") else { return };
    for (kind, name) in [
        ("Namespace", NAMESPACE),
        ("ConfigMap", "operator-config"),
        ("Secret", "operator-secret"),
        ("Service", "multinic-operator-inventory-service"),
        ("Deployment", OPERATOR),
        ("ServiceAccount", OPERATOR),
    ] {
        let object = find(&objects, kind, name).unwrap_or_else(|| panic!("{kind} {name}"));
        if kind != "Namespace" {
            assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{kind} {name}");
        }
    }
    let exec = format!("kubectl -n {NAMESPACE} exec deploy/{OPERATOR} -- /multinic-operator ");
    let page = joined_lines("docs/commands.md");
    assert!(page.contains(&format!("{exec}check")) && page.contains(&format!("{exec}plan ")));
    // Its users' objects go with the CRD, so undeploying must not take that along.
    assert!(!objects.iter().any(|object| object["kind"] == "CustomResourceDefinition"));
}

#[test]
fn every_binding_names_an_account_and_a_role_that_are_there() {
    for folder in DEPLOYMENTS {
        let Some(objects) = rendered(folder) else { return };
        let bindings: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"].as_str().unwrap().ends_with("RoleBinding"))
            .collect();
        assert!(!bindings.is_empty(), "{folder}");
        for binding in bindings {
            let text = |pointer: &str| binding.pointer(pointer).unwrap().as_str().unwrap();
            find(&objects, text("/roleRef/kind"), text("/roleRef/name")).unwrap();
            let account = find(&objects, "ServiceAccount", text("/subjects/0/name")).unwrap();
            assert_eq!(account["metadata"]["namespace"], text("/subjects/0/namespace"));
            assert_eq!(account["automountServiceAccountToken"], false);
        }
        let pod = &deployment(&objects)["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], OPERATOR);
        assert_eq!(pod["automountServiceAccountToken"], true);
    }
}

/// The Pod Security Standards' level "restricted", and what goes beyond it here.
#[test]
fn every_pod_is_as_restricted_as_can_be() {
    for folder in DEPLOYMENTS {
        let Some(objects) = rendered(folder) else { return };
        for object in objects.iter().filter(|object| object["kind"] == "Deployment") {
            let pod = &object["spec"]["template"]["spec"];
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{folder}");
            assert_eq!(security["runAsUser"], 65532, "{folder}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{folder}");
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[host].is_null(), "{folder}: {host}");
            }
            assert_eq!(pod["enableServiceLinks"], false, "{folder}");
            let container = &pod["containers"][0];
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(container["securityContext"], expected, "{folder}");
            assert_eq!(container["resources"]["requests"]["memory"], "20Mi");
            assert_eq!(container["resources"]["limits"], json!({ "memory": "64Mi" }));
            for volume in pod["volumes"].as_array().unwrap_or(&Vec::new()) {
                let kinds: Vec<&String> = volume.as_object().unwrap().keys().collect();
                let allowed = ["name", "emptyDir", "configMap", "secret", "persistentVolumeClaim"];
                assert!(kinds.iter().all(|kind| allowed.contains(&kind.as_str())), "{kinds:?}");
                assert_eq!(kinds.len(), 2, "one source each: {kinds:?}");
            }
        }
    }
    let Some(objects) = rendered("default") else { return };
    let labels = &find(&objects, "Namespace", NAMESPACE).unwrap()["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn the_pod_fits_the_programs_defaults() {
    let Some(objects) = rendered("default") else { return };
    let minimal = |name: &str| (name == "KUBE_API_URL").then(|| "http://127.0.0.1:8001".to_owned());
    let config = Config::read(minimal).unwrap();
    let deployment = deployment(&objects);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports["inventory"], u64::from(config.inventory.address.port()));
    assert_eq!(ports["health"], u64::from(config.health_address.port()));
    assert_eq!(
        container["livenessProbe"]["httpGet"],
        json!({"path": "/healthz", "port": "health"})
    );
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": "health"})
    );
    let folder = config.inventory.path.parent().unwrap().to_str().unwrap();
    let with_file = rendered("overlays/pvc").unwrap();
    let mounts = &self::deployment(&with_file)["spec"]["template"]["spec"]["containers"][0];
    let mounts = mounts["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == folder).unwrap();
    assert_eq!(mount["name"], "inventory");
    assert!(mount["readOnly"].is_null());
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > STOP.as_secs());
    let service = find(&objects, "Service", "multinic-operator-inventory-service").unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], 18081);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "inventory");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    let policy = find(&objects, "NetworkPolicy", OPERATOR).unwrap();
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({ "type": "Recreate" }));
}

#[test]
fn each_file_that_the_settings_page_names_has_an_optional_volume_that_it_says_how_to_fill() {
    const FOLDER: &str = "/etc/multinic-operator/";
    let Some(objects) = rendered("default") else { return };
    let pod = &deployment(&objects)["spec"]["template"]["spec"];
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let guide = joined_lines("docs/settings.md");
    let mut settings = BTreeSet::new();
    for (before, rest) in guide.match_indices(FOLDER).map(|(at, _)| guide.split_at(at)) {
        let path = rest.split(['"', '`', ' ']).next().unwrap();
        let (folder, file) = path.rsplit_once('/').unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == folder);
        let mount = mount.unwrap_or_else(|| panic!("nothing is mounted for {path}"));
        assert_eq!(mount["readOnly"], true, "{path}");
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let (kind, name, source) = match (&volume["configMap"], &volume["secret"]) {
            (Value::Null, secret) => ("secret generic", &secret["secretName"], secret),
            (config_map, _) => ("configmap", &config_map["name"], config_map),
        };
        assert_eq!(source["optional"], true, "{path}");
        let command = format!("create {kind} {} --from-", name.as_str().unwrap());
        let made = guide.lines().find(|line| line.contains(&command));
        let made = made.unwrap_or_else(|| panic!("nothing is said to {command}"));
        assert!(made.contains(&format!("={file}=")), "{made}");
        settings.extend(before.rsplit('"').nth(2));
    }
    assert_eq!(settings, BTreeSet::from(["INVENTORY_TOKEN_FILE", "OPENSTACK_CA_FILE"]));
}

#[test]
fn the_config_map_lists_every_setting_with_its_default() {
    // Set by the Deployment itself, secret, or only for runs outside a cluster.
    let elsewhere = ["CONTRABASS_ENCRYPT_KEY", "POD_NAME", "POD_NAMESPACE"];
    let expected: Vec<(&str, &str)> = VARIABLES
        .iter()
        .filter(|variable| {
            !elsewhere.contains(&variable.name) && !variable.name.starts_with("KUBE_")
        })
        .map(|variable| (variable.name, variable.default))
        .collect();
    let yaml = text("manifests/default/operator-config.yaml");
    let (head, listed) = yaml.split_once("\ndata:\n").unwrap();
    let mut found = Vec::new();
    for line in listed.lines() {
        let line = line.trim().trim_start_matches("# ");
        let Some((name, value)) = line.split_once(": ") else { continue };
        let value = value.split(" # ").next().unwrap();
        let is_name =
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_name {
            let is_address = value.starts_with("https://");
            found.push((name, if is_address { "required" } else { value.trim_matches('"') }));
        }
    }
    let sorted = |mut settings: Vec<(&str, &str)>| {
        settings.sort_unstable();
        settings.iter().map(|(name, default)| format!("{name}={default}")).collect::<Vec<_>>()
    };
    assert_eq!(sorted(found), sorted(expected));
    // All of it taken at its word is a configuration the program accepts.
    let uncommented: String = listed
        .lines()
        .map(|line| line.replacen("  # ", "  ", 1) + "\n")
        .filter(|line| is_setting(line))
        .collect();
    let all = documents(&format!("{head}\ndata:\n{uncommented}")).remove(0);
    let lookup = |name: &str| match name {
        "KUBE_API_URL" => Some("http://127.0.0.1:8001".to_owned()),
        name => all["data"][name].as_str().map(str::to_owned),
    };
    if let Err(report) = Config::read(lookup) {
        panic!("{report}");
    }
}

fn is_setting(line: &str) -> bool {
    line.contains(": ")
}

#[test]
fn the_secret_holds_nothing_that_a_later_apply_would_put_back() {
    let secret = document("manifests/default/operator-secret.yaml");
    assert_eq!((&secret["data"], &secret["stringData"]), (&Value::Null, &Value::Null));
    assert!(text("manifests/default/operator-secret.yaml").contains("CONTRABASS_ENCRYPT_KEY"));
}

#[test]
fn two_replicas_need_no_volume_and_elect_a_leader() {
    let Some(objects) = rendered("overlays/ha") else { return };
    let spec = &deployment(&objects)["spec"];
    assert_eq!(spec["replicas"], 2);
    let environment = spec["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(environment.contains(&json!({ "name": "LEADER_ELECT", "value": "true" })));
    assert!(!objects.iter().any(|object| object["kind"] == "PersistentVolumeClaim"));
    let budget = find(&objects, "PodDisruptionBudget", OPERATOR).unwrap();
    assert_eq!(&budget["spec"]["selector"], &spec["selector"]);
    let role = find(&objects, "Role", "multinic-operator-leader-election-role").unwrap();
    assert_eq!(role["metadata"]["namespace"], NAMESPACE);
}

#[test]
fn records_are_kept_in_kubernetes_or_in_a_file_on_a_claim() {
    for (folder, store) in [
        ("default", "kubernetes"),
        ("overlays/ha", "kubernetes"),
        ("overlays/namespaced", "kubernetes"),
        ("overlays/pvc", "file"),
    ] {
        let Some(objects) = rendered(folder) else { return };
        let pod = &deployment(&objects)["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let variable = json!({ "name": "INVENTORY_STORE", "value": store });
        assert!(container["env"].as_array().unwrap().contains(&variable), "{folder}");
        let claim = json!({ "claimName": "multinic-operator-inventory" });
        let volumes = pod["volumes"].as_array().unwrap();
        let is_mounted = volumes.iter().any(|volume| volume["persistentVolumeClaim"] == claim);
        assert_eq!(is_mounted, store == "file", "{folder}");
        let role = find(&objects, "Role", "multinic-operator-records-role");
        assert_eq!(role.is_some(), store == "kubernetes", "{folder}");
    }
}

#[test]
fn rights_in_chosen_namespaces_are_those_that_are_watched() {
    let Some(objects) = rendered("overlays/namespaced") else { return };
    assert!(!objects.iter().any(|object| object["kind"] == "ClusterRoleBinding"));
    let environment = &deployment(&objects)["spec"]["template"]["spec"]["containers"][0]["env"];
    let watched = environment.as_array().unwrap();
    let watched = watched.iter().find(|variable| variable["name"] == "WATCH_NAMESPACES").unwrap();
    let bound: Vec<&str> = objects
        .iter()
        .filter(|object| object["roleRef"]["kind"] == "ClusterRole")
        .map(|binding| binding["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(watched["value"], bound.join(","));
}

#[test]
fn metrics_of_every_replica_can_be_reached_by_prometheus() {
    let Some(operator) = rendered("default") else { return };
    let objects = rendered("overlays/prometheus-operator").unwrap();
    let pod = &deployment(&operator)["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    let service = find(&objects, "Service", "multinic-operator-metrics-service").unwrap();
    assert_eq!(service["metadata"]["namespace"], NAMESPACE);
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "health");
    let health = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    let health = health.iter().find(|port| port["name"] == "health").unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], health["containerPort"]);
    let annotation = &pod["metadata"]["annotations"]["prometheus.io/port"];
    assert_eq!(annotation.as_str().unwrap(), health["containerPort"].to_string());
    let policy = find(&objects, "NetworkPolicy", "multinic-operator-metrics").unwrap();
    assert_eq!(policy["metadata"]["namespace"], NAMESPACE);
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], "health");
    let monitor = find(&objects, "ServiceMonitor", "multinic-operator").unwrap();
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for (label, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][label], value);
    }
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let job = monitor["spec"]["jobLabel"].as_str().unwrap();
    assert_eq!(service["metadata"]["labels"][job], "multinic-operator");
}

#[test]
fn the_test_chain_posts_to_the_stand_in() {
    let Some(objects) = rendered("test") else { return };
    let settings = find(&objects, "ConfigMap", "operator-config").unwrap();
    let service = find(&objects, "Service", "viola-test-api").unwrap();
    let url = format!(
        "http://viola-test-api.{}.svc.cluster.local:{}",
        service["metadata"]["namespace"].as_str().unwrap(),
        service["spec"]["ports"][0]["port"],
    );
    assert_eq!(settings["data"]["VIOLA_ENDPOINT"], url);
}

#[test]
fn the_render_script_puts_the_images_in() {
    if kustomize("crd").is_none() {
        return;
    }
    let render = |image: &str| {
        let mut command = Command::new(repository("tools/manifests/render"));
        command.arg(repository("manifests/test")).arg(image).arg("r.example.com/viola:2");
        ask(&mut command, "")
    };
    let answer = render("r.example.com:5000/ops/multinic-operator:0.1.0");
    assert!(answer.success, "{}", answer.errors);
    let images: Vec<String> = documents(&answer.output)
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .map(|object| object["spec"]["template"]["spec"]["containers"][0]["image"].to_string())
        .collect();
    let expected =
        ["\"r.example.com:5000/ops/multinic-operator:0.1.0\"", "\"r.example.com/viola:2\""];
    assert_eq!(images, expected);
    assert!(!render("a#b;c").success);
}
