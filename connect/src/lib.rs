//! The parts that batrun's crates share for connections to other systems: certificates for TLS, and the
//! address of a PostgreSQL server as users of libpq write it.
//!
//! It is batrun's own plumbing, a crate only because several of batrun's need it. It promises nothing
//! to others: any version may change or drop any of it.
//!
//! | module | feature | what is in it |
//! |---|---|---|
//! | `certificates` | `tls` | reads certificates and keys, for rustls on ring |
//! | `postgres` | `postgres`, with `tls` | reads a connection string, and makes the TLS that it asks for |
//!
//! Errors are texts for people. The caller says what they are about, a setting of its own, say.

#[cfg(feature = "tls")]
pub mod certificates;
#[cfg(feature = "postgres")]
pub mod postgres;
