//! Decodes the bytes as the content of each column of a journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| batrun::internals::read_rows(bytes));
