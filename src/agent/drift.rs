//! When a node is sent again because its cluster lost it or others changed it
//! (docs/behaviour.md#drift).

use std::time::Duration;

use jiff::Timestamp;

use super::state::Difference;
use crate::clock::Now;

/// Where an object was deleted, the agent takes the node's cards down in a Job. What is sent meanwhile
/// would race it.
const AFTER_LOSS: Duration = Duration::from_secs(60);
/// What was sent takes a while to show. It is the least time between two rounds, too.
const AFTER_DELIVERY: Duration = Duration::from_secs(60);
/// Somebody who undoes it as often has reasons.
const ROUNDS: u8 = 3;
/// A node that has been right for so long is right: its rounds are forgotten.
const SETTLED: Duration = Duration::from_secs(600);

/// What is remembered of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Uptime since which the cluster has had something else, or the right thing.
    since: Duration,
    is_wrong: bool,
    /// How often it was sent again.
    rounds: u8,
    /// Uptime of the last time.
    last_round: Option<Duration>,
    /// Of the record that this is about.
    hash: String,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the cluster has instead.
    pub difference: &'a Difference,
    /// When the node was last accepted.
    pub accepted_at: Timestamp,
    /// An edited node is put right: it is delivered by Kubernetes.
    pub heals_edits: bool,
    /// Nothing is sent for the object now: it is paused or held.
    pub is_held: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send the node.
    Send,
    /// Look again at this uptime.
    Wait(Duration),
    /// Only say it: the target puts edited nodes right or doesn't.
    Say,
    /// Only say it: the object is paused or held.
    Held,
    /// Only say it: it was sent often enough.
    GiveUp,
}

impl Drift {
    /// Takes note of what the cluster has of the node that was accepted with this hash.
    pub fn see(&mut self, difference: Option<&Difference>, hash: &str, uptime: Duration) {
        if self.hash != hash {
            *self = Drift { hash: hash.to_owned(), since: uptime, ..Drift::default() };
        }
        let is_wrong = difference.is_some();
        if self.is_wrong != is_wrong {
            (self.is_wrong, self.since) = (is_wrong, uptime);
        }
        if !is_wrong && uptime.saturating_sub(self.since) >= SETTLED {
            self.rounds = 0;
        }
    }

    /// It was sent again.
    pub fn sent(&mut self, uptime: Duration) {
        self.rounds = self.rounds.saturating_add(1);
        self.last_round = Some(uptime);
    }

    /// It begins anew: a person forced it.
    pub fn forget_rounds(&mut self) {
        (self.rounds, self.last_round) = (0, None);
    }

    /// What is to be done about a difference that was [seen](Drift::see).
    pub fn decide(&self, facts: &Facts<'_>, now: Now) -> Decision {
        let is_missing = *facts.difference == Difference::Missing;
        // A moment in the future was before the clock was set back.
        let ago = Duration::try_from(now.wall.duration_since(facts.accepted_at));
        let shown_in = ago.map_or(Duration::ZERO, |ago| AFTER_DELIVERY.saturating_sub(ago));
        if !shown_in.is_zero() {
            return Decision::Wait(now.uptime + shown_in);
        }
        if facts.is_held {
            return Decision::Held;
        }
        if !is_missing && !facts.heals_edits {
            return Decision::Say;
        }
        if self.rounds >= ROUNDS {
            return Decision::GiveUp;
        }
        let after_loss = if is_missing { self.since + AFTER_LOSS } else { Duration::ZERO };
        let after_round = self.last_round.map_or(Duration::ZERO, |last| last + AFTER_DELIVERY);
        let at = after_loss.max(after_round);
        if at > now.uptime { Decision::Wait(at) } else { Decision::Send }
    }
}

impl Decision {
    /// What is said of it, after the node's name; empty while it may be no more than a delay.
    pub fn text(self, difference: &Difference) -> String {
        let then = match self {
            Decision::Wait(_) => return String::new(),
            Decision::Send => "it is sent again",
            Decision::Say => "Viola delivers it, so it is not sent again",
            Decision::Held => "it is not sent again while the object is paused or held",
            Decision::GiveUp => "it was sent again three times and is left alone now",
        };
        match difference {
            Difference::Missing => format!("is missing in the cluster; {then}"),
            Difference::Edited { what, writer } => {
                let writer = writer.as_ref().map(|writer| format!(", last written by {writer}"));
                let (what, writer) = (what.join(", "), writer.unwrap_or_default());
                format!("is not as sent ({what}{writer}); {then}")
            }
        }
    }
}
