//! The memory that long answers hold until their readers have taken them.
//!
//! What is prepared once for many answers costs nothing more, however many clients read it. What is
//! made for one request stays in memory until its reader has it: clients that ask and don't read would
//! hold so much that the process ends for want of memory. So a server counts it against a budget,
//! [`Limits::held_bytes`](super::Limits). A handler that makes a long answer reserves memory for
//! it; what comes without a reservation is counted before it is written. When the budget
//! is spent, the client gets a 503 with `Retry-After`. Memory comes back because each reader has deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Refusals;

/// A counter with a limit, shared by its clones. The default counts nothing and has no limit.
#[derive(Clone, Debug, Default)]
pub struct MemoryBudget(Option<Arc<Counter>>);

#[derive(Debug)]
struct Counter {
    limit: usize,
    held: AtomicUsize,
    refusals: Refusals,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryBudget {
    pub(super) fn new(limit: usize, refusals: Refusals) -> MemoryBudget {
        MemoryBudget(Some(Arc::new(Counter { limit, held: AtomicUsize::new(0), refusals })))
    }

    /// Memory for an answer; none if the budget is spent.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let enough = self.0.as_deref().is_none_or(|counter| counter.add(bytes));
        enough.then(|| Reservation { budget: self.clone(), bytes })
    }
}

impl Counter {
    /// Counts these bytes too, if the limit allows it.
    fn add(&self, bytes: usize) -> bool {
        let sum = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let enough = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).is_ok();
        if !enough {
            self.refusals.count("no-room");
        }
        enough
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(counter) = &self.budget.0 {
            counter.held.fetch_sub(self.bytes, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Body, Limits, Request, Response, Server};
    use super::{MemoryBudget, Refusals};
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    const MEBIBYTE: usize = 1024 * 1024;

    #[test]
    fn no_more_is_held_than_the_budget_and_what_is_given_back_can_be_reserved_again() {
        let metrics = Arc::<Metrics>::default();
        let refusals = Refusals { server: "test", metrics: metrics.clone() };
        let budget = MemoryBudget::new(100, refusals);
        let first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).unwrap();
        assert!(budget.reserve(1).is_none());
        drop(first);
        assert!(budget.reserve(61).is_none() && budget.reserve(60).is_some());
        drop(second);
        assert!(budget.reserve(100).is_some() && budget.reserve(101).is_none());
        assert_eq!(budget.0.as_ref().unwrap().held.load(Ordering::SeqCst), 0);
        let counted = "refused_total{server=\"test\",reason=\"no-room\"} 4";
        assert!(metrics.render().contains(counted), "{}", metrics.render());
        assert!(MemoryBudget::default().reserve(usize::MAX).is_some());
    }

    #[test]
    fn answers_count_until_readers_that_do_not_read_are_gone() {
        let handler = |_: &Request| Response::new(200, Body::Owned(vec![b'x'; 3 * MEBIBYTE]));
        let limits = Limits { held_bytes: 4 * MEBIBYTE, ..Limits::default() };
        let (address, clock) = ("127.0.0.1:0".parse().unwrap(), Clock::system());
        let server =
            Server::start("test", address, limits, Arc::new(handler), clock, Arc::default());
        let server = server.unwrap();
        let ask = || {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            (String::from_utf8_lossy(&head).into_owned(), stream)
        };
        // For a second one there is no memory beside the first.
        let mut answers: Vec<_> = (0..4).map(|_| ask()).collect();
        let statuses: Vec<&str> = answers.iter().map(|(head, _)| head.as_str()).collect();
        assert_eq!(statuses, [&["HTTP/1.1 200"], &["HTTP/1.1 503"; 3][..]].concat());
        answers.clear();
        let (clock, limit) = (Clock::system(), Duration::from_secs(5));
        let began = clock.now().uptime;
        while ask().0 != "HTTP/1.1 200" {
            assert!(clock.now().uptime < began + limit, "what was held doesn't come back");
        }
    }
}
