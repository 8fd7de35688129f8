//! The worker pool: each worker takes a pass, reconciles its objects and reports the outcomes.
//!
//! A panic costs the objects of the pass that weren't reported yet; the worker lives on.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::controller::Event;
use crate::metrics::CONTROLLER;
use crate::reconcile::report::Reason;
use crate::reconcile::{Context, Outcome, PANICKED, Pass, Work, reconcile};
use crate::resources::ObjectKey;
use crate::threads::{self, lock};

/// Starts one worker; it ends when no more passes can come, or its events aren't received. The
/// handle shows any other end.
pub fn spawn(
    number: usize,
    context: Arc<Context>,
    passes: Receiver<Pass>,
    events: Sender<Event>,
) -> io::Result<JoinHandle<()>> {
    let work = move || {
        for pass in passes {
            run(&context, &pass, &events);
            if events.send(Event::PassEnded { number: pass.number }).is_err() {
                return;
            }
        }
    };
    threads::spawn(&format!("worker-{number}"), work)
}

/// Reports each object of the pass once, whatever happens.
fn run(context: &Context, pass: &Pass, events: &Sender<Event>) {
    let started = context.clock.now().uptime;
    let left: Mutex<BTreeSet<&ObjectKey>> =
        Mutex::new(pass.work.iter().map(|work| &work.object.key).collect());
    let report = |work: &Work, outcome: Outcome| {
        if lock(&left).remove(&work.object.key) {
            if !outcome.later && !outcome.aborted {
                context.ownership.ended(&work.object.uid, work.object.generation);
            }
            let took = context.clock.now().uptime.saturating_sub(started);
            let (work, outcome) = (Box::new(work.clone()), Box::new(outcome));
            // Without a receiver the process is ending.
            let _ = events.send(Event::Finished { work, outcome, took });
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| reconcile(context, pass, &report)));
    if result.is_err() {
        context.metrics.add("controller_runtime_reconcile_panics_total", &[CONTROLLER], 1.0);
    }
    for work in &pass.work {
        report(work, Outcome::failed(work, Reason::ConfigError, PANICKED));
    }
}
