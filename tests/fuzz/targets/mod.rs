//! What the fuzzer feeds, and what must hold whatever it feeds: one function per doorway of the
//! program. None may panic on its own account; what they assert is said in each.

pub mod amqp_session;
pub mod answers;
pub mod decryption;
pub mod environment;
pub mod inventory_files;
pub mod inventory_requests;
pub mod watch_stream;

/// A doorway's check.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus folder too.
pub const TARGETS: [(&str, Target); 7] = [
    ("amqp_session", amqp_session::run),
    ("answers", answers::run),
    ("decryption", decryption::run),
    ("environment", environment::run),
    ("inventory_files", inventory_files::run),
    ("inventory_requests", inventory_requests::run),
    ("watch_stream", watch_stream::run),
];
