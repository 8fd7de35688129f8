//! The CRDs and the Rust types, held to each other in both directions.

use std::collections::BTreeSet;
use std::time::Duration;

use multinic_operator::clock::Now;
use multinic_operator::config::{Config, FoundSecrets};
use multinic_operator::inventory::record::Record;
use multinic_operator::kube::objects::RawObject;
use multinic_operator::node_config::MAX_INTERFACES;
use multinic_operator::reconcile::report::{self, Ready, Reason, Report};
use multinic_operator::records::node_interfaces::{
    NODE_INTERFACES as RECORDS, object as object_of,
};
use multinic_operator::resources::{
    Condition, Destination, DownPortRetry, Hold, OPENSTACK_CONFIGS as RESOURCE, OpenstackConfig,
    Spec, Status, SubnetSelector,
};
use serde_json::{Value, json};

use super::{document, documents};
use crate::manifests::schema::{Schema, paths};
use crate::manifests::tools::validator;
use crate::text;

const OPENSTACK_CONFIGS: &str = "manifests/crd/openstackconfigs.yaml";
const NODE_INTERFACES: &str = "manifests/crd/nodeinterfaces.yaml";
const MULTI_NIC_NODE_CONFIGS: &str = "manifests/test/multinicnodeconfigs.yaml";
const SAMPLE: &str = "manifests/samples/openstackconfig.yaml";

/// A spec that sets every field.
fn whole_spec() -> Value {
    json!({
        "subnetIDs": ["subnet-1", "subnet-2"],
        "subnetID": "subnet-id",
        "subnetName": "subnet-name",
        "vmNames": ["vm-1"],
        "credentials": {
            "openstackProviderID": "provider",
            "projectID": "project",
            "k8sProviderID": "cluster",
        },
        "paused": true,
        "ports": {"createdAfter": "ObjectCreation", "tags": ["multinic"]},
        "settings": {
            "contrabassEncryptKey": "multinic-demo-16",
            "contrabassEndpoint": "https://contrabass.example.com",
            "contrabassInsecureTLS": false,
            "contrabassTimeout": "30s",
            "downPortFastRetryMax": 5,
            "openstackEndpointInterface": "public",
            "openstackEndpointRegion": "RegionOne",
            "openstackInsecureTLS": false,
            "openstackNeutronEndpoint": "https://neutron.example.com",
            "openstackNodeNameMetadataKey": "node-name",
            "openstackNovaEndpoint": "https://nova.example.com",
            "openstackPortAllowedStatuses": ["ACTIVE"],
            "openstackTimeout": "30s",
            "pollErrorInterval": "30s",
            "pollFastInterval": "20s",
            "pollFastWindow": "3m",
            "pollSlowInterval": "2m",
            "violaEndpoint": "https://viola.example.com",
            "violaInsecureTLS": false,
            "violaTimeout": "30s",
        },
        "delivery": {
            "type": "Kubernetes",
            "kubeconfigSecretRef": {"name": "biz", "key": "kubeconfig"},
        },
        "secrets": {"contrabassEncryptKeySecretRef": {"name": "contrabass", "key": "KEY"}},
    })
}

fn object(spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{}/{}", RESOURCE.group, RESOURCE.version),
        "kind": RESOURCE.kind,
        "metadata": { "name": "tenant", "namespace": "default" },
        "spec": spec,
    })
}

fn read(object: &Value) -> OpenstackConfig {
    let body = serde_json::value::to_raw_value(object).unwrap();
    OpenstackConfig::from_raw(&RawObject::read(&body).unwrap(), &Default::default())
}

/// A leaf of a spec, by its path; paths of list items mean the first one.
fn leaf<'a>(spec: &'a mut Value, path: &str) -> &'a mut Value {
    let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/"));
    spec.pointer_mut(&pointer).unwrap_or_else(|| panic!("{path} is not in the test's spec"))
}

