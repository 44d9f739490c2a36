mod gone;
mod tls;

use std::{fmt::Display, pin::pin, time::Instant};

use batrun::{
    Outcome,
    error::FailureKind,
    prelude::*,
    state::{End, Rollback},
};
use futures::future::{Either, select};
use tokio::time::sleep;

use super::*;

/// A table and a name for connections, both a test's own.
struct World {
    name: &'static str,
    database: Session,
}

/// Runs a test with a table of that name.
fn world(name: &'static str, test: impl AsyncFnOnce(&World)) {
    actix_rt::System::new().block_on(async {
        let database = Session::open(&address()).await.unwrap();
        let world = World { name, database };
        world
            .sql(format!("DROP TABLE IF EXISTS {name}, {name}_child"))
            .await;
        world
            .sql(format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, name text)"
            ))
            .await;
        test(&world).await;
        world.nothing_is_left().await;
        world
            .sql(format!("DROP TABLE IF EXISTS {name}, {name}_child"))
            .await;
    });
}

fn address() -> String {
    match std::env::var("BATRUN_POSTGRES") {
        Ok(address) => address,
        Err(_) => panic!("the server's address is not in BATRUN_POSTGRES; see .ci/postgres"),
    }
}

impl World {
    fn config(&self) -> String {
        format!("{} application_name={}", address(), self.name)
    }

    async fn sql(&self, statement: impl Display) {
        let statement = statement.to_string();
        self.database
            .client
            .batch_execute(&statement)
            .await
            .unwrap();
    }

    /// Locks the table until that connection commits. A connection of its own, because what a
    /// transaction sees of other connections' activity stands still.
    async fn lock(&self) -> Session {
        let locker = Session::open(&address()).await.unwrap();
        let lock = format!("BEGIN; LOCK TABLE {}", self.name);
        locker.client.batch_execute(&lock).await.unwrap();
        locker
    }

    async fn count(&self, query: &str) -> i64 {
        let row = self.database.client.query_one(query, &[]).await.unwrap();
        row.get(0)
    }

