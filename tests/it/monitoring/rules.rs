//! The alerts: each is tried, speaks of metrics there are, and leads to a page that explains it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::manifests::tools::{kustomize, validator};
use crate::monitoring::expression::unknown;
use crate::monitoring::promtool::promtool;
use crate::skip::skipped;
use crate::{repository, text};

const RULES: &str = "manifests/monitoring/rules.yaml";
const TESTS: &str = "tests/it/monitoring/rules.yaml";
const AS_AN_OBJECT: &str = "manifests/monitoring/prometheus-operator/prometheus_rule.yaml";

fn yaml(path: &str) -> Value {
    serde_norway::from_str(&text(path)).unwrap()
}

fn alerts() -> Vec<Value> {
    let groups = yaml(RULES)["groups"].clone();
    let groups = groups.as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn the_rules_are_valid() {
    let Some((content, said)) = promtool(&["check", "rules", RULES], "") else { return };
    assert!(content && said.contains(&format!("{} rules found", alerts().len())), "{said}");
}

#[test]
fn every_alert_fires_where_it_must_and_nowhere_else() {
    let Some((content, said)) = promtool(&["test", "rules", TESTS], "") else { return };
    assert!(content, "{said}");
}

#[test]
fn an_alert_that_does_not_do_what_its_test_says_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let tests = folder.path().join("tests.yaml");
    let path = format!("- {}", rules.display());
    let moved = text(TESTS).replace("- ../../../manifests/monitoring/rules.yaml", &path);
    assert_ne!(moved, text(TESTS));
    std::fs::write(&tests, moved).unwrap();
    for (before, after) in [("_panics_total{", "_errors_total{"), ("for: 1h", "for: 2h")] {
        let changed = text(RULES).replacen(before, after, 1);
        assert_ne!(changed, text(RULES));
        std::fs::write(&rules, changed).unwrap();
        let tried = promtool(&["test", "rules", tests.to_str().unwrap()], "");
        let Some((content, said)) = tried else { return };
        assert!(!content && said.contains("FAILED"), "{said}");
    }
}

#[test]
fn every_alert_has_tests_of_both_kinds() {
    let tests = yaml(TESTS);
    let tried: BTreeSet<(String, bool)> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
        .map(|test| {
            let fires = !test["exp_alerts"].as_array().unwrap().is_empty();
            (test["alertname"].as_str().unwrap().to_owned(), fires)
        })
        .collect();
    let wanted: BTreeSet<(String, bool)> = alerts()
        .iter()
        .flat_map(|rule| {
            [true, false].map(|fires| (rule["alert"].as_str().unwrap().to_owned(), fires))
        })
        .collect();
    assert_eq!(tried, wanted);
}

#[test]
fn every_alert_is_of_metrics_there_are_and_says_what_to_do() {
    let alerts = alerts();
    assert!(alerts.len() > 15, "the alerts weren't found");
    for rule in alerts {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(unknown(rule["expr"].as_str().unwrap()), Vec::<String>::new(), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}");
        for annotation in ["summary", "description"] {
            let words = rule["annotations"][annotation].as_str().unwrap();
            assert!(words.len() > 20 && words.ends_with(['.', '?', ')']), "{name}: {words}");
        }
        let page = format!("docs/operations.md#alert-{}", name.to_ascii_lowercase());
        assert_eq!(rule["annotations"]["runbook"], page.as_str(), "{name}");
    }
}

#[test]
fn the_object_for_the_prometheus_operator_has_the_same_rules() {
    let object = yaml(AS_AN_OBJECT);
    assert_eq!(object["kind"], "PrometheusRule");
    let hint = "run tools/monitoring/prometheus-rule";
    assert_eq!(object["spec"], yaml(RULES), "{AS_AN_OBJECT} is out of date; {hint}");
}

#[test]
fn the_prometheus_operators_objects_are_as_its_crds_have_them() {
    let Some(rendered) = kustomize("overlays/prometheus-operator") else { return };
    let Some(answer) = validator(&["prometheus-operator"], &rendered) else { return };
    if answer.errors.contains("No module named") {
        assert!(std::env::var_os("MANIFEST_TOOLS").is_none_or(|value| value != "required"));
        skipped(&answer.errors);
        return;
    }
    assert!(answer.success && answer.output == "2 validated\n", "{}", answer.errors);
    for (before, after) in [("jobLabel:", "joblabel:"), ("interval: 30s", "interval: often")] {
        let bad = rendered.replace(before, after);
        assert_ne!(bad, rendered);
        let answer = validator(&["prometheus-operator"], &bad).unwrap();
        assert!(!answer.success && answer.errors.contains("ServiceMonitor"), "{}", answer.errors);
    }
}

/// Debian's promtool doesn't know how to find pods, so that it is shown a fixed target instead.
#[test]
fn the_scrape_configuration_is_one() {
    let whole = text("manifests/monitoring/scrape_config.yaml");
    let (before, rest) = whole.split_once("    kubernetes_sd_configs:\n").unwrap();
    let (discovery, after) = rest.split_once("    relabel_configs:\n").unwrap();
    assert!(discovery.contains("- role: pod") && discovery.contains("multinic-operator-system"));
    let fixed = "    static_configs:\n      - targets: ['127.0.0.1:8081']\n    relabel_configs:\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yaml");
    let rules = repository(RULES);
    let after =
        after.replace("/etc/prometheus/multinic-operator/rules.yaml", rules.to_str().unwrap());
    std::fs::write(&path, format!("{before}{fixed}{after}")).unwrap();
    let checked = promtool(&["check", "config", path.to_str().unwrap()], "");
    let Some((content, said)) = checked else { return };
    assert!(content && said.contains("rules found"), "{said}");
}
