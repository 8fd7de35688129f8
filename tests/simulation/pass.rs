//! One pass: handed to a thread of its own, looked after until it ends, or is ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use multinic_operator::controller::Event;
use multinic_operator::reconcile::{self, Outcome, Work, reconcile};

use crate::driver::{Broken, PendingPass, Simulation, text_of};
use crate::transport::{Killed, News, Pass, Seen};

/// Questions that a pass may put for each of its objects: three attempts, each with the provider, two
/// logins, a few pages.
const QUESTIONS: usize = 250;

/// Where a process is killed around a POST.
pub(crate) struct Kills {
    pub(crate) killed_before: bool,
    pub(crate) killed_after: bool,
    pub(crate) killed_on_disk: bool,
}

impl Simulation {
    /// One pass, from its first question to its end.
    pub(crate) fn run_pass(&mut self, pending: PendingPass) -> Result<(), Broken> {
        let pass = Arc::new(pending.pass);
        self.passes += 1;
        self.objects += pass.work.len() as u64;
        if pass.work.len() > 1 {
            self.count("pass of several objects");
        }
        crate::writes::check(self)?;
        for work in &pass.work {
            let hash = work.down_port_retry.as_ref().map(|retry| retry.hash.as_str());
            self.oracle.note_down(&work.object.uid, hash);
        }
        let chaos = !self.is_faultless;
        let mut dice = |kind: &str, of: u8| {
            chaos && self.random.u8(0..of) == 0 && !self.plan.without.contains(kind)
        };
        let killed = dice("killed while reading", 120);
        let killed_before = dice("killed before the POST", 120);
        let killed_after = dice("killed after the POST", 60);
        let killed_on_disk = dice("killed at a disk operation", 40);
        let killed_at_end = dice("killed before the end is known", 60);
        let loses_leadership = dice("leadership lost", 120);
        let changes = dice("changed in the middle", 6);
        let (to_driver, news) = channel();
        let process = self.process.as_ref().unwrap();
        let life = self.lives;
        self.transport.state().pass = Some(Pass {
            number: self.passes,
            to_driver: to_driver.clone(),
            change: changes.then(|| self.random.u64(..)),
            killed,
            loses_leadership: loses_leadership.then(|| Arc::clone(&process.may_act)),
            seen: Seen::from(self.oracle.version),
        });
        let (context, thread_pass) = (Arc::clone(&process.context), Arc::clone(&pass));
        let thread = std::thread::Builder::new().name("pass".to_owned()).spawn(move || {
            // Only one thread runs at a time: the pass goes on when the driver has taken note.
            let report = |work: &Work, outcome: Outcome| {
                if !outcome.later && !outcome.aborted {
                    context.ownership.ended(&work.object.uid, work.object.generation);
                }
                let (taken, is_taken) = channel();
                let (work, outcome) = (Box::new(work.clone()), Box::new(outcome));
                let _ = to_driver.send(News::Reported(work, outcome, taken));
                let _ = is_taken.recv();
            };
            let ended =
                catch_unwind(AssertUnwindSafe(|| reconcile(&context, &thread_pass, &report)));
            drop(context);
            let _ = to_driver.send(News::Ended(ended));
        });
        let kills = Kills { killed_before, killed_after, killed_on_disk };
        let ended = self.attend(&pass, &news, &kills);
        thread.unwrap().join().map_err(|_| "the pass's thread broke".to_owned())?;
        let (ended, seen) = ended?;
        self.note_change(&seen);
        if self.lives != life || self.process.is_none() {
            return Ok(());
        }
        match ended {
            Ok(()) => {}
            Err(payload) if payload.is::<Killed>() => {
                self.count(if killed {
                    "killed while reading"
                } else {
                    "killed at a disk operation"
                });
                self.die("killed during a pass");
                return Ok(());
            }
            Err(payload) => return Err(format!("the pass panicked: {}", text_of(&*payload))),
        }
        self.disk.spare();
        self.look_at_store();
        if seen.requests > QUESTIONS * pass.work.len() {
            let (requests, objects) = (seen.requests, pass.work.len());
            return Err(format!("(e) a pass of {objects} objects put {requests} questions"));
        }
        if let Some(silent) =
            pass.work.iter().find(|work| !seen.reported.contains(&work.object.uid))
        {
            return Err(format!("(c) {} was in a pass and isn't reported", silent.object.key));
        }
        let lost = !self.process.as_ref().unwrap().may_act.load(Ordering::SeqCst);
        if killed_at_end || lost {
            self.count(if lost { "leadership lost" } else { "killed before the end is known" });
            self.die(if lost { "leadership lost" } else { "killed after a pass" });
            return Ok(());
        }
        self.tell_controller(&pass, Event::PassEnded { number: pass.number });
        Ok(())
    }

