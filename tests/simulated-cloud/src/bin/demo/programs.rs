//! The programs as processes: started with an environment and nothing else, ended by their ids.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::PATIENCE;

/// An orderly stop takes at most 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// The processes that were started. They end with the demo, however that ends.
#[derive(Clone, Default)]
pub(crate) struct Processes(Arc<Mutex<Started>>);

#[derive(Default)]
struct Started {
    children: Vec<Arc<Mutex<Child>>>,
    /// Nothing more may be started.
    is_over: bool,
}

impl Processes {
    fn spawn(&self, command: &mut Command) -> Result<Arc<Mutex<Child>>, String> {
        let mut started = lock(&self.0);
        if started.is_over {
            return Err("the demo is being ended".to_owned());
        }
        let child = command.spawn().map_err(|error| error.to_string())?;
        let child = Arc::new(Mutex::new(child));
        started.children.push(Arc::clone(&child));
        Ok(child)
    }

    /// Ends all of them, in order where they do so in time.
    #[expect(clippy::disallowed_methods, reason = "a process's end can only be polled for")]
    pub(crate) fn end(&self) {
        let mut started = lock(&self.0);
        started.is_over = true;
        for child in &started.children {
            drop(terminate(&lock(child)));
        }
        for child in &started.children {
            let mut child = lock(child);
            for _ in 0..STOP_LIMIT.as_millis() / PAUSE.as_millis() {
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Asks a process to end, as Kubernetes does.
fn terminate(child: &Child) -> Result<(), String> {
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    status.map(drop).map_err(|error| error.to_string())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running program; killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Arc<Mutex<Child>>,
    /// A message when the log has ended, and with it the program.
    ended: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    url: String,
}

impl Program {
    /// Starts it and waits until it says where it listens, after `marker`. A loud one's log goes to
    /// standard error as it comes.
    pub(crate) fn start(
        processes: &Processes,
        path: &Path,
        environment: &[(String, String)],
        marker: &str,
        is_loud: bool,
    ) -> Result<Program, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(path);
        command.env_clear().envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let child = processes.spawn(&mut command);
        let child = child.map_err(|error| format!("{}: {error}", path.display()))?;
        let stderr = lock(&child).stderr.take().ok_or("a program has no log")?;
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
        let log = lock(&self.log);
        let from = |line: &String| line.find(text).map(|at| line[at..].to_owned());
        log.iter().filter_map(from).collect()
    }

    /// Everything it logged, to say why the demo failed.
    pub(crate) fn show_log(&self) {
        for line in lock(&self.log).iter() {
            drop(writeln!(io::stderr(), "{} | {line}", self.name));
        }
    }

    /// Ends it as Kubernetes would.
    pub(crate) fn stop(self) -> Result<(), String> {
        terminate(&lock(&self.child))?;
        loop {
            match self.ended.recv_timeout(STOP_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} didn't end when it was asked to", self.name));
                }
            }
        }
        let status = lock(&self.child).wait().map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} ended with {status}", self.name)),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Where `stop` has waited for its end, there is nothing left to kill.
        let mut child = lock(&self.child);
        drop(child.kill());
        drop(child.wait());
    }
}

/// Keeps a program's log and sends its lines to the receiver, until it ends.
#[expect(clippy::disallowed_methods, reason = "it ends with the program's log")]
fn follow(
    stderr: ChildStderr,
    log: Arc<Mutex<Vec<String>>>,
    shown_as: Option<String>,
) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(name) = &shown_as {
                drop(writeln!(io::stderr(), "{name} | {line}"));
            }
            lock(&log).push(line.clone());
            drop(sender.send(line));
        }
    });
    receiver
}
