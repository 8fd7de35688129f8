//! Log lines, as text or JSON, to standard error.
//!
//! The HTTP and TLS crates log raw requests at their finest level, tokens included, so they are
//! held at `info` whatever the filter says.

use std::io::Write as _;

use jiff::Timestamp;
use log::LevelFilter;

use crate::config::LogFormat;

/// Crates whose finer levels could show secrets.
const HELD_BACK: [&str; 4] = ["ureq", "ureq_proto", "rustls", "tiny_http"];

/// Sets the logger up, once; a second call changes nothing.
pub fn start(
    filter: &str,
    format: LogFormat,
    wall: impl Fn() -> Timestamp + Send + Sync + 'static,
) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    for name in HELD_BACK {
        builder.filter_module(name, LevelFilter::Info);
    }
    builder.format(move |buffer, record| {
        let time = format!("{:.3}", wall());
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        match format {
            LogFormat::Text => {
                // One event, one line: what comes from outside may hold line ends.
                let text = record.args().to_string().replace(['\n', '\r'], " ");
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
    let _ = builder.try_init();
}
