//! The demo, ended by a signal in the middle: it takes its programs and its folder with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In place of both programs: says that it listens, and does nothing until SIGTERM.
const PROGRAM: &str = r#"#!/bin/sh
echo $$ >"$0.pid"
[ -z "$INVENTORY_DB_PATH" ] || /bin/mkdir -p "${INVENTORY_DB_PATH%/*}"
trap 'kill $!; exit 0' TERM
/bin/sleep 600 &
echo "viola-test-api listens on 127.0.0.1:9, inventory listens on 127.0.0.1:9" >&2
wait
"#;

fn program(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, PROGRAM).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_signal_ends_the_demo_with_its_programs_and_without_its_folder() {
    for (name, number) in [("TERM", 15), ("HUP", 1)] {
        ended_by(name, number);
    }
}

fn ended_by(signal: &str, number: i32) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-ended-by-{signal}"));
    drop(fs::remove_dir_all(&folder));
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let programs = ["operator", "viola"].map(|name| program(&folder, name));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/three-nodes");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--stay")
        .args(&programs)
        .arg(fixture)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(demo.stderr.take().unwrap()).lines().map_while(Result::ok);
    let both_run = log.by_ref().filter(|line| line.contains("listens on")).nth(1);
    assert!(both_run.is_some(), "the demo ended: {:?}", demo.wait());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
    Command::new("kill").args([&format!("-{signal}"), &demo.id().to_string()]).status().unwrap();
    log.for_each(drop);
    assert_eq!(demo.wait().unwrap().code(), Some(128 + number));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "a folder is left");
    for program in programs {
        let pid = fs::read_to_string(program.with_extension("pid")).unwrap();
        let is_there = Path::new("/proc").join(pid.trim()).exists();
        assert!(!is_there, "{} still runs", program.display());
    }
}
