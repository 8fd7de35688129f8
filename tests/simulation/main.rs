//! The operator's whole core under random faults: driven by one seed and an invented clock, in one
//! process, against clouds that fail, change and lie in every known way. `soak` does the same to the
//! real program in real time.
//!
//! | file | what |
//! |---|---|
//! | `cloud`, `kubernetes`, `specs` | the cloud and what happens to it; the objects and the watch |
//! | `transport`, `faults` | what carries requests there, and what goes wrong with them |
//! | `disk` | what holds the inventory |
//! | `driver`, `events`, `process`, `pass`, `post`, `writes` | time, what happens, the operator's processes, passes, POSTs and writes |
//! | `oracle`, `pace`, `convergence`, `secrets`, `holds` | the invariants: (a) POSTs are true, (b) ids stay, (c) convergence, (d) memory, (e) no needless work, (f) no secrets, (g) mass removals |
//! | `expected` | what each object should come to in the end |
//! | `trace`, `coverage` | what a failure prints; what a run must have seen |
//! | `neutron_day` | a day on which Neutron shows half of the ports |
//!
//! Each seed runs twice, with passes of one object and with passes of all that are due, under the same
//! invariants. `SIMULATION_SEEDS=5000` or `7000..9000` chooses the seeds, `SIMULATION_SEED=4711` one of
//! them, whose trace is printed; `SIMULATION_BATCH=1` or `all` one of the two ways. `make simulation`
//! takes random seeds until one fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time and prints it"
)]

mod cloud;
mod convergence;
mod coverage;
mod disk;
mod driver;
mod events;
mod expected;
mod faults;
mod holds;
mod kubernetes;
mod neutron_day;
mod oracle;
mod pace;
mod pass;
mod post;
mod process;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "tests/it uses the rest")]
mod program;
mod secrets;
#[path = "../support/simulated_disk.rs"]
#[allow(dead_code, reason = "tests/it uses the rest")]
mod simulated_disk;
#[path = "../support/skip.rs"]
mod skip;
mod soak;
mod specs;
mod trace;
mod transport;
#[path = "../support/usage.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod usage;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

use driver::{Plan, Simulation};

/// Seeds of an ordinary run. They must show all that `coverage` lists.
const SEEDS: Range<u64> = 0..250;
/// Things that happen in one simulation, at most, before faults end.
const EVENTS: u64 = 60;
/// Each seed runs with passes of one object, and with passes of all that are due.
const BATCHES: [Option<usize>; 2] = [Some(1), None];

fn plan(seed: u64, batch_limit: Option<usize>) -> Plan {
    let without = std::env::var("SIMULATION_WITHOUT").unwrap_or_default();
    let without: BTreeSet<String> =
        without.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
    Plan { seed, without, events: EVENTS, batch_limit }
}

/// What many simulations came to.
#[derive(Default)]
struct Totals {
    counts: BTreeMap<String, u64>,
    simulations: u64,
    passes: u64,
    objects: u64,
    processes: u64,
    simulated_seconds: u64,
    broken: Option<(Plan, String)>,
}

impl Totals {
    fn add(&mut self, simulation: &Simulation, result: Result<(), String>) {
        self.simulations += 1;
        self.passes += simulation.passes();
        self.objects += simulation.objects;
        self.processes += simulation.lives;
        self.simulated_seconds += simulation.at.as_secs();
        for (kind, count) in &simulation.transport.state().counts {
            *self.counts.entry(kind.clone()).or_default() += count;
        }
        if let Err(what) = result {
            self.broken.get_or_insert((simulation.plan.clone(), what));
        }
    }

    fn print(&self, seconds: f64) {
        let per = |number: u64| number as f64 / self.simulations.max(1) as f64;
        println!(
            "{} simulations in {seconds:.1} s: {:.1} years of simulated time; each {:.1} passes of \
             {:.2} objects, {:.1} processes",
            self.simulations,
            self.simulated_seconds as f64 / 86_400.0 / 365.25,
            per(self.passes),
            self.objects as f64 / self.passes.max(1) as f64,
            per(self.processes),
        );
    }
}

