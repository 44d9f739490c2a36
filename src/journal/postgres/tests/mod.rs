//! The journal on a server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "testing")]
mod changes;
mod commands;
mod commits;
mod database;
mod decisions;
mod keys;
mod looks;
mod nodes;
mod revisions;
mod rights;
mod takeovers;

use std::{env, net::SocketAddr, process::Command, thread, time::Duration};

use proptest::prelude::*;

use super::{
    proxy::{Proxy, Way},
    server::Server,
    store::Postgres,
    support::{Address, begins},
};
use crate::{
    journal::{
        command::{Answer, Command as Told, Decision},
        store::{Elsewhere, Load, Lost, Owners, RowOp, Store, StoreError, Take, TaskRows, Writes},
        tests::support::{insert_task, put_keyed_outcome, put_outcomes, put_undo, update_task},
    },
    task::State,
};

/// A long lease, so that nothing but the test is sent.
const LONG: Duration = Duration::from_secs(300);

/// The address of a server through a proxy.
fn through(proxy: &Proxy, server: &str) -> String {
    let port = proxy.port;
    let words = server.split(' ').map(|word| match word.split_once('=') {
        Some(("port", _)) => format!("port={port}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn proxy_before(server: &str) -> Proxy {
    let port = server
        .split(' ')
        .find_map(|word| word.strip_prefix("port="))
        .unwrap();
    Proxy::before(SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

/// A task, an undo, an outcome and a key: something of each kind.
fn ops(number: u64) -> Vec<RowOp> {
    let key = format!("key {number}");
    vec![
        insert_task(number, Some(&key), State::Queued(0), b"context"),
        put_undo(number, 0, b"value"),
        put_outcomes(number, 1, &[number], &[(&key, number)]),
        put_keyed_outcome(&key, number, 1, Some(b"output")),
    ]
}

/// The store has made these commits, each once and whole.
fn has_committed(address: &Address, commits: i64) {
    let person = address.person();
    assert_eq!(
        person.counts("SELECT commits FROM @.node WHERE id > 0"),
        commits
    );
    for table in ["task", "undo", "outcomes", "key"] {
        let count = person.counts(&format!("SELECT count(*) FROM @.{table}"));
        assert_eq!(count, commits, "{table}");
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.expect_err("it is refused").to_string()
}