fn without(mut spec: Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = if parent.is_empty() { &mut spec } else { leaf(&mut spec, parent) };
    parent.as_object_mut().unwrap().remove(name.trim_end_matches("[]")).unwrap();
    spec
}

#[test]
fn the_resource_is_named_as_in_the_code() {
    let Schema { crd, .. } = Schema::of(OPENSTACK_CONFIGS);
    let spec = &crd["spec"];
    assert_eq!(crd["metadata"]["name"], format!("{}.{}", RESOURCE.plural, RESOURCE.group));
    assert_eq!(spec["group"], RESOURCE.group);
    assert_eq!(spec["scope"], "Namespaced");
    assert_eq!(spec["names"]["kind"], RESOURCE.kind);
    assert_eq!(spec["names"]["plural"], RESOURCE.plural);
    assert_eq!(spec["names"]["shortNames"], json!(["osc"]));
    let version = &spec["versions"][0];
    assert_eq!(version["name"], RESOURCE.version);
    assert_eq!((&version["served"], &version["storage"]), (&json!(true), &json!(true)));
    assert_eq!(version["subresources"], json!({ "status": {} }));
}

/// A spec whose cloud isn't Contrabass'.
fn spec_with_identity() -> Value {
    let mut spec = without(whole_spec(), "credentials.openstackProviderID");
    spec["delivery"]["type"] = json!("Viola");
    spec["credentials"]["identityRef"] =
        json!({"type": "Secret", "name": "openstack", "cloudName": "prod", "region": "R1"});
    spec
}

fn of_unknown_delivery() -> Value {
    let mut spec = whole_spec();
    spec["delivery"]["type"] = json!("Post");
    spec
}

fn of_other_type() -> Value {
    let mut spec = spec_with_identity();
    spec["credentials"]["identityRef"]["type"] = json!("ConfigMap");
    spec
}

