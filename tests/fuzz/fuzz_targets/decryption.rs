//! See `targets/decryption.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::decryption::run(data));
