//! What the system says a process costs.

use std::fs;

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

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
    /// Descriptors of every kind, the sockets among them.
    pub(crate) descriptors: usize,
}

impl Cost {
    /// What the process of this id costs at this moment; none if there is no such process.
    pub(crate) fn of(id: u32) -> Option<Cost> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).ok();
        let status = file("status")?;
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let stat = file("stat")?;
        // The second field is the name, in brackets; user and system time are the 14th and 15th.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks: f64 =
            fields.get(11..13)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        let files: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
            .ok()?
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        Some(Cost {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_mb: number("VmRSS:")? as f64 / 1024.0,
            peak_mb: number("VmHWM:")? as f64 / 1024.0,
            threads: number("Threads:")?,
            sockets: files.iter().filter(|target| target.starts_with("socket:")).count(),
            descriptors: files.len(),
        })
    }
}
