//! The environment as given against the settings as meant.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{
    Config, ConfigReport, FoundCloud, FoundSecrets, Intervals, LogFormat, OpenStack, Settings,
    read_clouds_yaml,
};
use crate::http::trust::Trust;
use crate::kube::objects::RawObject;
use crate::resources::OpenstackConfig;
use crate::secret::Secret;

const MINIMAL: [(&str, &str); 4] = [
    ("CONTRABASS_ENDPOINT", "http://contrabass:8080/"),
    ("CONTRABASS_ENCRYPT_KEY", "multinic-demo-16"),
    ("VIOLA_ENDPOINT", "https://viola"),
    ("KUBE_API_URL", "http://127.0.0.1:8001"),
];

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigReport> {
    let table: HashMap<String, String> = MINIMAL
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::read(|name| table.get(name).cloned())
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = read(&[]).unwrap();
    assert_eq!(config.settings.contrabass.endpoint, Ok("http://contrabass:8080".to_owned()));
    assert_eq!(config.settings.contrabass.timeout, Duration::from_secs(30));
    assert_eq!(config.settings.contrabass.trust, Trust::Anyone);
    assert_eq!(config.settings.openstack.trust, Trust::Anyone);
    assert_eq!(config.settings.viola.trust, Trust::System);
    assert_eq!(config.settings.openstack.interface, "public");
    let statuses = vec!["ACTIVE".to_owned(), "DOWN".to_owned()];
    assert_eq!(config.settings.openstack.port_statuses, Some(statuses));
    assert_eq!(config.settings.intervals.fast, Duration::from_secs(20));
    assert_eq!(config.settings.intervals.slow, Duration::from_secs(120));
    assert_eq!(config.settings.intervals.error, Duration::from_secs(30));
    assert_eq!(config.settings.intervals.fast_window, Duration::from_secs(180));
    assert_eq!(config.settings.intervals.resync, None);
    assert_eq!(config.settings.intervals.down_port_fast_retries, 5);
    assert_eq!(config.inventory.address.port(), 18081);
    assert!(config.inventory.address.ip().is_unspecified());
    assert_eq!(config.health_address.port(), 8081);
    assert_eq!(config.workers, 4);
    assert_eq!(config.log_format, LogFormat::Text);
    assert!(config.leader_election.is_none() && config.watch_namespaces.is_empty());
    assert_eq!(config.settings.unverified(), ["Contrabass", "OpenStack"]);
}

#[test]
fn one_report_lists_every_bad_variable() {
    let report = read(&[
        ("CONTRABASS_TIMEOUT", "soon"),
        ("CONTRABASS_ENCRYPT_KEY", "too short"),
        ("VIOLA_INSECURE_TLS", "yes"),
        ("POLL_FAST_INTERVAL", "0"),
        ("POLL_SLOW_INTERVAL", "-1m"),
        ("OPENSTACK_ENDPOINT_INTERFACE", "outside"),
        ("PORTS_CREATED_AFTER", "Yesterday"),
        ("INVENTORY_ADDR", "18081"),
        ("SYNC_WORKERS", "0"),
        ("LOG_FORMAT", "xml"),
        ("VIOLA_ENDPOINT", "viola:8080"),
        ("OPENSTACK_CA_FILE", "/no/such/file.pem"),
        ("VIOLA_RESYNC_INTERVAL", "0s"),
        ("WATCH_NAMESPACES", "good,Bad Name"),
        ("LEADER_ELECT", "true"),
    ])
    .unwrap_err();
    let text = report.to_string();
    for name in [
        "CONTRABASS_TIMEOUT",
        "CONTRABASS_ENCRYPT_KEY",
        "VIOLA_INSECURE_TLS",
        "POLL_FAST_INTERVAL",
        "POLL_SLOW_INTERVAL",
        "OPENSTACK_ENDPOINT_INTERFACE",
        "PORTS_CREATED_AFTER",
        "INVENTORY_ADDR",
        "SYNC_WORKERS",
        "LOG_FORMAT",
        "VIOLA_ENDPOINT",
        "OPENSTACK_CA_FILE",
        "VIOLA_RESYNC_INTERVAL",
        "WATCH_NAMESPACES",
    ] {
        assert!(text.contains(&format!("  {name}: ")), "{name} is not in {text}");
    }
    assert_eq!(report.problems.len(), 14, "{text}");
}

