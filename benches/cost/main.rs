//! What syncs cost: `make bench`, or `cargo bench --bench cost [-- SECTION...]`.
//!
//! Runs the release program against the simulated cloud and prints a table and, as its last line,
//! the same as JSON. Figures that depend on the machine are ratios to the injected latency or CPU
//! seconds; the counts are asserted in `tests/it/cost.rs`. Sections: `start`, `sizes`, `polls`,
//! `crowds`, `beside`, `inventory`; and, only when asked for, `soak`, which takes `SOAK_SECONDS` (600), and `profile`: ten
//! polls of 3,000 ports, for a profiler that `MULTINIC_OPERATOR` names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a benchmark fails by panicking, prints its figures and measures real time"
)]

mod inventory;
mod measure;
#[allow(dead_code)]
mod operator;
#[path = "../../tests/support/population.rs"]
mod population;
mod report;
#[allow(dead_code, reason = "the soak uses the rest")]
#[path = "../../tests/support/usage.rs"]
mod usage;

use population::Population;
use report::Report;

fn main() {
    // `cargo bench` passes `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runs = |section: &str| match wanted.as_slice() {
        [] => !matches!(section, "soak" | "profile"),
        wanted => wanted.iter().any(|name| name == section),
    };
    let mut report = Report::default();
    if runs("start") {
        measure::start(&mut report);
    }
    if runs("sizes") {
        for vms in [1, 3, 30, 100, 300, 3_000] {
            measure::one_object(&mut report, vms, true);
        }
        measure::one_object(&mut report, 30, false);
    }
    if runs("polls") {
        for (vms, polls) in [(30, 100), (1_000, 20), (3_000, 10)] {
            measure::polls(&mut report, vms, polls);
        }
    }
    if runs("profile") {
        measure::polls(&mut report, 1_000, 10);
    }
    if runs("crowds") {
        for (objects, vms, ports, projects) in
            [(200, 10, 3, 1), (1_000, 3, 2, 1), (1_000, 3, 3, 100), (1_000, 10, 3, 1)]
        {
            let population = Population { projects, ..Population::new(objects, vms, ports) };
            measure::crowd(&mut report, &population);
        }
    }
    if runs("beside") {
        measure::beside(&mut report);
    }
    if runs("inventory") {
        inventory::rates(&mut report);
    }
    if runs("soak") {
        measure::soak(&mut report);
    }
    report.print();
}
