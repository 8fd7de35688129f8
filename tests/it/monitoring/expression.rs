//! Which metrics and labels a PromQL expression uses. Whether the expression is valid is promtool's
//! to say; this reads valid ones.

use std::collections::BTreeSet;

use multinic_operator::metrics::{FAMILIES, Kind};

/// Labels that Prometheus gives a target, by our scrape configuration and ServiceMonitor.
const OF_THE_TARGET: &[&str] = &["job", "instance", "namespace", "pod"];
/// What Prometheus itself adds.
const OF_PROMETHEUS: &[&str] = &["ALERTS"];
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: &[&str] = &["and", "or", "unless", "bool", "offset"];

/// What is wrong with the metrics and labels of an expression, or with those that hold a family.
pub(crate) fn unknown(expression: &str) -> Vec<String> {
    let (selectors, grouping) = read(expression);
    let mut wrong = Vec::new();
    let mut all: BTreeSet<&str> = OF_THE_TARGET.iter().copied().collect();
    for (name, labels) in &selectors {
        if OF_PROMETHEUS.contains(&name.as_str()) {
            continue;
        }
        let Some(known) = labels_of(name) else {
            wrong.push(format!("no metric {name}"));
            continue;
        };
        for label in labels.iter().filter(|label| !known.contains(&label.as_str())) {
            wrong.push(format!("{name} has no label {label}"));
        }
        all.extend(known);
    }
    for label in grouping.iter().filter(|label| !all.contains(label.as_str())) {
        wrong.push(format!("nothing has a label {label}"));
    }
    wrong
}

/// The families an expression uses.
pub(crate) fn families(expression: &str) -> BTreeSet<&'static str> {
    let (selectors, _) = read(expression);
    selectors.iter().filter_map(|(name, _)| family_of(name)).map(|family| family.name).collect()
}

fn family_of(name: &str) -> Option<&'static multinic_operator::metrics::Family> {
    FAMILIES.iter().find(|family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| name.strip_suffix(part) == Some(family.name)),
        _ => family.name == name,
    })
}

fn labels_of(name: &str) -> Option<Vec<&'static str>> {
    let family = family_of(name)?;
    let limit = name.ends_with("_bucket").then_some("le");
    Some(family.labels.iter().chain(OF_THE_TARGET).copied().chain(limit).collect())
}

/// Selectors with their labels, and the labels of groupings.
fn read(expression: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let (mut selectors, mut grouping) = (Vec::<(String, Vec<String>)>::new(), Vec::new());
    let mut tokens = tokens(expression).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next_is =
            |wanted: &str, tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>| {
                tokens.peek().is_some_and(|token| token == wanted)
            };
        if token == "{" {
            let names = tokens.by_ref().take_while(|token| token != "}").filter(|it| is_word(it));
            selectors.last_mut().unwrap().1.extend(names);
        } else if token == "[" {
            tokens.by_ref().take_while(|token| token != "]").for_each(drop);
        } else if BEFORE_LABELS.contains(&token.as_str()) {
            if next_is("(", &mut tokens) {
                let names = tokens.by_ref().take_while(|token| token != ")");
                grouping.extend(names.filter(|token| is_word(token)));
            }
        } else if is_word(&token)
            && !OPERATORS.contains(&token.as_str())
            && !next_is("(", &mut tokens)
            && !BEFORE_LABELS.iter().any(|word| next_is(word, &mut tokens))
        {
            selectors.push((token, Vec::new()));
        }
    }
    (selectors, grouping)
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Words, numbers with their units, and signs; strings are left out.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut characters = expression.chars().peekable();
    while let Some(first) = characters.next() {
        if first == '"' {
            while let Some(inside) = characters.next() {
                match inside {
                    '\\' => drop(characters.next()),
                    '"' => break,
                    _ => {}
                }
            }
        } else if first.is_ascii_alphanumeric() || first == '_' || first == '$' {
            let mut word = String::from(first);
            while let Some(next) =
                characters.next_if(|c| c.is_ascii_alphanumeric() || ['_', ':', '.'].contains(c))
            {
                word.push(next);
            }
            tokens.push(word);
        } else if !first.is_whitespace() {
            tokens.push(first.to_string());
        }
    }
    tokens
}

#[test]
fn metrics_and_labels_that_do_not_exist_are_found() {
    for (expression, wrong) in [
        ("sum by (reason) (multinic_objects{ready=\"no_metric\"}) > 0", vec![]),
        ("rate(multinic_upstream_request_duration_seconds_bucket{le=\"1\"}[5m])", vec![]),
        ("multinic_objetcs", vec!["no metric multinic_objetcs"]),
        (
            "multinic_upstream_request_duration_seconds",
            vec!["no metric multinic_upstream_request_duration_seconds"],
        ),
        (
            "rate(multinic_objects{service=~\"a|b\",pod=\"x\"}[5m])",
            vec!["multinic_objects has no label service"],
        ),
        (
            "sum by (raeson) (multinic_objects) / on (job) group_left () multinic_build_info",
            vec!["nothing has a label raeson"],
        ),
    ] {
        assert_eq!(unknown(expression), wrong, "{expression}");
    }
    let both = families("a(process_open_fds[1h]) and on (job) multinic_objects > 1e3");
    assert_eq!(both.into_iter().collect::<Vec<_>>(), ["multinic_objects", "process_open_fds"]);
}
