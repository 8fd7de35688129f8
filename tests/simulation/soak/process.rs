//! The process: how it starts and ends, is stopped and starved, and what clock it sees.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use simulated_cloud::Cloud;
use tempfile::TempDir;

use crate::program::{Answer, Operator};
use crate::skip::skipped;
use crate::soak::disk::Disk;
use crate::usage::Cost;

/// The promise of a stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Clients that say nothing, where descriptors are few.
const CROWD: usize = 8;
/// Where Debian and others put the library that fakes clocks; the one for threads.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Something that is done to the process or to what it stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disturbance {
    /// kill -9, and a new start.
    Kill,
    /// SIGTERM, and a new start.
    Terminate,
    /// SIGSTOP for a while.
    Pause(Duration),
    /// So many descriptors more than it has for a while, and a crowd of clients that hold some.
    FewDescriptors(usize, Duration),
    /// So many bytes more address space than it has, for a while. It may end of it.
    LittleMemory(u64, Duration),
    /// Not a byte of room on the inventory's disk for a while.
    DiskFull(Duration),
    /// An orderly stop, and a start on a disk that is read-only for a while.
    DiskReadOnly(Duration),
    /// The wall clock is so many seconds off from now on.
    ClockJump(i64),
}

impl Disturbance {
    /// Its kind, for the count.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Disturbance::Kill => "kill -9",
            Disturbance::Terminate => "SIGTERM",
            Disturbance::Pause(_) => "SIGSTOP",
            Disturbance::FewDescriptors(..) => "few descriptors",
            Disturbance::LittleMemory(..) => "little memory",
            Disturbance::DiskFull(_) => "disk full",
            Disturbance::DiskReadOnly(_) => "disk read-only",
            Disturbance::ClockJump(_) => "clock jump",
        }
    }
}

/// The program as a process, one life after the other.
pub(crate) struct OperatorProcess {
    operator: Option<Operator>,
    pub(crate) disk: Disk,
    clock: Option<Clock>,
    variables: Vec<(String, String)>,
    /// Counts the lives, from 1.
    pub(crate) number: u32,
    /// Lines of this life that were taken.
    taken: usize,
    /// Clients of its own that say nothing.
    crowd: Vec<TcpStream>,
}

/// The wall clock that the process sees.
struct Clock {
    library: &'static str,
    folder: TempDir,
}

impl Clock {
    fn find() -> Option<Clock> {
        let library = FAKETIME.into_iter().find(|path| Path::new(path).exists());
        if library.is_none() {
            skipped("no clock jumps: libfaketime is not installed");
        }
        let clock = Clock { library: library?, folder: TempDir::new().unwrap() };
        clock.set(0);
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    fn set(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn variables(&self) -> Vec<(String, String)> {
        let file = self.file().to_str().unwrap().to_owned();
        // Only the wall clock jumps, as in reality.
        let values = [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        values.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

impl OperatorProcess {
    pub(crate) fn new(variables: Vec<(String, String)>, is_whole: bool) -> OperatorProcess {
        OperatorProcess {
            operator: None,
            disk: Disk::new(is_whole),
            clock: is_whole.then(Clock::find).flatten(),
            variables,
            number: 0,
            taken: 0,
            crowd: Vec::new(),
        }
    }

    /// Can its clock be made to jump?
    pub(crate) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Starts it where the one before has worked. With a clock that can jump it opens a file
    /// whenever it asks for the time, which is no way to live with few descriptors.
    pub(crate) fn start(&mut self, cloud: &Cloud, with_clock: bool) {
        self.number += 1;
        self.taken = 0;
        let mut variables = self.variables.clone();
        if let Some(clock) = self.clock.as_ref().filter(|_| with_clock) {
            clock.set(0);
            variables.extend(clock.variables());
        }
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.operator = Some(Operator::start_in(cloud, &variables, self.disk.folder()));
    }

    /// The lines it logged since they were last taken.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        let Some(operator) = &self.operator else { return Vec::new() };
        let lines = operator.lines_after(self.taken);
        self.taken += lines.len();
        lines
    }

    /// The answer at one of its addresses, `health` or `inventory`.
    pub(crate) fn get(&self, name: &str, path: &str) -> Option<Answer> {
        self.operator.as_ref()?.try_get(name, path)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.operator.as_ref().map(Operator::id)
    }

    /// How it ended by itself, if it has.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.operator.as_mut()?.end()
    }

    /// What was left of the log of a process that ended by itself.
    pub(crate) fn rest_of_log(&mut self) -> Vec<String> {
        self.wait().1
    }

    /// kill -9; gives the last lines.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.signal("KILL");
        let (status, lines) = self.wait();
        assert_eq!(status.signal(), Some(9));
        lines
    }

    /// SIGTERM; gives the last lines, or what was wrong with its end.
    pub(crate) fn terminate(&mut self) -> (Vec<String>, Result<Duration, String>) {
        // Before it listens it may not have come to listen for signals either.
        self.operator.as_ref().unwrap().line_with("health listens on");
        let begun = Instant::now();
        self.signal("TERM");
        let (status, lines) = self.wait();
        let took = begun.elapsed();
        let is_well = status.code() == Some(0) && took <= STOP_LIMIT;
        (lines, if is_well { Ok(took) } else { Err(format!("{status} {took:?} after SIGTERM")) })
    }

    pub(crate) fn signal(&self, name: &str) {
        self.operator.as_ref().unwrap().signal(name);
    }

    /// The wall clock is so many seconds off.
    pub(crate) fn jump(&self, seconds: i64) {
        if let Some(clock) = &self.clock {
            clock.set(seconds);
        }
    }

    /// It may have so many descriptors more than it has, and a crowd of clients takes some of them;
    /// none for a thousand, as it has otherwise.
    pub(crate) fn limit_descriptors(&mut self, more: Option<usize>) {
        self.crowd.clear();
        let (Some(id), Some(more)) = (self.id(), more) else { return self.limit("--nofile=1024:") };
        let has = Cost::of(id).map_or(0, |cost| cost.descriptors);
        self.limit(&format!("--nofile={}:", has + more));
        let address = self.operator.as_ref().map(|operator| operator.address("inventory"));
        let client = |address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
        self.crowd = address.into_iter().cycle().take(CROWD).filter_map(client).collect();
    }

    /// It may have so many bytes of address space more than it has; none for no limit.
    pub(crate) fn limit_memory(&self, more: Option<u64>) {
        let Some(id) = self.id() else { return };
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size: u64 = size.map_or(0, |text| text.trim_end_matches("kB").trim().parse().unwrap());
        match more {
            Some(more) if size > 0 => self.limit(&format!("--as={}:", size * 1024 + more)),
            _ => self.limit("--as=unlimited:"),
        }
    }

    fn limit(&self, what: &str) {
        let Some(id) = self.id() else { return };
        // A process that has just ended has no limits.
        let _ = Command::new("prlimit").args(["--pid", &id.to_string(), what]).status();
    }

    fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let (status, log) = self.operator.take().unwrap().wait();
        let lines = log.lines().skip(self.taken).map(str::to_owned).collect();
        self.taken = 0;
        (status, lines)
    }
}
