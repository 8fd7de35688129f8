//! The real program against the simulated cloud, over real HTTP.
//!
//! `process` starts and stops the program; each other file holds promises as tests.

mod bad_input;
mod delivery;
mod lifecycle;
mod login;
mod process;
mod scenarios;
mod world;
