//! The images that `make image` made: what is in them, and that they run with nothing else around.
//!
//! `make image-test` builds them and comes here with IMAGE_FOLDER, the folder of the two archives.
//! Without it these tests say so and pass: they never build anything themselves. Running the
//! programs in their images' root folders needs root, and is left out loudly without.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, says what it leaves out, and is nobody's library"
)]

mod archive;
mod build_context;
mod contents;
mod empty_root;
mod licences;
mod names;
#[path = "../support/skip.rs"]
mod skip;
