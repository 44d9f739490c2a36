//! A client that goes away, and a server that does.

use std::{collections::HashSet, process::Command, sync::Mutex};

use super::*;

/// Runs the stage with a task that has this much time.
async fn in_time(stage: Postgres<i64>, limit: Option<Duration>) -> Outcome<i64> {
    let handle = Pipeline::new("sql").stage(stage).start().await.unwrap();
    let submit = handle.submit(1);
    let ticket = match limit {
        Some(limit) => submit.timeout(limit).await.unwrap(),
        None => submit.await.unwrap(),
    };
    let outcome = ticket.outcome().await.unwrap();
    handle.shutdown(Shutdown::Abort).await.unwrap();
    outcome
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn the_server_limits_a_statement_to_the_time_that_the_task_has_left() {
    world("sql_limit", async |world| {
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        for (options, limit, from, to) in [
            ("", hours(1), "59 min", "61 min"),
            ("", hours(10_000), "595 hours", "597 hours"),
            ("", None, "0", "0"),
            ("options='-c statement_timeout=7s'", hours(1), "7s", "7s"),
            ("options='-c statement_timeout=7s'", None, "7s", "7s"),
            (
                "options='-c statement_timeout=7h'",
                hours(1),
                "59 min",
                "61 min",
            ),
        ] {
            let config = format!("{} {options}", world.config());
            let stage = Sql::postgres(config, move |_: &i64| {
                [
                    Statement::new("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                    Statement::new(format!(
                        "SELECT 1 WHERE current_setting('statement_timeout')::interval
                         BETWEEN '{from}' AND '{to}'"
                    ))
                    .expect_rows(1),
                ]
            });
            let outcome = in_time(stage, limit).await;
            assert!(outcome.is_done(), "{options} {limit:?}: {outcome}");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_transaction_that_is_dropped_is_stopped_in_the_server() {
    world("sql_drop", async |world| {
        // The server doesn't look by itself.
        let options = "options='-c client_connection_check_interval=1h'";
        let config = format!("{} {options}", world.config());
        for _ in 0..3 {
            let session = Session::open(&config).await.unwrap();
            let statements = [world.insert(1), Statement::new("SELECT pg_sleep(1000)")];
            let mut transaction = Box::pin(session.transact(&statements, None));
            let asleep = pin!(world.until("wait_event = 'PgSleep'", 1));
            let first = select(transaction.as_mut(), asleep).await;
            assert!(matches!(first, Either::Right(_)));
            drop(transaction);
            world.until("true", 0).await;
        }
        assert_eq!(world.ids().await, [0; 0]);
    });
}

/// As after a kill of the process: nobody asks the server to stop.
#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_server_notices_amid_a_statement_that_its_client_is_gone() {
    world("sql_killed", async |world| {
        let session = Session::open(&world.config()).await.unwrap();
        let sleeping = pin!(session.client.batch_execute("SELECT pg_sleep(1000)"));
        let asleep = pin!(world.until("wait_event = 'PgSleep'", 1));
        let first = select(sleeping, asleep).await;
        assert!(matches!(first, Either::Right(_)));
        // Not the session's drop, which would ask.
        session.connection.abort();
        world.until("true", 0).await;
    });
}

fn restart(how: &str) {
    let Ok(program) = std::env::var("BATRUN_POSTGRES_RESTART") else {
        panic!("the program is not in BATRUN_POSTGRES_RESTART; see .ci/postgres");
    };
    assert!(Command::new(program).arg(how).status().unwrap().success());
}

/// A stage whose statement for each number above 10 never ends, in its first attempt.
fn interrupted(address: &str) -> Postgres<i64> {
    let seen = Mutex::new(HashSet::new());
    Sql::postgres(address, move |id: &i64| {
        let first = *id > 10 && seen.lock().unwrap().insert(*id);
        let wait = if first { 1000 } else { 0 };
        [
            Statement::new("INSERT INTO t VALUES ($1)").bind(*id),
            Statement::new(format!("SELECT pg_sleep({wait})")),
        ]
    })
    .cancel_with(|id: &i64| Statement::new("DELETE FROM t WHERE id = $1").bind(*id))
}

async fn until_asleep(address: &str) {
    let watch = Session::open(address).await.unwrap();
    let query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let began = Instant::now();
    loop {
        let row = watch.client.query_one(query, &[]).await.unwrap();
        if row.get::<_, i64>(0) == 1 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(5)).await;
    }
}

/// Between two tasks, and amid a statement of one.
#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_server_that_is_started_anew_is_connected_to_anew() {
    let Ok(address) = std::env::var("BATRUN_POSTGRES_OWN") else {
        panic!("the address is not in BATRUN_POSTGRES_OWN; see .ci/postgres");
    };
    let restart = async |how| {
        actix_rt::task::spawn_blocking(move || restart(how))
            .await
            .unwrap()
    };
    actix_rt::System::new().block_on(async {
        let sql = async |text: &str| {
            let session = Session::open(&address).await.unwrap();
            session.client.simple_query(text).await.unwrap().len()
        };
        sql("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY)").await;
        let retry = Retry::constant(200, Duration::from_millis(50));
        let pipeline = Pipeline::new("sql").stage(interrupted(&address).retry(retry));
        let handle = pipeline.start().await.unwrap();
        let (between, amid) = ([1, 2, 3], [11, 12]);
        for (id, how) in between.into_iter().zip(["", "fast", "immediate"]) {
            if !how.is_empty() {
                restart(how).await;
            }
            let outcome = handle.submit(id).await.unwrap().outcome().await.unwrap();
            assert!(outcome.is_done(), "{how}: {outcome}");
        }
        for (id, how) in amid.into_iter().zip(["fast", "immediate"]) {
            let ticket = handle.submit(id).await.unwrap();
            until_asleep(&address).await;
            restart(how).await;
            let outcome = ticket.outcome().await.unwrap();
            assert!(outcome.is_done(), "{how}: {outcome}");
        }
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(report.stages[0].counts.cancelled, 0, "{report}");
        // Each row and the end of the answer.
        assert_eq!(sql("SELECT FROM t").await, between.len() + amid.len() + 2);
    });
}
