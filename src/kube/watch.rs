//! List and watch as a state machine: what to do next, and what was observed.
//!
//! Pure: it does no I/O and reads no clock; [`super::watcher`] carries out its actions and tells it
//! what came of them. It keeps no objects beyond the list that is arriving, so what a reader must
//! know of the past (a generation, a uid) the reader keeps.
//!
//! ```text
//!            +----------- Expired, unusable version, silence, or half an hour over ----------+
//!            v                                                                               |
//!       +---------+  last page   +---------+   opened    +----------+   line (moves version)-+
//!  ---> | Listing | -----------> | Opening | ----------> | Watching | <--+                   |
//!       +---------+              +---------+             +----------+ ---+                   |
//!         |     ^                  |     ^                    |                              |
//!  failed |     | no version       |     | version            | ended, cut, unreadable line  |
//!         v     |           failed v     |                    v                              |
//!       +----------------------------------------------------------+                         |
//!       |                         Waiting                          | <-----------------------+
//!       +----------------------------------------------------------+
//! ```
//!
//! There is no way out: only its driver can stop.
//!
//! What it gives for sure: every change that the server keeps is observed, or the object's state
//! after it; a deletion is observed as [`Observation::Deleted`] or by absence from a
//! [`Observation::Replaced`]. What it doesn't: each change once, or in order across a gap.

mod failure;
mod line;
mod timing;

#[cfg(test)]
mod tests;

use std::mem;
use std::time::Duration;

pub use failure::{End, Failure, FailureKind, RestartReason};
pub use timing::Timing;

use super::objects::{Page, RawObject};
use crate::backoff::Backoff;

/// What became known of the objects, or of the way to them.
#[derive(Clone, Debug)]
pub enum Observation {
    /// The whole of a scope: what isn't in it doesn't exist any more.
    Replaced {
        /// The namespace; none for all of them.
        scope: Option<String>,
        /// All objects.
        objects: Vec<RawObject>,
    },
    /// An object was created or changed; perhaps one that was already observed so.
    Applied(RawObject),
    /// An object was deleted. By now another of the same name may exist: compare the uid.
    Deleted(RawObject),
    /// The API can't be read for now. Said once for each different trouble.
    Trouble {
        /// What kind of trouble.
        kind: FailureKind,
        /// The whole story.
        text: String,
    },
    /// The trouble is over.
    Recovered,
}

/// What is to be done next; the result is the next [`Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for a page: [`Input::PageListed`] or [`Input::ListFailed`].
    List {
        /// Objects a page; none asks for all at once.
        limit: Option<u32>,
        /// Continues a list that was begun.
        continue_token: Option<String>,
    },
    /// Open a watch: [`Input::WatchOpened`] or [`Input::WatchRefused`].
    Watch {
        /// The last version seen.
        version: String,
        /// When the server shall end the watch by itself.
        timeout_seconds: u32,
    },
    /// Read on: [`Input::Line`] or [`Input::WatchEnded`].
    Read,
    /// Close what is open and wait: [`Input::Waited`].
    Wait(Duration),
}

/// What came of an action.
#[derive(Debug)]
pub enum Input<'a> {
    /// A page came.
    PageListed(Page),
    /// No page came.
    ListFailed(Failure),
    /// The watch is open.
    WatchOpened,
    /// The watch couldn't be opened.
    WatchRefused(Failure),
    /// One whole line of the watch.
    Line(&'a [u8]),
    /// The watch is over.
    WatchEnded(End),
    /// The wait is over.
    Waited,
}

/// What a step led to.
#[derive(Debug)]
pub struct Step {
    /// What to do next.
    pub action: Action,
    /// What was observed, in order.
    pub observations: Vec<Observation>,
    /// Set when a list or watch starts over unplanned.
    pub restart: Option<RestartReason>,
    /// What was left out because it can't be understood: unknown event types, unreadable items.
    pub ignored: Vec<String>,
}

#[derive(Debug)]
enum State {
    /// Pages arrive. Way on: the last page. Way back: none is needed, a failure starts over.
    Listing(Listing),
    /// A watch is being asked for.
    Opening(Watch),
    /// A watch is open. Way back: to `Opening` from its version, or to `Listing` without one.
    Watching(Watch),
    /// Nothing is open. Way on: `Opening` if there is a version, else `Listing`.
    Waiting { version: Option<String> },
}

#[derive(Debug, Default)]
struct Listing {
    objects: Vec<RawObject>,
    version: String,
}

#[derive(Debug)]
struct Watch {
    version: String,
    asked_at: Duration,
    /// Has it brought a version we hadn't seen?
    has_progressed: bool,
}

