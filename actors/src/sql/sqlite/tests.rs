// It replaces and links files as only Unix allows.
#[cfg(unix)]
mod moved;

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use batrun::{
    error::FailureKind,
    prelude::*,
    report::Report,
    state::{End, Rollback},
};
use tempfile::TempDir;

use super::*;

/// A statement that never ends, after one that has an effect.
const ENDLESS: &str = "INSERT INTO t (id) WITH RECURSIVE n(i) AS \
    (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n";

struct World {
    folder: TempDir,
    database: Connection,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Connection::open(folder.path().join("db")).unwrap();
        database
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
            .unwrap();
        database.busy_timeout(Duration::ZERO).unwrap();
        World { folder, database }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn ids(&self) -> Vec<i64> {
        let mut query = self
            .database
            .prepare("SELECT id FROM t ORDER BY id")
            .unwrap();
        let ids = query.query_map((), |row| row.get(0)).unwrap();
        ids.map(Result::unwrap).collect()
    }

    /// Nobody has a transaction open.
    fn is_free(&self) -> bool {
        let begun = self.database.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
        begun.is_ok()
    }

    /// Adds a row with the task's number, and takes it out again.
    fn adding(&self) -> Sqlite<i64> {
        Sql::sqlite(self.path(), |id: &i64| insert(*id)).cancel_with(|id: &i64| delete(*id))
    }
}

fn insert(id: i64) -> Statement {
    Statement::new("INSERT INTO t (id, name) VALUES (?1, ?2)")
        .bind(id)
        .bind("Ada")
}

fn delete(id: i64) -> Statement {
    Statement::new("DELETE FROM t WHERE id = ?1").bind(id)
}

/// Runs one task with the number 1 through the stage and a second one.
fn run(stage: Sqlite<i64>, then: Result<(), &'static str>) -> Report {
    let then = stage_fn("then", async move |_: i64, _: &TaskContext<'_, ()>| {
        then.map_err(Failure::permanent)
    });
    let pipeline = Pipeline::new("sql")
        .producer(from_iter([1]))
        .stage(stage)
        .stage(then);
    actix_rt::System::new().block_on(pipeline.run()).unwrap()
}

fn failed(report: &Report) -> (FailureKind, &Rollback) {
    let last = &report.last_failures[0];
    match &last.end {
        End::Failed { failure, .. } => (failure.kind(), &last.rollback),
        other => panic!("{other}"),
    }
}

