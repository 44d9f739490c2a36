//! The address of a PostgreSQL server, and TLS to it.

mod address;
mod connector;
mod shown;

pub use address::Address;
pub use connector::connector;
pub use tokio_postgres_rustls::MakeRustlsConnect;