#[test]
fn every_schema_is_structural_and_keeps_its_rules_cheap() {
    let schemas = Schema::all();
    assert!(schemas.len() >= 2, "the CRDs weren't found");
    for (file, schema) in schemas {
        assert_eq!(schema.flaws(), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn the_printer_columns_show_fields_that_the_status_has() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let columns = schema.crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let shown = |column: &&Value| column["priority"].is_null();
    let names: Vec<&str> =
        columns.iter().filter(shown).map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Ready", "Reason", "Nodes", "Configured", "Last Synced", "Age"]);
    let leaves = schema.leaves("status");
    for column in columns {
        let path = column["jsonPath"].as_str().unwrap();
        if path == ".metadata.creationTimestamp" {
            continue;
        }
        let leaf = path.trim_start_matches(".status.").replace("[?(@.type==\"Ready\")]", "[]");
        assert!(leaves.contains(&leaf), "{path}");
    }
}

#[test]
fn every_field_of_the_spec_is_read_and_nothing_else() {
    // Taken apart without `..`: a new field doesn't compile until this says where it is from.
    let Spec {
        subnets,
        vm_ids,
        provider_id,
        identity_ref,
        project_id,
        k8s_provider_id,
        destination,
        paused,
        ports,
        settings,
        encrypt_key,
        encrypt_key_ref,
    } = read(&object(&whole_spec())).spec.unwrap();
    assert_eq!(identity_ref, None);
    let with_identity = read(&object(&spec_with_identity())).spec.unwrap();
    assert_eq!(with_identity.provider_id, "default/openstack/prod");
    let identity = with_identity.identity_ref.unwrap();
    let Destination::Kubernetes(cluster) = destination else { panic!("{destination:?}") };
    let kubeconfig = cluster.kubeconfig.unwrap();
    let key_ref = encrypt_key_ref.unwrap();
    let by_id = without(whole_spec(), "subnetIDs");
    let by_name = without(by_id.clone(), "subnetID");
    let subnet_of = |spec| read(&object(&spec)).spec.unwrap().subnets;
    let id = |id: &str| SubnetSelector::Id(id.to_owned());
    let read_as = [
        ("subnetIDs[]", subnets == [id("subnet-1"), id("subnet-2")]),
        ("subnetID", subnet_of(by_id) == [id("subnet-id")]),
        ("subnetName", subnet_of(by_name) == [SubnetSelector::Name("subnet-name".to_owned())]),
        ("vmNames[]", vm_ids == ["vm-1"]),
        ("credentials.openstackProviderID", provider_id == "provider"),
        ("credentials.projectID", project_id == "project"),
        ("credentials.identityRef.type", read(&object(&of_other_type())).spec.is_err()),
        ("credentials.identityRef.name", identity.secret == "openstack"),
        ("credentials.identityRef.cloudName", identity.cloud == "prod"),
        ("credentials.identityRef.region", identity.region.as_deref() == Some("R1")),
        ("secrets.contrabassEncryptKeySecretRef.name", key_ref.name == "contrabass"),
        ("secrets.contrabassEncryptKeySecretRef.key", key_ref.key == "KEY"),
        ("credentials.k8sProviderID", k8s_provider_id.as_deref() == Some("cluster")),
        ("delivery.type", read(&object(&of_unknown_delivery())).spec.is_err()),
        ("delivery.kubeconfigSecretRef.name", kubeconfig.secret == "biz"),
        ("delivery.kubeconfigSecretRef.key", kubeconfig.key == "kubeconfig"),
        ("paused", paused),
        ("ports.createdAfter", ports.created_after_object),
        ("ports.tags[]", ports.tags == ["multinic".into()]),
    ];
    for (path, is_read) in read_as {
        assert!(is_read, "{path}");
    }
    let settings = settings.keys().map(|name| match *name {
        "openstackPortAllowedStatuses" => format!("settings.{name}[]"),
        name => format!("settings.{name}"),
    });
    let key = encrypt_key.map(|_| "settings.contrabassEncryptKey".to_owned());
    let known = read_as.map(|(path, _)| path.to_owned()).into_iter().chain(settings).chain(key);
    assert_eq!(Schema::of(OPENSTACK_CONFIGS).leaves("spec"), known.collect());
}

#[test]
fn schema_and_code_require_the_same_fields_and_types() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let by_rule = ["openstackProviderID", "projectID"].map(|name| format!("credentials.{name}"));
    for path in schema.leaves("spec") {
        let is_identity = path.contains(".identityRef.");
        let whole = || if is_identity { spec_with_identity() } else { whole_spec() };
        let absent = object(&without(whole(), &path));
        let refused = !schema.refuses(&absent).is_empty() || by_rule.contains(&path);
        assert_eq!(read(&absent).spec.is_err(), refused, "without {path}");
        let mut mistyped = whole();
        *leaf(&mut mistyped, &path) = json!({ "not": "text" });
        let mistyped = object(&mistyped);
        assert!(!schema.refuses(&mistyped).is_empty(), "{path} of another type");
        assert!(read(&mistyped).spec.is_err(), "{path} of another type");
    }
}

fn whole_status() -> Status {
    let time = "2026-03-14T09:26:53Z";
    Status {
        conditions: vec![Condition {
            kind: "Ready".to_owned(),
            status: "True".to_owned(),
            reason: "Synced".to_owned(),
            message: "synced 3 nodes".to_owned(),
            last_transition_time: time.to_owned(),
            observed_generation: 4,
        }],
        last_synced_at: Some(time.to_owned()),
        last_error: "none".to_owned(),
        down_port_retry: Some(DownPortRetry {
            hash: "ab".repeat(32),
            last_attempt: time.parse().unwrap(),
            fast_attempts: 5,
        }),
        observed_generation: Some(4),
        nodes: Some(3),
        hold: Some(Hold {
            hash: "0123456789ab".to_owned(),
            since: time.parse().unwrap(),
            nodes: 2,
            approved: true,
        }),
        last_approved: Some("memory-lost".to_owned()),
        configured: Some("2/3".to_owned()),
        configured_nodes: Some(2),
        failed_nodes: Some(1),
    }
}

#[test]
fn the_status_has_the_fields_of_the_schema_and_comes_back_unchanged() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let status = serde_json::to_value(whole_status()).unwrap();
    assert_eq!(paths(&status), schema.leaves("status"));
    let fields: BTreeSet<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(Status::FIELDS));
    let mut object = object(&whole_spec());
    object["status"] = status;
    assert_eq!(schema.refuses(&object), Vec::<String>::new());
    assert_eq!(read(&object).status, whole_status());
}

