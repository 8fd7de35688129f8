//! The real program against a real cloud of sockets in which everything goes wrong, for an hour:
//! services fail, hang and lie down, the process is killed, stopped and starved, clocks jump, disks
//! fill. What it sends, says and holds is judged all the while. The simulated years (`tests/year`)
//! do this to the core in invented time; here kernel, sockets, threads and files are real.
//!
//! | file | what |
//! |---|---|
//! | `campaign`, `agenda` | the hour: trouble and calm by turns, by one seed; what is done when |
//! | `harm` | what goes wrong with the services, and what changes in cloud and cluster |
//! | `life`, `disk` | the process: starts, ends, pauses, limits, its clock; its small disk |
//! | `watch` | what is looked at all the while: log, requests, answers, costs |
//! | `judge` | every POST against what the cloud said, and every id |
//! | `answers` | what Viola made of them, and what the inventory may and must hold |
//! | `calm` | what must be true once nothing goes wrong any more |
//! | `figures` | counts, memory, descriptors and threads, and the story that a failure tells |
//!
//! `make campaign` runs the hour with the release program; `CAMPAIGN_SECONDS` and `CAMPAIGN_SEED`
//! choose another length and a printed seed. Real time never repeats exactly: a seed gives the same
//! harm in the same order, not the same interleaving. The log is kept in the target's `tmp` folder.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, measures real time, and is nobody's library"
)]

mod agenda;
mod answers;
#[allow(dead_code, reason = "the simulated years use the rest")]
#[path = "../year/books.rs"]
mod books;
mod calm;
mod campaign;
mod disk;
mod figures;
mod harm;
mod judge;
mod life;
#[allow(dead_code, reason = "the simulated years use the rest")]
#[path = "../year/logs.rs"]
mod logs;
#[path = "../year/outcome.rs"]
mod outcome;
#[allow(dead_code, reason = "tests/it uses the rest")]
#[path = "../it/process.rs"]
mod process;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../../benches/cost/usage.rs"]
mod usage;
mod watch;
#[allow(dead_code, reason = "the simulated years use the rest")]
#[path = "../year/wishes.rs"]
mod wishes;
#[allow(dead_code, reason = "the simulated years use the rest")]
#[path = "../year/world.rs"]
mod world;

use std::time::Duration;

use campaign::{Campaign, Plan};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// The harm of a short campaign, the same each time, for it must not fail by bad luck in somebody's
/// way; it is one in which much is sent.
const SHORT: u64 = 13;

#[test]
fn a_short_campaign_leaves_everything_in_order() {
    Campaign::run(Plan {
        seed: number("CAMPAIGN_SEED").unwrap_or(SHORT),
        length: Duration::from_secs(1),
        trouble: Duration::from_secs(9),
        steady: Duration::from_secs(2),
        is_whole: false,
    });
}

#[test]
#[ignore = "takes an hour; make campaign runs it"]
fn a_long_campaign_leaves_everything_in_order() {
    let seconds = number("CAMPAIGN_SECONDS").unwrap_or(3600);
    // Two long lives and two times of kills in an hour.
    let trouble = (seconds / 14).clamp(20, 240);
    Campaign::run(Plan {
        seed: number("CAMPAIGN_SEED").unwrap_or_else(|| fastrand::u64(..)),
        length: Duration::from_secs(seconds),
        trouble: Duration::from_secs(trouble),
        steady: Duration::from_secs(trouble / 12 + 2),
        is_whole: true,
    });
}