#[test]
fn a_value_that_is_no_text_is_in_the_report_and_its_variable_does_not_count_as_unset() {
    let bytes = |name: &str| match name {
        "CONTRABASS_ENDPOINT"
        | "CONTRABASS_ENCRYPT_KEY"
        | "KUBE_API_URL"
        | "https_proxy"
        | "INVENTORY_TOKEN_FILE" => Some(OsString::from_vec(b"/caf\xe9".to_vec())),
        "POLL_FAST_INTERVAL" => Some(OsString::from("soon")),
        _ => None,
    };
    let report = Config::read(bytes).unwrap_err();
    assert_eq!(
        report.problems,
        [
            "KUBE_API_URL: is not UTF-8 text",
            "https_proxy: is no URL of a proxy such as http://proxy.example.com:3128",
            "CONTRABASS_ENDPOINT: is not UTF-8 text",
            "CONTRABASS_ENCRYPT_KEY: is not UTF-8 text",
            "POLL_FAST_INTERVAL: \"soon\" isn't a duration such as 90s, 1h30m or 500ms",
            "INVENTORY_TOKEN_FILE: is not UTF-8 text",
        ]
    );
}

#[test]
fn an_origin_is_as_browsers_write_it_or_it_would_never_match() {
    for origin in
        ["https://ui.example.com", "http://10.0.0.1:8080", "http://[fd00::1]", "*", "null"]
    {
        let config = read(&[("INVENTORY_CORS_ORIGIN", origin)]).unwrap();
        assert_eq!(config.inventory.cors_origin.as_deref(), Some(origin));
    }
    for origin in [
        "https://ui.example.com/",
        "https://ui.example.com/inventory",
        "https://ui.example.com?x=1",
        "https://UI.example.com",
        "HTTPS://ui.example.com",
        "https://ui.example.com:443",
        "http://ui.example.com:80",
        "https://me@ui.example.com",
        "https://a.example https://b.example",
        "https://",
        "ui.example.com",
    ] {
        let report = read(&[("INVENTORY_CORS_ORIGIN", origin)]).unwrap_err();
        assert_eq!(report.problems.len(), 1, "{origin}: {report}");
        assert!(report.problems[0].starts_with("INVENTORY_CORS_ORIGIN: "), "{origin}: {report}");
    }
}

#[test]
fn a_base_url_is_used_as_it_is_or_refused() {
    let base = "must be an http(s) base URL";
    for value in [
        "http://viola:99999",
        "http://viola:abc",
        "http://viola:",
        "http://viola/api#fragment",
        "http://viola#",
        "http://viola/api?query",
        "http://me:hunter2@viola",
        "http://vi ola",
        "http://[::1",
        "ftp://viola",
    ] {
        for name in ["VIOLA_ENDPOINT", "OPENSTACK_NOVA_ENDPOINT", "KUBE_API_URL"] {
            let report = read(&[(name, value)]).unwrap_err();
            assert_eq!(report.problems.len(), 1, "{value}: {report}");
            assert!(
                report.problems[0].starts_with(&format!("{name}: {base}")),
                "{value}: {report}"
            );
            assert!(!report.to_string().contains("hunter2"), "{report}");
        }
    }
    for value in ["http://viola:8080/api/", "https://[fd00::1]:5000", "https://viola"] {
        read(&[("VIOLA_ENDPOINT", value)]).unwrap();
    }
}

#[test]
fn a_slow_interval_below_the_fast_one_makes_no_sense() {
    let report = read(&[("POLL_SLOW_INTERVAL", "10s")]).unwrap_err();
    assert_eq!(
        report.problems,
        ["POLL_SLOW_INTERVAL: 10s is shorter than POLL_FAST_INTERVAL, 20s"]
    );
}