#[test]
fn conditions_are_merged_by_their_type() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let pointer = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions";
    let conditions = schema.crd.pointer(pointer).unwrap();
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn every_status_a_sync_can_end_with_fits_the_schema() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let now = Now { uptime: Duration::ZERO, wall: "2026-03-14T09:26:53.58Z".parse().unwrap() };
    let report = Report {
        generation: 4,
        down_port_retry: whole_status().down_port_retry,
        ..Report::default()
    };
    for reason in Reason::ALL {
        let ready = Ready { reason, message: "x".repeat(100_000) };
        let status = report::next(&Status::default(), &ready, &report, now);
        let mut object = object(&whole_spec());
        object["status"] = serde_json::to_value(status).unwrap();
        assert_eq!(schema.refuses(&object), Vec::<String>::new(), "{reason:?}");
    }
    // The schema does look at what it is shown.
    let mut broken = object(&whole_spec());
    for (field, value) in [("lastSyncedAt", json!("yesterday")), ("nodes", json!(-1))] {
        broken["status"] = json!({ field: value });
        assert_eq!(schema.refuses(&broken).len(), 1, "{field}");
    }
}

/// What refuses a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    None,
    /// The API server, by type or bound.
    Schema,
    /// The API server, by the CEL rule.
    Rule,
    /// Only the operator, on the object itself.
    Operator,
}

fn without_subnets(spec: &mut Value) -> &mut serde_json::Map<String, Value> {
    let fields = spec.as_object_mut().unwrap();
    fields.retain(|field, _| !field.starts_with("subnet"));
    fields
}

