//! What people do to records while the operator runs.

use serde_json::{Value, json};

use super::{
    PORT, RENUMBER, cards, name, posts, record, records, reordered, wait_for_event, wait_for_polls,
    wait_for_posts, wait_until,
};

#[test]
fn what_is_edited_or_deleted_is_put_back_ids_and_all_and_sent_again() {
    let (world, operator) = reordered();
    let (before, sent) = (record(&world, "worker-0"), posts(&world));
    let kubernetes = world.kubernetes();
    let labels = json!({"metadata": {"labels": {"team": "blue"}}});
    kubernetes.patch("NodeInterfaces", "default", name(&before), &labels).unwrap();
    let mut interfaces = before["spec"]["config"]["interfaces"].clone();
    interfaces[0]["id"] = json!(7);
    let edit = json!({"spec": {"config": {"interfaces": interfaces}}});
    kubernetes.patch("NodeInterfaces", "default", name(&before), &edit).unwrap();
    wait_until(&world, "not put back", |records| {
        let spec = |record: &Value| record["spec"]["config"] == before["spec"]["config"];
        records.iter().any(spec)
    });
    wait_for_posts(&world, sent + 1);
    let event = wait_for_event(&world, "RecordRestored");
    assert!(event.to_string().contains("worker-0"), "{event}");
    operator.line_with("RecordRestored: records were edited or deleted");
    let after = record(&world, "worker-0");
    assert_eq!(after["metadata"]["labels"]["team"], "blue", "the labels of others stay");
    wait_for_polls(&world, 2);
    let sent = posts(&world);
    kubernetes.delete("NodeInterfaces", "default", name(&before)).unwrap();
    wait_until(&world, "not put back", |records| records.len() == 3);
    wait_for_posts(&world, sent + 1);
    let after = record(&world, "worker-0");
    assert_eq!(after["spec"]["config"], before["spec"]["config"]);
    assert_eq!(cards(&world, "worker-0")[0], (PORT.to_owned(), 0));
}

#[test]
fn a_node_is_numbered_anew_where_its_record_says_so() {
    let (world, operator) = reordered();
    let before = record(&world, "worker-0");
    world
        .kubernetes()
        .annotate("NodeInterfaces", "default", name(&before), RENUMBER, "true")
        .unwrap();
    wait_for_event(&world, "Renumbered");
    operator.line_with("Renumbered: numbered anew");
    wait_until(&world, "not numbered anew", |records| {
        records.iter().any(|record| {
            record["spec"]["nodeName"] == "worker-0"
                && record["spec"]["config"]["interfaces"][1]["portId"] == PORT
        })
    });
    let after = record(&world, "worker-0");
    assert_eq!(name(&after), name(&before));
    assert_eq!(after["metadata"]["annotations"][RENUMBER], Value::Null, "taken off");
    assert_eq!(cards(&world, "worker-0")[1], (PORT.to_owned(), 1));
    assert_eq!(records(&world).len(), 3);
}

#[test]
fn a_field_that_is_taken_away_is_put_back() {
    let (world, operator) = reordered();
    let before = record(&world, "worker-0");
    assert!(before["spec"]["owner"].is_object(), "{before}");
    let edit = json!({"spec": {"owner": null}});
    world.kubernetes().patch("NodeInterfaces", "default", name(&before), &edit).unwrap();
    wait_until(&world, "not put back", |records| {
        records.iter().any(|record| record["spec"]["owner"] == before["spec"]["owner"])
            && records.iter().all(|record| record["spec"]["owner"].is_object())
    });
    wait_for_event(&world, "RecordRestored");
    wait_for_polls(&world, 2);
    assert_eq!(cards(&world, "worker-0")[0], (PORT.to_owned(), 0));
    drop(operator);
}

#[test]
fn a_record_of_others_counts_only_where_nothing_is_known() {
    let (world, operator) = reordered();
    let (ours, sent) = (record(&world, "worker-0"), posts(&world));
    let made = |node: &str, vm: &str, port: &str| {
        let mut other = ours.clone();
        other["metadata"] = json!({"name": node, "namespace": "default"});
        let spec = &mut other["spec"];
        spec["updatedAt"] = json!("2099-01-02T03:04:05Z");
        (spec["nodeName"], spec["config"]["nodeName"]) = (json!(node), json!(node));
        (spec["instanceId"], spec["config"]["instanceId"]) = (json!(vm), json!(vm));
        let interface = &mut spec["config"]["interfaces"][0];
        (interface["id"], interface["portId"]) = (json!(9), json!(port));
        spec["config"]["interfaces"] = json!([interface.clone()]);
        world.kubernetes().apply_object(other).unwrap();
    };
    made("beside", "another-vm", PORT);
    operator.line_with("the record beside, made by others, is taken away");
    wait_until(&world, "not taken away", |records| records.len() == 3);
    made("unknown", "unknown-vm", "unknown-port");
    operator.line_with("the record unknown, made by others, is used from now on");
    wait_until(&world, "not under its own name", |records| {
        records.iter().any(|record| name(record).starts_with("unknown-"))
    });
    wait_for_polls(&world, 3);
    assert_eq!(records(&world).len(), 4);
    assert!(operator.inventory("/v1/inventory/node-configs/unknown").1.contains("unknown-vm"));
    assert_eq!(posts(&world), sent);
    assert_eq!(cards(&world, "worker-0")[0], (PORT.to_owned(), 0));
}
