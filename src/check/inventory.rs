//! The inventory's folder and file, or its records in Kubernetes, looked at without disturbing an operator
//! that works there.

use std::fs;
use std::path::Path;

use super::advice;
use super::report::Row;
use crate::clock::Clock;
use crate::config::Config;
use crate::inventory::files::{bounded_in_time, folder_of, is_locked};
use crate::inventory::load;
use crate::kube::client::KubeClient;
use crate::reconcile::report::count;
use crate::records;

const FOLDER: &str = "Inventory folder";
const FILE: &str = "Inventory file";
const RECORDS: &str = "NodeInterfaces";
const API: &str = "Inventory API";

/// The rows of the place; the API is this process' own, so there is nothing to ask.
pub(super) fn rows(config: &Config, client: &KubeClient) -> Vec<Row> {
    let path = &config.inventory.path;
    let mut rows = match config.inventory.in_kubernetes {
        true => vec![records_row(config, client)],
        false => vec![folder_row(path), file_row(path)],
    };
    if !config.inventory.enabled {
        let seen = "INVENTORY_ENABLED is off; the inventory is kept all the same";
        rows.push(Row::skipped(API, "", seen));
    }
    rows
}

fn records_row(config: &Config, client: &KubeClient) -> Row {
    let namespace = config.own_namespace.as_deref();
    let place = namespace.map_or_else(|| "not known".to_owned(), |it| format!("namespace {it}"));
    match records::reading::read(client, namespace, &Clock::system()) {
        Ok(read) if read.findings.is_empty() => {
            let nodes = count(read.inventory.len(), "node");
            Row::fine(RECORDS, place, format!("hold {nodes}"))
        }
        Ok(read) => Row::failed(RECORDS, place, read.findings.join("; "), advice::RECORD),
        Err(problem) => Row::failed(RECORDS, place, problem, advice::RECORDS),
    }
}

fn folder_row(path: &Path) -> Row {
    let (place, own) = (folder_of(path).display().to_string(), path.to_owned());
    let tried = bounded_in_time(move |volume| {
        let path = volume.resolve(&own).map_err(|error| error.to_string())?;
        let folder = folder_of(&path);
        // The folder itself, or the one above in which it would be made.
        let nearest = folder.ancestors().find(|folder| folder.exists());
        let nearest = nearest.unwrap_or(Path::new("."));
        volume.try_folder(nearest).map_err(|error| error.to_string())?;
        if is_mounted(&path) {
            return Err(format!(
                "{} is mounted by itself (subPath), so that it can't be replaced",
                path.display()
            ));
        }
        Ok(match nearest == folder {
            false => format!("not there yet, can be made in {}", nearest.display()),
            true if is_locked(&path) => {
                "writable; an operator works with it (it holds the lock)".into()
            }
            true => "writable".to_owned(),
        })
    });
    match tried.and_then(|tried| tried) {
        Ok(found) => Row::fine(FOLDER, place, found),
        Err(problem) => Row::failed(FOLDER, place, problem, advice::FOLDER),
    }
}

fn file_row(path: &Path) -> Row {
    let place = path.display().to_string();
    match load::read(path) {
        Ok(None) => Row::fine(FILE, place, "not there yet: nothing was ever sent from here"),
        Ok(Some(loaded)) if loaded.findings.is_empty() => {
            let nodes = count(loaded.inventory.len(), "node");
            Row::fine(FILE, place, format!("holds {nodes}"))
        }
        Ok(Some(loaded)) => Row::failed(FILE, place, loaded.findings.join("; "), advice::DAMAGED),
        Err(error) => Row::failed(FILE, place, error.to_string(), advice::INVENTORY),
    }
}

/// Is the file itself a mount point?
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|mount| mount.split(' ').nth(4).is_some_and(|at| Path::new(at) == path))
}
