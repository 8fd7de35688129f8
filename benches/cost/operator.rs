//! The operator as a process of its own, and what the system says it costs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use simulated_cloud::Cloud;
use tempfile::TempDir;

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running operator; stopped when dropped.
pub(crate) struct Operator {
    child: Child,
    _folder: TempDir,
}

/// What the system says of it at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU seconds since its start, of all threads that ever were.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, MB.
    pub(crate) resident_mb: f64,
    /// The most there ever was of it.
    pub(crate) peak_mb: f64,
    /// Threads.
    pub(crate) threads: u64,
    /// Sockets, listening ones among them.
    pub(crate) sockets: usize,
}

impl Operator {
    /// Starts the program that `cargo bench` built, or the one `MULTINIC_OPERATOR` names.
    pub(crate) fn start(cloud: &Cloud, variables: &[(&str, &str)]) -> Operator {
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_multinic-operator"));
        let program = std::env::var_os("MULTINIC_OPERATOR").map_or_else(built, PathBuf::from);
        let folder = TempDir::new().unwrap();
        let child = Command::new(program)
            .env_clear()
            .envs(cloud.environment())
            .env("HEALTH_ADDR", "127.0.0.1:0")
            .env("INVENTORY_ADDR", "127.0.0.1:0")
            .env("INVENTORY_DB_PATH", folder.path().join("inventory.json"))
            .env("RUST_LOG", "error")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Operator { child, _folder: folder }
    }

    /// What it costs at this moment.
    pub(crate) fn cost(&self) -> Cost {
        let status = self.proc_file("status");
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let stat = self.proc_file("stat");
        // The second field is the name, in brackets; user and system time are the 14th and 15th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let sockets = files
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count();
        Cost {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_mb: number("VmRSS:") as f64 / 1024.0,
            peak_mb: number("VmHWM:") as f64 / 1024.0,
            threads: number("Threads:"),
            sockets,
        }
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // In good order, so that a profiler in between can write its file.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A measurement takes time; there is nothing to be waited for but that.
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}
