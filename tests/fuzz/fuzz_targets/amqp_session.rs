//! See `targets/amqp_session.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::amqp_session::run(data));
