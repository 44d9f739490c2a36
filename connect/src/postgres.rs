//! The address of a PostgreSQL server, and TLS to it.

mod address;
mod connector;
mod hosts;
mod shown;

pub use address::Address;
pub use connector::connector;
pub use hosts::each_host;
pub use tokio_postgres_rustls::MakeRustlsConnect;
