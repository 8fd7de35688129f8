//! What a soak counts and measures, and the trace that a failure tells.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::usage::Cost;

/// So much of the trace is told with a failure; all of it is in the log.
const LAST: usize = 40;
/// How much more memory a process may have at its last convergence than at its first: a share, and MB. The
/// allocator has an arena for each of some sixteen threads, and each comes to its own highest mark.
const GROWTH: (f64, f64) = (1.15, 1.0);
/// How many more descriptors and threads: those of connections and of requests side by side come
/// and go.
const MORE: usize = 12;

/// What the process had at one convergence.
struct Sample {
    life: u32,
    /// The process has been through a whole time of trouble; one that has just started is small.
    is_grown: bool,
    round: u32,
    minute: f64,
    cost: Cost,
    reached_after: f64,
}

/// All that is counted.
pub(crate) struct Figures {
    counts: BTreeMap<String, u64>,
    samples: Vec<Sample>,
    trace: Vec<String>,
    log: File,
    path: PathBuf,
    /// The largest share of one core over ten seconds, and when.
    busiest: (f64, String),
}

impl Figures {
    /// Counts from nothing; the log is a new file.
    pub(crate) fn new(seed: u64) -> Figures {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(format!("soak-{seed}.log"));
        let log = File::create(&path).unwrap();
        let (counts, samples, trace) = Default::default();
        Figures { counts, samples, trace, log, path, busiest: (0.0, String::new()) }
    }

    /// One more of a kind.
    pub(crate) fn count(&mut self, kind: &str) {
        self.add(kind, 1);
    }

    /// So many more of a kind.
    pub(crate) fn add(&mut self, kind: &str, more: u64) {
        *self.counts.entry(kind.to_owned()).or_default() += more;
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, at_ms: u64, what: &str) {
        let line = format!("{:>9.3} s  {what}", at_ms as f64 / 1000.0);
        writeln!(self.log, "------ {line}").unwrap();
        self.trace.push(line);
    }

    /// The program logged something.
    pub(crate) fn note_log(&mut self, line: &str) {
        writeln!(self.log, "{line}").unwrap();
    }

    /// What a process has at a convergence, `reached_after` so many seconds.
    pub(crate) fn sample(
        &mut self,
        (life, is_grown): (u32, bool),
        at_ms: u64,
        cost: Cost,
        reached_after: f64,
    ) {
        let round = u32::try_from(self.samples.len()).unwrap() + 1;
        let minute = at_ms as f64 / 60_000.0;
        self.tell(at_ms, &format!("round {round} after {reached_after:.1} s: {cost:?}"));
        self.samples.push(Sample { life, is_grown, round, minute, cost, reached_after });
    }

    /// How busy the process was for a while, in shares of one core.
    pub(crate) fn note_share(&mut self, at_ms: u64, share: f64) {
        if share > self.busiest.0 {
            self.busiest = (share, format!("at {:.0} s", at_ms as f64 / 1000.0));
        }
    }

    /// Whether memory, descriptors and threads are flat within each life of the process.
    pub(crate) fn growth(&self) -> Option<String> {
        let lives = self.samples.iter().map(|sample| sample.life);
        lives.collect::<std::collections::BTreeSet<_>>().into_iter().find_map(|life| {
            let is_of_life = |sample: &&Sample| sample.life == life && sample.is_grown;
            let mut of_life = self.samples.iter().filter(is_of_life);
            let first = of_life.next()?.cost;
            let last = of_life.next_back()?.cost;
            let is_flat = last.resident_mb <= first.resident_mb * GROWTH.0 + GROWTH.1
                && last.descriptors <= first.descriptors + MORE
                && last.threads as usize <= first.threads as usize + MORE;
            (!is_flat).then(|| format!("life {life} grew from {first:?} to {last:?}"))
        })
    }

    /// Everything as a table.
    pub(crate) fn table(&self) -> String {
        let mut table =
            String::from("round  minute  life  after s  RSS MB  peak MB  fds  threads\n");
        for Sample { life, round, minute, cost, reached_after, .. } in &self.samples {
            let Cost { resident_mb, peak_mb, descriptors, threads, .. } = cost;
            table.push_str(&format!(
                "{round:>4}  {minute:>6.1}  {life:>4}  {reached_after:>7.1}  {resident_mb:>6.2}  \
                 {peak_mb:>7.2}  {descriptors:>3}  {threads:>7}\n"
            ));
        }
        for (kind, count) in &self.counts {
            table.push_str(&format!("{count:>9} {kind}\n"));
        }
        let (share, when) = &self.busiest;
        table + &format!("at most {:.0} % of a core over ten seconds, {when}\n", share * 100.0)
    }

    /// What a failure tells.
    pub(crate) fn trace(&self) -> String {
        let from = self.trace.len().saturating_sub(LAST);
        format!("{}\nthe log is {}", self.trace[from..].join("\n"), self.path.display())
    }
}
