//! What is written for what is known, and what is made of what others did.

use serde_json::{Value, json};

use super::super::listed::{Held, Listed};
use super::super::node_interfaces::{RENUMBER_ANNOTATION, WRITER_ANNOTATION, name_of, object};
use super::*;
use crate::inventory::record::tests::{connected, record};

const US: Writer = Writer { manager: "multinic-operator", replica: String::new() };
const TARGET: &str = "cloud";
const AT: &str = "2026-01-02T03:10:05Z";

fn us() -> Writer {
    Writer { replica: "pod-a_1".to_owned(), ..US }
}

fn now() -> Timestamp {
    AT.parse().unwrap()
}

/// A record's object, as this replica and this manager wrote it last.
fn written_by(record: &Record, version: u32, replica: &str, manager: &str) -> Value {
    let mut object = object(record, TARGET, "default");
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object["metadata"]["annotations"] = json!({ WRITER_ANNOTATION: replica });
    object["metadata"]["managedFields"] =
        json!([{"manager": manager, "fieldsV1": {"f:spec": {"f:config": {}}}}]);
    object
}

fn ours(record: &Record, version: u32) -> Value {
    written_by(record, version, "pod-a_1", US.manager)
}

fn raw(object: &Value) -> RawObject {
    RawObject::read(&serde_json::value::to_raw_value(object).unwrap()).unwrap()
}

fn known(objects: &[Value]) -> (Known, Inventory) {
    let mut listed = Listed::default();
    objects.iter().for_each(|object| listed.add(&raw(object)));
    let Held { objects, names, opened } = listed.held(now());
    let mut known = Known::default();
    known.replace(objects, names);
    (known, opened.inventory)
}

fn name(record: &Record) -> String {
    name_of(TARGET, &record.node_name)
}

/// Name and version of each write; the version of a new object is empty.
fn writes(known: &mut Known, inventory: &Inventory) -> Vec<(String, String)> {
    let due = known.due(inventory, now());
    due.into_iter().map(|write| (write.name, write.version)).collect()
}

/// A known record that others left like this.
fn after(object: Option<&Value>) -> (Known, Inventory, Result<(), String>) {
    let record = connected(1);
    let (mut known, inventory) = known(&[ours(&record, 7)]);
    assert_eq!(writes(&mut known, &inventory), []);
    let raw = object.map(raw);
    let result = known.observe(&name(&record), raw.as_ref(), &us(), &inventory);
    (known, inventory, result)
}

fn edited(manager: &str, replica: &str) -> Value {
    let mut object = written_by(&connected(1), 8, replica, manager);
    object["spec"]["config"]["interfaces"][0]["id"] = json!(5);
    object
}

#[test]
fn only_what_differs_is_written_in_the_version_that_was_read() {
    let (one, other) = (connected(1), connected(2));
    let (mut known, inventory) = known(&[ours(&one, 7), ours(&other, 8)]);
    assert_eq!(writes(&mut known, &inventory), []);
    let later = |record: &Record, seconds: i64| Record {
        updated_at: record.updated_at + jiff::SignedDuration::from_secs(seconds),
        ..record.clone()
    };
    let resent = Inventory::of(vec![later(&one, 60), later(&other, 3599)]);
    assert_eq!(writes(&mut known, &resent), [], "the same was accepted again");
    let mut changed = one.clone();
    changed.config.interfaces[0].mtu = 9000;
    let next = Inventory::of(vec![changed, later(&other, 3600), record(3)]);
    let expected = [(name(&one), "7"), (name(&other), "8"), (name(&record(3)), "")];
    let expected = expected.map(|(name, version)| (name, version.to_owned()));
    assert_eq!(writes(&mut known, &next), expected);
    let gone = known.due(&Inventory::of(vec![one]), now());
    assert_eq!((gone[0].name.as_str(), gone.len()), (name(&other).as_str(), 1));
    assert!(gone[0].put.is_none() && gone[0].version == "8");
}

#[test]
fn a_write_without_an_answer_is_recognised_as_ours() {
    let record = connected(1);
    let inventory = Inventory::of(vec![record.clone()]);
    let mut known = Known::default();
    let due = known.due(&inventory, now());
    known.begin(&due);
    let found = raw(&ours(&record, 9));
    known.observe(&name(&record), Some(&found), &us(), &inventory).unwrap();
    assert_eq!(writes(&mut known, &inventory), []);
    assert!(known.take_restored().is_empty());
}

#[test]
fn what_people_do_to_a_record_is_put_back_and_said() {
    let mut without_owner = ours(&connected(1), 8);
    without_owner["spec"]["lastConfigHash"] = json!("");
    let backup = edited("kubectl-client-side-apply", "pod-z_9");
    let mut unreadable = edited("kubectl-edit", "pod-a_1");
    unreadable["spec"]["updatedAt"] = json!(7);
    for object in [edited("kubectl-edit", "pod-a_1"), without_owner, backup, unreadable] {
        let (mut known, inventory, result) = after(Some(&object));
        assert_eq!(result, Ok(()), "{object}");
        assert_eq!(writes(&mut known, &inventory), [(name(&connected(1)), "8".to_owned())]);
        let news = known.take_restored();
        assert!(matches!(&news[..], [News::Restored { reason: RESTORED, .. }]), "{news:?}");
    }
    let (mut known, inventory, result) = after(None);
    assert_eq!(result, Ok(()));
    assert_eq!(writes(&mut known, &inventory), [(name(&connected(1)), String::new())]);
    assert_eq!(known.take_restored().len(), 1);
}

