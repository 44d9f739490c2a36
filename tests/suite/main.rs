//! Every behaviour of batrun, a file each. A test that proves a promise of GUARANTEES.md begins
//! with its number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod kit;

mod rollback;
