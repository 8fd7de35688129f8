//! The pool: each worker takes a job, has it synced, and reports what came of it.
//!
//! A panic in one object's sync is that object's trouble: the worker lives on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::coordinator::Event;
use crate::metrics::{CONTROLLER, Metrics};
use crate::sync::status::Reason;
use crate::sync::{Context, Job, Outcome, sync};
use crate::threads;

/// Starts one worker; it ends when nobody can send it jobs any more, or nobody listens. The handle
/// is for whoever wants to notice any other end.
pub fn spawn(
    number: usize,
    context: Arc<Context>,
    jobs: Receiver<Job>,
    events: Sender<Event>,
    metrics: Arc<Metrics>,
) -> io::Result<JoinHandle<()>> {
    let work = move || {
        for job in jobs {
            let started = context.clock.now().uptime;
            let outcome = catch_unwind(AssertUnwindSafe(|| sync(&context, &job)));
            let outcome = outcome.unwrap_or_else(|_| {
                metrics.add("controller_runtime_reconcile_panics_total", &[CONTROLLER], 1.0);
                let message = "the sync ended in a bug of the operator; its log has more";
                Outcome::failed(&job, Reason::ConfigError, message)
            });
            let took = context.clock.now().uptime.saturating_sub(started);
            let (job, outcome) = (Box::new(job), Box::new(outcome));
            if events.send(Event::Finished { job, outcome, took }).is_err() {
                return;
            }
        }
    };
    threads::spawn(&format!("sync-{number}"), work)
}
