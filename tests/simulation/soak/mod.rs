//! The release program against the simulated cloud over sockets while everything goes wrong: services
//! fail, hang and disappear, the process is killed, stopped and starved, clocks jump, disks fill. What
//! it sends, reports and records is checked all the while.
//!
//! | file | what |
//! |---|---|
//! | `run`, `schedule` | faults and convergence in turns, by one seed; what is done when |
//! | `faults` | what goes wrong with the services, and what changes in cloud and cluster |
//! | `process`, `disk` | the process: starts, ends, pauses, limits, its clock; its small disk |
//! | `observation` | log, requests, answers and costs, read all the while |
//! | `oracle` | each POST against what the cloud answered, and each id |
//! | `answers` | what Viola accepted, and what the inventory may and must hold |
//! | `convergence` | what must be true once nothing goes wrong any more |
//! | `figures` | counts, memory, descriptors and threads, and the trace that a failure prints |
//!
//! `make soak` runs it for an hour; `SOAK_SECONDS` and `SOAK_SEED` choose another length and a printed
//! seed. Real time never repeats exactly: a seed gives the same faults in the same order, not the same
//! interleaving. The log is kept in the target's `tmp` folder.

mod answers;
mod convergence;
mod disk;
mod faults;
mod figures;
mod observation;
mod oracle;
mod process;
mod run;
mod schedule;

use std::time::Duration;

use run::{Plan, Soak};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// The faults of a short soak, the same each time; with this seed nodes of three ports are sent.
const SHORT: u64 = 3;

#[test]
fn a_short_soak_converges() {
    Soak::run(Plan {
        seed: number("SOAK_SEED").unwrap_or(SHORT),
        length: Duration::from_secs(1),
        faults: Duration::from_secs(9),
        steady: Duration::from_secs(2),
        is_whole: false,
    });
}

#[test]
#[ignore = "takes an hour; make soak runs it"]
fn a_long_soak_converges() {
    let seconds = number("SOAK_SECONDS").unwrap_or(3600);
    // Two long lives and two times of kills in an hour.
    let period = (seconds / 14).clamp(20, 240);
    Soak::run(Plan {
        seed: number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..)),
        length: Duration::from_secs(seconds),
        faults: Duration::from_secs(period),
        steady: Duration::from_secs(period / 12 + 2),
        is_whole: true,
    });
}