/// The machine of one scope (one namespace, or all of them).
pub struct WatchMachine {
    scope: Option<String>,
    timing: Timing,
    rng: fastrand::Rng,
    state: State,
    backoff: Backoff,
    /// Objects a page; shrinks when an answer is too large to be read.
    page_size: u32,
    /// A continue token expired, so the next list is asked for in one piece.
    list_whole: bool,
    /// Watches in a row that failed or ended without bringing anything.
    failures: u32,
    /// When the server last sent anything: a list or a line.
    heard_at: Duration,
    /// When everything is to be listed again, though all is well.
    relist_at: Duration,
    /// The trouble that was last reported. A list that succeeds ends it if it was a list's, which the
    /// second value says, but not a watch's.
    trouble: Option<(Failure, bool)>,
}

impl WatchMachine {
    /// A machine that begins with a list. `rng` spreads its waits.
    pub fn new(scope: Option<String>, timing: Timing, rng: fastrand::Rng) -> WatchMachine {
        WatchMachine {
            scope,
            backoff: Backoff::new(timing.backoff_first, timing.backoff_most),
            page_size: timing.page_size,
            timing,
            rng,
            state: State::Listing(Listing::default()),
            list_whole: false,
            failures: 0,
            heard_at: Duration::ZERO,
            relist_at: Duration::ZERO,
            trouble: None,
        }
    }

    /// What to do first.
    pub fn first_action(&self) -> Action {
        self.list_action(None)
    }

    /// Takes the result of the last action; `now` is monotonic time.
    pub fn step(&mut self, input: Input<'_>, now: Duration) -> Step {
        let (observations, ignored) = (Vec::new(), Vec::new());
        let mut step = Step { action: Action::Read, observations, restart: None, ignored };
        let state = mem::replace(&mut self.state, State::Waiting { version: None });
        step.action = match (state, input) {
            (State::Listing(listing), Input::PageListed(page)) => {
                self.page_listed(listing, page, now, &mut step)
            }
            (State::Listing(_), Input::ListFailed(failure)) => self.list_failed(failure, &mut step),
            (State::Opening(watch), Input::WatchOpened) => {
                self.state = State::Watching(watch);
                Action::Read
            }
            (State::Opening(watch), Input::WatchRefused(failure)) => {
                self.watch_failed(watch, failure, RestartReason::Refused, &mut step)
            }
            (State::Watching(watch), Input::Line(line)) => self.line(watch, line, now, &mut step),
            (State::Watching(watch), Input::WatchEnded(end)) => {
                self.watch_ended(watch, end, now, &mut step)
            }
            (State::Waiting { version: Some(version) }, Input::Waited) => self.open(version, now),
            // Whatever else: an input that answers no action of ours starts over.
            (_, _) => self.list(),
        };
        step
    }

    fn page_listed(
        &mut self,
        mut listing: Listing,
        page: Page,
        now: Duration,
        step: &mut Step,
    ) -> Action {
        if listing.version.is_empty() {
            listing.version = page.resource_version;
        }
        listing.objects.extend(page.objects);
        step.ignored.extend(page.unreadable);
        if page.continue_token.is_some() {
            self.state = State::Listing(listing);
            return self.list_action(page.continue_token);
        }
        if !can_be_watched_from(&listing.version) {
            let text = "the list has no usable metadata.resourceVersion, so it can't be watched";
            return self.list_failed(Failure::other(text), step);
        }
        self.heard_at = now;
        let seconds = self.rng.u32(self.timing.relist_seconds.clone());
        self.relist_at = now.saturating_add(Duration::from_secs(seconds.into()));
        self.list_whole = false;
        self.page_size = self.timing.page_size;
        self.failures = 0;
        if self.trouble.as_ref().is_some_and(|(_, with_list)| *with_list) {
            self.recovered(step);
        }
        let scope = self.scope.clone();
        step.observations.push(Observation::Replaced { scope, objects: listing.objects });
        self.open(listing.version, now)
    }

    fn list_failed(&mut self, failure: Failure, step: &mut Step) -> Action {
        match failure.kind {
            // The token of a later page expired: without pages nothing can expire.
            FailureKind::Expired => self.list_whole = true,
            FailureKind::AnswerTooLarge => {
                self.page_size = (self.page_size / 10).max(1);
                self.list_whole = false;
            }
            _ => {}
        }
        step.restart = Some(RestartReason::ListFailed);
        let wait = self.wait_after(&failure);
        self.say(failure, true, step);
        self.state = State::Waiting { version: None };
        Action::Wait(wait)
    }

