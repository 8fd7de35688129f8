//! One sync: handed to a thread of its own, looked after until it ends, or is ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use multinic_operator::reconcile::{Lane, Outcome, Work, sync};

use crate::driver::{Broken, Flight, Year, text_of};
use crate::sky::{Killed, News, Pass, Seen};

/// Where a process is killed around a POST.
pub(crate) struct Kills {
    pub(crate) killed_before: bool,
    pub(crate) killed_after: bool,
    pub(crate) killed_on_disk: bool,
}

impl Year {
    /// One sync, from its first question to its end.
    pub(crate) fn fly(&mut self, flight: Flight) -> Result<(), Broken> {
        let Flight { job, lane, number, .. } = flight;
        self.passes += 1;
        crate::writes::check(self)?;
        let (key, uid) = (job.object.key.clone(), job.object.uid.clone());
        let hash = job.down_port_retry.as_ref().map(|retry| retry.hash.as_str());
        self.books.note_down(&uid, hash);
        let chaos = !self.is_calm;
        let mut dice = |kind: &str, of: u8| {
            chaos && self.random.u8(0..of) == 0 && !self.plan.without.contains(kind)
        };
        let killed = dice("killed while reading", 120);
        let killed_before = dice("killed before the POST", 120);
        let killed_after = dice("killed after the POST", 60);
        let killed_on_disk = dice("killed at a disk operation", 40);
        let killed_at_end = dice("killed before the end is known", 60);
        let dethroned = dice("leadership lost", 120);
        let changes = dice("changed in the middle", 6);
        let (to_driver, news) = channel();
        let process = self.process.as_ref().unwrap();
        let life = self.lives;
        let pass = Pass {
            number: self.passes,
            to_driver: to_driver.clone(),
            change: changes.then(|| self.random.u64(..)),
            killed,
            dethroned: dethroned.then(|| Arc::clone(&process.may_act)),
            seen: Seen::default(),
        };
        self.sky.state().pass = Some(pass);
        let (context, thread_job) = (Arc::clone(&process.context), job.clone());
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| sync(&context, &thread_job, lane == Lane::Fresh)));
            drop(context);
            let _ = to_driver.send(News::Ended(outcome));
        });
        let kills = Kills { killed_before, killed_after, killed_on_disk };
        let ended = self.attend(&job, &news, &kills);
        thread.unwrap().join().map_err(|_| "the sync's thread broke".to_owned())?;
        let (ended, seen) = ended?;
        let requests = seen.requests;
        if let Some((kind, text)) = &seen.changed {
            self.story.tell(self.at, format!("  in the middle of it: {text}"));
            self.count("changed in the middle");
            let now = self.sky.now.state.lock().clone();
            self.books.note_cloud(self.at, &now);
            self.count(kind);
        }
        if self.lives != life || self.process.is_none() {
            return Ok(());
        }
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(payload) if payload.is::<Killed>() => {
                self.count(if killed {
                    "killed while reading"
                } else {
                    "killed at a disk operation"
                });
                self.die("killed during a sync");
                return Ok(());
            }
            Err(payload) => return Err(format!("the sync panicked: {}", text_of(&*payload))),
        };
        self.disk.spare();
        self.look_at_store();
        let verdict = &outcome.verdict;
        let text = format!(
            "sync {} of {key} ({uid}): {} ({requests} requests{}): {}",
            self.passes,
            verdict.reason.name(),
            faults_text(&seen),
            verdict.message
        );
        self.story.tell(self.at, text);
        let is_refused = |part: &str| {
            (part.starts_with("Neutron GET") || part.starts_with("Nova GET"))
                && part.contains("HTTP 401")
        };
        let is_refused = verdict.message.split("; ").any(is_refused);
        if is_refused && seen.faults.is_empty() && seen.changed.is_none() {
            return Err(format!("(c) a refused token isn't replaced at once: {}", verdict.message));
        }
        // Three attempts, each with the provider, two logins, a few pages.
        if requests > 250 {
            return Err(format!("(e) one sync put {requests} questions"));
        }
        let lost = !self.process.as_ref().unwrap().may_act.load(Ordering::SeqCst);
        if killed_at_end || lost {
            self.count(if lost { "leadership lost" } else { "killed before the end is known" });
            self.die(if lost { "leadership lost" } else { "killed after a sync" });
            return Ok(());
        }
        self.note_sent_again(&job, &outcome, seen.changed.is_none());
        let at = self.at + Duration::from_millis(self.random.u64(0..400));
        let finishes = &mut self.process.as_mut().unwrap().finishes;
        finishes.push((at, number, Box::new(job), Box::new(outcome)));
        Ok(())
    }

    /// Looks after a sync until it has ended.
    pub(crate) fn attend(
        &mut self,
        job: &Work,
        news: &Receiver<News>,
        kills: &Kills,
    ) -> Result<(std::thread::Result<Outcome>, Seen), Broken> {
        let mut broken = None;
        loop {
            match news.recv().map_err(|_| "the sync fell silent".to_owned())? {
                News::Ended(ended) => {
                    let pass = self.sky.state().pass.take();
                    let seen = pass.map(|pass| pass.seen).unwrap_or_default();
                    return broken.map_or(Ok((ended, seen)), Err);
                }
                News::Post(post) => {
                    let pass = self.sky.state().pass.take().unwrap();
                    let seen = pass.seen.clone();
                    let answer = self.take_post(job, &post, &seen, kills);
                    self.sky.state().pass = Some(pass);
                    let answer = answer.unwrap_or_else(|what| {
                        broken = Some(what);
                        None
                    });
                    let _ = post.answer.send(answer);
                }
            }
        }
    }
}

fn faults_text(seen: &Seen) -> String {
    let faults: Vec<String> =
        seen.faults.iter().map(|(service, fault)| format!("{service} {}", fault.name())).collect();
    if faults.is_empty() { String::new() } else { format!(", {}", faults.join(", ")) }
}
