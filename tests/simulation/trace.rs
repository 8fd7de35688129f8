//! What happened in a simulation, in plain words, for when it goes wrong.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::driver::{Plan, Simulation};

/// Lines shown of a trace that went wrong.
const SHOWN: usize = 60;

/// Making a trace shorter may take so long.
const SHORTENING: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Trace {
    lines: Vec<(Duration, String)>,
    /// An invariant that broke where nobody could be told at once.
    pub(crate) broken: Option<String>,
}

impl Trace {
    pub(crate) fn tell(&mut self, at: Duration, line: String) {
        self.lines.push((at, line));
    }

    /// The whole of it; equal for equal simulations.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (at, line) in &self.lines {
            let _ = writeln!(text, "{} {line}", clock(*at));
        }
        text
    }

    /// What to print of a simulation that broke.
    fn end(&self, plan: &Plan, what: &str) -> String {
        let skipped = self.lines.len().saturating_sub(SHOWN);
        let mut text = format!("\nyear {}: {what}\n\n", plan.seed);
        if skipped > 0 {
            let _ = writeln!(text, "  ... {skipped} lines before");
        }
        for (at, line) in &self.lines[skipped..] {
            let _ = writeln!(text, "  {} {line}", clock(*at));
        }
        let _ = writeln!(text, "\n  broken: {what}");
        if !plan.without.is_empty() {
            let without: Vec<&str> = plan.without.iter().map(String::as_str).collect();
            let _ = writeln!(text, "  breaks also without: {}", without.join(", "));
        }
        let _ = writeln!(
            text,
            "  again: SIMULATION_SEED={} SIMULATION_BATCH={} cargo test --test simulation -- --nocapture",
            plan.seed,
            plan.batch_limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string()),
        );
        text
    }
}

fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("day {days:>3} {hours:02}:{minutes:02}:{seconds:02}.{:03}", at.subsec_millis())
}

/// A broken simulation told as briefly as it breaks: what it also breaks without is taken away, and its
/// trace ends where it does.
pub(crate) fn shortened(plan: &Plan, what: &str) -> String {
    let letter = what.get(..3).unwrap_or_default().to_owned();
    let breaks = |plan: &Plan| {
        let mut simulation = Simulation::new(plan.clone());
        let result = simulation.run();
        result.err().filter(|what| what.starts_with(&letter)).map(|what| (what, simulation))
    };
    let mut plan = plan.clone();
    let Some((mut told, mut simulation)) = breaks(&plan) else {
        return format!("simulation {}: {what}; it didn't break a second time!", plan.seed);
    };
    let kinds: Vec<&str> = crate::coverage::AVOIDABLE.to_vec();
    let started = Instant::now();
    for kind in kinds {
        if started.elapsed() > SHORTENING {
            break;
        }
        let mut smaller = plan.clone();
        smaller.without.insert(kind.to_owned());
        if let Some((what, life)) = breaks(&smaller)
            && life.trace.lines.len() <= simulation.trace.lines.len()
        {
            (told, simulation, plan) = (what, life, smaller);
        }
    }
    let mut end = format!("\nyear {}: {what}\n{}", plan.seed, simulation.trace.end(&plan, &told));
    if !plan.without.is_empty() {
        let without: Vec<&str> = plan.without.iter().map(String::as_str).collect();
        let _ = writeln!(end, "  shorter: SIMULATION_WITHOUT={:?} before it", without.join(","));
    }
    end
}
