//! What is looked at all the while: the log, the requests, whatever anybody may read, and what the
//! process costs.

use simulated_cloud::LoggedRequest;

use crate::secrets;
use crate::soak::run::{Broken, Soak};
use crate::usage::Cost;

const SAMPLE_EVERY: u64 = 10_000;
/// What the oracle remembers of the past, in ms.
const MEMORY: u64 = 1_800_000;
/// The share of a core that a process may take over ten seconds; a loop without a pause takes one.
const BUSY: f64 = 0.8;
/// How a process says that it ends for want of memory: the allocator, or a thread that gets no stack
/// for its signals, in which case the standard library panics.
const WANT: [&str; 2] = ["memory allocation of", "sys/pal/unix/stack_overflow.rs"];

impl Soak {
    /// Reads what the process logs, asks and sends, and looks whether it lives.
    pub(crate) fn watch_over(&mut self) -> Result<(), Broken> {
        let lines = self.process.take_lines();
        self.read_log(&lines)?;
        self.check_requests()?;
        if let Some(end) = self.process.end() {
            let may_end = self.may_end;
            let at = self.now();
            let lines = self.process.rest_of_log();
            self.read_log(&lines)?;
            let said_why = std::mem::take(&mut self.said_why);
            self.ended(at, &[])?;
            if !may_end || !(said_why || end.code() == Some(1)) {
                return Err(format!("it ended by itself ({end}): {lines:?}"));
            }
            self.tell("ended for want of memory", &format!("it ended: {end}, {lines:?}"));
            let with_clock = self.with_clock;
            self.start(with_clock)?;
        }
        if self.now() >= self.sampled.0 + SAMPLE_EVERY {
            self.sample()?;
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<(), Broken> {
        let now = self.now();
        let Some(cost) = self.process.id().and_then(Cost::of) else { return Ok(()) };
        let (at, seconds) = self.sampled;
        let share = (cost.cpu_seconds - seconds) / ((now - at) as f64 / 1000.0);
        self.figures.note_share(now, share);
        self.sampled = (now, cost.cpu_seconds);
        self.figures.count("samples");
        self.figures
            .note_log(&format!("------ {now} ms: {cost:?}, {:.1} % of a core", share * 100.0));
        if share > BUSY {
            return Err(format!("it takes {:.0} % of a core", share * 100.0));
        }
        if self.paused.is_none() {
            self.search_for_secrets()?;
            if let Ok(inventory) = self.inventory() {
                // What was accepted while that was asked for counts as well.
                self.check_requests()?;
                self.oracle.answers.wrongly_recorded(&inventory).map_or(Ok(()), Err)?;
            }
        }
        if self.disk_bad_until.is_none()
            && self.starved_until.is_none()
            && self.paused.is_none()
            && self.process.get("health", "/readyz").is_some_and(|answer| answer.status == 200)
        {
            self.oracle.note_disk_well();
        }
        Ok(())
    }

    pub(crate) fn read_log(&mut self, lines: &[String]) -> Result<(), Broken> {
        for line in lines {
            self.figures.note_log(line);
            if let Some(secret) = secrets::secret_in(line) {
                return Err(format!("a secret in the log: {secret}"));
            }
            self.said_why |= self.may_end && WANT.iter().any(|want| line.contains(want));
            let is_panic = line.contains("panicked") && !self.said_why;
            if is_panic || line.contains("that is a bug") {
                return Err(format!("a panic: {line}"));
            }
        }
        self.figures.add("log lines read", lines.len() as u64);
        Ok(())
    }

    /// No secret in anything that anybody may read.
    pub(crate) fn search_for_secrets(&mut self) -> Result<(), Broken> {
        let places = [
            ("inventory", "/v1/inventory/node-configs"),
            ("inventory", "/"),
            ("health", "/metrics"),
            ("health", "/readyz"),
        ];
        let mut shown: Vec<String> = places
            .iter()
            .filter_map(|(name, path)| Some(self.process.get(name, path)?.body))
            .collect();
        shown.push(format!("{:?}", self.cloud.kubernetes().events()));
        shown.push(format!("{:?}", self.cloud.kubernetes().objects("OpenstackConfig")));
        self.figures.add("texts searched for secrets", shown.len() as u64);
        let found = shown.iter().find_map(|text| secrets::secret_in(text));
        found.map_or(Ok(()), |secret| Err(format!("a secret is shown: {secret}")))
    }

    /// Checks what was asked since the last time.
    pub(crate) fn check_requests(&mut self) -> Result<u64, Broken> {
        let ended: Vec<LoggedRequest> = self.cloud.journal().take_ended();
        for request in &ended {
            let status = request.status.map_or("no answer".to_owned(), |status| status.to_string());
            *self.requests.entry(format!("requests: {} {status}", request.service)).or_default() +=
                1;
            let parameters = request.target.split(['?', '&']);
            let vms = parameters.filter_map(|part| part.strip_prefix("device_id="));
            self.asked_vms.extend(vms.map(str::to_ascii_lowercase));
            self.oracle.check_request(request)?;
        }
        self.oracle.forget_before(self.now().saturating_sub(MEMORY));
        Ok(ended.len() as u64)
    }
}