#[test]
fn another_replica_that_writes_ends_this_one() {
    let (.., result) = after(Some(&edited(US.manager, "pod-b_2")));
    assert!(result.unwrap_err().contains("another operator (pod-b_2)"));
    let (mut known, inventory) = known(&[]);
    let made = raw(&written_by(&connected(1), 3, "pod-b_2", US.manager));
    let result = known.observe(&name(&connected(1)), Some(&made), &us(), &inventory);
    assert!(result.unwrap_err().contains("another operator (pod-b_2)"));
}

#[test]
fn a_store_that_was_set_back_to_an_older_state_is_brought_forward() {
    let mut older = connected(1);
    older.config.interfaces[0].mtu = 1400;
    let (mut known, inventory, result) = after(Some(&written_by(&older, 3, "pod-z_9", US.manager)));
    assert_eq!(result, Ok(()));
    assert_eq!(writes(&mut known, &inventory), [(name(&connected(1)), "3".to_owned())]);
}

#[test]
fn a_node_is_numbered_anew_where_the_annotation_asks() {
    let mut asked = ours(&connected(1), 8);
    asked["metadata"]["annotations"][RENUMBER_ANNOTATION] = json!("true");
    let (mut known, inventory, result) = after(Some(&asked));
    assert_eq!(result, Ok(()));
    assert_eq!(writes(&mut known, &inventory), [], "first memory forgets the ids");
    let mut written = Written::default();
    known.take_changes(&mut written);
    let [Change::Upsert(emptied)] = &written.changes[..] else { panic!("{written:?}") };
    assert!(emptied.config.interfaces.is_empty() && !emptied.was_accepted());
    let due = known.due(&Inventory::of(vec![emptied.clone()]), now());
    assert!(due.len() == 1 && due[0].takes_annotation_off && due[0].version == "8");
}

#[test]
fn a_record_that_cannot_be_read_is_of_its_node_until_it_is_corrected() {
    let mut broken = ours(&connected(1), 7);
    broken["spec"]["updatedAt"] = json!(7);
    let (mut known, inventory) = known(&[broken, ours(&record(2), 8)]);
    assert!(inventory.unreadable("node-0001").unwrap().contains("can't be read"));
    assert!(
        inventory.unreadable("vm-0001").is_some() && inventory.unreadable("node-0002").is_none()
    );
    assert_eq!(writes(&mut known, &inventory), [], "it is neither written over nor deleted");
    let corrected = raw(&written_by(&connected(1), 9, "pod-z_9", "kubectl-edit"));
    known.observe(&name(&connected(1)), Some(&corrected), &us(), &inventory).unwrap();
    let mut written = Written::default();
    known.take_changes(&mut written);
    assert_eq!(written.changes, [Change::Upsert(connected(1))]);
    assert!(written.unreadable.unwrap().is_empty());
    // An import's record takes its place.
    let mut broken = ours(&connected(1), 7);
    broken["spec"]["updatedAt"] = json!(7);
    let (mut known, _) = self::known(&[broken]);
    let imported = Inventory::of(vec![connected(1)]);
    assert_eq!(writes(&mut known, &imported), [(name(&connected(1)), "7".to_owned())]);
}

#[test]
fn a_record_of_others_is_used_only_where_nothing_is_known() {
    let (mut known, inventory) = known(&[ours(&connected(1), 7)]);
    let mut unknown = record(5);
    unknown.config.interfaces = connected(1).config.interfaces;
    // The port is ours.
    let made = raw(&written_by(&unknown, 8, "pod-z_9", "kubectl-create"));
    known.observe("made", Some(&made), &us(), &inventory).unwrap();
    assert_eq!(writes(&mut known, &inventory), [("made".to_owned(), "8".to_owned())]);
    assert!(known.due(&inventory, now())[0].put.is_none(), "it goes");
    unknown.config.interfaces[0].port_id = "another-port".to_owned();
    let made = raw(&written_by(&unknown, 9, "pod-z_9", "kubectl-create"));
    known.observe("other", Some(&made), &us(), &inventory).unwrap();
    let mut written = Written::default();
    known.take_changes(&mut written);
    assert_eq!(written.changes, [Change::Upsert(unknown)]);
}

#[test]
fn only_versions_that_are_not_known_are_looked_at() {
    let record = connected(1);
    let (mut known, _) = known(&[ours(&record, 7)]);
    let show = |known: &mut Known, version: Option<&str>| {
        known.show(name(&record), version.map(str::to_owned));
        known.take_names()
    };
    assert!(show(&mut known, Some("7")).is_empty());
    assert_eq!(show(&mut known, Some("6")), [name(&record)], "an event may be late");
    assert_eq!(show(&mut known, None), [name(&record)]);
    known.show_all(BTreeMap::new());
    assert!(known.has_news(), "it isn't in the list");
    assert_eq!(known.take_names(), [name(&record)]);
    known.look_again(&name(&record));
    assert!(known.has_news());
}
