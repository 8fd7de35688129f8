//! Simulated cloud.
fn main() {}