/// Runs these seeds on so many threads until one breaks.
fn run_all(seeds: impl Iterator<Item = u64> + Send, threads: usize) -> Totals {
    secrets::listen();
    let (totals, seeds, started) =
        (Mutex::new(Totals::default()), Mutex::new(seeds), Instant::now());
    let work = || {
        while let Some(seed) = { seeds.lock().unwrap().next() } {
            for batch_limit in chosen_batches() {
                let mut simulation = Simulation::new(plan(seed, batch_limit));
                let result = simulation.run();
                let mut totals = totals.lock().unwrap();
                totals.add(&simulation, result);
                if totals.broken.is_some() {
                    return;
                }
                if totals.simulations % 20_000 == 0 {
                    totals.print(started.elapsed().as_secs_f64());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let totals = totals.into_inner().unwrap();
    totals.print(started.elapsed().as_secs_f64());
    totals
}

fn number(text: &str) -> u64 {
    text.trim().replace('_', "").parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// `SIMULATION_BATCH`: a number of objects, or `all`; without it, both ways.
fn chosen_batches() -> Vec<Option<usize>> {
    match std::env::var("SIMULATION_BATCH") {
        Err(_) => BATCHES.to_vec(),
        Ok(text) if text == "all" => vec![None],
        Ok(text) => vec![Some(text.parse().unwrap())],
    }
}

/// `SIMULATION_SEEDS`: a number, a range, or `forever`.
fn chosen_seeds() -> Option<Range<u64>> {
    let text = std::env::var("SIMULATION_SEEDS").ok()?;
    Some(match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None if text == "forever" => fastrand::u64(..u64::MAX / 2)..u64::MAX,
        None => 0..number(&text),
    })
}

#[test]
fn no_invariant_breaks() {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        secrets::listen();
        for batch_limit in chosen_batches() {
            println!("with passes of {batch_limit:?}");
            let mut simulation = Simulation::new(plan(number(&seed), batch_limit));
            let result = simulation.run();
            println!("{}", simulation.trace.text());
            result.unwrap_or_else(|what| panic!("{what}"));
        }
        return;
    }
    let chosen = chosen_seeds();
    let totals = match &chosen {
        Some(seeds) => {
            println!("seeds {seeds:?}");
            let threads = std::thread::available_parallelism().map_or(2, usize::from);
            run_all(seeds.clone(), threads)
        }
        // One thread: the other tests run beside it.
        None => run_all(SEEDS, 1),
    };
    if let Some((plan, what)) = &totals.broken {
        panic!("{}", trace::shortened(plan, what));
    }
    let missing = coverage::missing(&totals.counts);
    if chosen.is_some() {
        println!("{:#?}\nnever: {missing:?}", totals.counts);
    } else {
        assert!(missing.is_empty(), "never happened with any of these seeds: {missing:?}");
    }
}

#[test]
fn a_seed_is_the_same_year_each_time() {
    for (seed, batch_limit) in (0..8).zip(BATCHES.into_iter().cycle()) {
        let trace = || {
            let mut simulation = Simulation::new(plan(seed, batch_limit));
            let result = simulation.run();
            format!("{}{result:?}", simulation.trace.text())
        };
        assert_eq!(trace(), trace(), "simulation {seed}");
    }
}

/// What is recorded at rest, by provider and node: the interfaces, the target, the owner.
fn records_at_rest(seed: u64, batch_limit: Option<usize>) -> Vec<String> {
    let mut simulation = Simulation::new(Plan { events: 0, ..plan(seed, batch_limit) });
    simulation
        .run()
        .unwrap_or_else(|what| panic!("simulation {seed}: {what}\n{}", simulation.trace.text()));
    let process = simulation.process.as_ref().unwrap();
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
    secrets::listen();
    let mut several = 0;
    for seed in 0..40 {
        let [one, all] = BATCHES.map(|batch_limit| records_at_rest(seed, batch_limit));
        assert_eq!(one, all, "simulation {seed}");
        several += usize::from(all.len() > 1);
    }
    assert!(several > 15, "{several} of these simulations have several records");
}
