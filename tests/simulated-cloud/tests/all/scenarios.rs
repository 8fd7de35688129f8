//! Every folder of fixtures is a scenario that can be started and that agrees with itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::exchange;
use simulated_cloud::{Cloud, NODE_CONFIGS, Scenario, Service};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn scenarios() -> Vec<Scenario> {
    let scenarios = Scenario::load_all(&fixtures()).unwrap();
    assert!(scenarios.len() > 20, "only {} scenarios", scenarios.len());
    scenarios
}

#[test]
fn every_scenario_says_what_it_shows() {
    for scenario in scenarios() {
        let readme = fixtures().join(&scenario.name).join("README.md");
        let text = fs::read_to_string(&readme).unwrap();
        let heading = format!("# {}\n\n", scenario.name);
        let rest = text.strip_prefix(&heading).unwrap_or_else(|| panic!("{text}"));
        assert!(rest.lines().count() >= 1, "{}", scenario.name);
    }
}

#[test]
fn every_scenario_expects_a_status_of_each_of_its_objects() {
    for scenario in scenarios() {
        let mut names: Vec<String> = scenario
            .objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                format!(
                    "{}/{}",
                    metadata["namespace"].as_str().unwrap(),
                    metadata["name"].as_str().unwrap()
                )
            })
            .collect();
        names.sort();
        let expected: Vec<&String> = scenario.expected.status.keys().collect();
        assert_eq!(expected, names.iter().collect::<Vec<_>>(), "{}", scenario.name);
    }
}

#[test]
fn every_expected_interface_is_a_port_of_its_server() {
    for scenario in scenarios() {
        for post in &scenario.expected.posts {
            for node in &post.nodes {
                for interface in node["interfaces"].as_array().unwrap() {
                    let id = interface["portId"].as_str().unwrap();
                    let port = scenario.state.ports.get(id).unwrap();
                    let subnet = scenario.state.subnet(interface["subnetId"].as_str().unwrap());
                    let subnet = subnet.unwrap();
                    let network = scenario.state.network(&subnet.network_id).unwrap();
                    let place = format!("{} {id}", scenario.name);
                    assert_eq!(interface["macAddress"], port.mac_address.to_lowercase(), "{place}");
                    assert_eq!(node["instanceId"], port.device_id, "{place}");
                    assert_eq!(interface["networkId"], network.id, "{place}");
                    assert_eq!(interface["mtu"], network.mtu, "{place}");
                    assert_eq!(interface["cidr"], subnet.cidr, "{place}");
                    assert!(
                        port.fixed_ips.iter().any(|address| {
                            address.subnet_id == subnet.id
                                && interface["address"] == address.ip_address
                        }),
                        "{place}"
                    );
                }
            }
        }
    }
}

/// Nothing has been sent before, so the ids follow the MAC addresses.
#[test]
fn every_expected_node_has_its_interfaces_in_the_order_of_first_sight() {
    for scenario in scenarios() {
        for node in scenario.expected.posts.iter().flat_map(|post| &post.nodes) {
            let interfaces = node["interfaces"].as_array().unwrap();
            let macs: Vec<&str> = interfaces
                .iter()
                .map(|interface| interface["macAddress"].as_str().unwrap())
                .collect();
            assert!(macs.is_sorted(), "{} {macs:?}", scenario.name);
            for (index, interface) in interfaces.iter().enumerate() {
                assert_eq!(interface["id"], index, "{}", scenario.name);
            }
        }
    }
}

/// The stand-in makes objects with the nodes' names; the simulated Viola takes any name.
#[test]
fn every_expected_node_has_a_name_that_kubernetes_accepts() {
    let is_part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        part.chars().all(allowed) && edge(part.chars().next()) && edge(part.chars().next_back())
    };
    for scenario in scenarios() {
        for node in scenario.expected.posts.iter().flat_map(|post| &post.nodes) {
            let name = node["nodeName"].as_str().unwrap();
            let place = format!("fixtures/{}: {name:?}", scenario.name);
            assert!(name.len() <= 253 && name.split('.').all(is_part), "{place}");
        }
    }
}

#[test]
fn a_folder_to_play_with_needs_no_more_than_a_cloud() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
    let scenario = folder.join("bare");
    fs::create_dir_all(&scenario).unwrap();
    let cloud = r#"{"providers": [], "users": [], "projects": []}"#;
    fs::write(scenario.join("cloud.json"), cloud).unwrap();
    let loaded = Scenario::load(&scenario).unwrap();
    assert!(loaded.objects.is_empty() && loaded.expected.posts.is_empty());
    // A test that expects nothing would find nothing wrong.
    let error = Scenario::load_all(&folder).unwrap_err().to_string();
    assert!(error.contains("bare/expected.json: is missing"), "{error}");
}

#[test]
fn viola_takes_what_every_scenario_expects() {
    for scenario in scenarios() {
        let expected = scenario.expected.posts.clone();
        let cloud = Cloud::start(scenario).unwrap();
        for post in expected {
            let body = serde_json::to_string(&post.nodes).unwrap();
            let request = format!(
                "POST {NODE_CONFIGS} HTTP/1.1\r\nx-provider-id: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                post.provider_id,
                body.len()
            );
            let answer = exchange(&cloud.url(Service::Viola), request.as_bytes()).unwrap();
            assert_eq!(answer.status_line, "HTTP/1.1 200 OK", "{}", cloud.scenario().name);
            let current = cloud.viola().current(&post.provider_id);
            assert!(post.nodes.iter().eq(current.values()), "{}", cloud.scenario().name);
        }
        assert_eq!(cloud.viola().violations(), Vec::<String>::new());
    }
}
