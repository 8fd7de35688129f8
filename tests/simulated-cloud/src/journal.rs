//! What was asked of the cloud: every request of every service, in the order of arrival.
//!
//! Tests ask the journal "how often", "with which headers" and "not before". It only remembers;
//! it decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// One of the servers of the simulated cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Contrabass,
    Keystone,
    Neutron,
    Nova,
    /// The API that receives node configurations.
    Viola,
    /// The Kubernetes API of the management cluster.
    Kubernetes,
    /// The simulation's own control interface.
    Control,
}

impl Service {
    /// All services, in the order in which the ports are given out.
    pub const ALL: [Service; 7] = [
        Service::Contrabass,
        Service::Keystone,
        Service::Neutron,
        Service::Nova,
        Service::Viola,
        Service::Kubernetes,
        Service::Control,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Service::Contrabass => "contrabass",
            Service::Keystone => "keystone",
            Service::Neutron => "neutron",
            Service::Nova => "nova",
            Service::Viola => "viola",
            Service::Kubernetes => "kubernetes",
            Service::Control => "control",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Service, String> {
        Service::ALL
            .into_iter()
            .find(|service| service.name() == text)
            .ok_or_else(|| format!("unknown service {text:?}"))
    }
}

/// One request as it arrived, and what became of it.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// Counts all requests of all services, from 1.
    pub sequence: u64,
    pub service: Service,
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The status of the answer; none while there is none, and for ever if the connection was cut.
    pub status: Option<u16>,
    /// Length of request line and headers as they came, with the blank line.
    pub head_bytes: usize,
    /// Which connection it came on, counted over all services from 1.
    pub connection: u64,
    /// Milliseconds from the journal's beginning to the arrival.
    pub arrived_ms: u64,
    /// Milliseconds from the journal's beginning to the first byte of the answer, noted before it is
    /// sent: what anybody does because of it comes later.
    pub begun_ms: Option<u64>,
    /// Milliseconds from the journal's beginning to the end of the answer, noted after it was sent.
    pub answered_ms: Option<u64>,
}

impl LoggedRequest {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

#[derive(Default)]
struct Entries {
    requests: Vec<LoggedRequest>,
    last_sequence: u64,
    last_connection: u64,
    connections: BTreeMap<Service, u64>,
    in_flight: BTreeMap<Service, u64>,
    in_flight_maximum: BTreeMap<Service, u64>,
}

/// The log of all requests of one cloud.
pub struct Journal {
    begin: Instant,
    entries: Mutex<Entries>,
    changed: Condvar,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal::new()
    }
}

impl Journal {
    /// An empty journal whose time begins now.
    pub fn new() -> Journal {
        Journal {
            begin: clock::instant(),
            entries: Mutex::new(Entries::default()),
            changed: Condvar::new(),
        }
    }

    /// The requests of one service, oldest first.
    pub fn requests(&self, service: Service) -> Vec<LoggedRequest> {
        self.lock().requests.iter().filter(|request| request.service == service).cloned().collect()
    }

    pub fn all(&self) -> Vec<LoggedRequest> {
        self.lock().requests.clone()
    }

    /// How many requests one service got.
    pub fn count(&self, service: Service) -> usize {
        self.lock().requests.iter().filter(|request| request.service == service).count()
    }

    /// How many connections one service accepted.
    pub fn connections(&self, service: Service) -> u64 {
        self.lock().connections.get(&service).copied().unwrap_or(0)
    }

    /// The highest number of requests that one service had to answer at once. A streamed answer
    /// counts until its head is sent.
    pub fn in_flight_maximum(&self, service: Service) -> u64 {
        self.lock().in_flight_maximum.get(&service).copied().unwrap_or(0)
    }

    /// Milliseconds since the journal's beginning, on the scale of the logged requests.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until the log satisfies a condition; false when the limit passed without it. The
    /// condition is asked again after every arrival and every answer.
    pub fn wait_for(&self, condition: impl Fn(&[LoggedRequest]) -> bool, limit: Duration) -> bool {
        let (_entries, result) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |entries| !condition(&entries.requests))
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// Forgets all requests, and starts the counters of connections and in-flight maxima again.
    /// Sequence numbers go on.
    pub fn clear(&self) {
        let mut entries = self.lock();
        entries.requests.clear();
        entries.connections.clear();
        let in_flight = entries.in_flight.clone();
        entries.in_flight_maximum = in_flight;
        drop(entries);
        self.changed.notify_all();
    }

    /// Takes out the requests whose answers have ended, oldest first, so that a long run needn't
    /// keep them all.
    pub fn take_ended(&self) -> Vec<LoggedRequest> {
        let mut entries = self.lock();
        let requests = std::mem::take(&mut entries.requests);
        let (ended, open) = requests.into_iter().partition(|request| request.answered_ms.is_some());
        entries.requests = open;
        ended
    }

    pub(crate) fn connection_opened(&self, service: Service) -> u64 {
        let mut entries = self.lock();
        entries.last_connection += 1;
        *entries.connections.entry(service).or_default() += 1;
        entries.last_connection
    }

    /// Takes a request in, and gives its sequence number. `arrived_ms` and `sequence` are filled in.
    pub(crate) fn arrived(&self, mut request: LoggedRequest) -> u64 {
        let mut entries = self.lock();
        entries.last_sequence += 1;
        request.sequence = entries.last_sequence;
        request.arrived_ms = self.now_ms();
        let service = request.service;
        let in_flight = entries.in_flight.entry(service).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        let maximum = entries.in_flight_maximum.entry(service).or_default();
        *maximum = (*maximum).max(in_flight);
        let sequence = request.sequence;
        entries.requests.push(request);
        drop(entries);
        self.changed.notify_all();
        sequence
    }

    /// The status of an answer is on its way.
    pub(crate) fn status_sent(&self, sequence: u64, status: u16) {
        let now = self.now_ms();
        self.change(sequence, |request| {
            request.status = Some(status);
            request.begun_ms = Some(now);
        });
    }

    /// The request is no longer being worked on.
    pub(crate) fn left_flight(&self, service: Service) {
        let mut entries = self.lock();
        let in_flight = entries.in_flight.entry(service).or_default();
        *in_flight = in_flight.saturating_sub(1);
    }

    /// The answer ended, complete or not.
    pub(crate) fn answered(&self, sequence: u64) {
        let now = self.now_ms();
        self.change(sequence, |request| request.answered_ms = Some(now));
    }

    fn change(&self, sequence: u64, change: impl FnOnce(&mut LoggedRequest)) {
        let mut entries = self.lock();
        if let Ok(index) =
            entries.requests.binary_search_by_key(&sequence, |request| request.sequence)
        {
            change(&mut entries.requests[index]);
        }
        drop(entries);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
