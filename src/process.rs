//! The process as the kernel sees it, for `/metrics`: processor time, memory, threads, descriptors.
//!
//! [`report`] reads `/proc/self` and the control group; pure functions parse the texts. What can't be
//! read is left out.

use std::fs;

use crate::metrics::Metrics;

/// The kernel counts processor time for programs in hundredths of a second, whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;
/// The first version of control groups says "no limit" by a number near the largest there is.
const NO_LIMIT_FROM: u64 = 1 << 60;

/// Sets the metrics of the process to what the kernel says now.
pub(crate) fn report(metrics: &Metrics) {
    for (name, value) in read() {
        if let Some(value) = value {
            metrics.set(name, &[], value);
        }
    }
}

fn read() -> [(&'static str, Option<f64>); 8] {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = text("/proc/self/stat");
    let status = text("/proc/self/status");
    let descriptors = fs::read_dir("/proc/self/fd").ok();
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    // One of them is the folder that is being read.
    let descriptors = descriptors.map(|entries| (entries.count() as u64).saturating_sub(1));
    let max_descriptors = number_after(&text("/proc/self/limits"), "Max open files");
    let whole = |number: Option<u64>| number.map(|number| number as f64);
    [
        ("process_cpu_seconds_total", cpu_seconds(&stat)),
        ("process_start_time_seconds", start_time_seconds(&stat, &text("/proc/stat"))),
        ("process_resident_memory_bytes", whole(kibibytes(&status, "VmRSS:"))),
        ("process_virtual_memory_bytes", whole(kibibytes(&status, "VmSize:"))),
        ("process_threads", whole(number_after(&status, "Threads:"))),
        ("process_open_fds", whole(descriptors)),
        ("process_max_fds", whole(max_descriptors)),
        ("multinic_memory_limit_bytes", whole(memory_limit(&limit.unwrap_or_default()))),
    ]
}

/// A field of `/proc/self/stat` by its number in proc(5), from 3 on. The second, the program's name,
/// stands in brackets and may itself have blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time_seconds(stat: &str, machine: &str) -> Option<f64> {
    let booted = number_after(machine, "btime")?;
    Some(booted as f64 + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// The number behind a word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, word: &str) -> Option<u64> {
    number_after(status, word)?.checked_mul(1024)
}

fn memory_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT_FROM)
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, kibibytes, memory_limit, number_after, read, start_time_seconds};

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194304 900 0 1 0 250 75 0 0 20 0 9 0 1198858 \
                        3133440 393 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn times_are_found_behind_a_name_with_blanks_and_brackets() {
        assert_eq!(cpu_seconds(STAT), Some(3.25));
        let machine = "cpu  1 2 3\nbtime 1700000000\nprocesses 9\n";
        assert_eq!(start_time_seconds(STAT, machine), Some(1_700_011_988.58));
        assert_eq!(start_time_seconds(STAT, "cpu 1\n"), None);
    }

    #[test]
    fn what_is_missing_cut_off_or_no_number_is_left_out() {
        for text in ["", "7 (a", "7 (a) S 1", "7 (a) S 1 7 7 0 -1 4 9 0 1 0 x y"] {
            assert_eq!(cpu_seconds(text), None, "{text}");
        }
        assert_eq!(kibibytes("VmRSS:\t    5120 kB\n", "VmRSS:"), Some(5 << 20));
        assert_eq!(kibibytes("VmSize:\t 5120 kB\n", "VmRSS:"), None);
        assert_eq!(
            number_after("Max open files  1024  4096  files\n", "Max open files"),
            Some(1024)
        );
        assert_eq!(number_after("Max open files  unlimited  4096\n", "Max open files"), None);
    }

    #[test]
    fn no_limit_of_memory_is_no_number() {
        assert_eq!(memory_limit("67108864\n"), Some(64 << 20));
        for unlimited in ["max\n", "9223372036854771712\n", ""] {
            assert_eq!(memory_limit(unlimited), None, "{unlimited}");
        }
    }

    #[test]
    fn the_process_that_runs_this_is_found() {
        let readings = read();
        let value = |name| readings.iter().find(|(known, _)| *known == name).unwrap().1.unwrap();
        let resident = value("process_resident_memory_bytes");
        let address_space = value("process_virtual_memory_bytes");
        assert!((1_048_576.0..address_space).contains(&resident), "{readings:?}");
        assert!(value("process_open_fds") >= 3.0, "{readings:?}");
        assert!(value("process_threads") >= 1.0, "{readings:?}");
        let now = crate::clock::Clock::system().now().wall.as_second() as f64;
        let started = value("process_start_time_seconds");
        assert!((now - 3600.0..=now + 2.0).contains(&started), "{started} {now}");
    }
}