fn cases() -> Vec<(&'static str, Value, Refusal)> {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut spec = whole_spec();
        change(&mut spec);
        spec
    };
    let set = |path: &'static str, value: Value| changed(&|spec| *leaf(spec, path) = value.clone());
    let subnet = |id: Option<&str>, name: Option<&str>| {
        changed(&|spec| {
            let fields = without_subnets(spec);
            fields.extend(id.map(|id| ("subnetID".to_owned(), json!(id))));
            fields.extend(name.map(|name| ("subnetName".to_owned(), json!(name))));
        })
    };
    let subnets = |ids: Value| {
        changed(&|spec| {
            without_subnets(spec);
            spec["subnetIDs"] = ids.clone();
        })
    };
    let vms = |number: usize| {
        let ids = (0..number).map(|number| json!(format!("vm-{number}"))).collect();
        changed(&|spec| spec["vmNames"] = Value::Array(Clone::clone(&ids)))
    };
    let no_cloud = without(whole_spec(), "credentials.openstackProviderID");
    let no_cluster = without(spec_with_identity(), "credentials.k8sProviderID");
    let (mut two_clouds, mut of_token) = (spec_with_identity(), spec_with_identity());
    two_clouds["credentials"]["openstackProviderID"] = json!("provider");
    of_token["credentials"]["projectID"] = json!("");
    let identity = |field: &str, value: Option<&str>| {
        let mut spec = spec_with_identity();
        let identity = spec["credentials"]["identityRef"].as_object_mut().unwrap();
        match value {
            Some(value) => identity.insert(field.to_owned(), json!(value)),
            None => identity.remove(field),
        };
        spec
    };
    vec![
        ("everything is set", whole_spec(), Refusal::None),
        ("subnet by id", subnet(Some("s"), None), Refusal::None),
        ("subnet by name", subnet(None, Some("s")), Refusal::None),
        ("subnet by name, id blank", subnet(Some(" "), Some("s")), Refusal::None),
        ("a name of more than one word", subnet(None, Some(" tenant subnet ")), Refusal::None),
        ("a name in another script", subnet(None, Some("테넌트")), Refusal::None),
        ("no subnet", subnet(None, None), Refusal::Rule),
        ("subnets by id", subnets(json!(["s", "t"])), Refusal::None),
        ("one of the ids blank", subnets(json!(["", "t"])), Refusal::None),
        ("subnet by id, all ids blank", set("subnetIDs", json!([" ", ""])), Refusal::None),
        ("no subnet in the list", subnets(json!([])), Refusal::Rule),
        ("all ids blank", subnets(json!([" ", ""])), Refusal::Rule),
        ("ten subnets", subnets(json!(vec!["s"; 10])), Refusal::None),
        ("eleven subnets", subnets(json!(vec!["s"; 11])), Refusal::Schema),
        ("no filter", set("ports.createdAfter", json!("")), Refusal::None),
        ("unknown filter", set("ports.createdAfter", json!("Yesterday")), Refusal::Schema),
        ("empty id", subnet(Some(""), None), Refusal::Rule),
        ("empty name", subnet(None, Some("")), Refusal::Rule),
        ("blank id and name", subnet(Some(" \t"), Some("\n\r ")), Refusal::Rule),
        ("blank in Unicode only", subnet(Some("\u{3000}"), None), Refusal::Operator),
        ("no VM", vms(0), Refusal::Schema),
        ("3,000 VMs", vms(3_000), Refusal::None),
        ("3,001 VMs", vms(3_001), Refusal::Schema),
        ("one VM id blank", set("vmNames", json!(["", "vm-1"])), Refusal::None),
        ("all VM ids blank", set("vmNames", json!([" "])), Refusal::Operator),
        ("one VM twice", set("vmNames", json!(["vm-1", "VM-1"])), Refusal::None),
        ("empty provider", set("credentials.openstackProviderID", json!("")), Refusal::Schema),
        ("blank provider", set("credentials.openstackProviderID", json!(" ")), Refusal::Operator),
        ("empty project", set("credentials.projectID", json!("")), Refusal::Rule),
        ("no project", without(whole_spec(), "credentials.projectID"), Refusal::Rule),
        ("blank project", set("credentials.projectID", json!(" ")), Refusal::Operator),
        ("neither provider nor identity", no_cloud, Refusal::Rule),
        ("provider and identity", two_clouds, Refusal::Rule),
        ("an identity", spec_with_identity(), Refusal::None),
        ("no type", identity("type", None), Refusal::None),
        ("another type", identity("type", Some("ConfigMap")), Refusal::Schema),
        ("no Secret", identity("name", None), Refusal::Schema),
        ("no name of a Secret", identity("name", Some("../a")), Refusal::Operator),
        ("no cloud", identity("cloudName", Some("")), Refusal::Schema),
        ("a blank cloud", identity("cloudName", Some(" ")), Refusal::Operator),
        ("no region", identity("region", Some("")), Refusal::None),
        ("an identity without project", of_token, Refusal::None),
        ("an identity without cluster", no_cluster, Refusal::Operator),
        ("no cluster named", set("credentials.k8sProviderID", json!("")), Refusal::None),
        ("endless subnet id", set("subnetID", json!("s".repeat(256))), Refusal::Schema),
    ]
}

