//! The Helm chart, rendered by Helm's own engine: equal to the kustomizations, and an upgrade of
//! releases of the Go operator's chart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use multinic_operator::config::{Config, Settings, VARIABLES};
use multinic_operator::http::trust::Trust;
use serde_json::{Value, json};

use super::references::{dangling, selecting_nothing};
use super::{document, documents};
use crate::manifests::tools::{kustomize, validator};
use crate::{repository, text};

const CHART: &str = "manifests/helm/multinic-operator";
const VALUES: &str = "manifests/helm/multinic-operator/values.yaml";
/// The release is called `chart`, and so is everything it has, with this in the values.
const NAMES: &str = "fullnameOverride";

/// One release.
struct Release {
    yaml: String,
    objects: Vec<Value>,
    notes: String,
    lint: Value,
}

impl Release {
    fn find(&self, kind: &str, name: &str) -> &Value {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects.iter().find(is_it).unwrap_or_else(|| panic!("{kind} {name}"))
    }

    fn pod(&self) -> &Value {
        let deployment = self.objects.iter().find(|object| object["kind"] == "Deployment");
        &deployment.unwrap()["spec"]["template"]["spec"]
    }

    fn claim(&self) -> &Value {
        let volumes = self.pod()["volumes"].as_array().unwrap();
        let inventory = volumes.iter().find(|volume| volume["name"] == "inventory").unwrap();
        &inventory["persistentVolumeClaim"]["claimName"]
    }

    /// Its ConfigMap as the program reads it.
    fn settings(&self) -> Config {
        let is_config = |object: &&Value| object["kind"] == "ConfigMap";
        let data = &self.objects.iter().find(is_config).unwrap()["data"];
        let lookup = |name: &str| match name {
            "KUBE_API_URL" => Some("http://127.0.0.1:8001".to_owned()),
            name => data.get(name).map(|value| value.as_str().unwrap().to_owned()),
        };
        Config::read(lookup).unwrap_or_else(|report| panic!("{report}"))
    }
}

/// What Helm makes of each set of values; a refusal is an error. None where Helm isn't installed.
fn releases(values: &[Value]) -> Option<Vec<Result<Release, String>>> {
    let folder = repository(CHART);
    let input = Value::from(values).to_string();
    let answer = validator(&["chart", folder.to_str().unwrap()], &input)?;
    assert!(answer.success, "{}", answer.errors);
    let answers: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    Some(answers.into_iter().map(release).collect())
}

fn release(mut answer: Value) -> Result<Release, String> {
    if let Some(refused) = answer["refused"].as_str() {
        return Err(refused.to_owned());
    }
    let mut manifests: BTreeMap<String, String> =
        serde_json::from_value(answer["manifests"].take()).unwrap();
    let notes = manifests.remove("multinic-operator/templates/NOTES.txt").unwrap();
    let yaml = manifests.into_values().collect::<Vec<_>>().join("\n---\n");
    Ok(Release { objects: documents(&yaml), yaml, notes, lint: answer["lint"].take() })
}

/// The release with these values; none where Helm isn't installed.
fn released(values: Value) -> Option<Release> {
    let release = releases(&[values])?.remove(0);
    Some(release.unwrap_or_else(|refused| panic!("{refused}")))
}

fn go_operator() -> Value {
    document("tests/it/manifests/go_operator_values.yaml")
}

