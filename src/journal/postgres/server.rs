//! The server and the schema of a journal.

use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use batrun_connect::postgres::{Address, connector, each_host};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, config::TargetSessionAttrs};

use super::error::Trouble;

/// The longest name that PostgreSQL takes, in bytes.
const MAX_NAME: usize = 63;

/// The time after which a connection over which nothing comes is tried, unless the address has another one.
/// Without it a cut cable would be noticed after hours.
const SILENCE: Duration = Duration::from_secs(5);

/// A server as its address names it.
#[derive(Clone)]
pub(in crate::journal) struct Server {
    address: Arc<Address>,
    /// The address for each of its servers.
    hosts: Arc<[Config]>,
    /// The one that has taken the last connection.
    last: Arc<AtomicUsize>,
}

impl Server {
    /// # Errors
    /// The mistake in the address, which is never shown itself: there may be a password in it.
    pub(in crate::journal) fn parse(address: &str) -> Result<Self, String> {
        let address = Address::parse(address)?;
        let mut config = address.config().clone();
        if config.get_keepalives_idle() > Duration::from_secs(60) {
            config.keepalives_idle(SILENCE);
            config.keepalives_interval(Duration::from_secs(1));
            config.keepalives_retries(5);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(2 * SILENCE);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(2 * SILENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("batrun");
        }
        // Commits go to the server that takes them, and never to a copy.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Server {
            address: Arc::new(address),
            hosts: each_host(&config).into(),
            last: Arc::default(),
        })
    }

    /// A connection within this time, with the future that keeps it going. Of several servers each one gets the
    /// same share of the time, that of the last connection first.
    pub(super) async fn connect(
        &self,
        within: Duration,
    ) -> Result<(Client, impl Future<Output = ()> + Send + use<>), Trouble> {
        let tls = connector(&self.address).map_err(Trouble::Refused)?;
        let count = self.hosts.len();
        let last = self.last.load(Ordering::Relaxed);
        let share = within / u32::try_from(count).unwrap_or(u32::MAX);
        let mut trouble = Trouble::Lost("the address has no server".to_owned());
        for at in (0..count).map(|nth| (last + nth) % count) {
            let connecting = self.hosts[at].connect(tls.clone());
            match timeout(share, connecting).await {
                Ok(Ok((client, connection))) => {
                    self.last.store(at, Ordering::Relaxed);
                    let kept = async {
                        // Its error is that of the statement under way.
                        connection.await.ok();
                    };
                    return Ok((client, kept));
                }
                Ok(Err(error)) => trouble = error.into(),
                Err(_) => {
                    let why = format!("a server has not answered within {share:?}");
                    trouble = Trouble::Lost(why);
                }
            }
        }
        Err(trouble)
    }

    /// The place in the errors of a journal, without the password.
    pub(in crate::journal) fn path(&self) -> PathBuf {
        self.address.to_string().into()
    }
}

/// The schema of a pipeline's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Schema(String);

impl Schema {
    /// The schema with this name.
    pub(in crate::journal) fn named(name: &str) -> Result<Self, String> {
        let shown: String = name.chars().take(80).collect();
        if name.len() > MAX_NAME {
            return Err(format!(
                "the schema's name {shown:?} is longer than the {MAX_NAME} bytes that PostgreSQL takes; \
                 choose a shorter one with `Journal::options().schema(..)`"
            ));
        }
        if name.contains('\0') || name.is_empty() || name.starts_with("pg_") {
            return Err(format!(
                "a schema can't have the name {shown:?}; choose another one with \
                 `Journal::options().schema(..)`"
            ));
        }
        Ok(Schema(name.to_owned()))
    }

    /// The schema of the pipeline with this name, unless another one was chosen.
    pub(in crate::journal) fn of(pipeline: &str) -> Result<Self, String> {
        Self::named(&format!("batrun_{pipeline}"))
    }

    pub(in crate::journal) fn name(&self) -> &str {
        &self.0
    }

    /// A statement in which `@` stands for the schema.
    pub(super) fn in_it(&self, statement: &str) -> String {
        let quoted = format!("\"{}\"", self.0.replace('"', "\"\""));
        let statement = statement.replace("@.", &format!("{quoted}."));
        // As the whole name.
        statement
            .replace("SCHEMA @ ", &format!("SCHEMA {quoted} "))
            .replace("SCHEMA @;", &format!("SCHEMA {quoted};"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_any_name_that_postgresql_takes() {
        let schema = Schema::of("or\"ders ü");
        let statement = schema.map(|schema| schema.in_it("SELECT * FROM @.task"));
        let quoted = "SELECT * FROM \"batrun_or\"\"ders ü\".task".to_owned();
        assert_eq!(statement, Ok(quoted));
        let whole = Schema::of("x")
            .map(|schema| schema.in_it("CREATE SCHEMA @; GRANT USAGE ON SCHEMA @ TO me"));
        let quoted =
            "CREATE SCHEMA \"batrun_x\"; GRANT USAGE ON SCHEMA \"batrun_x\" TO me".to_owned();
        assert_eq!(whole, Ok(quoted));
        for name in ["", "a\0b", "pg_mine", &"x".repeat(64)] {
            assert!(Schema::named(name).is_err_and(|why| why.contains("choose")));
        }
    }
}
