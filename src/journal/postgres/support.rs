//! The server of the tests, and a proxy before it that cuts connections.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Row};

use super::{
    node::Choices,
    server::{Schema, Server},
    store::Postgres,
};
use crate::journal::{
    rows::stage::StageRow,
    store::{Begin, Begun, RowOp, Store, StoreError},
};

/// A schema of a test's own on the server that `.ci/postgres` has started.
pub(in crate::journal) struct Address {
    pub(super) server: String,
    pub(super) choices: Choices,
    pub(super) reuses_keys: bool,
}

impl Address {
    pub(in crate::journal) fn new() -> Self {
        let server = env::var("BATRUN_POSTGRES");
        Self::at(server.expect("run it by .ci/postgres"))
    }

    pub(super) fn at(server: String) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Address {
            reuses_keys: false,
            server,
            choices: Choices {
                schema: Some(format!("test {} {number}", process::id())),
                lease: Duration::from_secs(5),
                patience: Duration::from_secs(60),
                answer: Duration::from_secs(10),
            },
        }
    }

    /// Another process on this journal.
    pub(in crate::journal) fn open(&self) -> Result<Postgres, StoreError> {
        self.open_with(&[("first", 1)]).map(|(store, _)| store)
    }

    /// The same with these stages in their versions.
    pub(super) fn open_with(
        &self,
        stages: &[(&str, u32)],
    ) -> Result<(Postgres, Begun), StoreError> {
        let server = Server::parse(&self.server).unwrap();
        let mut store = Postgres::connect(server, self.choices.clone()).unwrap();
        let stages = stages.iter().enumerate();
        let stages = stages.map(|(n, (name, version))| StageRow::new(n as u16, name, *version));
        let begun = store.begin(Begin {
            pipeline: "orders",
            stages: &stages.collect::<Vec<_>>(),
            reuses_keys: self.reuses_keys,
        })?;
        Ok((store, begun))
    }

    pub(super) fn schema(&self) -> Schema {
        Schema::named(self.choices.schema.as_deref().unwrap()).unwrap()
    }

    /// A person at the database.
    pub(super) fn person(&self) -> Person {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        let schema = self.schema();
        Person {
            client,
            runtime,
            schema,
        }
    }
}

/// A node's first commit, without which no other one begins.
pub(super) fn begins(node: &mut Postgres) {
    let id = RowOp::SetMeta("id", "x".to_owned());
    node.commit(&[id]).unwrap();
}

/// Somebody who looks into the database, or changes what is in it.
pub(super) struct Person {
    client: Client,
    runtime: Runtime,
    schema: Schema,
}

impl Person {
    pub(super) fn sees(&self, statement: &str) -> Vec<Row> {
        let statement = self.schema.in_it(statement);
        let rows = self.client.query(&statement, &[]);
        self.runtime.block_on(rows).unwrap()
    }

    /// The first number of the first row.
    pub(super) fn counts(&self, statement: &str) -> i64 {
        self.sees(statement)[0].get(0)
    }

    /// The code of the error, if there is one.
    pub(super) fn is_refused(&self, statements: &str) -> Option<String> {
        let statements = self.schema.in_it(statements);
        let done = self
            .runtime
            .block_on(self.client.batch_execute(&statements));
        Some(done.err()?.code()?.code().to_owned())
    }

    pub(super) fn does(&self, statements: &str) {
        let statements = self.schema.in_it(statements);
        self.runtime
            .block_on(self.client.batch_execute(&statements))
            .unwrap();
    }
}
