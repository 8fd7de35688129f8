//! What a test doesn't test on this machine, and why. `make test` prints the list at its end.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// Notes that the calling test tests less than it should.
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {}\n", thread.name().unwrap_or("a test"), why.trim());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped-tests");
    let file = OpenOptions::new().create(true).append(true).open(path);
    // In one write: several tests append at the same time.
    file.unwrap().write_all(line.as_bytes()).unwrap();
}
