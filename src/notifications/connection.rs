//! The thread that keeps one connection to a broker: it tries the broker's URLs in turn, reads what
//! comes, and connects again after each loss.
//!
//! What it sees goes to a closure. Each [`amqp::Event::Bound`] means that messages may have been missed
//! before it.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::socket::{Address, Socket};
use crate::amqp::{self, Login, Session, Subscription};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::http::trust::Trust;
use crate::secret::Secrets;
use crate::threads::Thread;

pub use super::socket::UseTls;

/// After a loss, and after a round in which no URL brought a connection: a random part of this, doubled
/// each time up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A connection that lasted as long makes the waits begin anew.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// For the broker's answer to the close.
const CLOSE_LIMIT: Duration = Duration::from_millis(400);
const BUFFER_BYTES: usize = 16 * 1024;

/// A broker, and how it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    /// Of all its nodes. User, password and path in them are left out.
    pub urls: Vec<String>,
    /// Who logs in, and where.
    pub login: Login,
    /// When TLS is used.
    pub tls: UseTls,
    /// Whom TLS trusts.
    pub trust: Trust,
}

/// What a connection observes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a connection, with a queue of its own.
    Connected {
        /// Host and port.
        address: String,
    },
    /// What the connection says.
    Session(amqp::Event),
    /// There is no connection, or none any more; said after each attempt at all URLs.
    Disconnected {
        /// Why, for each URL that was tried.
        reason: String,
    },
}

/// A running connection. Dropping it ends it within a second, without waiting; only while a name is
/// looked up or a connect is under way it takes as long as that.
pub struct Connection {
    stop: Option<Sender<Infallible>>,
    thread: Thread,
}

impl Connection {
    /// Starts the thread. `sink` runs on it and must not wait: while it does, no heartbeats are sent.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn spawn(
        broker: Broker,
        subscription: Subscription,
        clock: Clock,
        sink: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<Connection> {
        let (stop, stopped) = bounded(0);
        let (said, is_clear_said, rng) = (String::new(), false, fastrand::Rng::new());
        let sink = Box::new(sink);
        let mut keeper =
            Keeper { broker, subscription, clock, stopped, sink, said, is_clear_said, rng };
        let thread = Thread::spawn("notifications", move || keeper.run())?;
        Ok(Connection { stop: Some(stop), thread })
    }

    /// Has its thread ended, though nobody stopped it?
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.has_ended_within(Duration::ZERO)
    }

    /// Stops it and waits for the end; says whether it came.
    pub fn stop_within(mut self, limit: Duration) -> bool {
        drop(self.stop.take());
        self.thread.has_ended_within(limit)
    }
}

struct Keeper {
    broker: Broker,
    subscription: Subscription,
    clock: Clock,
    /// Disconnected once the thread shall end.
    stopped: Receiver<Infallible>,
    sink: Box<dyn FnMut(Event) + Send>,
    /// The last reason that was logged, so that it isn't logged at each attempt.
    said: String,
    /// It was logged that the password goes in the clear.
    is_clear_said: bool,
    rng: fastrand::Rng,
}

/// A connection that could not be made, or was lost.
struct Lost {
    reason: String,
    /// How long messages could come; none if they never could.
    lasted: Option<Duration>,
}