    fn watch_failed(
        &mut self,
        watch: Watch,
        failure: Failure,
        reason: RestartReason,
        step: &mut Step,
    ) -> Action {
        self.failures += 1;
        let relist = match failure.kind {
            FailureKind::Expired
            | FailureKind::VersionTooLarge
            | FailureKind::BadRequest
            | FailureKind::NotServed
            | FailureKind::AnswerTooLarge => true,
            // A line that can't be read comes again from the same version.
            FailureKind::Garbled => self.failures >= self.timing.failures_before_relist,
            _ => false,
        };
        step.restart = Some(match failure.kind {
            FailureKind::Expired => RestartReason::Expired,
            _ => reason,
        });
        let mut wait = self.wait_after(&failure);
        if failure.kind == FailureKind::Expired {
            // A restarted API server sends this to all clients at once.
            wait = wait.max(self.timing.relist_spread.mul_f64(self.rng.f64()));
        }
        if !matches!(failure.kind, FailureKind::Expired | FailureKind::VersionTooLarge) {
            self.say(failure, false, step);
        }
        self.state = State::Waiting { version: (!relist).then_some(watch.version) };
        Action::Wait(wait)
    }

    fn line(&mut self, mut watch: Watch, bytes: &[u8], now: Duration, step: &mut Step) -> Action {
        let (version, observation) = match line::read(bytes, &mut step.ignored) {
            Ok(read) => read,
            Err((failure, reason)) => return self.watch_failed(watch, failure, reason, step),
        };
        self.heard_at = now;
        if can_be_watched_from(&version) && version != watch.version {
            watch.version = version;
            watch.has_progressed = true;
            self.failures = 0;
            self.backoff.reset();
        }
        self.recovered(step);
        step.observations.extend(observation);
        if now >= self.relist_at {
            return self.list();
        }
        self.state = State::Watching(watch);
        Action::Read
    }

    fn watch_ended(&mut self, watch: Watch, end: End, now: Duration, step: &mut Step) -> Action {
        let lasted = now.saturating_sub(watch.asked_at);
        if lasted >= self.timing.healthy_after {
            self.backoff.reset();
            self.failures = 0;
        }
        // Bookmarks come each minute. A server that sent nothing for longer may never do so, which
        // is what it does for a version from before a restore: ask for the list instead.
        let mute = now.saturating_sub(self.heard_at) >= self.timing.silence_limit;
        let short = !watch.has_progressed && lasted < self.timing.short_watch;
        let (reason, failure) = match end {
            End::InOrder if !short && !mute => return self.open(watch.version, now),
            End::InOrder if short => {
                let text = "watches end as soon as they begin, without an event";
                (RestartReason::Short, Failure::other(text))
            }
            End::InOrder | End::Silent => {
                let text = "nothing came on the watch, not even a bookmark";
                (RestartReason::Silent, Failure::other(text))
            }
            End::Cut(text) => (RestartReason::Cut, Failure::other(&text)),
            End::LineTooLong(text) => {
                let kind = FailureKind::AnswerTooLarge;
                let failure = Failure { kind, text, retry_after: None };
                return self.watch_failed(watch, failure, RestartReason::Garbled, step);
            }
        };
        self.failures += 1;
        step.restart = Some(reason);
        let relist = mute || (short && self.failures >= self.timing.failures_before_relist);
        let wait = self.wait_after(&failure);
        // One lost connection is everyday life; several in a row are trouble.
        if self.failures >= self.timing.failures_before_relist {
            self.say(failure, false, step);
        }
        self.state = State::Waiting { version: (!relist).then_some(watch.version) };
        Action::Wait(wait)
    }

    fn list(&mut self) -> Action {
        self.state = State::Listing(Listing::default());
        self.list_action(None)
    }

    fn list_action(&self, continue_token: Option<String>) -> Action {
        let limit = (!self.list_whole).then_some(self.page_size);
        Action::List { limit, continue_token }
    }

    fn open(&mut self, version: String, now: Duration) -> Action {
        if now >= self.relist_at {
            return self.list();
        }
        let timeout_seconds = self.rng.u32(self.timing.watch_seconds.clone());
        let watch = Watch { version: version.clone(), asked_at: now, has_progressed: false };
        self.state = State::Opening(watch);
        Action::Watch { version, timeout_seconds }
    }

    /// The wait after a failure: what the server asks for, or our own back-off if that is longer.
    fn wait_after(&mut self, failure: &Failure) -> Duration {
        let asked = failure.retry_after.unwrap_or_default().min(self.timing.retry_after_most);
        self.backoff.after_failure(&mut self.rng).max(asked)
    }

    fn say(&mut self, failure: Failure, with_list: bool, step: &mut Step) {
        let Failure { kind, text, .. } = &failure;
        let is_known = |(known, _): &(Failure, bool)| (known.kind, &known.text) == (*kind, text);
        if !self.trouble.as_ref().is_some_and(is_known) {
            step.observations.push(Observation::Trouble { kind: *kind, text: text.clone() });
        }
        self.trouble = Some((failure, with_list));
    }

    fn recovered(&mut self, step: &mut Step) {
        if self.trouble.take().is_some() {
            step.observations.push(Observation::Recovered);
        }
    }
}

/// A watch from `0`, as from none, begins at any state the server has at hand, perhaps one from
/// before what was already seen, and tells of no deletion in between.
fn can_be_watched_from(version: &str) -> bool {
    !matches!(version, "" | "0")
}
