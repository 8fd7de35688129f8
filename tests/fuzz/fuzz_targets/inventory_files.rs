//! See `targets/inventory_files.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::inventory_files::run(data));
