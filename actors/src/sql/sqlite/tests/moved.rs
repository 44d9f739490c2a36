//! The database's file is replaced under a running stage.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use super::{super::Outcome, *};

/// The modes of a journal that it makes a difference for.
const MODES: [&str; 2] = ["DELETE", "WAL"];

/// Makes a database with an empty table.
fn make(path: &Path, mode: &str) {
    let database = Connection::open(path).unwrap();
    let mode = format!("PRAGMA journal_mode = {mode}");
    database.query_row(&mode, (), |_| Ok(())).unwrap();
    database
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        .unwrap();
}

fn ids(path: &Path) -> Vec<i64> {
    let database = Connection::open(path).unwrap();
    let mut query = database.prepare("SELECT id FROM t ORDER BY id").unwrap();
    let ids = query.query_map((), |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

fn adding(path: &Path) -> Sqlite<i64> {
    Sql::sqlite(path, |id: &i64| insert(*id)).cancel_with(|id: &i64| delete(*id))
}

/// Moves a new database to where that one is.
fn replace(path: &Path, mode: &str) {
    let new = path.with_extension("new");
    make(&new, mode);
    for tail in ["-wal", "-shm", "-journal"] {
        let mut file = path.as_os_str().to_owned();
        file.push(tail);
        fs::remove_file(file).ok();
    }
    fs::rename(new, path).unwrap();
}

/// Runs tasks one after the other, and `between` before each but the first.
fn run_all(
    stage: impl IntoWork<Stage: Stage<Input = i64>>,
    mut between: impl FnMut(i64),
) -> Report {
    actix_rt::System::new().block_on(async {
        let handle = Pipeline::new("sql").stage(stage).start().await.unwrap();
        for id in 1..=3 {
            if id > 1 {
                between(id);
            }
            let outcome = handle.submit(id).await.unwrap().outcome().await.unwrap();
            assert!(outcome.is_done(), "{id}: {}", outcome.end);
        }
        let drain = Shutdown::Drain(Duration::from_secs(10));
        handle.shutdown(drain).await.unwrap()
    })
}

#[test]
fn f23_a_file_that_is_replaced_is_opened_anew() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        make(&path, mode);
        let report = run_all(adding(&path).workers(1), |id| {
            assert_eq!(ids(&path), [id - 1], "{mode}");
            replace(&path, mode);
        });
        assert_eq!(report.stages[0].counts.started, 3, "{mode}");
        assert_eq!(ids(&path), [3], "{mode}");
    }
}

#[test]
fn f23_a_link_that_leads_elsewhere_is_followed() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let file = |id: i64| folder.path().join(id.to_string());
        let point_to = |id| {
            make(&file(id), mode);
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(file(id), &link).unwrap();
            fs::rename(link, &path).unwrap();
        };
        point_to(1);
        run_all(adding(&path).workers(1), point_to);
        for id in 1..=3 {
            assert_eq!(ids(&file(id)), [id], "{mode}");
        }
    }
}

#[test]
fn f23_a_log_that_is_removed_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    make(&path, "WAL");
    run_all(adding(&path).workers(1), |_| {
        fs::remove_file(folder.path().join("db-wal")).unwrap();
        fs::remove_file(folder.path().join("db-shm")).unwrap();
    });
    // The rows that were only in the log went with it, and the last one is there.
    assert_eq!(ids(&path).last(), Some(&3));
}

/// It must not be created empty: a later attempt then finds it when it is back.
#[test]
fn f23_a_file_that_is_gone_is_waited_for() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let away = folder.path().join("away");
        make(&path, mode);
        let seen = Mutex::new(0);
        let (from, to) = (away.clone(), path.clone());
        let stage = Sql::sqlite(&path, move |id: &i64| {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            // The second task's second attempt.
            if *seen == 3 {
                assert!(!to.exists(), "it was created");
                fs::rename(&from, &to).unwrap();
            }
            insert(*id)
        });
        let retry = Retry::constant(1, Duration::from_millis(1));
        let report = run_all(stage.workers(1).retry(retry), |id| {
            if id == 2 {
                // Whole, with what is in its log.
                let database = Connection::open(&path).unwrap();
                let whole = "PRAGMA wal_checkpoint(TRUNCATE)";
                database.query_row(whole, (), |_| Ok(())).unwrap();
                fs::rename(&path, &away).unwrap();
            }
        });
        assert_eq!(report.stages[0].counts.started, 4, "{mode}");
        assert_eq!(ids(&path), [1, 2, 3], "{mode}");
    }
}

#[test]
#[allow(clippy::unit_arg)] // A hook gives nothing up to rusqlite 0.40, and a result since.
fn f23_a_commit_into_a_file_that_was_replaced_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    make(&path, "WAL");
    let mut stage = adding(&path);
    assert!(stage.transact(&[insert(1)], None).is_ok());
    let replaced = Arc::new(Mutex::new(false));
    let (at, done) = (path.clone(), replaced.clone());
    let connection = &mut stage.database.as_mut().unwrap().connection;
    let hook = move || {
        replace(&at, "WAL");
        *done.lock().unwrap() = true;
        false
    };
    connection.commit_hook(Some(hook)).outcome().unwrap();
    let Err(broken) = stage.transact(&[insert(2)], None) else {
        panic!("done, in no file");
    };
    assert!(*replaced.lock().unwrap());
    // The undo stays, and another attempt makes sense.
    assert!(broken.unsure && broken.failure.is_retryable());
    assert!(broken.failure.to_string().contains("db was replaced"));
    assert!(stage.transact(&[insert(3)], None).is_ok());
    assert_eq!(ids(&path), [3]);
}
