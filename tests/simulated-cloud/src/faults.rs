//! What goes wrong on purpose: latencies and faults per service.
//!
//! Tests and the control interface put faults in; the HTTP server asks for them at every request.
//! How a fault looks on the wire is the server's business.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::Service;
use crate::wire::Request;

/// What happens instead of, or to, an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// Another status, with these headers and this body; the service is not asked.
    Status {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// A proxy's HTML page; the service is not asked.
    Html {
        status: u16,
    },
    /// The connection ends in good order, without one byte of an answer; the service is not asked.
    CloseWithoutAnswer,
    /// The connection is reset (RST); the service is not asked.
    Reset,
    /// The service does what was asked, and the connection ends before its answer.
    AnswerLost,
    /// The answer declares its whole length and ends after so many bytes of the body.
    CutBody {
        /// How much of the body is sent.
        after_bytes: usize,
    },
    /// The answer declares no length and ends after so many bytes of the body.
    CutBodyUntilClose {
        /// How much of the body is sent.
        after_bytes: usize,
    },
    /// Not one byte until the faults are cleared (then the answer comes), or the server stops.
    Hang,
    /// A 200 with another body; the service is not asked.
    Body(Vec<u8>),
    Delay(Duration),
    /// The body comes in pieces, with a pause after each.
    DripBody {
        bytes: usize,
        pause: Duration,
    },
}

/// A fault and the requests it meets.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub service: Service,
    pub method: Option<String>,
    /// Only targets (path and query as they came) that contain this.
    pub path_contains: Option<String>,
    /// Only requests with this header of this value.
    pub header: Option<(String, String)>,
    /// For so many requests; none: until cleared.
    pub times: Option<u32>,
    pub kind: FaultKind,
}

impl Fault {
    /// A fault for every request of a service, until cleared.
    pub fn always(service: Service, kind: FaultKind) -> Fault {
        Fault { service, method: None, path_contains: None, header: None, times: None, kind }
    }

    /// A fault for the next request of a service.
    pub fn once(service: Service, kind: FaultKind) -> Fault {
        Fault::always(service, kind).times(1)
    }

    /// The same fault, for so many requests.
    pub fn times(mut self, times: u32) -> Fault {
        self.times = Some(times);
        self
    }

    /// The same fault, for one method.
    pub fn method(mut self, method: &str) -> Fault {
        self.method = Some(method.to_owned());
        self
    }

    /// The same fault, for targets that contain a text.
    pub fn path_contains(mut self, text: &str) -> Fault {
        self.path_contains = Some(text.to_owned());
        self
    }

    /// The same fault, for requests with a header of this value.
    pub fn header(mut self, name: &str, value: &str) -> Fault {
        self.header = Some((name.to_owned(), value.to_owned()));
        self
    }

    fn meets(&self, service: Service, request: &Request) -> bool {
        self.service == service
            && self.times != Some(0)
            && self.method.as_deref().is_none_or(|wanted| wanted == request.method)
            && self.path_contains.as_deref().is_none_or(|text| request.target.contains(text))
            && (self.header.as_ref())
                .is_none_or(|(name, value)| request.header(name) == Some(value.as_str()))
    }
}

#[derive(Default)]
struct State {
    latency: BTreeMap<Service, Duration>,
    faults: Vec<Fault>,
    clearings: u64,
}

/// What one request meets.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) delay: Duration,
    pub(crate) kind: Option<FaultKind>,
    /// The number of clearings so far, for [`Faults::cleared_since`].
    pub(crate) clearings: u64,
}

/// All latencies and faults of one cloud.
#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

impl Faults {
    pub fn new() -> Faults {
        Faults::default()
    }

    /// Every answer of a service comes this much later.
    pub fn set_latency(&self, service: Service, latency: Duration) {
        self.lock().latency.insert(service, latency);
    }

    /// Adds a fault behind those that are there; the first that fits a request is taken (delays
    /// add up).
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Ends all faults of all services, also the hanging requests. Latencies stay.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.clearings += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Ends all faults of one service. Hanging requests of every service go on.
    pub fn clear_service(&self, service: Service) {
        let mut state = self.lock();
        state.faults.retain(|fault| fault.service != service);
        state.clearings += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// The faults that are still to come.
    pub fn pending(&self) -> Vec<Fault> {
        self.lock().faults.clone()
    }

    pub(crate) fn meet(&self, service: Service, request: &Request) -> Trouble {
        let mut state = self.lock();
        let mut trouble = Trouble {
            delay: state.latency.get(&service).copied().unwrap_or_default(),
            kind: None,
            clearings: state.clearings,
        };
        for fault in &mut state.faults {
            if !fault.meets(service, request) {
                continue;
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            match &fault.kind {
                FaultKind::Delay(delay) => trouble.delay += *delay,
                kind => {
                    trouble.kind = Some(kind.clone());
                    break;
                }
            }
        }
        state.faults.retain(|fault| fault.times != Some(0));
        trouble
    }

    /// Waits for a clearing after the given number of them, at most so long; says whether one came.
    pub(crate) fn cleared_since(&self, clearings: u64, limit: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| state.clearings == clearings)
            .unwrap_or_else(PoisonError::into_inner);
        state.clearings != clearings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
