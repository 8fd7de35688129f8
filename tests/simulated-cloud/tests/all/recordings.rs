//! Holds the simulated OpenStack services against recorded answers of the real ones.
//!
//! Every recorded request is sent to a simulated cloud that equals the recorded one. Compared are
//! version, status and reason phrase, the names of the headers in their exact case (and the values
//! of those that mean something), how the body's end is told, and the body: every key, and every
//! value but those of [`VOLATILE`]. [`NOT_REPLAYED`] lists the exceptions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Answer, exchange};
use serde_json::Value;
use simulated_cloud::{Cloud, Scenario, Service};

/// Recordings that are not replayed, and why.
const NOT_REPLAYED: &[(&str, &str)] = &[];

/// Keys whose values are another installation's, or another moment's; they must be there.
const VOLATILE: &[&str] = &[
    "OS-SRV-USG:launched_at",
    "allocation_pools",
    "audit_ids",
    "created",
    "created_at",
    "expires_at",
    "hostId",
    "issued_at",
    "revision_number",
    "updated",
    "updated_at",
    "user_id",
];

/// Headers whose values are compared; of the others only the names are.
const COMPARED_HEADERS: &[&str] = &[
    "Content-Type",
    "Location",
    "OpenStack-API-Version",
    "Vary",
    "WWW-Authenticate",
    "Www-Authenticate",
    "X-OpenStack-Nova-API-Version",
    "Connection",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/recordings/openstack")
}

/// The recorded cloud, and in what it differs for one recording.
fn start(recording: &str) -> Cloud {
    let text = fs::read_to_string(folder().join("cloud.json")).unwrap();
    let cloud = serde_json::from_str(&text).unwrap();
    let cloud = Cloud::start(Scenario::from_json(cloud, Vec::new()).unwrap()).unwrap();
    cloud.edit(|state| {
        state.settings.neutron_uwsgi = recording.ends_with("-uwsgi");
        if recording.ends_with("expired-token") {
            state.settings.token_lifetime_seconds = 0;
        }
    });
    cloud
}

/// Logs in; the recordings with an admin's token say so in their names.
fn token(cloud: &Cloud, recording: &str) -> String {
    let user = if recording.contains("admin") { "demo-admin" } else { "demo" };
    let body = format!(
        r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"{user}","domain":{{"name":"Default"}},"password":"PASSWORD-PLACEHOLDER"}}}}}},"scope":{{"project":{{"name":"demo","domain":{{"name":"Default"}}}}}}}}}}"#
    );
    let request = format!(
        "POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&cloud.url(Service::Keystone), request.as_bytes()).unwrap();
    answer.header("X-Subject-Token").unwrap().to_owned()
}

