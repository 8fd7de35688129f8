//! `multinic-operator export` and `import FILE`: the inventory as a document, for back-ups and moves.
//!
//! Both work on the place that `INVENTORY_STORE` names. Export reads beside a running operator. Import
//! takes what an operator holds, the file's lock or the Lease, so both never write at once. It adds and
//! replaces records; those that the document doesn't have stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::Value;

use crate::clock::Clock;
use crate::config::{Config, LEASE_NAME, LeaderElection as ElectionSettings};
use crate::inventory::backend::Opened;
use crate::inventory::contents::{Inventory, Stored};
use crate::inventory::document;
use crate::inventory::files::{Disk, is_locked};
use crate::inventory::load;
use crate::inventory::record::{Change, Record};
use crate::inventory::store::Store;
use crate::kube::client::KubeClient;
use crate::kube::lease::{LeaderElection, Leadership, LeaseSettings, LeaseTiming};
use crate::metrics::Metrics;
use crate::plan_command::Shown;
use crate::reconcile::report::count;
use crate::records::{self, Records};

/// So long an import waits for the Lease: longer than one lasts whose holder was killed.
const LEASE_LONGEST: Duration = Duration::from_secs(20);
/// So long its end waits for the Lease to be given back.
const RELEASE_LONGEST: Duration = Duration::from_secs(2);

/// The inventory as the document that `import` takes.
///
/// # Errors
/// Why it can't be read.
pub fn export(config: &Config) -> Result<Shown, String> {
    let clock = Clock::system();
    let opened = read(config, &client(config, &clock), &clock)?;
    let opened =
        opened.ok_or_else(|| format!("{} is not there: there is no inventory", place(config)))?;
    let mut bytes = Vec::new();
    let written = document::encode(&opened.inventory, 1, clock.now().wall, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.map_err(|error| format!("the document can't be made: {error}"))?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Shown { output, notes: opened.findings })
}

/// The place of the inventory, in words.
pub(crate) fn place(config: &Config) -> String {
    match config.inventory.in_kubernetes {
        true => "records in Kubernetes".to_owned(),
        false => config.inventory.path.display().to_string(),
    }
}

/// The inventory as it is now; none if there is none yet.
pub(crate) fn read(
    config: &Config,
    client: &KubeClient,
    clock: &Clock,
) -> Result<Option<Opened>, String> {
    if config.inventory.in_kubernetes {
        return records::reading::read(client, config.own_namespace.as_deref(), clock).map(Some);
    }
    let loaded = load::read(&config.inventory.path).map_err(|error| error.to_string())?;
    Ok(loaded.map(|loaded| Opened { inventory: loaded.inventory, findings: loaded.findings }))
}

fn client(config: &Config, clock: &Clock) -> KubeClient {
    KubeClient::new(config.kubernetes.clone(), clock.clone(), Arc::new(Metrics::default()))
}

/// Shows how a document would change the inventory, and with `is_confirmed` changes it.
///
/// # Errors
/// Why nothing was changed, or what wasn't written.
pub fn import(config: &Config, file: &Path, is_confirmed: bool) -> Result<Shown, String> {
    let (document, mut notes) = read_document(file)?;
    let clock = Clock::system();
    let client = client(config, &clock);
    if !is_confirmed {
        if !config.inventory.in_kubernetes && is_locked(&config.inventory.path) {
            return Err(in_use(&place(config)));
        }
        let opened = read(config, &client, &clock)?.unwrap_or_default();
        notes.extend(opened.findings);
        let (_, mut output) = compare(&document, &opened.inventory);
        output += "nothing is written: repeat the command with --yes\n";
        return Ok(Shown { output, notes });
    }
    // The reader refuses a damaged file, which the store would set aside.
    read(config, &client, &clock)?;
    if !config.inventory.in_kubernetes {
        let path = &config.inventory.path;
        let store = Store::new(Box::new(Disk), path, clock, Arc::new(Metrics::default()));
        return import_into(&store, &document, notes);
    }
    let settings = config.leader_election.as_ref().ok_or("LEADER_ELECT is off")?;
    let election = take_lease(settings, &client, &clock)?;
    let store = store_of_records(config, &client, &clock, &election);
    let result = import_into(&store, &document, notes);
    election.release(RELEASE_LONGEST);
    result
}

fn store_of_records(
    config: &Config,
    client: &KubeClient,
    clock: &Clock,
    election: &LeaderElection,
) -> Store {
    let metrics = Arc::new(Metrics::default());
    let hold = election.hold();
    let (may_write, report) = (move || hold.is_held(), |_| ());
    let records =
        Records::new(client, config, clock.clone(), Arc::clone(&metrics), may_write, report);
    Store::of(Box::new(records), clock.clone(), metrics)
}

