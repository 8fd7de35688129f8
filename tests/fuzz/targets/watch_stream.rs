//! What the Kubernetes API sends: pages of a list and the lines of a watch.

use std::io::{self, Read};
use std::time::Duration;

use multinic_operator::kube::lines::{LineError, Lines};
use multinic_operator::kube::objects::Page;
use multinic_operator::kube::watch::{
    Action, End, Failure, FailureKind, Input, Observation, Timing, WatchMachine,
};
use multinic_operator::resources::OpenstackConfig;

/// Small, so that the fuzzer finds it.
const LINE_LIMIT_BYTES: usize = 4096;

/// Hands out a few bytes at a time, as a network does.
struct Torn<'a>(&'a [u8], usize);

impl Read for Torn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// Parts are separated by a zero byte: pages and streams, as the machine asks for them. It always
/// has something to do next, waits within its limits, and observes nothing without a version to go
/// on from.
pub fn run(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let mut parts = data.split(|byte| *byte == 0);
    let timing = Timing::default();
    let rng = fastrand::Rng::with_seed(7);
    let mut machine = WatchMachine::new(None, timing, rng);
    let mut action = machine.first_action();
    let mut now = Duration::ZERO;
    let mut stream: Option<Lines<Torn<'_>>> = None;
    let mut listed = false;
    for _ in 0..200 {
        now += Duration::from_millis(10);
        let line;
        let input = match &action {
            Action::List { .. } => {
                let Some(part) = parts.next() else { return };
                match Page::read(part) {
                    Ok(page) => Input::PageListed(page),
                    Err(error) => Input::ListFailed(failure(part, &error.to_string())),
                }
            }
            Action::Watch { version, timeout_seconds } => {
                assert!(!version.is_empty() && version != "0", "a watch from {version:?}");
                assert!(*timeout_seconds > 0);
                assert!(listed, "a watch before a list");
                let Some(part) = parts.next() else { return };
                let torn = Torn(part, usize::from(*step).max(1));
                stream = Some(Lines::new(torn, LINE_LIMIT_BYTES));
                Input::WatchOpened
            }
            Action::Read => match stream.as_mut().map(Lines::next_line) {
                Some(Ok(Some(found))) => {
                    assert!(found.len() <= LINE_LIMIT_BYTES && !found.contains(&b'\n'));
                    line = found.to_vec();
                    Input::Line(&line)
                }
                Some(Ok(None)) | None => Input::WatchEnded(End::InOrder),
                Some(Err(LineError::TooLong { .. })) => {
                    Input::WatchEnded(End::LineTooLong("too long".to_owned()))
                }
                Some(Err(LineError::Io(_))) => Input::WatchEnded(End::Cut("cut".to_owned())),
            },
            Action::Wait(duration) => {
                assert!(*duration <= Duration::from_secs(3600), "a wait of {duration:?}");
                now += *duration;
                Input::Waited
            }
        };
        let done = machine.step(input, now);
        for observation in done.observations {
            match observation {
                Observation::Replaced { objects, .. } => {
                    listed = true;
                    for object in &objects {
                        drop(OpenstackConfig::from_raw(object, &Default::default()));
                    }
                }
                Observation::Applied(object) | Observation::Deleted(object) => {
                    assert!(listed, "an object before the list");
                    drop(OpenstackConfig::from_raw(&object, &Default::default()));
                }
                Observation::Trouble { .. } | Observation::Recovered => {}
            }
        }
        action = done.action;
    }
}

fn failure(part: &[u8], text: &str) -> Failure {
    let kind = match part.first() {
        Some(b'e') => FailureKind::Expired,
        Some(b'v') => FailureKind::VersionTooLarge,
        _ => FailureKind::Garbled,
    };
    let retry_after = part.get(1).map(|seconds| Duration::from_secs(u64::from(*seconds)));
    Failure { kind, text: text.to_owned(), retry_after }
}