#[test]
fn missing_required_variables_are_no_reason_to_stop() {
    let config = read(&[("CONTRABASS_ENDPOINT", " "), ("CONTRABASS_ENCRYPT_KEY", "")]).unwrap();
    assert_eq!(
        config.settings.all_missing(false),
        ["CONTRABASS_ENDPOINT", "CONTRABASS_ENCRYPT_KEY"]
    );
    assert_eq!(
        config.settings.contrabass.encrypt_key.as_ref().err(),
        Some(&"CONTRABASS_ENCRYPT_KEY")
    );
}

#[test]
fn a_ca_file_turns_verification_on_and_an_explicit_insecure_flag_contradicts_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, certificate()).unwrap();
    let path = path.to_str().unwrap();
    let config = read(&[("OPENSTACK_CA_FILE", path)]).unwrap();
    assert!(matches!(
        config.settings.openstack.trust,
        Trust::Bundle { variable: "OPENSTACK_CA_FILE", .. }
    ));
    let report =
        read(&[("OPENSTACK_CA_FILE", path), ("OPENSTACK_INSECURE_TLS", "true")]).unwrap_err();
    assert!(report.problems[0].starts_with("OPENSTACK_INSECURE_TLS: "), "{report}");
}

fn certificate() -> String {
    rcgen::generate_simple_self_signed(["authority.example".to_owned()]).unwrap().cert.pem()
}

#[test]
fn a_ca_file_that_cannot_be_used_is_reported_by_the_variable_that_named_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pem = certificate();
    let half: String = pem.lines().take(3).map(|line| format!("{line}\n")).collect();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let no_certificate = "which holds no usable PEM certificate";
    let cases = [
        (folder.path().join("missing").to_str().unwrap().to_owned(), "which can't be read"),
        (folder.path().to_str().unwrap().to_owned(), "which can't be read"),
        (file("empty", ""), no_certificate),
        (file("text", "-- not found --"), no_certificate),
        (file("half", &half), no_certificate),
        (file("key", &key), no_certificate),
        (
            file("filler", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            no_certificate,
        ),
    ];
    for variable in ["CONTRABASS_CA_FILE", "OPENSTACK_CA_FILE", "VIOLA_CA_FILE", "KUBE_CA_FILE"] {
        for (path, what) in &cases {
            let report = read(&[(variable, path)]).unwrap_err();
            let expected = format!("{variable}: {variable} names {path}, {what}");
            assert_eq!(report.problems.len(), 1, "{report}");
            assert!(report.problems[0].starts_with(&expected), "{report}");
        }
        read(&[(variable, &file("good", &pem))]).unwrap();
    }
}

#[test]
fn public_roots_may_be_named_and_an_empty_name_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    std::fs::write(&path, certificate()).unwrap();
    let path = path.to_str().unwrap();
    let named = |trust: &Trust| matches!(trust, Trust::Bundle { variable: "SSL_CERT_FILE", .. });
    let config = read(&[("SSL_CERT_FILE", path)]).unwrap();
    assert!(named(&config.settings.viola.trust) && named(&config.kubernetes.trust));
    assert_eq!(config.settings.openstack.trust, Trust::Anyone);
    let config = read(&[("SSL_CERT_FILE", path), ("OPENSTACK_INSECURE_TLS", "false")]).unwrap();
    assert!(named(&config.settings.openstack.trust));
    assert_eq!(read(&[("SSL_CERT_FILE", " ")]).unwrap().settings.viola.trust, Trust::System);
    let report = read(&[("SSL_CERT_FILE", "/no/such/file.pem")]).unwrap_err();
    let expected = "SSL_CERT_FILE: SSL_CERT_FILE names /no/such/file.pem, which can't be read";
    assert!(report.problems.len() == 1 && report.problems[0].starts_with(expected), "{report}");
}