    async fn ids(&self) -> Vec<i32> {
        let query = format!("SELECT id FROM {} ORDER BY id", self.name);
        let rows = self.database.client.query(&query, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Number of this test's connections that are in that condition.
    async fn connections(&self, condition: &str) -> i64 {
        self.count(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND {condition}",
            self.name
        ))
        .await
    }

    async fn until(&self, condition: &str, wanted: i64) {
        let began = Instant::now();
        while self.connections(condition).await != wanted {
            assert!(began.elapsed() < Duration::from_secs(10), "{condition}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// No transaction is open, and once the pipeline is gone no connection either.
    async fn nothing_is_left(&self) {
        assert_eq!(self.connections("state <> 'idle'").await, 0);
        self.until("true", 0).await;
    }

    fn insert(&self, id: i64) -> Statement {
        Statement::new(format!("INSERT INTO {} VALUES ($1, $2)", self.name))
            .bind(id)
            .bind("Ada")
    }

    fn delete(&self) -> impl Fn(&i64) -> Statement + Send + Sync + use<> {
        let text = format!("DELETE FROM {} WHERE id = $1", self.name);
        move |id| Statement::new(&*text).bind(*id)
    }

    /// Runs these statements, and as the undo deletes row 1.
    fn stage(&self, statements: Vec<Statement>) -> Postgres<i64> {
        Sql::postgres(self.config(), move |_: &i64| statements.clone()).cancel_with(self.delete())
    }
}

/// Runs task 1 through the stage and a second one.
async fn run(stage: Postgres<i64>, then: Result<(), &'static str>) -> Outcome {
    let then = stage_fn("then", async move |_: i64, _: &TaskContext<'_, ()>| {
        then.map_err(Failure::permanent)
    });
    let pipeline = Pipeline::new("sql").stage(stage).stage(then);
    let handle = pipeline.start().await.unwrap();
    let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
    handle
        .shutdown(Shutdown::Drain(Duration::from_secs(10)))
        .await
        .unwrap();
    outcome
}

fn failed(outcome: &Outcome) -> (FailureKind, &Rollback) {
    match &outcome.end {
        End::Failed { failure, .. } => (failure.kind(), &outcome.rollback),
        other => panic!("{other}"),
    }
}

/// Runs a task that never ends by itself, stops it once the condition holds, and returns its end.
async fn stop(world: &World, stage: Postgres<i64>, amid: &str, by_deadline: bool) -> String {
    let handle = Pipeline::new("sql").stage(stage).start().await.unwrap();
    // With a deadline the task has to be where it should be by then, which the look below checks.
    let limit = Duration::from_secs(if by_deadline { 3 } else { 600 });
    let ticket = handle.submit(1).timeout(limit).await.unwrap();
    world.until(amid, 1).await;
    if !by_deadline {
        ticket.cancel();
    }
    let outcome = ticket.outcome().await.unwrap();
    // Nothing of the transaction is left by the time of the outcome.
    assert_eq!(world.connections("state <> 'idle'").await, 0);
    assert_eq!(outcome.rollback, Rollback::None);
    handle
        .shutdown(Shutdown::Drain(Duration::from_secs(10)))
        .await
        .unwrap();
    outcome.end.to_string()
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_run_commits_and_a_cancel_takes_it_back() {
    world("sql_cancel", async |world| {
        let stage = world.stage(vec![world.insert(1)]);
        let outcome = run(stage.clone(), Err("no")).await;
        assert_eq!(failed(&outcome).1, &Rollback::Complete { undos: 1 });
        assert_eq!(world.ids().await, [0; 0]);
        assert!(run(stage, Ok(())).await.is_done());
        assert_eq!(world.ids().await, [1]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn of_two_statements_both_or_none_take_effect() {
    world("sql_two", async |world| {
        let two = |second| world.stage(vec![world.insert(2), world.insert(second)]);
        let outcome = run(two(2), Ok(())).await;
        assert_eq!(failed(&outcome), (FailureKind::Permanent, &Rollback::None));
        assert_eq!(world.ids().await, [0; 0]);
        assert!(run(two(3), Ok(())).await.is_done());
        assert_eq!(world.ids().await, [2, 3]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_row_that_was_there_is_not_deleted() {
    world("sql_there", async |world| {
        world.sql("INSERT INTO sql_there VALUES (1)").await;
        let outcome = run(world.stage(vec![world.insert(1)]), Ok(())).await;
        assert_eq!(failed(&outcome), (FailureKind::Permanent, &Rollback::None));
        assert_eq!(world.ids().await, [1]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn another_number_of_rows_rolls_back() {
    world("sql_rows", async |world| {
        let rename = |rows| {
            let update = Statement::new("UPDATE sql_rows SET name = $1").bind("Bela");
            world.stage(vec![world.insert(1), update.expect_rows(rows)])
        };
        let outcome = run(rename(2), Ok(())).await;
        assert_eq!(failed(&outcome), (FailureKind::Permanent, &Rollback::None));
        assert_eq!(world.ids().await, [0; 0]);
        assert!(run(rename(1), Ok(())).await.is_done());
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_refused_commit_withdraws() {
    world("sql_refused", async |world| {
        world
            .sql(
                "CREATE TABLE sql_refused_child
                (id int REFERENCES sql_refused DEFERRABLE INITIALLY DEFERRED)",
            )
            .await;
        let child = Statement::new("INSERT INTO sql_refused_child VALUES (7)");
        let outcome = run(world.stage(vec![world.insert(1), child]), Ok(())).await;
        assert_eq!(failed(&outcome), (FailureKind::Permanent, &Rollback::None));
        assert_eq!(world.ids().await, [0; 0]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_stop_amid_a_commit_that_waits_leaves_nothing() {
    world("sql_commit", async |world| {
        world
            .sql(
                "CREATE FUNCTION sql_commit_waits() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN PERFORM pg_sleep(1000); RETURN NULL; END'",
            )
            .await;
        world
            .sql(
                "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON sql_commit
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sql_commit_waits()",
            )
            .await;
        let stage = world.stage(vec![world.insert(1)]);
        let amid = "query = 'COMMIT' AND wait_event = 'PgSleep'";
        let end = stop(world, stage.clone(), amid, true).await;
        assert_eq!(end, "timed out in Postgres");
        let end = stop(world, stage, amid, false).await;
        assert_eq!(end, "cancelled in Postgres");
        assert_eq!(world.ids().await, [0; 0]);
        world.sql("DROP FUNCTION sql_commit_waits() CASCADE").await;
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_lock_is_waited_for() {
    world("sql_lock", async |world| {
        let locker = world.lock().await;
        let stage = world.stage(vec![world.insert(1)]);
        let handle = Pipeline::new("sql").stage(stage).start().await.unwrap();
        let ticket = handle.submit(1).await.unwrap();
        world.until("wait_event_type = 'Lock'", 1).await;
        locker.client.batch_execute("COMMIT").await.unwrap();
        assert!(ticket.outcome().await.unwrap().is_done());
        handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(world.ids().await, [1]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_stop_amid_a_long_statement_leaves_nothing() {
    world("sql_long", async |world| {
        let sleeping = Statement::new("SELECT pg_sleep(1000)");
        let stage = world.stage(vec![world.insert(1), sleeping]);
        let amid = "wait_event = 'PgSleep'";
        let end = stop(world, stage.clone(), amid, true).await;
        assert_eq!(end, "timed out in Postgres");
        let end = stop(world, stage, amid, false).await;
        assert_eq!(end, "cancelled in Postgres");
        assert_eq!(world.ids().await, [0; 0]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_stop_amid_a_wait_for_a_lock_leaves_nothing() {
    world("sql_waits", async |world| {
        let locker = world.lock().await;
        let stage = world.stage(vec![world.insert(1)]);
        let amid = "wait_event_type = 'Lock'";
        let end = stop(world, stage.clone(), amid, true).await;
        assert_eq!(end, "timed out in Postgres");
        let end = stop(world, stage, amid, false).await;
        assert_eq!(end, "cancelled in Postgres");
        locker.client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(world.ids().await, [0; 0]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_lost_connection_may_be_tried_again_and_is_made_anew() {
    world("sql_lost", async |world| {
        // The first attempt ends its own connection.
        let end = Statement::new(
            "SELECT pg_terminate_backend(pg_backend_pid())
            WHERE (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sql_lost') = $1",
        );
        let fatal = world.stage(vec![world.insert(1), end.clone().bind(1)]);
        let outcome = run(fatal, Ok(())).await;
        assert_eq!(failed(&outcome), (FailureKind::Error, &Rollback::None));
        assert_eq!(world.ids().await, [0; 0]);
        let mut stage = world.stage(vec![]);
        let session = stage.session().await.unwrap();
        let end = [end.bind(1)];
        assert!(session.transact(&end, None).await.is_err());
        let open = stage.session().await.unwrap();
        world
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sql_lost'")
            .await;
        let began = Instant::now();
        while !open.client.is_closed() {
            assert!(began.elapsed() < Duration::from_secs(10));
            sleep(Duration::from_millis(1)).await;
        }
        stage.session = Some(open);
        let anew = stage.session().await.unwrap();
        assert!(anew.transact(&[world.insert(2)], None).await.is_ok());
        assert_eq!(world.ids().await, [2]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_transaction_that_is_dropped_is_not_committed() {
    world("sql_dropped", async |world| {
        let session = Session::open(&world.config()).await.unwrap();
        let statements = [world.insert(1), Statement::new("SELECT pg_sleep(1)")];
        let mut transaction = Box::pin(session.transact(&statements, None));
        let asleep = pin!(world.until("wait_event = 'PgSleep'", 1));
        assert!(matches!(
            select(transaction.as_mut(), asleep).await,
            Either::Right(_)
        ));
        drop(transaction);
        // The server finds out once the statement is over.
        world.until("true", 0).await;
        assert_eq!(world.ids().await, [0; 0]);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn values_of_each_type_arrive() {
    world("sql_values", async |world| {
        let mut stage = world.stage(vec![]);
        let statement = |small: i64| {
            Statement::new(
                "SELECT 1 WHERE $1::smallint = -7 AND $2::int = 8 AND $3::bigint = 9
                AND $4::real = 0.5 AND $5::float8 = 0.25 AND $6::text = 'x' AND $7::varchar = 'y'
                AND $8::bytea = '\\x0102' AND $9::bool AND $10::int IS NULL AND $11::uuid IS NULL",
            )
            .bind(small)
            .bind(8)
            .bind(9)
            .bind(0.5)
            .bind(0.25)
            .bind("x")
            .bind("y".to_owned())
            .bind([1_u8, 2].as_slice())
            .bind(true)
            .bind(None::<i32>)
            .bind(None::<&str>)
            .expect_rows(1)
        };
        for (small, fits) in [(-7, true), (40_000, false)] {
            let session = stage.session().await.unwrap();
            match session.transact(&[statement(small)], None).await {
                Ok(session) => {
                    assert!(fits);
                    stage.session = session;
                }
                Err((broken, _)) => {
                    assert!(!fits, "{}", broken.failure);
                    assert_eq!(broken.failure.kind(), FailureKind::Permanent);
                }
            }
        }
        let session = stage.session().await.unwrap();
        let wrong = Statement::new("SELECT $1::int").bind("x");
        let (broken, _) = session.transact(&[wrong], None).await.err().unwrap();
        let told = broken.failure.to_string();
        assert!(
            told.contains("a text is bound to a parameter of type int4"),
            "{told}"
        );
    });
}

#[test]
fn a_server_that_is_not_there_may_be_tried_again_and_a_wrong_address_not() {
    actix_rt::System::new().block_on(async {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let nobody = format!("host=127.0.0.1 port={port} user=batrun");
        for (config, kind) in [
            (&*nobody, FailureKind::Error),
            ("what=ever", FailureKind::Permanent),
        ] {
            let stage = Sql::postgres(config, |_: &i64| Statement::new("SELECT 1"));
            let outcome = run(stage, Ok(())).await;
            assert_eq!(failed(&outcome), (kind, &Rollback::None));
        }
    });
}