impl Keeper {
    fn run(&mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut reasons = Vec::new();
        let urls = self.broker.urls.clone();
        for url in urls.iter().cycle() {
            let lost = match Address::read(url, self.broker.tls) {
                Some(address) => match self.session(&address) {
                    Ok(()) => return,
                    Err(lost) => Lost { reason: format!("{address}: {}", lost.reason), ..lost },
                },
                None => Lost { reason: "a URL without host or port".to_owned(), lasted: None },
            };
            reasons.push(lost.reason);
            if lost.lasted.is_none() && reasons.len() < urls.len() {
                continue;
            }
            if lost.lasted.is_some_and(|lasted| lasted >= LONGEST_WAIT) {
                backoff.reset();
            }
            let reason = std::mem::take(&mut reasons).join("; ");
            self.report(Event::Disconnected { reason });
            let wait = backoff.after_failure(&mut self.rng);
            if self.stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// One connection from beginning to end; well if it was stopped.
    fn session(&mut self, address: &Address) -> Result<(), Lost> {
        let lost = |reason| Lost { reason, lasted: None };
        let socket = Socket::connect(address, &self.broker.trust, || self.is_stopped());
        let mut socket = match socket {
            _ if self.is_stopped() => return Ok(()),
            socket => socket.map_err(lost)?,
        };
        if !address.is_secure && !self.is_clear_said {
            self.is_clear_said = true;
            log::warn!("{address}: RabbitMQ's password goes there without TLS");
        }
        let (login, now) = (self.broker.login.clone(), self.clock.now().uptime);
        let mut session = Session::new(login, self.subscription.clone(), now);
        let mut subscribed = None;
        let result = self.converse(&mut socket, &mut session, address, &mut subscribed);
        result.map_err(|reason| {
            let secrets = Secrets::of([&self.broker.login.password]);
            let lasted = subscribed.map(|at| self.clock.now().uptime.saturating_sub(at));
            Lost { reason: secrets.redacted(&reason), lasted }
        })
    }

    /// Reads until the stop, or until the connection is lost.
    fn converse(
        &mut self,
        socket: &mut Socket,
        session: &mut Session,
        address: &Address,
        subscribed: &mut Option<Duration>,
    ) -> Result<(), String> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            socket.send(&session.output())?;
            if self.is_stopped() {
                self.close(socket, session);
                return Ok(());
            }
            let bytes = socket.receive(&mut buffer)?;
            let now = self.clock.now().uptime;
            let taken = session.received(bytes, now);
            if taken.is_err() {
                // The answer to a close, which nobody waits for.
                let _ = socket.send(&session.output());
            }
            for event in taken.map_err(|error| error.to_string())? {
                match event {
                    amqp::Event::Subscribed => {
                        *subscribed = Some(now);
                        self.report(Event::Connected { address: address.to_string() });
                    }
                    event => self.report(Event::Session(event)),
                }
            }
            session.tick(now).map_err(|error| error.to_string())?;
        }
    }

    /// Takes leave, so that the broker doesn't log a lost connection.
    fn close(&self, socket: &mut Socket, session: &mut Session) {
        session.close();
        let until = self.clock.now().uptime + CLOSE_LIMIT;
        let mut buffer = vec![0; BUFFER_BYTES];
        while !session.is_closed() && self.clock.now().uptime < until {
            let sent = socket.send(&session.output());
            let Ok(bytes) = sent.and_then(|()| socket.receive(&mut buffer)) else { return };
            if session.received(bytes, self.clock.now().uptime).is_err() {
                return;
            }
        }
    }

    fn report(&mut self, event: Event) {
        use amqp::Event::{Blocked, Bound, Unblocked, Unbound};
        match &event {
            Event::Connected { address } => {
                self.said.clear();
                log::info!("notifications: connected to {address}");
            }
            Event::Disconnected { reason } if *reason != self.said => {
                log::warn!("notifications: no connection, OpenStack is only polled: {reason}");
                self.said.clone_from(reason);
            }
            Event::Session(Bound(exchange)) => log::info!("notifications: hears {exchange}"),
            Event::Session(Unbound(exchange, reason)) => {
                log::warn!("notifications: doesn't hear {exchange} yet: {reason}");
            }
            Event::Session(Blocked(reason)) => {
                log::warn!("notifications: the broker takes no messages: {reason}");
            }
            Event::Session(Unblocked) => {
                log::info!("notifications: the broker takes messages again")
            }
            _ => {}
        }
        (self.sink)(event);
    }
}
