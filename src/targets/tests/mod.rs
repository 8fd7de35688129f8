//! Deliveries: what an answer says of each node, and how requests are made up.

mod acceptance;
mod viola;

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Delivery, Problem};
use crate::node_config::NodeConfig;

fn node(name: &str) -> NodeConfig {
    NodeConfig { node_name: name.to_owned(), instance_id: "vm".to_owned(), interfaces: Vec::new() }
}

fn nodes(count: usize) -> Vec<NodeConfig> {
    (0..count).map(|number| node(&format!("worker-{number:05}"))).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_part_of_an_object_names_its_own_nodes_alone() {
    let problem = |nodes: &[&str], message: &str| Problem {
        nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
        message: message.to_owned(),
    };
    let delivery = Delivery {
        accepted: names(&["a-1", "b-1"]),
        problems: vec![problem(&["a-2", "b-2"], "HTTP 503"), problem(&["b-3"], "refused")],
        retry_after: Some(Duration::from_secs(7)),
        posts: Vec::new(),
        kept: Vec::new(),
    };
    let part = delivery.of(&BTreeSet::from(["a-1", "a-2", "a-3"]));
    assert_eq!(
        (part.accepted, part.problems),
        (names(&["a-1"]), vec![problem(&["a-2"], "HTTP 503")])
    );
    assert_eq!(part.retry_after, Some(Duration::from_secs(7)));
    let part = delivery.of(&BTreeSet::from(["b-1"]));
    assert_eq!(part, Delivery { accepted: names(&["b-1"]), ..Delivery::default() });
}
