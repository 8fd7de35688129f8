//! The thread that keeps one kind of object in view: it carries out what [`super::watch`] asks for.
//!
//! What it sees goes to a closure, so it knows nothing above it. It ends only when it is stopped.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::client::KubeClient;
use super::lines::{LINE_LIMIT_BYTES, LineError, Lines};
use super::resource::Resource;
use super::watch::{Action, End, Failure, Input, Observation, Timing, WatchMachine};
use crate::clock::Clock;
use crate::http::client::{Stream, is_read_timeout};
use crate::metrics::Metrics;
use crate::threads::Thread;

/// What a watcher watches, and how.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The kind.
    pub resource: Resource,
    /// One namespace, or all of them.
    pub namespace: Option<String>,
    /// Limits and waits.
    pub timing: Timing,
    /// Spreads the waits; another one for each replica.
    pub seed: u64,
}

/// A running watcher. Dropping it stops it without waiting for its end.
pub struct Watcher {
    client: KubeClient,
    heard: Heard,
    stop: Option<Sender<Infallible>>,
    thread: Thread,
}

/// When the API server was heard last: an answer to a list, an event, or its sign of life each minute.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Uptime in milliseconds.
    at: Arc<AtomicU64>,
    clock: Clock,
}

impl Heard {
    /// So old what was observed may be.
    pub(crate) fn age(&self) -> Duration {
        let at = Duration::from_millis(self.at.load(Ordering::SeqCst));
        self.clock.now().uptime.saturating_sub(at)
    }

    fn note(&self) {
        let at = u64::try_from(self.clock.now().uptime.as_millis()).unwrap_or(u64::MAX);
        self.at.store(at, Ordering::SeqCst);
    }
}

impl Watcher {
    /// Starts the thread. `sink` runs on it; while it blocks, nothing is read.
    pub fn spawn(
        name: &str,
        client: &KubeClient,
        settings: WatchSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
        sink: impl FnMut(Observation) + Send + 'static,
    ) -> io::Result<Watcher> {
        // Connections of its own, for a stop ends all of them at once.
        let client = client.with_own_connections().with_call_limit(settings.timing.list_limit);
        let (stop, stopped) = bounded(0);
        let machine = WatchMachine::new(
            settings.namespace.clone(),
            settings.timing.clone(),
            fastrand::Rng::with_seed(settings.seed),
        );
        let heard = Heard { at: Arc::default(), clock: clock.clone() };
        let mut loop_ = WatchLoop {
            heard: heard.clone(),
            name: name.to_owned(),
            client: client.clone(),
            settings,
            clock,
            metrics,
            machine,
            lines: None,
            stopped,
            sink,
            ignored: 0,
        };
        let thread = Thread::spawn(name, move || loop_.run())?;
        Ok(Watcher { client, heard, stop: Some(stop), thread })
    }

    /// Tells at any time when the API server was heard last.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Tells the thread to end, also if it is blocked in a read. Observations may still come until
    /// [`Watcher::join`] returns true.
    pub fn stop(&mut self) {
        self.stop = None;
        self.client.shutdown();
    }

    /// Waits for the thread's end, at most for `limit`; says whether it has ended.
    pub fn join(&self, limit: Duration) -> bool {
        self.thread.has_ended_within(limit)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

struct WatchLoop<S> {
    heard: Heard,
    name: String,
    client: KubeClient,
    settings: WatchSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    machine: WatchMachine,
    lines: Option<Lines<Stream>>,
    stopped: Receiver<Infallible>,
    sink: S,
    ignored: u64,
}

impl<S: FnMut(Observation)> WatchLoop<S> {
    fn run(&mut self) {
        let mut action = self.machine.first_action();
        while !self.is_stopped() {
            action = match action {
                Action::Read => self.read(),
                Action::List { limit, continue_token } => self.list(limit, continue_token),
                Action::Watch { version, timeout_seconds } => self.open(&version, timeout_seconds),
                Action::Wait(wait) => {
                    self.lines = None;
                    if self.is_stopped_within(wait) {
                        return;
                    }
                    self.step(Input::Waited)
                }
            };
        }
    }

    fn list(&mut self, limit: Option<u32>, continue_token: Option<String>) -> Action {
        self.lines = None;
        let WatchSettings { resource, namespace, .. } = &self.settings;
        let page =
            self.client.list_page(resource, namespace.as_deref(), limit, continue_token.as_deref());
        match page {
            Ok(page) => self.step(Input::PageListed(page)),
            Err(error) => self.step(Input::ListFailed(Failure::of_error(&error))),
        }
    }

    fn open(&mut self, version: &str, timeout_seconds: u32) -> Action {
        self.lines = None;
        let WatchSettings { resource, namespace, timing, .. } = &self.settings;
        let stream = self.client.watch(
            resource,
            namespace.as_deref(),
            version,
            timeout_seconds,
            timing.silence_limit,
        );
        match stream {
            Ok(stream) => {
                self.lines = Some(Lines::new(stream, LINE_LIMIT_BYTES));
                self.step(Input::WatchOpened)
            }
            Err(error) => self.step(Input::WatchRefused(Failure::of_error(&error))),
        }
    }

    fn read(&mut self) -> Action {
        let Some(mut lines) = self.lines.take() else {
            return self.step(Input::WatchEnded(End::Cut("the watch isn't open".to_owned())));
        };
        let action = match lines.next_line() {
            Ok(Some(line)) => self.step(Input::Line(line)),
            Ok(None) => return self.step(Input::WatchEnded(End::InOrder)),
            Err(error) => return self.step(Input::WatchEnded(end_of(&error))),
        };
        self.lines = Some(lines);
        action
    }

    fn step(&mut self, input: Input<'_>) -> Action {
        // What a stop does to calls and reads is no trouble to speak of.
        if self.is_stopped() {
            return Action::Wait(Duration::ZERO);
        }
        if matches!(input, Input::PageListed(_) | Input::WatchOpened | Input::Line(_)) {
            self.heard.note();
        }
        let step = self.machine.step(input, self.clock.now().uptime);
        if let Some(reason) = step.restart {
            let labels = [("reason", reason.label())];
            self.metrics.add("multinic_watch_restarts_total", &labels, 1.0);
            log::debug!("{}: starts over: {}", self.name, reason.label());
        }
        for reason in step.ignored {
            self.ignored += 1;
            // The first, and then ever more seldom: one bad object is met again at each list.
            if self.ignored.is_power_of_two() {
                log::warn!("{}: left out, {} so far: {reason}", self.name, self.ignored);
            }
        }
        for observation in step.observations {
            match &observation {
                Observation::Trouble { text, .. } => log::warn!("{}: {text}", self.name),
                Observation::Recovered => log::info!("{}: recovered", self.name),
                _ => {}
            }
            (self.sink)(observation);
        }
        step.action
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped_within(Duration::ZERO)
    }

    /// Nothing is ever sent: the stop is the sender's end.
    fn is_stopped_within(&self, wait: Duration) -> bool {
        matches!(self.stopped.recv_timeout(wait), Err(RecvTimeoutError::Disconnected))
    }
}

fn end_of(error: &LineError) -> End {
    match error {
        LineError::TooLong { .. } => End::LineTooLong(format!("the watch: {error}")),
        LineError::Io(error) if is_read_timeout(error) => End::Silent,
        LineError::Io(error) => End::Cut(format!("the watch was cut: {}", error.kind())),
    }
}
