//! The main thread of a replica that works: takes events, hands out passes and writes, stops in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};

use super::clusters::ClusterReader;
use super::listeners::Listeners;
use super::{Operator, effects, thread_ended};
use crate::controller::{Controller, Event};
use crate::kube::lease::Leadership;
use crate::kube::watcher::Watcher;
use crate::kube::writer::Writer;
use crate::reconcile::{Context, Pass};

/// Events taken before passes are handed out again.
const EVENTS_AT_ONCE: usize = 256;
/// How often ended threads are looked for and the gauges over all objects are worked out. The loop runs
/// at least as often, so that a stuck one is noticed.
pub(super) const CHECKS_EVERY: Duration = Duration::from_secs(5);

/// How long a stop, which may take ten seconds, waits for running passes to end.
const PASS_GRACE: Duration = Duration::from_secs(4);
/// How long a stop waits for passes that were aborted to notice it.
const ABORT_GRACE: Duration = Duration::from_millis(1500);
/// How long a stop waits for the last statuses to be written.
const WRITER_GRACE: Duration = Duration::from_millis(1500);

/// The loop and what it connects.
pub(super) struct MainLoop<'a> {
    pub(super) operator: &'a Operator,
    pub(super) controller: Controller,
    pub(super) context: Arc<Context>,
    pub(super) events: Receiver<Event>,
    pub(super) passes: Sender<Pass>,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) writer: Writer,
    pub(super) watchers: Vec<Watcher>,
    pub(super) clusters: ClusterReader,
    pub(super) listeners: Listeners,
}

impl MainLoop<'_> {
    /// Runs until there is a reason to stop, and stops. An error is a reason that isn't a signal.
    pub(super) fn run(mut self, news: &Receiver<Leadership>) -> Result<(), String> {
        let result = self.run_until_end(news);
        self.stop();
        result
    }

    fn run_until_end(&mut self, news: &Receiver<Leadership>) -> Result<(), String> {
        let operator = self.operator;
        let mut checks_due = Duration::ZERO;
        loop {
            let now = operator.clock.now();
            operator.health.turned(now.uptime);
            if now.uptime >= checks_due {
                checks_due = now.uptime + CHECKS_EVERY;
                self.controller.publish_gauges(now);
                operator.health.lacking(self.writer.unknown_status_fields());
                if let Some(name) = self.ended_thread() {
                    return Err(thread_ended(name));
                }
            }
            let due = self.controller.next_due().map_or(checks_due, |due| due.min(checks_due));
            select! {
                recv(operator.stop) -> asked => return asked.map_err(|_| thread_ended("signals")),
                recv(news) -> leadership => match leadership {
                    Ok(Leadership::Lost) => {
                        return Err("lost leadership; exiting to be restarted".to_owned());
                    }
                    Ok(_) => {}
                    // Nothing renews the Lease any more.
                    Err(_) => return Err(thread_ended("leader-election")),
                },
                recv(self.events) -> event => self.take(event.ok()),
                default(due.saturating_sub(now.uptime)) => {}
            }
            self.dispatch();
        }
    }

    /// A thread that isn't there any more, without which work would be left undone.
    fn ended_thread(&self) -> Option<&'static str> {
        let is_ended = |watcher: &Watcher| watcher.join(Duration::ZERO);
        let threads = [
            ("watch", self.watchers.iter().any(is_ended)),
            ("clusters", self.clusters.has_lost_its_thread()),
            ("worker", self.workers.iter().any(JoinHandle::is_finished)),
            ("inventory-store", self.context.store.has_lost_its_thread()),
            ("notifications", self.listeners.have_lost_a_thread()),
            ("kube-status, kube-secret or kube-event", self.writer.has_lost_a_thread()),
        ];
        let ended = threads.into_iter().find_map(|(name, is_ended)| is_ended.then_some(name));
        self.operator.lost_server().or(ended)
    }

    fn take(&mut self, first: Option<Event>) {
        let now = self.operator.clock.now();
        for event in first.into_iter().chain(self.events.try_iter().take(EVENTS_AT_ONCE)) {
            self.controller.handle(now, event);
        }
        if self.controller.lists_received() >= self.watchers.len() {
            self.operator.health.listed();
        }
    }

    fn dispatch(&mut self) {
        for effect in self.controller.dispatch(self.operator.clock.now()) {
            let (clusters, listeners) = (&self.clusters, &mut self.listeners);
            effects::perform(effect, &self.passes, &self.writer, clusters, listeners);
        }
    }

    /// In order: no new pass, running ones end or are aborted at a safe point, the last statuses are
    /// written. A POST that is aborted counts as not accepted, so its nodes are sent again.
    fn stop(mut self) {
        log::info!("stopping");
        self.operator.health.stopping();
        self.controller.stop();
        self.listeners.running.clear();
        let is_leading = self.operator.leader.is_leading();
        if !is_leading {
            // Another replica may be writing by now, so nothing is finished.
            self.writer.abandon();
            self.context.store.abandon();
            self.abort_passes();
        }
        for watcher in &mut self.watchers {
            watcher.stop();
        }
        if is_leading {
            self.wait_for_workers(PASS_GRACE);
        }
        self.abort_passes();
        self.wait_for_workers(ABORT_GRACE);
        if !is_leading {
            return;
        }
        // No events are taken any more: the writer must be able to send what it still reports.
        while self.events.try_recv().is_ok() {}
        if !self.writer.stop(WRITER_GRACE) {
            log::warn!("the last statuses could not be written");
        }
    }

    fn abort_passes(&self) {
        self.operator.may_act.store(false, Ordering::SeqCst);
        self.context.clouds.shutdown();
        self.context.target.shutdown();
    }

    fn wait_for_workers(&mut self, limit: Duration) {
        let clock = self.operator.clock.clone();
        let until = clock.now().uptime + limit;
        while self.controller.is_busy() {
            let left = until.saturating_sub(clock.now().uptime);
            match self.events.recv_timeout(left) {
                Ok(event @ (Event::Finished { .. } | Event::PassEnded { .. })) => {
                    self.controller.handle(clock.now(), event);
                    self.dispatch();
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
