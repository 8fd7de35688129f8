//! Prometheus' own tool, which reads what Prometheus would.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::skip::skipped;

/// Runs `promtool` with these arguments in the repository; gives whether it was content, and all it
/// said. None where it isn't installed.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = PROGRAM.get_or_init(|| {
        let candidates = [
            std::env::var_os("PROMTOOL").map(PathBuf::from),
            // Where CI puts it.
            Some(repository.join("target/monitoring-tools/usr/bin/promtool")),
            Some(PathBuf::from("promtool")),
        ];
        let runs = |program: &PathBuf| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        candidates.into_iter().flatten().find(runs)
    });
    let Some(program) = program else {
        let required =
            std::env::var_os("MONITORING_TOOLS").is_some_and(|value| value == "required");
        assert!(!required, "promtool is not installed");
        skipped("promtool is not installed");
        return None;
    };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads its input before it writes. One that doesn't read may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}
