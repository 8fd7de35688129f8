//! The dashboard: Grafana can read it, its queries are valid and of metrics there are.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use multinic_operator::metrics::FAMILIES;
use serde_json::Value;

use crate::manifests::tools::{kustomize, validator};
use crate::monitoring::expression::{families, unknown};
use crate::monitoring::promtool::promtool;
use crate::skip::skipped;
use crate::{repository, text};

const PATH: &str = "manifests/monitoring/dashboard.json";

fn dashboard() -> Value {
    serde_json::from_str(&text(PATH)).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

/// Where it stands, and the query with values in place of Grafana's variables.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((panel["title"].to_string(), target["expr"].as_str().unwrap()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        queries.push((annotation["name"].to_string(), annotation["expr"].as_str().unwrap()));
    }
    let filled = |query: &str| {
        let filled = query.replace("$__rate_interval", "5m");
        filled.replace("\"$namespace\"", "\"n.*\"").replace("\"$pod\"", "\"p.*\"")
    };
    queries.into_iter().map(|(title, query)| (title, filled(query))).collect()
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 41);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for column in x..x + w {
            for line in y..y + h {
                assert!(taken.insert((column, line)), "{} overlaps another", panel["title"]);
            }
        }
    }
}

#[test]
fn there_is_a_row_for_each_part_and_every_panel_asks_the_chosen_source() {
    let dashboard = dashboard();
    let rows: Vec<&str> = panels(&dashboard)
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            "Overview",
            "Objects by reason",
            "Syncs",
            "Upstreams",
            "Notifications",
            "Queue",
            "Inventory",
            "Kubernetes API",
            "Process",
        ]
    );
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "namespace", "pod"]);
    for panel in panels(&dashboard).iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for source in
            targets.iter().map(|target| &target["datasource"]).chain([&panel["datasource"]])
        {
            assert_eq!(source["uid"], "${datasource}", "{}", panel["title"]);
        }
        let ids: BTreeSet<String> =
            targets.iter().map(|target| target["refId"].to_string()).collect();
        assert_eq!(ids.len(), targets.len(), "{}", panel["title"]);
    }
}

#[test]
fn every_query_is_of_metrics_and_labels_there_are() {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 50, "the queries weren't found");
    for (title, query) in &queries {
        assert!(!query.contains('$'), "{title}: {query}");
        assert_eq!(unknown(query), Vec::<String>::new(), "{title}: {query}");
    }
    // What isn't shown is of little use.
    let shown: BTreeSet<&str> = queries.iter().flat_map(|(_, query)| families(query)).collect();
    let all: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let hidden: Vec<&&str> = all.difference(&shown).collect();
    assert_eq!(hidden, [&"process_max_fds", &"process_virtual_memory_bytes"]);
}

#[test]
fn every_query_is_valid() {
    let mut rules = "groups:\n  - name: queries\n    rules:\n".to_owned();
    let queries = queries(&dashboard());
    for (number, (_, query)) in queries.iter().enumerate() {
        let query = serde_json::to_string(query).unwrap();
        writeln!(rules, "      - {{record: 'query:{number}', expr: {query}}}").unwrap();
    }
    let check = |rules: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules).unwrap();
        promtool(&["check", "rules", file.path().to_str().unwrap()], "")
    };
    let Some((content, said)) = check(&rules) else { return };
    assert!(content && said.contains(&format!("{} rules found", queries.len())), "{said}");
    let (content, said) = check(&rules.replacen("sum(", "sum((", 1)).unwrap();
    assert!(!content, "{said}");
}

#[test]
fn grafana_knows_every_field_of_it() {
    let check = |path: &str| validator(&["dashboard", path], "");
    let Some(answer) = check(repository(PATH).to_str().unwrap()) else { return };
    if answer.errors.contains("No module named") {
        assert!(std::env::var_os("MANIFEST_TOOLS").is_none_or(|value| value != "required"));
        skipped(&answer.errors);
        return;
    }
    assert!(answer.success, "{}", answer.errors);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text(PATH).replace("\"drawStyle\"", "\"drawstyle\"")).unwrap();
    let answer = check(file.path().to_str().unwrap()).unwrap();
    assert!(!answer.success && answer.errors.contains("drawstyle"), "{}", answer.errors);
}

#[test]
fn the_config_map_is_found_by_grafanas_sidecar_and_holds_the_file() {
    let Some(rendered) = kustomize("monitoring") else { return };
    use serde::Deserialize as _;
    let objects: Vec<Value> = serde_norway::Deserializer::from_str(&rendered)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    let data = |name: &str| {
        let map = objects.iter().find(|object| object["metadata"]["name"] == name).unwrap();
        assert_eq!(map["kind"], "ConfigMap");
        (map["metadata"]["labels"]["grafana_dashboard"].clone(), map["data"].clone())
    };
    let (label, files) = data("multinic-operator-dashboard");
    assert_eq!(label, "1");
    assert_eq!(files["multinic-operator.json"], text(PATH));
    let (label, files) = data("multinic-operator-rules");
    assert_eq!(label, Value::Null);
    assert_eq!(files["rules.yaml"], text("manifests/monitoring/rules.yaml"));
}