/// The Go operator's values with another one for `/a/pointer`.
fn go_operator_but(changes: &[(&str, Value)]) -> Value {
    let mut values = go_operator();
    for (pointer, value) in changes {
        *values.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    values
}

/// The settings of a release of the Go operator's chart that these values upgrade; none where Helm
/// isn't installed.
pub(crate) fn upgraded(upgrade: &str) -> Option<Value> {
    let mut values = go_operator();
    let mut changes = documents(upgrade).remove(0);
    for (name, change) in changes.as_object_mut().unwrap() {
        let fields = change.as_object().unwrap().clone();
        values[name].as_object_mut().unwrap().extend(fields);
    }
    let release = released(values)?;
    assert!(!release.notes.contains("WARNING"), "{}", release.notes);
    assert_eq!(release.claim(), "chart-multinic-operator-inventory");
    let mut objects = release.objects.into_iter();
    Some(objects.find(|object| object["kind"] == "ConfigMap").unwrap()["data"].take())
}

/// Sets of values that people may have.
fn accepted() -> Vec<Value> {
    vec![
        json!({}),
        go_operator(),
        go_operator_but(&[("/persistence/enabled", json!(true)), ("/rbac/userRoles", json!(true))]),
        json!({"nameOverride": "nics", "image": {"pullSecrets": [{"name": "registry-login"}]}}),
        json!({NAMES: "nics", "serviceAccount": {"create": false, "name": "mine"}}),
        json!({
            "replicas": 2,
            "persistence": {"enabled": true, "accessModes": ["ReadWriteMany"]},
            "watchNamespaces": ["default", "tenants"],
        }),
        json!({
            "persistence": {"enabled": true, "existingClaim": "mine", "storageClassName": "fast"},
            "inventory": {"addr": "127.0.0.1:9000", "service": {"port": 80}},
            "namespace": {"create": true},
            "operatorSecret": {"existingSecret": "keys"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "operatorConfig": {"SYNC_WORKERS": 8, "INVENTORY_CORS_ORIGIN": "https://ui.example.com"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
        }),
        json!({"replicas": 2}),
        json!({"rbac": {"create": false}, "networkPolicy": {"enabled": false},
            "crds": {"install": false}, "inventory": {"enabled": false}}),
    ]
}

#[test]
fn whatever_it_accepts_is_valid_complete_and_lint_clean() {
    let Some(releases) = releases(&accepted()) else { return };
    for (values, release) in accepted().into_iter().zip(releases) {
        let release = release.unwrap_or_else(|refused| panic!("{values}: {refused}"));
        assert_eq!(release.lint, json!([]), "{values}");
        let answer = validator(&["objects", "1.27", "1.37"], &release.yaml).unwrap();
        assert!(answer.success, "{values}: {}", answer.errors);
        if values["rbac"]["create"] != false {
            let dangling = dangling(&release.objects);
            // An account, a claim or a Secret of the user's own isn't the chart's.
            let foreign = |each: &String| {
                [" mine", " \"mine\"", "\"keys\""].iter().any(|own| each.contains(own))
            };
            let dangling: Vec<&String> = dangling.iter().filter(|each| !foreign(each)).collect();
            assert!(dangling.is_empty(), "{values}: {dangling:?}");
        }
        assert_eq!(selecting_nothing(&release.objects, &release.objects), Vec::<String>::new());
        release.settings();
    }
}

#[test]
fn what_cannot_work_is_refused_with_what_replaces_it() {
    let cases = [
        (
            json!({"operatorConfig": {"CONTRABAS_ENDPOINT": "x"}}),
            "'CONTRABAS_ENDPOINT' not allowed",
        ),
        (json!({"persistance": {"enabled": true}}), "'persistance' not allowed"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "/image/pullPolicy': value must be one of"),
        (
            json!({"inventory": {"service": {"port": "often"}}}),
            "/inventory/service/port': got string",
        ),
        (json!({"image": {"pullSecrets": ["login"]}}), "/image/pullSecrets/0': got string"),
        (json!({"namespace": {"name": "nics"}}), "leave it empty and use --namespace nics"),
        (
            json!({"inventory": {"dbPath": "/data/inventory.json"}}),
            "below /var/lib/multinic-operator/",
        ),
        (json!({"operatorConfig": {"LEADER_ELECT": "true"}}), "set replicas"),
        (json!({"operatorConfig": {"WATCH_NAMESPACES": "a"}}), "set watchNamespaces"),
        (json!({"operatorConfig": {"CONTRABASS_ENCRYPT_KEY": "k"}}), "set operatorSecret."),
        (
            json!({"operatorConfig": {"violaEndpoint": "http://a", "VIOLA_ENDPOINT": "http://b"}}),
            "both violaEndpoint and VIOLA_ENDPOINT",
        ),
        (
            json!({"operatorSecret": {"existingSecret": "a", "CONTRABASS_ENCRYPT_KEY": "k"}}),
            "put the key into that Secret",
        ),
        (json!({"operatorConfig": {"INVENTORY_STORE": "file"}}), "set persistence.enabled"),
        (json!({"replicas": 2, "persistence": {"enabled": true}}), "to [ReadWriteMany]"),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    let Some(releases) = releases(&values) else { return };
    for ((values, reason), release) in cases.iter().zip(releases) {
        let refused = release.err().unwrap_or_else(|| panic!("{values} was accepted"));
        assert!(refused.contains(reason), "{values}: {refused}");
    }
}

/// Names in the cluster, selectors and the claim belong to installed releases: selectors can't change,
/// and what has another name is another object.
#[test]
fn a_release_of_the_go_operator_is_upgraded_in_place() {
    let values = go_operator_but(&[
        ("/persistence/enabled", json!(true)),
        ("/rbac/userRoles", json!(true)),
        ("/image/pullSecrets", json!([{"name": "registry-login"}])),
    ]);
    let Some(release) = released(values) else { return };
    let selector = json!({
        "control-plane": "controller-manager",
        "app.kubernetes.io/name": "multinic-operator",
        "app.kubernetes.io/instance": "chart",
    });
    let deployment = release.find("Deployment", "chart-multinic-operator");
    assert_eq!(deployment["spec"]["selector"], json!({ "matchLabels": selector }));
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], selector);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}), "never two at once");
    for (kind, suffix) in [
        ("ServiceAccount", ""),
        ("Service", "-inventory"),
        ("PersistentVolumeClaim", "-inventory"),
        ("ClusterRole", "-manager-role"),
        ("ClusterRoleBinding", "-manager-rolebinding"),
        ("ClusterRole", "-openstackconfig-admin"),
        ("ClusterRole", "-openstackconfig-editor"),
        ("ClusterRole", "-openstackconfig-viewer"),
    ] {
        release.find(kind, &format!("chart-multinic-operator{suffix}"));
    }
    assert_eq!(release.claim(), "chart-multinic-operator-inventory");
    let service = &release.find("Service", "chart-multinic-operator-inventory")["spec"];
    assert_eq!((&service["ports"][0]["name"], &service["selector"]), (&json!("http"), &selector));
    let pod = release.pod();
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry-login"}]));
    assert_eq!(pod["securityContext"]["fsGroup"], 65532, "the claim's files are readable");
    assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    assert!(release.notes.contains("images of the Go operator"), "{}", release.notes);
}

