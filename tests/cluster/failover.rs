//! Nodes in one process, and the database behind them that is lost, is slow, or goes back in time.
//!
//!   .ci/postgres cargo test -p batrun-cluster --test failover -- --ignored

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

#[allow(dead_code, reason = "each test uses a part of it")]
mod proxy;
#[allow(dead_code, reason = "each test uses a part of it")]
mod server;
mod wire;

use std::time::{Duration, Instant};

use batrun::{PipelineHandle, journal::Journal, prelude::*, report::Report};
use nix::sys::signal::{Signal, kill};
use proxy::{Proxy, Way};
use server::{Replication, Servers, connect};
use tokio_postgres::Client;

/// The longest time for something that has to happen.
const AT_MOST: Duration = Duration::from_secs(60);

/// A task ends unless it has this number.
const WAITS: u32 = 7;

#[derive(Clone)]
struct Step;

impl Stage for Step {
    type Input = u32;
    type Output = u32;
    type Undo = ();

    async fn run(&mut self, n: u32, _: &TaskContext<'_, ()>) -> Result<u32, Failure> {
        match n {
            WAITS => std::future::pending().await,
            n => Ok(n),
        }
    }
}

type Handle = PipelineHandle<u32, u32>;

async fn start(address: &str, lease: Duration) -> Handle {
    let options = Journal::options().lease(lease).schema("failover");
    let journal = options.postgres(address).await.unwrap();
    let pipeline = Pipeline::new("failover").journal(journal);
    pipeline.stage(Step.workers(4)).start().await.unwrap()
}

async fn suspended(handle: &Handle) -> String {
    let report = tokio::time::timeout(AT_MOST, handle.ended()).await;
    let report: Report = report.expect("it ends in time").unwrap();
    report.suspended.expect("it is suspended").to_string()
}

async fn done(handle: &Handle, n: u32) {
    let task = handle.submit(n).key(n.to_string()).await.unwrap();
    let outcome = tokio::time::timeout(AT_MOST, task.outcome()).await;
    assert_eq!(outcome.expect("it ends in time").unwrap().output, Some(n));
}

async fn counts(client: &Client, statement: &str) -> i64 {
    client.query_one(statement, &[]).await.unwrap().get(0)
}

/// A primary whose standby has stopped to get what comes.
async fn lagging() -> Servers {
    let servers = Servers::start();
    servers.stand_by(Replication::Asynchronous).await.unwrap();
    servers
}

