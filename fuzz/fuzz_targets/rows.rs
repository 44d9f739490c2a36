//! The bytes as what each column of a journal may hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| batrun::internals::read_rows(bytes));