fn import_into(
    store: &Store,
    document: &Inventory,
    mut notes: Vec<String>,
) -> Result<Shown, String> {
    store.retry();
    let state = store.state();
    if !state.is_healthy() {
        return Err(state.to_string());
    }
    notes.extend(store.findings());
    let (changes, output) = compare(document, &store.snapshot());
    let failed = store.commit(changes).into_iter().find_map(Result::err);
    store.flush_and_close();
    match failed {
        Some(state) => Err(format!("{output}not written: {state}")),
        None => Ok(Shown { output: output + "written\n", notes }),
    }
}

/// The Lease that an operator holds while it writes records.
fn take_lease(
    settings: &ElectionSettings,
    client: &KubeClient,
    clock: &Clock,
) -> Result<LeaderElection, String> {
    let (sender, news) = bounded(16);
    let lease = LeaseSettings {
        namespace: settings.namespace.clone(),
        name: LEASE_NAME.to_owned(),
        identity: settings.identity.clone(),
        timing: LeaseTiming::default(),
    };
    let tell = move |leadership| drop(sender.try_send(leadership));
    let (clock, metrics) = (clock.clone(), Arc::new(Metrics::default()));
    let election = LeaderElection::spawn(client, lease, clock.clone(), metrics, tell)
        .map_err(|error| format!("a thread can't be started: {error}"))?;
    let until = clock.now().uptime + LEASE_LONGEST;
    let mut holder = None;
    loop {
        match news.recv_timeout(until.saturating_sub(clock.now().uptime)) {
            Ok(Leadership::Leading) => return Ok(election),
            Ok(Leadership::Following { leader }) => holder = Some(leader),
            Ok(Leadership::Lost) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    let namespace = &settings.namespace;
    Err(match holder {
        Some(holder) => in_use(&format!("the Lease {namespace}/{LEASE_NAME} ({holder})")),
        None => format!("the Lease {namespace}/{LEASE_NAME} can't be read or written"),
    })
}

fn in_use(what: &str) -> String {
    format!("{what} is in use by an operator: stop it (scale it to 0) before an import")
}

/// The records of a document: the inventory's file, or a list of the inventory API.
fn read_document(file: &Path) -> Result<(Inventory, Vec<String>), String> {
    let shown = file.display();
    let bytes = fs::read(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let text = bytes.trim_ascii_start();
    let bytes = match text.first() {
        Some(b'[') => [b"{\"records\":", text, b"}"].concat(),
        _ => bytes,
    };
    let document =
        document::decode(&bytes).map_err(|unusable| format!("{shown} {}", unusable.problem))?;
    if document.inventory.is_empty() {
        return Err(format!(
            "{shown} holds no records: it is neither an export nor a list of the inventory API"
        ));
    }
    let edited = format!("{shown} does not match its digest: it was edited by hand or damaged");
    Ok((document.inventory, document.is_edited.then_some(edited).into_iter().collect()))
}

/// The changes that bring a document's records into an inventory, and the same in words.
fn compare(document: &Inventory, inventory: &Inventory) -> (Vec<Change>, String) {
    let (mut changes, mut lines, mut same) = (Vec::new(), String::new(), 0);
    for imported in document.iter() {
        let record = &imported.record;
        let node = format!("{} of {}", record.node_name, record.provider_id);
        match inventory.get(&record.provider_id, &record.node_name) {
            Some(present) if !differs(record, &present.record) => {
                same += 1;
                continue;
            }
            Some(present) => {
                lines += &format!("replace {node}\n");
                let (before, after) = (fields(present), fields(imported));
                let names =
                    before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
                for name in names.filter(|name| before.get(*name) != after.get(*name)) {
                    let text = |fields: &BTreeMap<String, Value>| {
                        fields.get(name).map_or_else(|| "none".to_owned(), Value::to_string)
                    };
                    lines += &format!("  {name}: {} -> {}\n", text(&before), text(&after));
                }
            }
            None => {
                let interfaces = count(record.config.interfaces.len(), "interface");
                lines += &format!("add {node}: {interfaces}\n");
            }
        }
        changes.push(Change::Upsert(record.clone()));
    }
    let is_kept = |stored: &&Arc<Stored>| {
        document.get(&stored.record.provider_id, &stored.record.node_name).is_none()
    };
    let kept = inventory.iter().filter(is_kept).count();
    lines += &format!(
        "{}, {same} the same, {kept} only in the inventory and kept\n",
        count(changes.len(), "change")
    );
    (changes, lines)
}

/// Does the record say something else than that the same was accepted at another time?
fn differs(imported: &Record, present: &Record) -> bool {
    *imported != Record { updated_at: imported.updated_at, ..present.clone() }
}

/// The fields of a record by name, each interface by its port.
fn fields(stored: &Stored) -> BTreeMap<String, Value> {
    let record: Value = serde_json::from_slice(&stored.json).unwrap_or_default();
    let mut fields: BTreeMap<_, _> =
        record.as_object().cloned().unwrap_or_default().into_iter().collect();
    fields.remove("config");
    for interface in &stored.record.config.interfaces {
        let value = serde_json::to_value(interface).unwrap_or_default();
        fields.insert(format!("port {}", interface.port_id), value);
    }
    fields
}
