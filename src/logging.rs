//! Log lines, as text or JSON, to standard error.
//!
//! The HTTP and TLS crates log raw requests at their finest level, tokens included. Whatever the
//! filter says, they log nothing finer than `info`.

use std::io::Write as _;

use jiff::Timestamp;
use log::{Level, Log, Metadata, Record};

use crate::config::LogFormat;

/// Crates whose finer levels could show secrets.
const LIMITED: [&str; 4] = ["ureq", "ureq_proto", "rustls", "tiny_http"];

/// Decides before the filter: a directive for one module would override one for its crate.
struct Limited(env_logger::Logger);

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_hidden(metadata.target(), metadata.level()) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !is_hidden(record.target(), record.level()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn is_hidden(target: &str, level: Level) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    level > Level::Info && LIMITED.contains(&name)
}

/// Sets the logger; a second call changes nothing.
pub fn start(
    filter: &str,
    format: LogFormat,
    wall: impl Fn() -> Timestamp + Send + Sync + 'static,
) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    builder.format(move |buffer, record| {
        let time = format!("{:.3}", wall());
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        match format {
            LogFormat::Text => {
                let text = one_line(&record.args().to_string());
                writeln!(buffer, "{time} {:<5} {thread}: {text}", record.level())
            }
            LogFormat::Json => {
                let line = serde_json::json!({
                    "time": time,
                    "level": record.level().as_str().to_ascii_lowercase(),
                    "thread": thread,
                    "target": record.target(),
                    "message": record.args().to_string(),
                });
                writeln!(buffer, "{line}")
            }
        }
    });
    let logger = builder.build();
    let finest = logger.filter();
    if log::set_boxed_logger(Box::new(Limited(logger))).is_ok() {
        log::set_max_level(finest);
    }
}

/// On one line and without control characters: names and answers come from outside.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            // Changes of writing direction: the line would look other than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                line.extend(character.escape_unicode());
            }
            _ if character.is_control() => line.extend(character.escape_unicode()),
            _ => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_line_holds_nothing_that_ends_it_or_that_a_terminal_obeys() {
        assert_eq!(one_line("a VM named\r\n워커-1\t2"), "a VM named  워커-1 2");
        assert_eq!(one_line("\u{1b}[2J\u{7}\u{9b}m"), "\\u{1b}[2J\\u{7}\\u{9b}m");
        assert_eq!(one_line("x\u{202e}y\u{2066}z"), "x\\u{202e}y\\u{2066}z");
    }
}
