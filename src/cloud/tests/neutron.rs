//! Lists that change, end or don't end between two pages, and questions that fit their front ends.

use serde_json::{Value, json};

use super::{PROJECT, PROVIDER, Reply, SUBNET, Stage, port, reply, spec, stage};
use crate::cloud::error::{CloudError, Step};
use crate::cloud::fetch::Fetch;
use crate::http::client::Service;
use crate::resources::SubnetSelector;

/// A page of ports, with a link to the next one.
fn page(ports: &[Value], next: Option<&str>) -> Reply {
    let links = next.map(|href| json!([{"rel": "next", "href": href}]));
    reply(200, json!({"ports": ports, "ports_links": links}))
}

fn gone(kind: &str) -> Reply {
    let message = format!("{kind}: it could not be found.");
    reply(404, json!({"NeutronError": {"type": kind, "message": message, "detail": ""}}))
}

/// The ids of the VM's ports.
fn ports(stage: &Stage) -> Result<Vec<String>, CloudError> {
    let answers = stage.ask(&["vm-1"])?;
    Ok(answers.ports.iter().map(|port| port.id.clone()).collect())
}

const AFTER_P2: &str = "http://internal:1/v2.0/ports?marker=p2";

#[test]
fn a_port_that_was_deleted_between_two_pages_is_not_among_the_ports() {
    let stage = stage(&[]);
    let (p1, p2) = (port("p1", "vm-1", 1), port("p2", "vm-1", 2));
    let before = page(&[p1.clone(), p2], Some(AFTER_P2));
    let replies = [before, gone("PortNotFound"), page(&[p1], None)];
    stage.services.say(Service::Neutron, "/ports?", replies);
    assert_eq!(ports(&stage).unwrap(), ["p1"]);
}

#[test]
fn each_subnet_and_network_of_a_pass_is_asked_for_once_and_fails_only_the_objects_that_name_it() {
    let stage = stage(&[]);
    let id = |id: &str| SubnetSelector::Id(id.to_owned());
    let mut both = spec(id(SUBNET), &["vm-1"]);
    both.subnets.push(id("subnet-2"));
    let one = spec(id(SUBNET), &["vm-2"]);
    let ask = |fetch: &mut Fetch<'_>| fetch.slice(&[&both, &one], &[&both, &one]).unwrap();
    let mut fetch = Fetch::new(&stage.cloud, PROVIDER, PROJECT, false);
    ask(&mut fetch);
    let subnets = fetch.answers(&both).unwrap().subnets;
    let ids: Vec<&str> = subnets.iter().map(|found| &*found.subnet.id).collect();
    assert_eq!(ids, [SUBNET, "subnet-2"]);
    let asked = stage.services.asked(Service::Neutron);
    let count = |what: &str| asked.iter().filter(|url| url.contains(what)).count();
    assert_eq!((count("/subnets/subnet-1"), count("/subnets/subnet-2")), (1, 1));
    assert_eq!(count("/networks/"), 1);
    stage.services.say(Service::Neutron, "/subnets/subnet-2", [reply(500, json!({}))]);
    let mut fetch = Fetch::new(&stage.cloud, PROVIDER, PROJECT, false);
    ask(&mut fetch);
    let error = fetch.answers(&both).unwrap_err();
    assert!(error.message.contains("/subnets/subnet-2: HTTP 500"), "{}", error.message);
    assert!(fetch.answers(&one).is_ok());
}

#[test]
fn a_subnet_that_was_deleted_between_two_pages_is_not_found_by_its_name() {
    let stage = stage(&[]);
    let lan = json!({"id": "s", "name": "lan", "network_id": "n", "cidr": "10.0.0.0/16",
        "project_id": PROJECT});
    let next = json!([{"rel": "next", "href": "http://internal:1/v2.0/subnets?marker=s"}]);
    let before = reply(200, json!({"subnets": [lan], "subnets_links": next}));
    let replies = [before, gone("SubnetNotFound"), reply(200, json!({"subnets": []}))];
    stage.services.say(Service::Neutron, "/subnets?", replies);
    let error = stage.ask_with(SubnetSelector::Name("lan".to_owned()), &["vm-1"]).unwrap_err();
    assert_eq!(error.step, Step::SubnetNotFound);
    let said = "Neutron GET /v2.0/subnets: project project-1 has no subnet named \"lan\"";
    assert_eq!(error.message, said);
}

#[test]
fn a_list_that_starts_over_again_and_again_is_an_error() {
    let stage = stage(&[]);
    let before = || page(&[port("p1", "vm-1", 1)], Some(AFTER_P2));
    let replies = (0..9).flat_map(|_| [before(), gone("PortNotFound")]);
    stage.services.say(Service::Neutron, "/ports?", replies);
    let error = ports(&stage).unwrap_err();
    let said = "Neutron GET /v2.0/ports: HTTP 404: PortNotFound: it could not be found.";
    assert_eq!((error.step, error.message.as_str()), (Step::Ports, said));
}

