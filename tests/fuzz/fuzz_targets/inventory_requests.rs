//! See `targets/inventory_requests.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::inventory_requests::run(data));