#[test]
fn schema_rule_and_operator_agree_on_what_a_good_spec_is() {
    let schema = Schema::of(OPENSTACK_CONFIGS);
    let mut for_the_rule = Vec::new();
    for (name, spec, refusal) in cases() {
        let object = object(&spec);
        let refused = schema.refuses(&object);
        assert_eq!(!refused.is_empty(), refusal == Refusal::Schema, "{name}: {refused:?}");
        let taken = read(&object).spec.is_ok_and(|spec| !spec.subnets.is_empty());
        match refusal {
            Refusal::None => assert!(taken, "{name}"),
            // Stricter only in bounds.
            Refusal::Schema => {}
            Refusal::Rule | Refusal::Operator => assert!(!taken, "{name}"),
        }
        if refusal != Refusal::Schema {
            for_the_rule.push((name, object, refusal));
        }
    }
    let objects: Vec<&Value> = for_the_rule.iter().map(|(_, object, _)| object).collect();
    let input = serde_json::to_string(&objects).unwrap();
    let Some(answer) = validator(&["rules", OPENSTACK_CONFIGS], &input) else { return };
    assert!(answer.success, "{}", answer.errors);
    let broken: Vec<Vec<String>> = serde_json::from_str(&answer.output).unwrap();
    assert_eq!(broken.len(), for_the_rule.len());
    for ((name, _, refusal), broken) in for_the_rule.iter().zip(broken) {
        assert_eq!(!broken.is_empty(), *refusal == Refusal::Rule, "{name}: {broken:?}");
        assert!(broken.len() < 2, "{name}: {broken:?}");
    }
}

#[test]
fn the_sample_is_a_good_object() {
    let sample = document(SAMPLE);
    assert_eq!(sample["apiVersion"], format!("{}/{}", RESOURCE.group, RESOURCE.version));
    assert_eq!(sample["kind"], RESOURCE.kind);
    assert_eq!(Schema::of(OPENSTACK_CONFIGS).refuses(&sample), Vec::<String>::new());
    let spec = read(&sample).spec.unwrap();
    assert!(!spec.subnets.is_empty());
    // What it shows in comments is also right without the comment marks.
    let whole = text(SAMPLE)
        .replace("  # subnetIDs:", "  subnetIDs:")
        .replace("  #   - ", "    - ")
        .replace("  # subnetName:", "  subnetName:")
        .replace("    # k8sProviderID:", "    k8sProviderID:")
        .replace("  # ports:", "  ports:")
        .replace("  #   createdAfter:", "    createdAfter:")
        .replace("  #   tags:", "    tags:")
        .replace("  # delivery:", "  delivery:")
        .replace("  #   type:", "    type:")
        .replace("  #   kubeconfigSecretRef:", "    kubeconfigSecretRef:")
        .replace("  #     name:", "      name:")
        .replace("  #     key:", "      key:")
        .replace("  # paused:", "  paused:");
    let whole = documents(&whole).remove(0);
    // Settings are for few objects; docs/settings.md has them.
    let mut leaves = Schema::of(OPENSTACK_CONFIGS).leaves("spec");
    leaves.retain(|path| !path.starts_with("settings.") && !path.starts_with("secrets."));
    // A cloud of a Secret is in a sample of its own.
    leaves.retain(|path| !path.starts_with("credentials.identityRef."));
    assert_eq!(paths(&whole["spec"]), leaves);
    assert!(read(&whole).spec.unwrap().k8s_provider_id.is_some());
}

#[test]
fn the_sample_of_a_cloud_of_its_own_names_the_secret_beside_it() {
    let objects = documents(&text("manifests/samples/identity.yaml"));
    let [secret, object] = &objects[..] else { panic!("{objects:?}") };
    assert_eq!(Schema::of(OPENSTACK_CONFIGS).refuses(object), Vec::<String>::new());
    let named = read(object).spec.unwrap().identity_ref.unwrap();
    assert_eq!(secret["metadata"]["name"], named.secret);
    let clouds = documents(secret["stringData"]["clouds.yaml"].as_str().unwrap()).remove(0);
    assert!(clouds["clouds"][&named.cloud]["auth"]["auth_url"].is_string());
}