#[test]
fn overridden_names_are_those_that_the_go_operators_chart_made() {
    let values = [
        json!({"nameOverride": "nics", "persistence": {"enabled": true}}),
        json!({NAMES: "nics", "persistence": {"enabled": true, "existingClaim": "mine"}}),
    ];
    let Some(releases) = releases(&values) else { return };
    let found: Vec<_> = releases.into_iter().map(Result::unwrap).collect();
    let selected = |release: &Release, name: &str| {
        let deployment = release.find("Deployment", name);
        deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"].clone()
    };
    assert_eq!(selected(&found[0], "chart-nics"), "nics");
    assert_eq!(found[0].claim(), "chart-nics-inventory");
    assert_eq!(selected(&found[1], "nics"), "multinic-operator");
    assert_eq!(found[1].claim(), "mine");
    assert!(found[1].objects.iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
}

#[test]
fn certificates_are_verified_unless_the_values_say_otherwise() {
    let values = [
        go_operator(),
        json!({"operatorConfig": {
            "OPENSTACK_INSECURE_TLS": true,
            "violaInsecureTLS": "true",
            "VIOLA_TIMEOUT": "5s",
            "SYNC_WORKERS": 8,
        }}),
    ];
    let Some(releases) = releases(&values) else { return };
    let settings: Vec<Config> =
        releases.into_iter().map(|release| release.unwrap().settings()).collect();
    let insecure = |config: &Config| {
        let Settings { contrabass, openstack, viola, .. } = &*config.settings;
        [&contrabass.trust, &openstack.trust, &viola.trust].map(|trust| *trust == Trust::Anyone)
    };
    assert_eq!(insecure(&settings[0]), [false, false, false]);
    assert_eq!(insecure(&settings[1]), [false, true, true]);
    assert_eq!(settings[1].settings.viola.timeout.as_secs(), 5, "the variable's own name wins");
    assert_eq!(settings[1].workers, 8);
}

#[test]
fn changed_settings_start_a_new_pod() {
    let values = [json!({}), json!({"operatorConfig": {"POLL_SLOW_INTERVAL": "5m"}})];
    let Some(releases) = releases(&values) else { return };
    let sums: BTreeSet<String> = releases
        .into_iter()
        .map(|release| {
            let release = release.unwrap();
            let deployment = release.find("Deployment", "chart-multinic-operator");
            deployment["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
                .to_string()
        })
        .collect();
    assert_eq!(sums.len(), 2);
}

/// The chart's values that make of it what each kustomization is.
fn kustomizations() -> Vec<(&'static str, Value)> {
    let like = |more: Value| {
        let mut values = json!({
            NAMES: "chart",
            "image": {"tag": "latest"},
            "namespace": {"create": true},
            "rbac": {"userRoles": true},
            "crds": {"install": false},
        });
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        values
    };
    vec![
        ("default", like(json!({}))),
        ("overlays/pvc", like(json!({"persistence": {"enabled": true}}))),
        (
            "overlays/ha",
            like(json!({
                "replicas": 2,
            })),
        ),
        ("overlays/namespaced", like(json!({"watchNamespaces": ["default"]}))),
        (
            "overlays/own-cluster",
            like(json!({"operatorConfig": {"DELIVERY": "kubernetes", "OWN_CLUSTER": "true"}})),
        ),
    ]
}

/// What a name of the chart is called in the kustomizations.
fn kustomized(name: &str) -> String {
    match name {
        "chart" => "multinic-operator-controller-manager".to_owned(),
        "chart-config" => "operator-config".to_owned(),
        "chart-secret" => "operator-secret".to_owned(),
        "chart-openstackconfig-editor" => {
            "multinic-operator-openstackconfig-editor-role".to_owned()
        }
        "chart-openstackconfig-viewer" => {
            "multinic-operator-openstackconfig-viewer-role".to_owned()
        }
        name => name
            .strip_prefix("chart-")
            .map_or(name.to_owned(), |rest| format!("multinic-operator-{rest}")),
    }
}

fn rename(value: &mut Value) {
    match value {
        Value::String(text) => *text = kustomized(text),
        Value::Array(items) => items.iter_mut().for_each(rename),
        Value::Object(fields) => {
            fields.remove("app.kubernetes.io/instance");
            fields.values_mut().for_each(rename);
        }
        _ => {}
    }
}

/// Objects by kind, namespace and name, without what may differ: labels of the objects themselves,
/// Helm's annotations, the name of the Service and its port, settings.
fn comparable(objects: &[Value]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for object in objects {
        let mut object = object.clone();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("labels");
        metadata.remove("annotations");
        if kind == "Service" {
            metadata.insert("name".to_owned(), json!("inventory"));
            object["spec"]["ports"][0]["name"] = json!("inventory");
        }
        if kind == "ConfigMap" {
            object.as_object_mut().unwrap().remove("data");
        }
        let annotations = object.pointer_mut("/spec/template/metadata/annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove("checksum/settings");
        }
        // Kustomize puts what a patch adds first.
        let env = object.pointer_mut("/spec/template/spec/containers/0/env");
        if let Some(env) = env.and_then(Value::as_array_mut) {
            env.sort_by_key(|variable| variable["name"].to_string());
        }
        let place = object["metadata"].clone();
        found.insert(format!("{kind} {} {}", place["namespace"], place["name"]), object);
    }
    found
}

#[test]
fn it_brings_what_the_kustomizations_bring() {
    let cases = kustomizations();
    let values: Vec<Value> = cases.iter().map(|(_, values)| values.clone()).collect();
    let Some(releases) = releases(&values) else { return };
    for ((folder, _), release) in cases.iter().zip(releases) {
        let Some(yaml) = kustomize(folder) else { return };
        let mut objects = release.unwrap().objects;
        // The Go operator's chart has it, so bindings may name it.
        objects.retain(|object| object["metadata"]["name"] != "chart-openstackconfig-admin");
        objects.iter_mut().for_each(rename);
        let (ours, theirs) = (comparable(&objects), comparable(&documents(&yaml)));
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{folder}");
        for (name, theirs) in theirs {
            assert_same(&ours[&name], &theirs, &format!("{folder}: {name}"));
        }
    }
}

#[test]
fn without_a_claim_the_records_are_kept_in_kubernetes() {
    let values = [json!({}), json!({"persistence": {"enabled": true}})];
    let Some(releases) = releases(&values) else { return };
    let [kubernetes, file]: [Release; 2] =
        releases.into_iter().map(Result::unwrap).collect::<Vec<_>>().try_into().ok().unwrap();
    for (suffix, source) in [
        ("records", "manifests/rbac/records_role.yaml"),
        ("leader-election", "manifests/rbac/leader_election_role.yaml"),
    ] {
        let name = format!("chart-multinic-operator-{suffix}-role");
        let source = &documents(&text(source))[0];
        assert_eq!(kubernetes.find("Role", &name)["rules"], source["rules"], "{suffix}");
        let has = file.objects.iter().any(|object| object["metadata"]["name"] == name.as_str());
        assert_eq!(has, suffix == "leader-election");
    }
    for (release, store) in [(&kubernetes, "kubernetes"), (&file, "file")] {
        let variable = json!({ "name": "INVENTORY_STORE", "value": store });
        let variables = release.pod()["containers"][0]["env"].as_array().unwrap().clone();
        assert!(variables.contains(&variable), "{variables:?}");
    }
    let volumes = kubernetes.pod()["volumes"].to_string();
    assert!(!volumes.contains("emptyDir") && !volumes.contains("Claim"), "{volumes}");
}

fn assert_same(ours: &Value, theirs: &Value, what: &str) {
    let lines = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    assert!(ours == theirs, "{what}\nchart {}\nkustomization {}", lines(ours), lines(theirs));
}

#[test]
fn its_crds_are_the_kustomizations_own() {
    let listed = document("manifests/crd/kustomization.yaml");
    let files: BTreeSet<String> = listed["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let copies = fs::read_dir(repository(CHART).join("files")).unwrap();
    let copies: BTreeSet<String> =
        copies.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(copies, files, "in {CHART}/files and manifests/crd");
    for file in &files {
        let same = text(&format!("manifests/crd/{file}")) == text(&format!("{CHART}/files/{file}"));
        assert!(same, "run: cp manifests/crd/{file} {CHART}/files/");
    }
    let values = [json!({}), json!({"crds": {"keep": false}}), json!({"crds": {"install": false}})];
    let Some(releases) = releases(&values) else { return };
    let crds = |release: Result<Release, String>| -> Vec<Value> {
        let objects = release.unwrap().objects.into_iter();
        objects.filter(|object| object["kind"] == "CustomResourceDefinition").collect()
    };
    let [kept, left, absent]: [Vec<Value>; 3] =
        releases.into_iter().map(crds).collect::<Vec<_>>().try_into().unwrap();
    let sources: Vec<Value> =
        files.iter().flat_map(|file| documents(&text(&format!("manifests/crd/{file}")))).collect();
    assert_eq!(comparable(&kept), comparable(&sources));
    let policy = |crd: &Value| crd["metadata"]["annotations"]["helm.sh/resource-policy"].clone();
    assert!(kept.iter().all(|crd| policy(crd) == "keep"));
    assert!(!left.is_empty() && left.iter().all(|crd| policy(crd).is_null()));
    assert!(absent.is_empty());
}

#[test]
fn its_schema_knows_every_setting_of_the_program() {
    let schema: Value =
        serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).unwrap();
    let known = schema["properties"]["operatorConfig"]["properties"].as_object().unwrap();
    let found: BTreeSet<&str> = known
        .keys()
        .map(String::as_str)
        .filter(|name| !name.starts_with(char::is_lowercase))
        .collect();
    // The Deployment sets these itself, or they are for runs outside a cluster.
    let elsewhere = |name: &&str| name.starts_with("POD_") || name.starts_with("KUBE_");
    let expected: BTreeSet<&str> =
        VARIABLES.iter().map(|variable| variable.name).filter(|name| !elsewhere(name)).collect();
    assert_eq!(found, expected, "operatorConfig in {CHART}/values.schema.json");
}

#[test]
fn its_version_is_the_programs() {
    let chart = document(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document(VALUES)["image"]["tag"], "", "the default is the chart's appVersion");
}

/// Each value with its default and the comment above it, as rows of docs/helm.md.
fn rows() -> Vec<String> {
    let values = document(VALUES);
    let (mut rows, mut path, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in text(VALUES).lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let Some((key, _)) = line.split_once(':').filter(|_| !line.starts_with('-')) else {
            comment.clear();
            continue;
        };
        path.retain(|(depth, _)| *depth < indent);
        path.push((indent, key.to_owned()));
        if comment.is_empty() {
            continue;
        }
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        let default = values.pointer(&format!("/{}", names.join("/"))).unwrap();
        let is_long = default.as_object().is_some_and(|fields| !fields.is_empty());
        let default = match default {
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            _ if is_long => "`{...}`".to_owned(),
            other => format!("`{other}`"),
        };
        rows.push(format!("| `{}` | {default} | {} |", names.join("."), comment.join(" ")));
        comment.clear();
    }
    rows
}

#[test]
fn its_page_lists_every_value_with_its_default() {
    let rows = rows();
    assert!(rows.len() > 30, "{} values were found", rows.len());
    let page = text("docs/helm.md");
    let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(found == rows, "the table of docs/helm.md must be:\n{}", rows.join("\n"));
    // The translation has the same names and defaults, and its own words.
    let korean = text("docs/helm.ko.md");
    let found: Vec<&str> = korean.lines().filter(|line| line.starts_with("| `")).collect();
    let head = |row: &str| row.split(" | ").take(2).collect::<Vec<_>>().join(" | ");
    let heads: Vec<String> = rows.iter().map(|row| head(row)).collect();
    assert_eq!(found.into_iter().map(head).collect::<Vec<_>>(), heads, "docs/helm.ko.md");
}