#[test]
fn proxies_are_for_everybody_and_what_cannot_be_used_is_in_the_report() {
    let config = read(&[
        ("HTTPS_PROXY", "http://me:hunter2@proxy:3128"),
        ("no_proxy", "10.0.0.0/8,.svc"),
        ("KUBE_API_URL", "https://kubernetes.example"),
    ])
    .unwrap();
    assert_eq!(config.proxies.for_url("https://viola").unwrap().proxy.host(), "proxy");
    assert_eq!(config.kubernetes.proxies, config.proxies);
    assert!(!format!("{config:?}").contains("hunter2"));
    let report = read(&[
        ("http_proxy", "socks5://me:hunter2@proxy"),
        ("HTTPS_PROXY", "proxy"),
        ("NO_PROXY", "10.0.0.0/99"),
    ])
    .unwrap_err();
    let text = report.to_string();
    assert!(report.problems[0].starts_with("http_proxy: "), "{text}");
    assert!(report.problems[1].starts_with("NO_PROXY: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn all_port_statuses_are_a_star_or_nothing() {
    for value in ["*", "", " , "] {
        let config = read(&[("OPENSTACK_PORT_ALLOWED_STATUSES", value)]).unwrap();
        assert_eq!(config.settings.openstack.port_statuses, None, "{value:?}");
    }
    let config = read(&[("OPENSTACK_PORT_ALLOWED_STATUSES", "active, Build")]).unwrap();
    let statuses = vec!["ACTIVE".to_owned(), "BUILD".to_owned()];
    assert_eq!(config.settings.openstack.port_statuses, Some(statuses));
}

#[test]
fn inside_a_cluster_the_service_address_is_used() {
    let table =
        HashMap::from([("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")]);
    let config = Config::read(|name| table.get(name).map(|value| (*value).to_owned())).unwrap();
    assert_eq!(config.kubernetes.api_url, "https://[fd00::1]:443");
    assert!(config.kubernetes.token_file.is_some());
}

#[test]
fn a_port_of_the_service_address_that_is_none_is_in_the_report() {
    for port in ["99999", "abc", "https"] {
        let table = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", port)];
        let table = HashMap::from(table);
        let read = Config::read(|name| table.get(name).map(|value| (*value).to_owned()));
        let expected = format!("KUBERNETES_SERVICE_PORT: {port:?} isn't a port");
        assert_eq!(read.unwrap_err().problems, [expected]);
    }
}

#[test]
fn values_that_make_no_sense_are_in_the_report() {
    let long = "a".repeat(64);
    for (name, value, what) in [
        ("WATCH_NAMESPACES", ",", "\",\" names no namespace; leave it empty for all"),
        ("WATCH_NAMESPACES", "good,-a", "\"-a\" isn't a valid namespace name"),
        ("WATCH_NAMESPACES", "a-,good", "\"a-\" isn't a valid namespace name"),
        ("WATCH_NAMESPACES", "a.b", "\"a.b\" isn't a valid namespace name"),
        ("WATCH_NAMESPACES", &long, &format!("{long:?} isn't a valid namespace name")),
        ("POD_NAMESPACE", "No Name", "\"No Name\" isn't a valid namespace name"),
        ("RUST_LOG", "multinic_operator=loud", "\"multinic_operator=loud\" isn't a filter"),
        ("RUST_LOG", "info, a=debug=x,,", "\"a=debug=x\" isn't a filter"),
        ("RUST_LOG", "info/one/two", "\"info/one/two\" isn't a filter"),
        ("HEALTH_ADDR", ":18081", "[::]:18081 is taken by INVENTORY_ADDR, [::]:18081"),
        ("HEALTH_ADDR", "127.0.0.1:18081", "127.0.0.1:18081 is taken by INVENTORY_ADDR"),
        ("POLL_FAST_INTERVAL", "0", "0s is shorter than 1ms"),
        ("VIOLA_TIMEOUT", "1ns", "1ns is shorter than 1ms"),
        (
            "VIOLA_RESYNC_INTERVAL",
            "999us",
            "999000ns is shorter than 1ms; leave it empty for never",
        ),
    ] {
        let report = read(&[("LEADER_ELECT", "true"), (name, value)]).unwrap_err();
        assert_eq!(report.problems.len(), 1, "{name}={value}: {report}");
        let expected = format!("{name}: {what}");
        assert!(report.problems[0].starts_with(&expected), "{name}={value}: {report}");
    }
}

#[test]
fn odd_values_that_make_sense_are_taken() {
    for (name, value) in [
        ("WATCH_NAMESPACES", " a, 0-b ,"),
        ("RUST_LOG", "warn,multinic_operator::reconcile = debug,ureq=,inof/text"),
        ("POLL_FAST_INTERVAL", "1ms"),
        ("POLL_FAST_WINDOW", "0"),
    ] {
        read(&[(name, value)]).unwrap();
    }
    read(&[("HEALTH_ADDR", "127.0.0.1:0"), ("INVENTORY_ADDR", "127.0.0.1:0")]).unwrap();
    read(&[("HEALTH_ADDR", "127.0.0.1:80"), ("INVENTORY_ADDR", "127.0.0.2:80")]).unwrap();
    read(&[("HEALTH_ADDR", ":18081"), ("INVENTORY_ENABLED", "false")]).unwrap();
}

#[test]
fn settings_in_a_debug_print_show_no_key() {
    let shown = format!("{:?}", read(&[]).unwrap());
    assert!(!shown.contains("multinic-demo-16"));
}

/// What an object with this `spec.settings` is reconciled by.
fn of_object(variables: &[(&str, &str)], settings: serde_json::Value) -> Result<Settings, String> {
    let config = read(variables).unwrap();
    let credentials = json!({"openstackProviderID": "p", "projectID": "q"});
    let spec = json!({"vmNames": ["vm-1"], "credentials": credentials, "settings": settings});
    let body = json!({"metadata": {"name": "a"}, "spec": spec});
    let raw = RawObject::read(&serde_json::value::to_raw_value(&body).unwrap()).unwrap();
    let settings = config.settings_of(
        &OpenstackConfig::from_raw(&raw, &Default::default()).spec?,
        &Default::default(),
    )?;
    Ok(Settings::clone(&settings))
}

#[test]
fn settings_come_before_the_region_of_the_reference_then_clouds_yaml_then_the_environment() {
    let environment = [
        ("OPENSTACK_ENDPOINT_REGION", "environment"),
        ("OPENSTACK_ENDPOINT_INTERFACE", "admin"),
        ("OPENSTACK_NEUTRON_ENDPOINT", "http://environment"),
        ("OPENSTACK_NOVA_ENDPOINT", "http://environment"),
        ("ALLOWED_ENDPOINTS", "http://k,http://clouds,http://settings"),
        ("OPENSTACK_INSECURE_TLS", "true"),
    ];
    let config = read(&environment).unwrap();
    let of = |lines: &str, region: Option<&str>, settings: serde_json::Value| {
        let text = format!(
            "clouds:\n  prod:\n    auth: {{auth_url: 'http://k', user_id: u, password: p}}\n{lines}"
        );
        let cloud = FoundCloud {
            place: "cloud \"prod\" of Secret default/openstack".to_owned(),
            entry: read_clouds_yaml(&text, "prod", false).unwrap(),
            trust: Trust::System,
        };
        let found = FoundSecrets { cloud: Some(Arc::new(cloud)), ..FoundSecrets::default() };
        let identity = json!({"name": "openstack", "cloudName": "prod", "region": region});
        let credentials = json!({"identityRef": identity, "k8sProviderID": "biz"});
        let spec = json!({"vmNames": ["vm-1"], "credentials": credentials, "settings": settings});
        let body = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
        let raw = RawObject::read(&serde_json::value::to_raw_value(&body).unwrap()).unwrap();
        config.settings_of(&OpenstackConfig::from_raw(&raw, &Default::default()).spec?, &found)
    };
    let file = "    region_name: file\n    interface: internal\n    \
                network_endpoint_override: http://clouds\n";
    let settings = json!({"openstackEndpointRegion": "settings",
        "openstackNeutronEndpoint": "http://settings"});
    for (lines, region, settings, expected) in [
        ("", None, json!({}), ("environment", "admin", "http://environment")),
        (file, None, json!({}), ("file", "internal", "http://clouds")),
        (file, Some("reference"), json!({}), ("reference", "internal", "http://clouds")),
        (file, Some("reference"), settings, ("settings", "internal", "http://settings")),
    ] {
        let merged = of(lines, region, settings).unwrap();
        let OpenStack { region, interface, neutron_endpoint, nova_endpoint, trust, .. } =
            &merged.openstack;
        let [region, neutron] = [region, neutron_endpoint].map(|it| it.as_deref().unwrap());
        assert_eq!((region, interface.as_str(), neutron), expected);
        assert_eq!(nova_endpoint.as_deref(), Some("http://environment"));
        // Neither the environment's switch nor its file is for this cloud.
        assert_eq!(*trust, Trust::System);
        assert!(merged.all_missing(false).is_empty());
    }
    let trust = |lines: &str, settings| of(lines, None, settings).unwrap().openstack.trust.clone();
    let off = "    verify: false\n";
    assert_eq!(trust(off, json!({})), Trust::Anyone);
    assert_eq!(trust(off, json!({"openstackInsecureTLS": false})), Trust::System);
    assert_eq!(trust("", json!({"openstackInsecureTLS": true})), Trust::Anyone);
    let forged = "    compute_endpoint_override: http://forged\n";
    let said = "cloud \"prod\" of Secret default/openstack: clouds.prod.compute_endpoint_override \
                (line 4) isn't in ALLOWED_ENDPOINTS, so nothing is asked";
    assert_eq!(of(forged, None, json!({})).unwrap_err(), said);
}

#[test]
fn an_object_overrides_what_it_sets_and_nothing_else() {
    let environment = of_object(&[], json!(null)).unwrap();
    let own = of_object(
        &[("ALLOWED_ENDPOINTS", "https://*.example.com")],
        json!({
            "contrabassEndpoint": "https://contrabass.example.com/",
            "contrabassEncryptKey": "another-demo-16b",
            "contrabassTimeout": "5m",
            "contrabassInsecureTLS": false,
            "openstackTimeout": "1s",
            "openstackInsecureTLS": true,
            "openstackNeutronEndpoint": "https://neutron.example.com",
            "openstackNovaEndpoint": "https://nova.example.com/v2.1",
            "openstackEndpointInterface": "internal",
            "openstackEndpointRegion": "RegionTwo",
            "openstackNodeNameMetadataKey": "node",
            "openstackPortAllowedStatuses": ["active", " build "],
            "violaEndpoint": "https://viola.example.com",
            "violaTimeout": "2m",
            "violaInsecureTLS": false,
            "downPortFastRetryMax": 7,
            "pollFastInterval": "5s",
            "pollSlowInterval": "1m",
            "pollErrorInterval": "1h",
            "pollFastWindow": "0s",
        }),
    )
    .unwrap();
    let mut expected = environment.clone();
    expected.contrabass.endpoint = Ok("https://contrabass.example.com".to_owned());
    expected.contrabass.encrypt_key = Ok(Secret::new("another-demo-16b".to_owned()));
    expected.contrabass.timeout = Duration::from_secs(300);
    expected.contrabass.trust = Trust::System;
    expected.openstack.timeout = Duration::from_secs(1);
    expected.openstack.neutron_endpoint = Some("https://neutron.example.com".to_owned());
    expected.openstack.nova_endpoint = Some("https://nova.example.com/v2.1".to_owned());
    expected.openstack.interface = "internal".to_owned();
    expected.openstack.region = Some("RegionTwo".to_owned());
    expected.openstack.node_name_metadata_key = Some("node".to_owned());
    expected.openstack.port_statuses = Some(vec!["ACTIVE".to_owned(), "BUILD".to_owned()]);
    expected.viola.endpoint = Ok("https://viola.example.com".to_owned());
    expected.viola.timeout = Duration::from_secs(120);
    expected.intervals.down_port_fast_retries = 7;
    expected.intervals.fast = Duration::from_secs(5);
    expected.intervals.slow = Duration::from_secs(60);
    expected.intervals.error = Duration::from_secs(3600);
    expected.intervals.fast_window = Duration::ZERO;
    assert_eq!(own, expected);
    // What is blank, empty or null is not set.
    let blank = json!({"pollFastInterval": " ", "openstackPortAllowedStatuses": [""],
        "violaEndpoint": null, "contrabassEncryptKey": ""});
    assert_eq!(of_object(&[("OBJECT_SETTINGS", "none")], blank), Ok(environment.clone()));
    let all = of_object(&[], json!({"openstackPortAllowedStatuses": ["*"]})).unwrap();
    assert_eq!(all.openstack.port_statuses, None);
}

#[test]
fn what_the_go_operator_clamped_is_clamped_and_noted() {
    let note = |variables: &[(&str, &str)], settings: serde_json::Value| {
        let own = of_object(variables, settings).unwrap();
        let Intervals { fast, slow, down_port_fast_retries, .. } = own.intervals;
        (own.notes.join("; "), fast.as_secs(), slow.as_secs(), down_port_fast_retries)
    };
    let slow = |text: &str| format!("spec.settings.pollSlowInterval: {text}");
    let short = slow("10s is shorter than the fast interval, so 20s is used");
    assert_eq!(note(&[], json!({"pollSlowInterval": "10s"})), (short, 20, 20, 5));
    // The environment's slow interval may be the one that is too short.
    let short = slow("2m0s is shorter than the fast interval, so 5m0s is used");
    assert_eq!(note(&[], json!({"pollFastInterval": "5m"})), (short, 300, 300, 5));
    let zero = "spec.settings.pollFastInterval: is zero, so 20s is used".to_owned();
    assert_eq!(note(&[], json!({"pollFastInterval": "0s"})), (zero, 20, 120, 5));
    let few = "spec.settings.downPortFastRetryMax: -3 is less than 1, so 1 is used".to_owned();
    assert_eq!(note(&[], json!({"downPortFastRetryMax": -3})), (few, 20, 120, 1));
    let none = [("DOWN_PORT_FAST_RETRY_MAX", "0")];
    assert_eq!(note(&none, json!({"downPortFastRetryMax": 0})), (String::new(), 20, 120, 0));
    let zero = of_object(&[], json!({"violaTimeout": "0"})).unwrap();
    assert_eq!(zero.notes, ["spec.settings.violaTimeout: is zero, so 30s is used"]);
}

#[test]
fn what_an_object_cannot_set_is_refused_by_the_name_of_its_field() {
    let (tuning, none) = (("OBJECT_SETTINGS", "tuning"), ("OBJECT_SETTINGS", "none"));
    let listed = ("ALLOWED_ENDPOINTS", "https://contrabass.example.com");
    let cases = [
        (tuning, "pollFastInterval", json!("soon"), "\"soon\" isn't a duration"),
        (tuning, "pollFastInterval", json!("-5s"), "isn't a duration"),
        (tuning, "pollFastInterval", json!("1ms"), "1ms is shorter than 5s"),
        (tuning, "pollSlowInterval", json!("4.999s"), "4.999s is shorter than 5s"),
        (tuning, "pollErrorInterval", json!("1s"), "1s is shorter than 5s"),
        (tuning, "contrabassTimeout", json!("5m1s"), "5m1s is longer than 5m0s"),
        (tuning, "openstackTimeout", json!("87600h"), "is longer than 5m0s"),
        (tuning, "violaTimeout", json!("1"), "isn't a duration"),
        (tuning, "openstackEndpointInterface", json!("private"), "is none of public, internal"),
        (tuning, "downPortFastRetryMax", json!(1_000_001), "is more than 1000000"),
        (tuning, "contrabassEncryptKey", json!("short"), "has 5 bytes; AES needs 16, 24 or 32"),
        (tuning, "pollFastInterval", json!(20), "is no string"),
        (tuning, "openstackInsecureTLS", json!("true"), "is no boolean"),
        (tuning, "openstackEndpointRegion", json!("a\nb"), "has a control character"),
        (tuning, "pollInterval", json!("20s"), "is unknown"),
        // Endpoints and verification.
        (tuning, "contrabassEndpoint", json!("http://evil.test/x"), "http://evil.test/x isn't in"),
        (tuning, "openstackNeutronEndpoint", json!("http://evil.test"), "ALLOWED_ENDPOINTS"),
        (tuning, "openstackNovaEndpoint", json!("http://evil.test"), "ALLOWED_ENDPOINTS"),
        (tuning, "violaEndpoint", json!("http://evil.test"), "isn't in ALLOWED_ENDPOINTS"),
        (tuning, "violaEndpoint", json!("http://viola"), "isn't in ALLOWED_ENDPOINTS"),
        (tuning, "violaEndpoint", json!("https://viola:443@evil.test"), "must be an http(s) base"),
        (tuning, "violaEndpoint", json!("https://viola?@evil.test"), "must be an http(s) base URL"),
        (listed, "violaEndpoint", json!("https://contrabass.example.com."), "ALLOWED_ENDPOINTS"),
        (tuning, "violaInsecureTLS", json!(true), "only OBJECT_SETTINGS=all allows"),
        (listed, "violaInsecureTLS", json!(true), "only OBJECT_SETTINGS=all allows"),
        // No settings at all.
        (none, "pollFastInterval", json!("30s"), "OBJECT_SETTINGS=tuning would"),
        (none, "openstackEndpointRegion", json!("r"), "OBJECT_SETTINGS=tuning would"),
        (none, "contrabassEncryptKey", json!("another-demo-16b"), "OBJECT_SETTINGS=tuning would"),
        (none, "violaEndpoint", json!("https://evil.test"), "OBJECT_SETTINGS=tuning would"),
        (none, "violaInsecureTLS", json!(true), "OBJECT_SETTINGS=all allows"),
    ];
    for (variable, field, value, expected) in cases {
        let case = format!("{variable:?} {field} {value}");
        let problem = of_object(&[variable], json!({ field: value })).unwrap_err();
        assert!(problem.starts_with(&format!("spec.settings.{field}")), "{case}: {problem}");
        assert!(problem.contains(expected), "{case}: {problem}");
    }
    let two = json!({"pollFastInterval": "1s", "violaEndpoint": "https://evil.test"});
    let problem = of_object(&[], two).unwrap_err();
    assert!(problem.contains("violaEndpoint") && problem.contains("pollFastInterval"), "{problem}");
}

#[test]
fn the_environments_own_values_are_always_allowed_and_so_is_verification() {
    let environment = [
        ("OBJECT_SETTINGS", "none"),
        ("POLL_FAST_INTERVAL", "1s"),
        ("VIOLA_TIMEOUT", "10m"),
        ("OPENSTACK_NOVA_ENDPOINT", "http://nova.test/v2.1"),
    ];
    let same = json!({
        "contrabassEndpoint": "HTTP://Contrabass:8080",
        "contrabassEncryptKey": "multinic-demo-16",
        "contrabassInsecureTLS": true,
        "openstackNovaEndpoint": "http://nova.test:80/v2.1/",
        "openstackPortAllowedStatuses": ["ACTIVE", "DOWN"],
        "violaEndpoint": "https://viola",
        "violaTimeout": "10m",
        "pollFastInterval": "1s",
    });
    let own = of_object(&environment, same).unwrap();
    assert_eq!(own, of_object(&environment, json!({})).unwrap());
    let verified = json!({"contrabassInsecureTLS": false, "openstackInsecureTLS": false});
    let own = of_object(&environment, verified).unwrap();
    assert_eq!([own.contrabass.trust, own.openstack.trust], [Trust::System, Trust::System]);
    // As often and as long as the environment has it, under every policy.
    let tuning = &environment[1..];
    let own = of_object(tuning, json!({"pollFastInterval": "2s", "violaTimeout": "9m"})).unwrap();
    assert_eq!((own.intervals.fast.as_secs(), own.viola.timeout.as_secs()), (2, 540));
    let all = [("OBJECT_SETTINGS", "all")];
    let anything = json!({"violaEndpoint": "http://anything.test", "violaInsecureTLS": true});
    let own = of_object(&all, anything).unwrap();
    assert_eq!(own.viola.endpoint, Ok("http://anything.test".to_owned()));
    assert_eq!(own.viola.trust, Trust::Anyone);
}
