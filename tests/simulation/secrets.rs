//! The sink of the operator's log lines: nothing is kept of them but whether one held a secret.

use std::sync::{Mutex, Once};

use crate::cloud::{SECRET_MARK, TOKEN_MARK};

static LEAKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Sink {
    is_shown: bool,
}

impl log::Log for Sink {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if self.is_shown {
            println!("                  {} {line}", record.level());
        }
        if let Some(found) = secret_in(&line) {
            LEAKED.lock().unwrap().push(found);
        }
    }

    fn flush(&self) {}
}

/// Takes all log lines of this process from now on.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let sink = Sink { is_shown: std::env::var_os("SIMULATION_LOG").is_some() };
        log::set_boxed_logger(Box::new(sink)).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// A log line with a secret, if there was one. Of several simulations at once it may be any of theirs.
pub(crate) fn leaked() -> Option<String> {
    LEAKED.lock().unwrap().pop()
}

/// The text around a secret, if it holds one.
pub(crate) fn secret_in(text: &str) -> Option<String> {
    let at = [SECRET_MARK, TOKEN_MARK].into_iter().find_map(|mark| text.find(mark))?;
    let around = |index: usize| (0..=index).rev().find(|index| text.is_char_boundary(*index));
    let (from, to) = (around(at.saturating_sub(120)), around((at + 40).min(text.len())));
    Some(text[from.unwrap_or(0)..to.unwrap_or(text.len())].to_owned())
}