/// The URLs of the recorded services and of the simulated ones.
fn bases(cloud: &Cloud) -> [(&'static str, Service, String); 4] {
    [
        ("http://127.0.0.1:15000", Service::Keystone),
        ("http://127.0.0.1:19696", Service::Neutron),
        ("http://127.0.0.1:19697", Service::Neutron),
        ("http://127.0.0.1:18774", Service::Nova),
    ]
    .map(|(recorded, service)| (recorded, service, cloud.url(service)))
}

/// Sends a recorded request to the simulated service. None: no answer came.
fn replay(cloud: &Cloud, recording: &str, request: &str) -> Option<Answer> {
    let (head, body) =
        request.split_once("\r\n\r\n").or_else(|| request.split_once("\n\n")).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap();
    let (base, _, url) = bases(cloud)
        .into_iter()
        .find(|(recorded, ..)| line.contains(&format!("{recorded}/")))
        .unwrap();
    let token = token(cloud, recording);
    if recording.ends_with("keystone-unreachable") {
        cloud.edit(|state| state.settings.keystone_unreachable = true);
    }
    let mut bytes =
        format!("{}\r\nHost: {}\r\n", line.replace(base, ""), url.trim_start_matches("http://"));
    for line in lines {
        bytes.push_str(&format!("{}\r\n", line.replace("TOKEN-PLACEHOLDER", &token)));
    }
    let body = body.trim_end();
    if !body.is_empty() {
        bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    bytes.push_str(&format!("\r\n{body}"));
    exchange(&url, bytes.as_bytes())
}

/// The differences between a recorded answer and the simulated one.
fn differences(cloud: &Cloud, recorded: &Answer, simulated: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, recorded: String, simulated: String| {
        if recorded != simulated {
            found.push(format!("{what}\n    recorded:  {recorded}\n    simulated: {simulated}"));
        }
    };
    let as_recorded = |text: &str| {
        let mut text = text.to_owned();
        for (base, service, url) in bases(cloud) {
            // Catalogs name both of Neutron's ports; the simulation has one, written once.
            if base != "http://127.0.0.1:19697" || service != Service::Neutron {
                text = text.replace(&url, base);
            }
        }
        text
    };
    compare("status line", recorded.status_line.clone(), simulated.status_line.clone());
    let headers = |answer: &Answer| {
        let mut headers: Vec<String> = answer
            .headers
            .iter()
            .map(|(name, value)| {
                let compared = COMPARED_HEADERS.contains(&name.as_str());
                let value = if compared { as_recorded(value) } else { String::new() };
                format!("{name}: {value}")
            })
            .collect();
        headers.sort();
        headers.join(", ")
    };
    compare("headers", headers(recorded), headers(simulated));
    compare(
        "framing: ends with the connection",
        recorded.until_close().to_string(),
        simulated.until_close().to_string(),
    );
    let body = |answer: &Answer| {
        let text = as_recorded(&String::from_utf8_lossy(&answer.body));
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => flatten(&value),
            Err(_) => BTreeMap::from([("text".to_owned(), text.trim_end().to_owned())]),
        }
    };
    let (recorded, simulated) = (body(recorded), body(simulated));
    for path in recorded.keys().chain(simulated.keys()) {
        let at = |body: &BTreeMap<String, String>| {
            body.get(path).cloned().unwrap_or_else(|| "(absent)".to_owned())
        };
        compare(path, at(&recorded), at(&simulated));
    }
    found.dedup();
    found
}

/// All values of a body by their paths.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    add_flat(value, String::new(), &mut flat);
    flat
}

fn add_flat(value: &Value, path: String, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = format!("{path}/{key}");
                // Ids of roles, endpoints, services and security groups are made up.
                let made_up = key == "id"
                    && (path.contains("/roles/") || path.contains("/catalog/"))
                    || path.starts_with("/port") && key == "security_groups";
                // The validator's whole schema is in the message about a malformed login.
                let schema = key == "message"
                    && value.as_str().is_some_and(|text| text.contains("in schema:"));
                if VOLATILE.contains(&key.as_str()) || made_up || schema {
                    flat.insert(path, "(volatile)".to_owned());
                } else {
                    add_flat(value, path, flat);
                }
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (index, element) in elements.iter().enumerate() {
                add_flat(element, format!("{path}/{index}"), flat);
            }
        }
        value => {
            flat.insert(path, value.to_string());
        }
    }
}

fn recordings() -> Vec<String> {
    let index = fs::read_to_string(folder().join("INDEX.tsv")).unwrap();
    index.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn simulated_services_answer_as_the_recorded_ones_did() {
    let mut report = String::new();
    let mut replayed = 0;
    for recording in recordings() {
        if NOT_REPLAYED.iter().any(|(name, _)| *name == recording) {
            continue;
        }
        let read = |kind: &str| fs::read(folder().join(format!("{recording}.{kind}"))).unwrap();
        let cloud = start(&recording);
        let request = String::from_utf8(read("request")).unwrap();
        let simulated = replay(&cloud, &recording, &request);
        let recorded = Answer::parse(&read("response"));
        let differences = match (&recorded, &simulated) {
            (Some(recorded), Some(simulated)) => differences(&cloud, recorded, simulated),
            (None, None) => Vec::new(),
            _ => vec![format!(
                "answers: recorded {}, simulated {}",
                recorded.is_some(),
                simulated.is_some()
            )],
        };
        for difference in differences {
            report.push_str(&format!("{recording}: {difference}\n"));
        }
        replayed += 1;
    }
    assert!(report.is_empty(), "{report}");
    assert_eq!(replayed + NOT_REPLAYED.len(), 86);
}