#[test]
fn objects_of_the_go_operator_are_good_and_their_settings_are_the_policys_to_allow() {
    let objects = documents(&text("tests/it/manifests/go_operator_objects.yaml"));
    assert_eq!(objects.len(), 2);
    for object in objects {
        assert_eq!(Schema::of(OPENSTACK_CONFIGS).refuses(&object), Vec::<String>::new());
        let spec = read(&object).spec.unwrap();
        assert_eq!(spec.encrypt_key_ref.as_ref().unwrap().name, "contrabass-encrypt-key");
        // Its subnetIDs win over the subnetID and the subnetName beside them.
        assert_eq!(spec.subnets.len(), 2);
        let allowed_by = |variable: &str, value: &str| {
            let config = Config::read(|name| match name {
                "KUBE_API_URL" => Some("http://kubernetes.test"),
                name => (name == variable).then_some(value),
            });
            config.unwrap().settings_of(&spec, &FoundSecrets::default()).map(drop)
        };
        for (variable, value) in [
            ("OBJECT_SETTINGS", "all"),
            ("ALLOWED_ENDPOINTS", "*"),
            (
                "ALLOWED_ENDPOINTS",
                "https://contrabass.example.com, http://viola-api.multinic-system.svc.cluster.local, \
                 http://viola-api.multinic-system.svc.cluster.local:8080, \
                 http://*.contrabass.svc.cluster.local:8080",
            ),
        ] {
            assert_eq!(allowed_by(variable, value), Ok(()), "{variable}={value}");
        }
        let problem = allowed_by("OBJECT_SETTINGS", "tuning").unwrap_err();
        assert_eq!(problem.matches("isn't in ALLOWED_ENDPOINTS").count(), 2, "{problem}");
    }
}

/// A `MultiNicNodeConfig` as the stand-in for Viola applies it.
fn multi_nic_node_config(interfaces: usize) -> Value {
    let interface = |id: usize| {
        json!({
            "id": id,
            "portId": "p",
            "name": format!("multinic{id}"),
            "macAddress": "FA:16:3e:00:00:01",
            "address": "2001:db8:ffff:ffff:ffff:ffff:255.255.255.255",
            "cidr": "2001:db8::/128",
            "mtu": 9000,
        })
    };
    let interfaces: Vec<Value> = (0..interfaces).map(interface).collect();
    json!({ "spec": { "nodeName": "worker-0", "instanceId": "i", "interfaces": interfaces } })
}

#[test]
fn a_multi_nic_node_config_has_what_the_agent_declares() {
    let schema = Schema::of(MULTI_NIC_NODE_CONFIGS);
    let names = &schema.crd["spec"]["names"];
    assert_eq!(schema.crd["metadata"]["name"], "multinicnodeconfigs.multinic.io");
    assert_eq!(names["kind"], "MultiNicNodeConfig");
    assert_eq!(names["shortNames"], json!(["mnnc"]));
    let full = multi_nic_node_config(MAX_INTERFACES);
    assert_eq!(paths(&full["spec"]), schema.leaves("spec"));
    assert_eq!(schema.refuses(&full), Vec::<String>::new());
    for interfaces in [0, MAX_INTERFACES + 1] {
        assert!(!schema.refuses(&multi_nic_node_config(interfaces)).is_empty(), "{interfaces}");
    }
    let required = ["nodeName", "interfaces[].macAddress"];
    for path in schema.leaves("spec") {
        let refused = schema.refuses(&json!({ "spec": without(full["spec"].clone(), &path) }));
        assert_eq!(!refused.is_empty(), required.contains(&path.as_str()), "without {path}");
    }
    for (mtu, good) in [(67, false), (68, true), (9000, true), (9001, false)] {
        let mut object = full.clone();
        object["spec"]["interfaces"][0]["mtu"] = json!(mtu);
        assert_eq!(schema.refuses(&object).is_empty(), good, "MTU {mtu}");
    }
    let columns = &schema.crd["spec"]["versions"][0]["additionalPrinterColumns"];
    for column in columns.as_array().unwrap() {
        // A column shows the first of several values, as if there were no more.
        let path = column["jsonPath"].as_str().unwrap();
        let (part, field) = path[1..].split_once('.').unwrap();
        assert!(part == "metadata" || schema.leaves(part).contains(field), "{column}");
    }
}

