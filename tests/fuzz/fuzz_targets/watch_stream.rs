//! See `targets/watch_stream.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::watch_stream::run(data));
