//! The operator as a process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use simulated_cloud::Cloud;
use tempfile::TempDir;

use crate::usage::Cost;

/// A running operator; stopped when dropped.
pub(crate) struct Operator {
    child: Child,
    _folder: TempDir,
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
            // A second operator beside the same cloud begins without the first one's records.
            .env("MEMORY_LOST", "renumber")
            .env("RUST_LOG", "error")
            // As the image has it.
            .env("MALLOC_ARENA_MAX", "1")
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
        Cost::of(self.child.id()).unwrap()
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