#[test]
fn a_link_to_a_next_page_that_names_no_marker_is_an_error_and_not_the_end() {
    for href in ["http://h/v2.0/ports?page=2", "http://h/v2.0/ports", "?marker=", "?marker=%ff", ""]
    {
        let stage = stage(&[]);
        let replies = [page(&[port("p1", "vm-1", 1)], Some(href))];
        stage.services.say(Service::Neutron, "/ports?", replies);
        let error = ports(&stage).unwrap_err();
        let said = "Neutron GET /v2.0/ports: the link to the list's next page has no marker";
        assert_eq!((error.step, error.message.as_str()), (Step::Ports, said), "{href}");
    }
}

#[test]
fn pages_that_lead_in_a_circle_are_an_error_at_the_first_one_that_comes_again() {
    let stage = stage(&[]);
    let to = |marker| page(&[port("p1", "vm-1", 1)], Some(marker));
    let circle = ["?marker=a", "?marker=b", "?marker=c", "?marker=a", "?marker=b"].map(to);
    stage.services.say(Service::Neutron, "/ports?", circle);
    let error = ports(&stage).unwrap_err();
    let said = "Neutron GET /v2.0/ports: the list's pages don't end";
    assert_eq!((error.step, error.message.as_str()), (Step::Ports, said));
    let asked = stage.services.asked(Service::Neutron);
    assert_eq!(asked.iter().filter(|url| url.contains("/ports?")).count(), 4);
}

#[test]
fn a_list_that_started_over_may_come_by_the_same_markers() {
    let stage = stage(&[]);
    let (p1, p3) = (port("p1", "vm-1", 1), port("p3", "vm-1", 3));
    let first = page(&[p1], Some("?marker=p1"));
    let second = page(&[port("p2", "vm-1", 2)], Some(AFTER_P2));
    let replies = [first.clone(), second, gone("PortNotFound"), first, page(&[p3], None)];
    stage.services.say(Service::Neutron, "/ports?", replies);
    assert_eq!(ports(&stage).unwrap(), ["p1", "p3"]);
}

#[test]
fn however_long_the_ids_are_no_request_exceeds_what_the_strictest_front_end_takes() {
    // A character of two bytes is six in a URL.
    let long = (0..50).map(|n| format!("{n:03}-{}", "ü".repeat(3 * n)));
    let uuids = (0..150).map(|n| format!("00000000-0000-4000-8000-{n:012x}"));
    let ids: Vec<String> = long.chain(uuids).collect();
    let stage = stage(&[]);
    stage.ask(&ids.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let asked = stage.services.asked(Service::Neutron);
    let asked: Vec<&String> = asked.iter().filter(|url| url.contains("/ports?")).collect();
    let longest = asked.iter().map(|url| url.len()).max().unwrap();
    assert!(longest < 3_600, "{longest} bytes");
    let mut in_one: Vec<usize> =
        asked.iter().map(|url| url.matches("&device_id=").count()).collect();
    assert_eq!(in_one.iter().sum::<usize>(), ids.len());
    in_one.retain(|ids| *ids > 1);
    assert_eq!(in_one, [50, 50, 50], "only UUIDs share a request");
}

#[test]
fn what_is_wrong_with_an_answer_is_told_with_what_was_asked() {
    let cases = [
        (
            "/ports?",
            json!({"ports": [{"id": "p", "mac_address": "x", "network_id": "n",
            "device_id": "vm-1", "status": "ACTIVE"}]}),
            "Neutron GET /networking/v2.0/ports: port p: \"x\" is no MAC address",
        ),
        (
            "/ports?",
            json!({"ports": [{"id": "p", "mac_address": "fa:16:3e:00:00:01", "network_id": "n"}]}),
            "Neutron GET /networking/v2.0/ports: a port has no device_id",
        ),
        (
            "/subnets/",
            json!({"subnet": {"id": "other", "network_id": "n", "cidr": "10.0.0.0/8"}}),
            "Neutron GET /networking/v2.0/subnets/subnet-1: answered with subnet other",
        ),
        (
            "/networks/",
            json!({"network": {"id": "other", "mtu": 1500}}),
            "Neutron GET /networking/v2.0/networks/network-1: answered with network other",
        ),
        (
            "/networks/",
            json!({"network": {"id": "network-1", "mtu": 0}}),
            "Neutron GET /networking/v2.0/networks/network-1: the network has no MTU",
        ),
    ];
    for (url_has, body, said) in cases {
        let stage = stage(&[("OPENSTACK_NEUTRON_ENDPOINT", "http://h/networking")]);
        stage.services.say(Service::Neutron, url_has, [reply(200, body)]);
        assert_eq!(ports(&stage).unwrap_err().message, said);
    }
}

#[test]
fn a_subnet_or_a_network_that_is_not_there_is_told_with_what_was_asked_and_the_status() {
    let cases = [
        (
            "/subnets/",
            "SubnetNotFound",
            Step::SubnetNotFound,
            "Neutron GET /v2.0/subnets/subnet-1: HTTP 404: SubnetNotFound: it could not be found.",
        ),
        (
            "/networks/",
            "NetworkNotFound",
            Step::Subnet,
            "Neutron GET /v2.0/networks/network-1: HTTP 404: there is no such network",
        ),
    ];
    for (url_has, kind, step, said) in cases {
        let stage = stage(&[]);
        stage.services.say(Service::Neutron, url_has, [gone(kind)]);
        let error = ports(&stage).unwrap_err();
        assert_eq!((error.step, error.message.as_str()), (step, said));
    }
}
