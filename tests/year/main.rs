//! Simulated years: the operator's whole core, driven by one seed and an invented clock, against
//! clouds that fail, change and lie in every way that is known, in one process.
//!
//! | file | what |
//! |---|---|
//! | `world` | the cloud and what happens to it |
//! | `kubernetes`, `wishes` | the objects and the watch; what people ask for |
//! | `sky`, `faults` | what carries requests there, and what goes wrong with them |
//! | `disk` | what holds the inventory |
//! | `driver`, `events`, `life`, `pass`, `post`, `writes` | time, what happens, the operator's lives, its syncs, its POSTs, its writes |
//! | `books`, `pace`, `calm`, `logs` | the invariants: (a) truth, (b) ids, (c) calm, (d) memory, (e) haste, (f) secrets |
//! | `outcome` | what each object should come to in the end |
//! | `story`, `coverage` | what is told of it |
//!
//! Each year is lived twice, with passes of one object and with passes of all that are due, under the
//! same invariants. `YEAR_SEEDS=5000` or `YEAR_SEEDS=7000..9000` chooses the years, `YEAR_SEED=4711` one
//! of them, which is told whole; `YEAR_BATCH=1` or `YEAR_BATCH=all` one of the two ways; `make soak` goes
//! on until it is stopped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may fail by a panic, in its helpers too, measures real time and prints it"
)]

mod books;
mod calm;
mod coverage;
mod disk;
mod driver;
mod events;
mod faults;
mod kubernetes;
mod life;
mod logs;
mod outcome;
mod pace;
mod pass;
mod post;
#[allow(dead_code, reason = "shared with the inventory's tests, which use more of it")]
#[path = "../inventory/simulated_disk.rs"]
mod simulated_disk;
mod sky;
mod story;
mod wishes;
mod world;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use driver::{Plan, Year};

/// Years of an ordinary run; `make soak` goes on with others.
const YEARS: u64 = 500;
/// Things that happen in one year, at most, before it calms down.
const EVENTS: u64 = 60;

fn plan(seed: u64, batch_limit: Option<usize>) -> Plan {
    let without = std::env::var("YEAR_WITHOUT").unwrap_or_default();
    let without: BTreeSet<String> =
        without.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
    Plan { seed, without, events: EVENTS, batch_limit }
}

/// What many years came to.
#[derive(Default)]
struct Sum {
    counts: BTreeMap<String, u64>,
    years: u64,
    passes: u64,
    objects: u64,
    lives: u64,
    simulated_seconds: u64,
    broken: Option<(Plan, String)>,
}

/// Each year is lived twice: with passes of one object, and with passes of all that are due.
const BATCHES: [Option<usize>; 2] = [Some(1), None];

fn live(seed: u64, sum: &Mutex<Sum>) -> bool {
    chosen_batches().into_iter().all(|batch_limit| live_with(plan(seed, batch_limit), sum))
}

fn live_with(plan: Plan, sum: &Mutex<Sum>) -> bool {
    let mut year = Year::new(plan.clone());
    let result = year.live();
    let mut sum = sum.lock().unwrap();
    sum.years += 1;
    sum.passes += year.passes();
    sum.objects += year.objects;
    sum.lives += year.lives;
    sum.simulated_seconds += year.at.as_secs();
    for (kind, count) in &year.sky.state().counts {
        *sum.counts.entry(kind.clone()).or_default() += count;
    }
    if let Err(what) = result
        && sum.broken.as_ref().is_none_or(|(known, _)| plan.seed < known.seed)
    {
        sum.broken = Some((plan, what));
    }
    sum.broken.is_none()
}