#[test]
fn what_the_agents_controller_left_fits_the_schema_and_is_declared() {
    let schema = Schema::of(MULTI_NIC_NODE_CONFIGS);
    for state in ["configured", "failed", "in-progress-after-change"] {
        let path = format!("fixtures/recordings/agent/multinicnodeconfig-{state}.json");
        let object: Value = serde_json::from_str(&text(&path)).unwrap();
        assert_eq!(schema.refuses(&object), Vec::<String>::new(), "{state}");
        for part in ["spec", "status"] {
            let undeclared = &paths(&object[part]) - &schema.leaves(part);
            assert!(undeclared.is_empty(), "{state}: {part}: {undeclared:?}");
        }
    }
}

#[test]
fn the_rule_of_multi_nic_node_configs_holds_id_and_name_together() {
    let full = multi_nic_node_config(MAX_INTERFACES);
    let (mut misnamed, mut without_id) = (full.clone(), full.clone());
    misnamed["spec"]["interfaces"][0]["name"] = json!("multinic7");
    without_id["spec"]["interfaces"][3].as_object_mut().unwrap().remove("id").unwrap();
    let input = serde_json::to_string(&[full, misnamed, without_id]).unwrap();
    let Some(answer) = validator(&["rules", MULTI_NIC_NODE_CONFIGS], &input) else { return };
    assert!(answer.success, "{}", answer.errors);
    let broken: Vec<Vec<String>> = serde_json::from_str(&answer.output).unwrap();
    let counts: Vec<usize> = broken.iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 1, 0], "{broken:?}");
}

#[test]
fn a_record_has_the_fields_that_its_crd_declares_and_no_others() {
    let schema = Schema::of(NODE_INTERFACES);
    let names = &schema.crd["spec"]["names"];
    let (group, plural) = (RECORDS.group, RECORDS.plural);
    assert_eq!(schema.crd["metadata"]["name"], format!("{plural}.{group}"));
    assert_eq!((&names["kind"], &names["plural"]), (&json!(RECORDS.kind), &json!(plural)));
    assert_eq!(names["shortNames"], json!(["nif"]));
    let version = &schema.crd["spec"]["versions"][0];
    assert_eq!(version["subresources"], Value::Null, "restores leave statuses out");
    let columns = version["additionalPrinterColumns"].as_array().unwrap().iter();
    let columns: Vec<&str> = columns.map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Node", "Target", "Interfaces", "Down", "Accepted", "Age"]);
    // The whole record, as the API server gets it.
    let interface = |id: usize| {
        json!({"id": id, "name": format!("multinic{id}"), "portId": format!("port-{id}"),
            "macAddress": "fa:16:3e:00:00:01", "address": "10.0.0.7", "cidr": "10.0.0.0/24",
            "mtu": 9000, "networkId": "n", "subnetId": "s"})
    };
    let interfaces: Vec<Value> = (0..MAX_INTERFACES).map(interface).collect();
    let record: Record = serde_json::from_value(json!({
        "providerId": "p", "nodeName": "worker-0", "instanceId": "vm",
        "config": {"nodeName": "worker-0", "instanceId": "vm", "interfaces": interfaces},
        "lastConfigHash": "0", "updatedAt": "2026-01-02T03:04:05.123456789Z", "acceptedBy": "biz",
        "owner": {"namespace": "default", "name": "a", "uid": "u"}, "downPorts": ["port-1"],
        "leftOutPorts": 2, "reservedIds": [{"portId": "away", "id": 3}],
    }))
    .unwrap();
    let full = object_of(&record, "biz", "default");
    assert_eq!(paths(&full["spec"]), schema.leaves("spec"));
    assert_eq!(schema.refuses(&full), Vec::<String>::new());
    let mut more = full;
    more["spec"]["config"]["interfaces"].as_array_mut().unwrap().push(interface(10));
    assert!(!schema.refuses(&more).is_empty(), "eleven interfaces");
}
