//! `/openapi.yaml` is held against real answers, and `/docs` against it.

use std::collections::BTreeSet;
use std::fs;

use multinic_operator::inventory::api::ApiSettings;
use multinic_operator::inventory::record::Change;
use serde_json::{Value, json};

use crate::inventory::api::{full_record, node_shown, object, of, world};
use crate::inventory::client::{Answer, get, request};
use crate::inventory::support::{commit, record, remove};

const TEXT: &str = include_str!("../../../src/inventory/page/openapi.yaml");
const DOCS: &str = include_str!("../../../src/inventory/page/docs.html");

struct Description(Value);

impl Description {
    fn read() -> Description {
        Description(serde_norway::from_str(TEXT).unwrap())
    }

    /// Follows a `$ref` within the document.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(place) => self.0.pointer(place.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    /// What the description says about an answer; it must say something.
    fn check(&self, path: &str, answer: &Answer) {
        let status = answer.status.to_string();
        let described = &self.0["paths"][path]["get"]["responses"][&status];
        assert!(described.is_object(), "{path}: status {status} is not described");
        let described = self.resolve(described);
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let required = self.resolve(header)["required"] == true;
            assert!(!required || answer.header(name).is_some(), "{path} {status}: no {name}");
        }
        for name in ["ETag", "Link", "X-Continue"] {
            let is_described = described["headers"].get(name).is_some();
            assert!(
                is_described || answer.header(name).is_none(),
                "{path} {status}: {name} is not described"
            );
        }
        let content = &described["content"];
        if content.is_null() {
            assert!(answer.body.is_empty(), "{path} {status} has a body");
            return;
        }
        let schema = &content[answer.header("content-type").unwrap()]["schema"];
        assert!(schema.is_object(), "{path} {status}: content type is not described");
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": self.0["components"],
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
        let body = answer.json();
        let errors: Vec<_> = validator
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{path} {status}: {errors:#?}\n{body:#}");
    }
}

#[test]
fn every_described_answer_occurs_and_is_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "open").unwrap();
    let world = world(ApiSettings { cors_origin: None, token_file: Some(token_file) });
    // Timelines with every kind of change, records with and without every optional field.
    let mut plain = record("plain", "vm-plain", &[1], 1);
    plain.accepted_by = None;
    commit(&world.store, vec![full_record("p1", "full"), Change::Upsert(plain.clone())]).unwrap();
    plain.accepted_by = Some("biz-2".to_owned());
    plain.config.interfaces = record("", "", &[2, 3], 1).config.interfaces;
    commit(&world.store, vec![Change::Upsert(plain.clone())]).unwrap();
    plain.config.interfaces[1].mtu = 9000;
    plain.instance_id = "vm-other".to_owned();
    commit(&world.store, vec![Change::Upsert(plain.clone())]).unwrap();
    plain.node_name = "renamed".to_owned();
    let changes = vec![remove("plain"), Change::Upsert(plain), of("p2", "full", "v")];
    commit(&world.store, changes).unwrap();
    world.overview.put(object("shop", "blue", "False", "NovaError"));
    world.overview.put_nodes("shop", "blue", vec![node_shown("p1", "full", ["a", "b"])]);
    let description = Description::read();
    let address = world.server.address();
    let ask = |target: &str, more: &str| {
        request(address, "GET", target, &format!("Authorization: Bearer open\r\n{more}"))
    };

    let routes = [
        ("/v1/inventory/node-configs", ["", "?limit=1", "?nodeName=none"].as_slice()),
        ("/v1/inventory/node-configs/{nodeName}", &["/full", "/full?providerId=p1"]),
        ("/v1/inventory/changes", &["", "?limit=1", "?providerId=p1"]),
        ("/v1/inventory/node-states", &[""]),
        ("/v1/interfaces/providers", &[""]),
        ("/v1/interfaces/node-configs", &["?providerId=biz-1", "?providerId=none"]),
        (
            "/v1/interfaces/node-configs/by-instance/{instanceId}",
            &["/vm-other", "/v?providerId=biz-1"],
        ),
        ("/v1/overview", &[""]),
        ("/healthz", &[""]),
    ];
    let mut seen = BTreeSet::new();
    let mut check = |path: &str, answer: &Answer| {
        description.check(path, answer);
        seen.insert((path.to_owned(), answer.status.to_string()));
    };
    for (path, variants) in routes {
        let base = path.split("/{").next().unwrap();
        for variant in variants {
            let target = format!("{base}{variant}");
            let answer = ask(&target, "");
            assert_eq!(answer.status, 200, "{target}");
            check(path, &answer);
            check(path, &get(address, &target));
            check(path, &request(address, "PUT", &target, ""));
            if let Some(tag) = answer.header("etag") {
                check(path, &ask(&target, &format!("If-None-Match: {tag}\r\n")));
            }
        }
        if path == "/v1/inventory/node-configs/{nodeName}" {
            check(path, &ask(&format!("{base}/none"), ""));
            check(path, &ask(&format!("{base}/full?ProviderId=p1"), ""));
        } else if path.ends_with("/{instanceId}") {
            check(path, &ask(&format!("{base}/none"), ""));
            check(path, &ask(&format!("{base}/vm-other?ProviderId=p1"), ""));
        } else if path == "/v1/interfaces/node-configs" {
            check(path, &ask(base, ""));
        } else if path.starts_with("/v1/inventory") && path != "/v1/inventory/node-states" {
            check(path, &ask(&format!("{base}?limit=many"), ""));
        }
    }
    world.stop_leading("another");
    for (path, variants) in &routes[..8] {
        let target = path.split("/{").next().unwrap().to_owned() + variants[0];
        check(path, &ask(&target, ""));
    }
    let described: BTreeSet<_> = description.0["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let statuses = item["get"]["responses"].as_object().unwrap().keys();
            statuses.map(|status| (path.clone(), status.clone()))
        })
        .collect();
    let never_seen: Vec<_> = described.difference(&seen).collect();
    assert!(never_seen.is_empty(), "described, but never seen: {never_seen:?}");
}

#[test]
fn the_readable_page_names_every_route_and_parameter() {
    let description = Description::read();
    for (path, item) in description.0["paths"].as_object().unwrap() {
        assert!(DOCS.contains(&format!("GET {path}<")), "/docs says nothing of {path}");
        for parameter in item["get"]["parameters"].as_array().into_iter().flatten() {
            let name = description.resolve(parameter)["name"].as_str().unwrap();
            assert!(DOCS.contains(name), "/docs says nothing of {name}");
        }
    }
}