/// Lives these years, on all cores, until one breaks.
fn live_all(seeds: impl Iterator<Item = u64> + Send) -> Sum {
    logs::listen();
    let (sum, goes_on, lived) =
        (Mutex::new(Sum::default()), AtomicBool::new(true), AtomicU64::new(0));
    let seeds = Mutex::new(seeds);
    let (started, threads) =
        (Instant::now(), std::thread::available_parallelism().map_or(2, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while goes_on.load(Ordering::SeqCst) {
                    let Some(seed) = seeds.lock().unwrap().next() else { return };
                    if !live(seed, &sum) {
                        goes_on.store(false, Ordering::SeqCst);
                    }
                    let lived = lived.fetch_add(1, Ordering::SeqCst) + 1;
                    if lived % 10_000 == 0 {
                        println!("{lived} years, {:.0} s", started.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    tell(&sum, started.elapsed().as_secs_f64());
    sum
}

fn tell(sum: &Sum, seconds: f64) {
    let centuries = sum.simulated_seconds as f64 / 86_400.0 / 365.25;
    let per = |number: u64| number as f64 / sum.years.max(1) as f64;
    let of_faults: u64 = sum
        .counts
        .iter()
        .filter(|(kind, _)| faults::SERVICES.iter().any(|s| kind.starts_with(&s.to_string())))
        .map(|(_, count)| count)
        .sum();
    println!(
        "{} years in {seconds:.1} s ({:.1} a second): {centuries:.1} years of simulated time; \
         each {:.1} passes of {:.2} objects, {:.1} lives, {:.1} requests met by a fault",
        sum.years,
        sum.years as f64 / seconds,
        per(sum.passes),
        sum.objects as f64 / sum.passes.max(1) as f64,
        per(sum.lives),
        per(of_faults),
    );
    if std::env::var_os("YEAR_COUNTS").is_some() {
        for (kind, count) in &sum.counts {
            println!("{count:>9} {kind}");
        }
        println!("never: {:?}", coverage::missing(&sum.counts));
    }
}

fn judge(sum: &Sum) {
    if let Some((plan, what)) = &sum.broken {
        println!("year {} broke: {what}", plan.seed);
        panic!("{}", story::shortened(plan, what));
    }
}

fn number(text: &str) -> u64 {
    text.trim().replace('_', "").parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// `YEAR_BATCH`: a number of objects, or `all`; without it, both ways.
fn chosen_batches() -> Vec<Option<usize>> {
    match std::env::var("YEAR_BATCH") {
        Err(_) => BATCHES.to_vec(),
        Ok(text) if text == "all" => vec![None],
        Ok(text) => vec![Some(text.parse().unwrap())],
    }
}

/// `YEAR_SEEDS`: a number, a range, or `forever`.
fn chosen() -> Option<Range<u64>> {
    let text = std::env::var("YEAR_SEEDS").ok()?;
    Some(match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None if text == "forever" => fastrand::u64(..u64::MAX / 2)..u64::MAX,
        None => 0..number(&text),
    })
}

#[test]
fn no_invariant_breaks_in_any_year() {
    if let Ok(seed) = std::env::var("YEAR_SEED") {
        logs::listen();
        for batch_limit in chosen_batches() {
            println!("with passes of {batch_limit:?}");
            let mut year = Year::new(plan(number(&seed), batch_limit));
            let result = year.live();
            println!("{}", year.story.text());
            result.unwrap_or_else(|what| panic!("{what}"));
        }
        return;
    }
    if let Some(seeds) = chosen() {
        println!("years {seeds:?}");
        return judge(&live_all(seeds));
    }
    println!("years 0..{YEARS}");
    let sum = live_all(0..YEARS);
    judge(&sum);
    let missing = coverage::missing(&sum.counts);
    assert!(missing.is_empty(), "never happened in any of these years: {missing:?}");
}

#[test]
fn a_seed_is_the_same_year_each_time() {
    for (seed, batch_limit) in (0..8).zip(BATCHES.into_iter().cycle()) {
        let story = || {
            let mut year = Year::new(plan(seed, batch_limit));
            let result = year.live();
            format!("{}{result:?}", year.story.text())
        };
        assert_eq!(story(), story(), "year {seed}");
    }
}

/// What is recorded at rest, by provider and node: the interfaces, the target, the owner.
fn records_at_rest(seed: u64, batch_limit: Option<usize>) -> Vec<String> {
    let mut year = Year::new(Plan { events: 0, ..plan(seed, batch_limit) });
    year.live().unwrap_or_else(|what| panic!("year {seed}: {what}\n{}", year.story.text()));
    let process = year.process.as_ref().unwrap();
    let inventory = process.context.store.snapshot();
    let records = inventory.iter().map(|stored| {
        let record = &stored.record;
        let owner = record.owner.as_ref().map(|owner| &owner.uid);
        format!("{} {:?} {:?} {owner:?}", record.provider_id, record.config, record.accepted_by)
    });
    records.collect()
}

#[test]
fn at_rest_the_records_are_the_same_with_passes_of_one_and_of_all() {
    logs::listen();
    let mut several = 0;
    for seed in 0..40 {
        let [one, all] = BATCHES.map(|batch_limit| records_at_rest(seed, batch_limit));
        assert_eq!(one, all, "year {seed}");
        several += usize::from(all.len() > 1);
    }
    assert!(several > 15, "{several} of these years have several records");
}
