//! Every rule of docs/behaviour.md#answers-of-viola, both ways.

use std::collections::BTreeSet;

use crate::targets::acceptance::{Objection, acceptance};

/// Which of the nodes `a` and `b` are accepted.
fn accepted(body: &str) -> String {
    accepted_of(&["a", "b"], body.as_bytes())
}

fn accepted_of(sent: &[&str], body: &[u8]) -> String {
    let said = acceptance(body, &sent.iter().copied().collect());
    let is_accepted = |node: &&&str| {
        !said.refused.contains_key(**node)
            && (said.accepted.contains(**node) || said.others.is_ok())
    };
    sent.iter().filter(is_accepted).copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rule_of_acceptance_holds_both_ways() {
    let rules: &[(&str, &[&str])] = &[
        // No JSON object: success.
        ("a b", &["", "  ", "ok", "null", "true", "17", "\"no\"", "[]", r#"[{"error":"no"}]"#]),
        // Nor is what isn't written like one, but for an object that ends early.
        ("a b", &["{ok}", "{'applied':0}", "[", "\"", "\u{feff}ok"]),
        ("", &["{", r#"{"applied":"#, r#"{"errors":[{"nodeName":"a"}"#]),
        ("a b", &["{}", r#"{"status":"ok"}"#, r#"{"status":"error","message":"none"}"#]),
        // A page of another server.
        ("", &["<html>", "  \r\n<!DOCTYPE html>", "<?xml version=\"1.0\"?>", "\u{feff}<html>"]),
        ("a b", &["x <html>", "-- <a>", r#"{"output":"<html>"}"#]),
        // Errors with the names of sent nodes.
        (
            "b",
            &[
                r#"{"errors":[{"nodeName":"a","error":"no"}]}"#,
                r#"{"errors":[{"nodeName":"a"},{"nodeName":"a"}],"applied":1}"#,
                r#"{"success":false,"errors":[{"nodeName":"a"}]}"#,
                r#"{"error":"some failed","returnCode":500,"errors":[{"nodeName":"a"}]}"#,
            ],
        ),
        ("", &[r#"{"errors":[{"nodeName":"a"},{"nodeName":"b"}]}"#]),
        ("a b", &[r#"{"errors":[]}"#, r#"{"errors":null}"#, r#"{"errors":{}}"#, r#"{"errors":0}"#]),
        // Errors without one.
        (
            "",
            &[
                r#"{"errors":[{"error":"no"}]}"#,
                r#"{"errors":["no"]}"#,
                r#"{"errors":[null]}"#,
                r#"{"errors":[{"nodeName":7}]}"#,
                r#"{"errors":[{"nodeName":"A","error":"no such node"}]}"#,
                r#"{"errors":[{"nodeName":" a"}]}"#,
                r#"{"errors":[{"nodeName":"a"},{"nodeName":"c"}]}"#,
                r#"{"errors":{"a":"no such node"}}"#,
                r#"{"results":[{"nodeName":"a","status":"ok"},{"nodeName":"c","status":"failed"}]}"#,
                r#"{"results":[{"nodeName":"a"},{"nodeName":"b"}],"errors":["no"]}"#,
            ],
        ),
        // Results.
        (
            "b",
            &[
                r#"{"results":[{"nodeName":"a","status":"failed"},{"nodeName":"b","status":"ok"}]}"#,
                r#"{"results":[{"nodeName":"a","status":"Error"},{"nodeName":"b"}],"success":false}"#,
                r#"{"results":[{"nodeName":"a","status":" FAILED "}],"applied":1}"#,
                r#"{"results":[{"nodeName":"a","status":"ok"}],"errors":[{"nodeName":"a"}]}"#,
            ],
        ),
        (
            "a b",
            &[
                r#"{"results":[{"nodeName":"a","status":"ok"},{"nodeName":"b","status":"created"}]}"#,
                r#"{"results":[{"nodeName":"a"},{"nodeName":"b"}],"success":false}"#,
                r#"{"results":[{"nodeName":"a"},{"nodeName":"b"}],"applied":0}"#,
                r#"{"results":[{"nodeName":"a"}]}"#,
                r#"{"results":[{"nodeName":"c","status":"ok"}]}"#,
                r#"{"results":[{"status":"ok"}]}"#,
                r#"{"results":[]}"#,
            ],
        ),
        // Those that results don't name are as the rest of the answer says.
        (
            "a",
            &[
                r#"{"results":[{"nodeName":"a","status":"ok"}],"applied":1}"#,
                r#"{"results":[{"nodeName":"a","status":"ok"}],"success":false}"#,
            ],
        ),
        // Flags.
        ("", &[r#"{"success":false}"#, r#"{"success":false,"message":"no"}"#]),
        ("a b", &[r#"{"success":true}"#, r#"{"success":null}"#, r#"{"success":"false"}"#]),
        ("", &[r#"{"error":"no"}"#, r#"{"error":{"code":7}}"#, r#"{"success":true,"error":"no"}"#]),
        (
            "a b",
            &[
                r#"{"error":""}"#,
                r#"{"error":" \t"}"#,
                r#"{"error":null}"#,
                r#"{"error":{}}"#,
                r#"{"error":false}"#,
                r#"{"error":0}"#,
            ],
        ),
        (
            "",
            &[
                r#"{"returnCode":500}"#,
                r#"{"returnCode":"500"}"#,
                r#"{"returnCode":" 404 "}"#,
                r#"{"returnCode":300}"#,
                r#"{"returnCode":199}"#,
                r#"{"returnCode":"1"}"#,
                r#"{"returnCode":-1}"#,
                r#"{"returnCode":"99999999999999999999999"}"#,
            ],
        ),
        (
            "a b",
            &[
                r#"{"returnCode":200,"returnMessage":"COMMON_OK"}"#,
                r#"{"returnCode":"200"}"#,
                r#"{"returnCode":299}"#,
                r#"{"returnCode":0}"#,
                r#"{"returnCode":"0"}"#,
                r#"{"returnCode":""}"#,
                r#"{"returnCode":"OK"}"#,
                r#"{"returnCode":"-1"}"#,
                r#"{"returnCode":null}"#,
            ],
        ),
        // The number applied.
        (
            "",
            &[
                r#"{"applied":0}"#,
                r#"{"applied":1}"#,
                r#"{"applied":1,"output":"multinicnodeconfig.multinic.io/a created\n"}"#,
                r#"{"applied":0,"output":"multinicnodeconfig/aa created, xb created"}"#,
                r#"{"applied":0,"output":"a-b.a, b-a"}"#,
                r#"{"applied":0,"output":"a.example created, b_1 created"}"#,
                r#"{"applied":-1}"#,
            ],
        ),
        (
            "a b",
            &[
                r#"{"applied":2}"#,
                r#"{"applied":3}"#,
                r#"{"applied":null}"#,
                r#"{"applied":"0"}"#,
                r#"{"applied":0,"output":"multinicnodeconfig.multinic.io/a unchanged\nx/b unchanged\n"}"#,
                r#"{"applied":1,"output":"Created b. Unchanged: a."}"#,
                r#"{"applied":1,"output":["a unchanged","b created"]}"#,
                r#"{"applied":0,"output":"aa, a, bb, b"}"#,
            ],
        ),
    ];
    for (expected, bodies) in rules {
        for body in *bodies {
            assert_eq!(accepted(body), *expected, "{body}");
        }
    }
}

#[test]
fn names_of_any_kind_are_found_in_the_output() {
    let body = r#"{"applied":0,"output":"Wörker 2 unchanged, 노드 unchanged"}"#.as_bytes();
    assert_eq!(accepted_of(&["Wörker 2", "노드"], body), "Wörker 2 노드");
    assert_eq!(accepted_of(&["Wörker 2", "드"], body), "");
}

#[test]
fn nothing_that_is_not_text_is_read_as_one() {
    assert_eq!(accepted_of(&["a"], &[0xff, 0xfe, b'{', b'}']), "a");
    assert_eq!(accepted_of(&["a"], b"{\"error\":\"\xff\"}"), "a", "this is no JSON");
}

#[test]
fn what_is_said_of_a_node_is_passed_on_in_one_short_line() {
    let sent = BTreeSet::from(["a", "b", "c", "d"]);
    let body = r#"{"errors":[{"nodeName":"a","error":"not\nready"},
                             {"nodeName":"b","error":null,"message":"m","reason":"r"},
                             {"nodeName":"c","error":{"code":7}}],
                   "results":[{"nodeName":"d","status":"failed","reason":"no such node"},
                              {"nodeName":"a","status":"failed","reason":"see errors"}]}"#;
    let said = acceptance(body.as_bytes(), &sent);
    let texts: Vec<(&str, &str)> = said.refused.iter().map(|(n, text)| (*n, &**text)).collect();
    let expected = [("a", "not ready"), ("b", "m"), ("c", r#"{"code":7}"#), ("d", "no such node")];
    assert_eq!(texts, expected);
    let long = format!(r#"{{"errors":[{{"nodeName":"a","error":"{}"}}]}}"#, "x".repeat(10_000));
    assert!(acceptance(long.as_bytes(), &sent).refused["a"].len() < 200);
}

#[test]
fn where_results_name_all_nodes_there_is_no_objection() {
    let body = r#"{"success":false,"results":[{"nodeName":"a"},{"nodeName":"b"}]}"#;
    assert_eq!(acceptance(body.as_bytes(), &BTreeSet::from(["a", "b"])).others, Ok(()));
}

#[test]
fn what_speaks_for_no_node_that_was_sent_is_quoted() {
    let objection = |body: &str| acceptance(body.as_bytes(), &BTreeSet::from(["a"])).others;
    let stranger = |text: &str| Err(Objection::Stranger(text.to_owned()));
    let named = r#"{"errors":[{"nodeName":"A","error":"no such node"}]}"#;
    assert_eq!(objection(named), stranger(r#""A": no such node"#));
    assert_eq!(objection(r#"{"errors":["no","others"]}"#), stranger("no"));
}