#[test]
fn a_run_commits() {
    let world = World::new();
    let report = run(world.adding(), Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
    assert_eq!(world.ids(), [1]);
}

#[test]
fn a_cancel_takes_it_back() {
    let world = World::new();
    let report = run(world.adding(), Err("no"));
    assert_eq!(failed(&report).1, &Rollback::Complete { undos: 1 });
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn without_a_cancel_it_stays() {
    let world = World::new();
    let report = run(Sql::sqlite(world.path(), |id: &i64| insert(*id)), Err("no"));
    assert_eq!(failed(&report).1, &Rollback::None);
    assert_eq!(world.ids(), [1]);
}

#[test]
fn of_two_statements_both_or_none_take_effect() {
    let world = World::new();
    let two = |second: i64| {
        Sql::sqlite(world.path(), move |id: &i64| [insert(*id), insert(second)])
            .cancel_with(|_: &i64| Statement::new("DELETE FROM t"))
    };
    let report = run(two(1), Ok(()));
    assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
    assert_eq!(world.ids(), [0; 0]);
    let report = run(two(2), Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
    assert_eq!(world.ids(), [1, 2]);
}

#[test]
fn a_row_that_was_there_is_not_deleted() {
    let world = World::new();
    world
        .database
        .execute("INSERT INTO t (id) VALUES (1)", ())
        .unwrap();
    let report = run(world.adding(), Ok(()));
    assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
    assert_eq!(world.ids(), [1]);
}

#[test]
fn another_number_of_rows_rolls_back() {
    let world = World::new();
    world
        .database
        .execute("INSERT INTO t (id) VALUES (7)", ())
        .unwrap();
    let expecting = |rows| {
        Sql::sqlite(world.path(), move |id: &i64| {
            [
                insert(*id),
                Statement::new("UPDATE t SET name = 'x' WHERE id IN (1, 7)").expect_rows(rows),
                Statement::new("SELECT 1 WHERE 0").expect_rows(0),
                Statement::new("CREATE TABLE IF NOT EXISTS u (id)").expect_rows(0),
            ]
        })
        .cancel_with(|id: &i64| delete(*id))
    };
    let report = run(expecting(3), Ok(()));
    assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
    assert!(
        report.to_string().contains("2 rows instead of 3"),
        "{report}"
    );
    assert_eq!(world.ids(), [7]);
    let report = run(expecting(2), Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
}

#[test]
fn a_text_with_two_statements_is_refused() {
    let world = World::new();
    let stage = Sql::sqlite(world.path(), |_: &i64| {
        Statement::new("INSERT INTO t (id) VALUES (1); INSERT INTO t (id) VALUES (2); -- end")
    });
    let report = run(stage, Ok(()));
    assert_eq!(failed(&report).0, FailureKind::Permanent);
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn a_refused_commit_withdraws() {
    let world = World::new();
    world
        .database
        .execute_batch("CREATE TABLE child (id REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)")
        .unwrap();
    let stage = Sql::sqlite(world.path(), |_: &i64| {
        [
            Statement::new("PRAGMA defer_foreign_keys = on"),
            Statement::new("INSERT INTO child (id) VALUES (1)"),
        ]
    })
    .cancel_with(|id: &i64| insert(*id));
    let report = run(stage, Ok(()));
    assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
    assert!(world.is_free());
}

#[test]
fn a_commit_of_which_nothing_is_known_leaves_the_undo() {
    let world = World::new();
    let stage = Sql::sqlite(world.path(), |id: &i64| {
        [insert(*id), Statement::new("COMMIT")]
    })
    .cancel_with(|id: &i64| delete(*id));
    let report = run(stage, Ok(()));
    assert_eq!(failed(&report).1, &Rollback::Complete { undos: 1 });
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn a_locked_database_is_waited_for() {
    let world = World::new();
    let (entered, enters) = mpsc::channel();
    let stage = Sql::sqlite(world.path(), move |id: &i64| {
        entered.send(()).unwrap();
        insert(*id)
    })
    .busy(Duration::from_secs(600));
    world.database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let running = thread::spawn(move || run(stage, Ok(())));
    enters.recv().unwrap();
    // Long enough for a few tries. Without any, the test still holds.
    thread::sleep(4 * BREATH);
    assert!(!running.is_finished());
    world.database.execute_batch("COMMIT").unwrap();
    let report = running.join().unwrap();
    assert_eq!(report.counts.done, 1, "{report}");
    assert_eq!(world.ids(), [1]);
}

#[test]
fn a_lock_that_does_not_become_free_may_be_tried_again() {
    let world = World::new();
    world.database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let report = run(world.adding().busy(Duration::ZERO), Ok(()));
    assert_eq!(failed(&report), (FailureKind::Error, &Rollback::None));
}

/// Runs a task that never ends by itself, stopped by its deadline or by a cancel.
fn stop(stage: Sqlite<i64>, by_deadline: bool, begun: impl Fn() -> bool) -> String {
    let limit = Duration::from_millis(if by_deadline { 100 } else { 600_000 });
    actix_rt::System::new().block_on(async {
        let handle = Pipeline::new("sql").stage(stage).start().await.unwrap();
        let ticket = handle.submit(1).timeout(limit).await.unwrap();
        if !by_deadline {
            let waited = Instant::now();
            while !begun() {
                assert!(waited.elapsed() < Duration::from_secs(10));
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
            ticket.cancel();
        }
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.rollback, Rollback::None);
        let end = outcome.end.to_string();
        handle.shutdown(Shutdown::Abort).await.unwrap();
        end
    })
}

fn endless(world: &World) -> Sqlite<i64> {
    Sql::sqlite(world.path(), |id: &i64| {
        [insert(*id), Statement::new(ENDLESS)]
    })
    .cancel_with(|id: &i64| delete(*id))
}

#[test]
fn a_deadline_amid_a_long_statement_leaves_nothing() {
    let world = World::new();
    let end = stop(endless(&world), true, || true);
    assert_eq!(end, "timed out in Sqlite");
    assert!(world.is_free());
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn a_cancel_amid_a_long_statement_leaves_nothing() {
    let world = World::new();
    let end = stop(endless(&world), false, || !world.is_free());
    assert_eq!(end, "cancelled in Sqlite");
    assert!(world.is_free());
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn a_deadline_amid_the_wait_for_a_lock_leaves_nothing() {
    let world = World::new();
    world.database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stage = world.adding().busy(Duration::from_secs(600));
    let end = stop(stage, true, || true);
    assert_eq!(end, "timed out in Sqlite");
    world.database.execute_batch("COMMIT").unwrap();
    assert!(world.is_free());
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn a_cancel_may_be_called_twice() {
    let world = World::new();
    let mut stage = world.adding();
    for statements in [insert(1), delete(1), delete(1)] {
        assert!(stage.transact(&[statements], None).is_ok());
    }
    assert_eq!(world.ids(), [0; 0]);
}

#[test]
fn values_arrive_and_no_report_shows_them() {
    let world = World::new();
    let statement = Statement::new("INSERT INTO v VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .bind(None::<i64>)
        .bind(Some(-7_i64))
        .bind(0.5)
        .bind("secret")
        .bind(vec![1_u8, 2])
        .bind(true);
    let undo = SqlUndo([statement.clone(), delete(1)].into());
    assert_eq!(
        format!("{undo:?}"),
        "INSERT INTO v VALUES (?1, ?2, ?3, ?4, ?5, ?6); DELETE FROM t WHERE id = ?1"
    );
    let create = Statement::new("CREATE TABLE v (a, b, c, d, e, f)");
    let mut stage = world.adding();
    assert!(stage.transact(&[create, statement], None).is_ok());
    let seen: String = world
        .database
        .query_row(
            "SELECT quote(a)||quote(b)||quote(c)||quote(d)||quote(e)||quote(f) FROM v",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(seen, "NULL-70.5'secret'X'0102'1");
}

#[test]
fn f24_nan_is_refused() {
    let world = World::new();
    let insert = |real: f64| {
        Sql::sqlite(world.path(), move |_: &i64| {
            Statement::new("INSERT INTO t (name) VALUES (?1)").bind(real)
        })
    };
    for nan in [f64::NAN, -f64::NAN] {
        let report = run(insert(nan), Ok(()));
        assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
        let shown = report.last_failures[0].end.to_string();
        assert!(shown.contains("NaN as NULL"), "{shown}");
    }
    for real in [f64::INFINITY, f64::NEG_INFINITY, f64::MIN, 1e-320] {
        assert_eq!(run(insert(real), Ok(())).counts.done, 1);
    }
    let kept = "SELECT count(*) FROM t WHERE name IN (?1, ?2, ?3, ?4)";
    let values = [f64::INFINITY, f64::NEG_INFINITY, f64::MIN, 1e-320];
    let count = world.database.query_row(kept, values, |row| row.get(0));
    assert_eq!(count, Ok(4));
}

/// Or it would fail when it runs, and leave the task stuck.
#[test]
fn f24_nan_in_an_undo_is_refused_before_the_run() {
    let world = World::new();
    let stage = Sql::sqlite(world.path(), |id: &i64| insert(*id))
        .cancel_with(|_: &i64| Statement::new("DELETE FROM t WHERE name = ?1").bind(f64::NAN));
    let report = run(stage, Err("no"));
    assert_eq!(failed(&report), (FailureKind::Permanent, &Rollback::None));
    assert_eq!(world.ids(), [0; 0]);
}

/// It must compile, too.
#[test]
fn an_undo_is_kept_in_a_journal() {
    let world = World::new();
    let journal = world.folder.path().join("sql.journal");
    let journal = batrun::journal::Journal::open(journal).unwrap();
    let fail = stage_fn("fail", async |_: i64, _: &TaskContext<()>| {
        Err::<(), _>(Failure::permanent("no"))
    });
    let pipeline = Pipeline::new("sql").journal(journal);
    let pipeline = pipeline.stage(world.adding()).stage(fail);
    let outcome = actix_rt::System::new().block_on(async {
        let handle = pipeline.start().await.unwrap();
        let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
        let drain = Shutdown::Drain(Duration::from_secs(10));
        handle.shutdown(drain).await.unwrap();
        outcome
    });
    assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
    assert_eq!(world.ids(), [0; 0]);
}
