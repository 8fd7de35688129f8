//! A program of ours as a process: started with an environment and nothing else, ended by its id.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::PATIENCE;

/// An orderly stop takes at most 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running program; killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    /// A message when the log has ended, and with it the program.
    ended: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    url: String,
}

impl Program {
    /// Starts it and waits until it says where it listens, after `marker`. A loud one's log goes to
    /// standard error as it comes.
    pub(crate) fn start(
        path: &Path,
        environment: &[(String, String)],
        marker: &str,
        is_loud: bool,
    ) -> Result<Program, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = Command::new(path)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let stderr = child.stderr.take().ok_or("a program has no log")?;
        let log = Arc::default();
        let lines = follow(stderr, Arc::clone(&log), is_loud.then(|| name.clone()));
        let mut program = Program { name, child, ended: lines, log, url: String::new() };
        while let Ok(line) = program.ended.recv_timeout(PATIENCE) {
            if let Some((_, address)) = line.split_once(marker) {
                program.url = format!("http://{}", address.trim());
                return Ok(program);
            }
        }
        program.show_log();
        Err(format!("{} didn't start", program.name))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// What it logged with this text in it, from there on.
    pub(crate) fn lines_from(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let from = |line: &String| line.find(text).map(|at| line[at..].to_owned());
        log.iter().filter_map(from).collect()
    }

    /// Everything it logged, for whoever wants to know why the demo failed.
    pub(crate) fn show_log(&self) {
        for line in self.log.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            drop(writeln!(io::stderr(), "{} | {line}", self.name));
        }
    }

    /// Ends it as Kubernetes would.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map_err(|error| error.to_string())?;
        loop {
            match self.ended.recv_timeout(STOP_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} didn't end when it was asked to", self.name));
                }
            }
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} ended with {status}", self.name)),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Where `stop` has waited for its end, there is nothing left to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Keeps a program's log and gives its lines to whoever listens, until it ends.
#[expect(clippy::disallowed_methods, reason = "it ends with the program's log")]
fn follow(
    stderr: ChildStderr,
    log: Arc<Mutex<Vec<String>>>,
    shown_as: Option<String>,
) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(name) = &shown_as {
                drop(writeln!(io::stderr(), "{name} | {line}"));
            }
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
            drop(tell.send(line));
        }
    });
    told
}