    /// Looks after a pass until it has ended.
    pub(crate) fn attend(
        &mut self,
        pass: &reconcile::Pass,
        news: &Receiver<News>,
        kills: &Kills,
    ) -> Result<(std::thread::Result<()>, Seen), Broken> {
        let (mut broken, life) = (None, self.lives);
        loop {
            let is_over = match news.recv().map_err(|_| "the pass fell silent".to_owned())? {
                News::Ended(ended) => Some(ended),
                // A killed pass goes on to the next target here; a killed process does nothing more.
                News::Post(post) if self.is_killed(life) => {
                    let _ = post.answer.send(None);
                    None
                }
                News::Post(post) => {
                    let mut watched = self.transport.state().pass.take().unwrap();
                    let seen = watched.seen.clone();
                    let answer = self.take_post(pass, &post, &seen, kills);
                    // Time may have passed: what is asked from here on is answered by the present.
                    watched.seen.is_over = true;
                    self.transport.state().pass = Some(watched);
                    let answer = answer.unwrap_or_else(|what| {
                        broken.get_or_insert(what);
                        None
                    });
                    let _ = post.answer.send(answer);
                    None
                }
                News::Reported(work, outcome, taken) => {
                    if !self.is_killed(life) {
                        let seen = self.take_seen(&work);
                        if let Err(what) = self.reported(pass, work, outcome, &seen) {
                            broken.get_or_insert(what);
                        }
                    }
                    drop(taken);
                    None
                }
            };
            if let Some(ended) = is_over {
                let watched = self.transport.state().pass.take();
                let seen = watched.map(|watched| watched.seen).unwrap_or_default();
                return broken.map_or(Ok((ended, seen)), Err);
            }
        }
    }

    /// Was the process of that life killed, by the driver or at an operation of its disk?
    fn is_killed(&self, life: u64) -> bool {
        self.process.is_none() || self.lives != life || self.disk.has_stopped()
    }

    /// What the pass has met so far, with this object among the reported ones.
    fn take_seen(&mut self, work: &Work) -> Seen {
        let mut state = self.transport.state();
        let seen = &mut state.pass.as_mut().unwrap().seen;
        seen.reported.insert(work.object.uid.clone());
        seen.clone()
    }

    /// The cloud changed while it was asked.
    fn note_change(&mut self, seen: &Seen) {
        if let Some((kind, text)) = &seen.changed {
            self.trace.tell(self.at, format!("  in the middle of it: {text}"));
            self.count("changed in the middle");
            let now = self.transport.now.state.lock().clone();
            self.oracle.note_cloud(self.at, &now);
            self.count(kind);
        }
    }

    /// A worker says what came of one object.
    fn reported(
        &mut self,
        pass: &reconcile::Pass,
        work: Box<Work>,
        outcome: Box<Outcome>,
        seen: &Seen,
    ) -> Result<(), Broken> {
        self.look_at_store();
        let (key, uid, ready) = (&work.object.key, &work.object.uid, &outcome.ready);
        let text = format!(
            "pass {} ({:?}), {key} ({uid}): {} ({} requests so far{}): {}",
            pass.number,
            pass.lane,
            ready.reason.name(),
            seen.requests,
            faults_text(seen),
            ready.message
        );
        self.trace.tell(self.at, text);
        if outcome.later {
            self.count("another pass in the way");
        }
        let is_refused = |part: &str| {
            (part.starts_with("Neutron GET") || part.starts_with("Nova GET"))
                && part.contains("HTTP 401")
        };
        let is_refused = ready.message.split("; ").any(is_refused);
        if is_refused && seen.faults.is_empty() && seen.changed.is_none() {
            return Err(format!("(c) a refused token isn't replaced at once: {}", ready.message));
        }
        if !self.process.as_ref().unwrap().may_act.load(Ordering::SeqCst) {
            // The process ends without taking note of it.
            return Ok(());
        }
        let is_known = seen.changed.is_none() && seen.version == self.oracle.version;
        self.note_sent_again(&work, &outcome, is_known);
        self.note_hold(&work, &outcome, seen)?;
        let took = Duration::from_millis(7);
        self.tell_controller(pass, Event::Finished { work, outcome, took });
        Ok(())
    }

    /// Events of one pass arrive in their order.
    fn tell_controller(&mut self, pass: &reconcile::Pass, event: Event) {
        let delay = if self.random.u8(0..4) == 0 { self.random.u64(0..400) } else { 0 };
        let at = self.at + Duration::from_millis(delay);
        let reports = &mut self.process.as_mut().unwrap().reports;
        let is_of_pass = |event: &Event| match event {
            Event::Finished { work, .. } => {
                pass.work.iter().any(|own| own.object.uid == work.object.uid)
            }
            _ => false,
        };
        let before = reports.iter().filter(|(_, event)| is_of_pass(event)).map(|(at, _)| *at).max();
        reports.push((at.max(before.unwrap_or_default()), event));
    }
}

fn faults_text(seen: &Seen) -> String {
    let faults: Vec<String> =
        seen.faults.iter().map(|(service, fault)| format!("{service} {}", fault.name())).collect();
    if faults.is_empty() { String::new() } else { format!(", {}", faults.join(", ")) }
}
