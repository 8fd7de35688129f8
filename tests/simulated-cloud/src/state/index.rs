//! Ports and servers, found by their ids in any case, and without going through all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entities::{Port, Server};

/// All ports, found by id and by server.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    by_id: BTreeMap<String, Port>,
    by_device: HashMap<String, BTreeSet<String>>,
}

impl Ports {
    /// The port of that id, in any case.
    pub fn get(&self, id: &str) -> Option<&Port> {
        self.by_id.get(&key(id))
    }

    /// All ports, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.by_id.values()
    }

    /// The ports of a server, ordered by id; the empty id gives those of no server.
    pub fn of_device(&self, device_id: &str) -> impl Iterator<Item = &Port> {
        self.by_device
            .get(&key(device_id))
            .into_iter()
            .flatten()
            .filter_map(|id| self.by_id.get(id))
    }

    /// Adds a port, or puts it in the place of the one with its id.
    pub fn insert(&mut self, port: Port) {
        self.remove(&port.id);
        let id = key(&port.id);
        self.by_device.entry(key(&port.device_id)).or_default().insert(id.clone());
        self.by_id.insert(id, port);
    }

    pub fn remove(&mut self, id: &str) -> Option<Port> {
        let id = key(id);
        let port = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_device.get_mut(&key(&port.device_id)) {
            ids.remove(&id);
        }
        Some(port)
    }

    /// Changes a port; false when there is none of that id.
    pub fn update(&mut self, id: &str, change: impl FnOnce(&mut Port)) -> bool {
        let Some(mut port) = self.remove(id) else {
            return false;
        };
        change(&mut port);
        self.insert(port);
        true
    }
}

/// All servers, the newest last.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    by_id: HashMap<String, (u64, Server)>,
    by_age: BTreeMap<u64, String>,
    last: u64,
}

impl Servers {
    /// The server of that id, in any case, with its number.
    pub fn get(&self, id: &str) -> Option<(u64, &Server)> {
        self.by_id.get(&key(id)).map(|(number, server)| (*number, server))
    }

    /// All servers with their numbers, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u64, &Server)> {
        self.by_age.values().rev().filter_map(|id| self.get(id))
    }

    /// Adds a server as the newest; one of its id goes.
    pub fn insert(&mut self, server: Server) {
        self.remove(&server.id);
        self.last += 1;
        let id = key(&server.id);
        self.by_age.insert(self.last, id.clone());
        self.by_id.insert(id, (self.last, server));
    }

    /// Takes a server away; its ports stay as they are.
    pub fn remove(&mut self, id: &str) -> Option<Server> {
        let (number, server) = self.by_id.remove(&key(id))?;
        self.by_age.remove(&number);
        Some(server)
    }

    /// Changes a server's fields other than its id; false when there is none of that id.
    pub fn update(&mut self, id: &str, change: impl FnOnce(&mut Server)) -> bool {
        let Some((_, server)) = self.by_id.get_mut(&key(id)) else {
            return false;
        };
        change(server);
        true
    }
}

/// The form in which ids are compared.
fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}