fn cut_off(servers: &Servers) {
    let senders = servers.processes("walsender");
    assert!(!senders.is_empty());
    for sender in senders {
        kill(sender, Signal::SIGSTOP).unwrap();
    }
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c7_a_node_whose_commits_a_standby_lacks_says_so_on_postgres() {
    let mut servers = lagging().await;
    let address = Servers::addresses(servers.ports());
    let lease = Duration::from_secs(20);
    let busy = start(&address, lease).await;
    let other = start(&address, lease).await;
    done(&busy, 1).await;
    done(&other, 2).await;
    until_it_has_all(&servers).await;
    cut_off(&servers);
    // Confirmed, and known to the primary alone.
    done(&busy, 3).await;
    servers.fail_over().unwrap();
    // It may be told of its loss by this, and be refused.
    let refused = busy.submit(4).key("4").await;
    let why = suspended(&busy).await;
    assert!(
        why.contains("has lost commits that it had confirmed"),
        "{why}"
    );
    assert!(refused.is_err());
    // The one that has lost nothing goes on, and doesn't know of the task.
    assert!(other.outcome_of("3").await.unwrap().is_none());
    done(&other, 5).await;
    done(&other, 1).await;
    other.shutdown(Shutdown::Drain(AT_MOST)).await.unwrap();
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c7_a_node_with_nothing_to_commit_says_so_on_postgres() {
    let mut servers = lagging().await;
    let address = Servers::addresses(servers.ports());
    let node = start(&address, Duration::from_secs(5)).await;
    done(&node, 1).await;
    until_it_has_all(&servers).await;
    cut_off(&servers);
    done(&node, 3).await;
    servers.fail_over().unwrap();
    let why = suspended(&node).await;
    assert!(
        why.contains("has lost commits that it had confirmed"),
        "{why}"
    );
}

/// Waits until the standby has all that was committed.
async fn until_it_has_all(servers: &Servers) {
    let client = connect(&servers.address()).await;
    let lag = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn()";
    let until = Instant::now() + AT_MOST;
    while counts(&client, lag).await > 0 {
        assert!(Instant::now() < until);
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c6_c9_a_synchronous_standby_takes_over_without_a_loss_on_postgres() {
    let mut servers = Servers::start();
    servers.stand_by(Replication::Synchronous).await.unwrap();
    let address = Servers::addresses(servers.ports());
    let node = start(&address, Duration::from_secs(20)).await;
    for n in 100..120 {
        done(&node, n).await;
    }
    let task = node.submit(WAITS).key("waits").await.unwrap().id();
    servers.fail_over().unwrap();
    let again = node.submit(WAITS).key("waits").await.unwrap();
    assert!(again.is_known() && again.id() == task);
    for n in 100..140 {
        done(&node, n).await;
    }
    assert_eq!(node.snapshot().counts.done, 40);
    let client = connect(&servers.address()).await;
    let keys = "SELECT count(*) FROM failover.key WHERE outcome IS NOT NULL";
    assert_eq!(counts(&client, keys).await, 40);
    node.shutdown(Shutdown::Suspend).await.unwrap();
}

/// The machine of the primary is gone from the network: it neither answers nor refuses.
#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c6_the_first_host_of_two_is_silent_on_postgres() {
    let mut servers = Servers::start();
    servers.stand_by(Replication::Synchronous).await.unwrap();
    let proxy = Proxy::before(servers.ports());
    // Only the first one is behind it.
    let address = Servers::addresses([proxy.ports[0], servers.ports()[1]]);
    let node = start(&address, Duration::from_secs(8)).await;
    done(&node, 1).await;
    proxy.hold(Way::ToNode, true);
    proxy.hold(Way::ToServer, true);
    servers.fail_over().unwrap();
    done(&node, 2).await;
    node.shutdown(Shutdown::Suspend).await.unwrap();
}

/// A request of a node that has given the connection up comes to the server later.
#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c3_a_claim_that_comes_late_takes_no_tasks_on_postgres() {
    let servers = Servers::start();
    let (proxy, direct) = (Proxy::before(servers.ports()), servers.ports());
    let lease = Duration::from_secs(4);
    let first = start(&Servers::addresses(proxy.ports), lease).await;
    let second = start(&Servers::addresses(direct), lease).await;
    let client = connect(&servers.address()).await;
    // A look for tasks is under way, and is given up.
    proxy.hold_a_claim(true);
    actix_rt::time::sleep(lease * 3 / 2).await;
    let task = second.submit(WAITS).key("waits").await.unwrap().id();
    second.shutdown(Shutdown::Suspend).await.unwrap();
    proxy.hold_a_claim(false);
    let until = Instant::now() + AT_MOST / 6;
    while !first.cancel(task) {
        let owner = counts(&client, "SELECT owner::bigint FROM failover.task").await;
        assert!(
            Instant::now() < until,
            "task {task} is node {owner}'s, and it doesn't know"
        );
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
    first.shutdown(Shutdown::Suspend).await.unwrap();
}

/// Somebody has locked the row of a node that is dead.
#[actix_rt::test]
#[ignore = "needs a server: .ci/postgres"]
async fn c3_a_start_waits_for_no_idle_transaction_on_postgres() {
    let servers = Servers::start();
    let address = Servers::addresses(servers.ports());
    let lease = Duration::from_secs(4);
    let node = start(&address, lease).await;
    done(&node, 1).await;
    let person = connect(&servers.address()).await;
    let dead = "INSERT INTO failover.node (name, revision, lease, lease_until) \
                VALUES ('dead', 0, '1 s', clock_timestamp() - interval '1 s'); \
                BEGIN; SELECT FROM failover.node WHERE name = 'dead' FOR UPDATE";
    // The server has run for longer than a lease.
    actix_rt::time::sleep(Duration::from_secs(2)).await;
    person.batch_execute(dead).await.unwrap();
    let new = start(&address, lease).await;
    done(&node, 2).await;
    done(&new, 3).await;
    person.batch_execute("ROLLBACK").await.unwrap();
    new.shutdown(Shutdown::Suspend).await.unwrap();
    node.shutdown(Shutdown::Suspend).await.unwrap();
}
