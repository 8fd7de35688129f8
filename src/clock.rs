//! The only place that reads the system's clocks.
//!
//! Every decision takes [`Now`] as an argument, so that tests invent their own time. It has two
//! clocks because they answer different questions: `uptime` never jumps and drives timers, `wall` is
//! what people, statuses and files see.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started; monotonic, for timers and lifetimes.
    pub uptime: Duration,
    /// Coordinated universal time; may jump, for what is shown or kept over a restart.
    pub wall: Timestamp,
}

impl Now {
    /// The reading `step` later on both clocks; for tests and for planning ahead.
    pub(crate) fn after(self, step: Duration) -> Now {
        let wall = self.wall.checked_add(step).unwrap_or(Timestamp::MAX);
        Now { uptime: self.uptime.saturating_add(step), wall }
    }
}

/// A source of [`Now`]; cheap to clone, every clone shows the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Invented(Arc<Mutex<Now>>),
}

impl Clock {
    /// The system's clocks; `uptime` counts from this call.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn system() -> Clock {
        Clock { source: Source::System { started: Instant::now() } }
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn invented(start: Now) -> Clock {
        Clock { source: Source::Invented(Arc::new(Mutex::new(start))) }
    }

    /// What both clocks show.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Now {
        match &self.source {
            Source::System { started } => Now { uptime: started.elapsed(), wall: Timestamp::now() },
            Source::Invented(now) => *now.lock().unwrap_or_else(|held| held.into_inner()),
        }
    }

    /// Moves an invented clock; the system's clock stays as it is.
    pub fn advance(&self, step: Duration) {
        if let Source::Invented(now) = &self.source {
            let mut now = now.lock().unwrap_or_else(|held| held.into_inner());
            *now = now.after(step);
        }
    }

    /// Sets the wall clock of an invented clock, as people and time servers do; `uptime` goes on.
    pub fn set_wall(&self, wall: Timestamp) {
        if let Source::Invented(now) = &self.source {
            now.lock().unwrap_or_else(|held| held.into_inner()).wall = wall;
        }
    }
}

/// `metav1.Time`: whole seconds and `Z`, as Kubernetes writes them.
pub fn to_seconds_text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// `metav1.MicroTime`: exactly six fraction digits; anything else is refused by the API server.
pub(crate) fn to_micro_text(time: Timestamp) -> String {
    format!("{time:.6}")
}
