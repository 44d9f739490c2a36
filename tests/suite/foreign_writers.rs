//! Other programs that read or write a journal's file while a pipeline has it, and paths that are no file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use batrun::journal::{Journal, JournalError, JournalFile};

use crate::support::{DRAIN, echo, journal_path};

/// The reason why it can't be opened, which has to be said at once.
fn refused<T>(open: impl FnOnce() -> Result<T, JournalError> + Send + 'static) -> String {
    let (said, answer) = mpsc::channel();
    thread::spawn(move || said.send(open().map(drop)));
    let opened = answer.recv_timeout(Duration::from_secs(5));
    opened.expect("it hangs").unwrap_err().to_string()
}

#[test]
fn j4_a_folder_pipe_or_device_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pipe = |path: &Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    fs::create_dir(at("folder")).unwrap();
    pipe(&at("pipe"));
    let null = PathBuf::from("/dev/null");
    for path in [at("folder"), at("pipe"), null] {
        let (other, third) = (path.clone(), path.clone());
        let all = [
            refused(|| Journal::open(other)),
            refused(|| JournalFile::look(third)),
            refused({
                let path = path.clone();
                || JournalFile::edit(path)
            }),
        ];
        for why in all {
            assert!(why.contains(&*path.to_string_lossy()), "{why}");
            assert!(why.contains("not a regular file"), "{why}");
        }
    }
    assert!(!Path::new("/dev/null-lock").exists());
    // The files that belong to it.
    for suffix in ["-lock", "-wal", "-shm", "-journal"] {
        let path = at(&format!("journal{suffix}"));
        pipe(&at(&format!("journal{suffix}{suffix}")));
        let why = refused(|| Journal::open(path));
        assert!(
            why.contains(&format!("{suffix}{suffix}: not a regular file")),
            "{why}"
        );
    }
}

#[actix::test]
async fn j4_a_reader_does_not_disturb_the_pipeline() {
    let (_folder, path) = journal_path();
    let handle = echo(Journal::open(&path).unwrap()).await;
    for n in 0..10 {
        let other = rusqlite::Connection::open(&path).unwrap();
        let count = |_: &rusqlite::Row<'_>| Ok(());
        other
            .query_row("SELECT count(*) FROM outcomes", [], count)
            .unwrap();
        let look = JournalFile::look(&path).unwrap();
        handle.submit(n).await.unwrap().outcome().await.unwrap();
        look.check().unwrap();
        drop(look);
        let _: i64 = other
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))
            .unwrap();
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    assert_eq!((report.counts.done, report.suspended), (10, None));
}

/// A pipeline whose journal's files are dealt with behind its back: the number of submits that were
/// recorded after that, and the reason why it stopped.
async fn recorded_after(meddle: impl FnOnce(&Path)) -> (usize, String) {
    let (_folder, path) = journal_path();
    let handle = echo(Journal::open(&path).unwrap()).await;
    for n in 0..20 {
        handle.submit(n).await.unwrap();
    }
    meddle(&path);
    let mut recorded = 0;
    for n in 20..40 {
        recorded += usize::from(handle.submit(n).await.is_ok());
    }
    let report = handle.shutdown(DRAIN).await.unwrap();
    let why = report.suspended.map(|why| why.to_string());
    (recorded, why.unwrap_or_default())
}

#[actix::test]
async fn j4_f09_a_journal_whose_files_are_removed_or_replaced_records_nothing_more() {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let remove_all = |path: &Path| {
        for suffix in ["", "-wal", "-shm", "-lock"] {
            fs::remove_file(with(path, suffix)).unwrap();
        }
    };
    let remove_file = |path: &Path| fs::remove_file(path).unwrap();
    let remove_log = |path: &Path| fs::remove_file(with(path, "-wal")).unwrap();
    let rename = |path: &Path| fs::rename(path, with(path, ".old")).unwrap();
    let rename_folder = |path: &Path| {
        let folder = path.parent().unwrap();
        fs::rename(folder, with(folder, ".old")).unwrap();
    };
    let replace = |path: &Path| {
        fs::copy(path, with(path, ".copy")).unwrap();
        fs::rename(with(path, ".copy"), path).unwrap();
    };
    let replace_log = |path: &Path| {
        fs::copy(with(path, "-wal"), with(path, ".copy")).unwrap();
        fs::rename(with(path, ".copy"), with(path, "-wal")).unwrap();
    };
    type Meddle<'a> = &'a dyn Fn(&Path);
    let all: [(&str, Meddle<'_>); 7] = [
        ("all removed", &remove_all),
        ("file removed", &remove_file),
        ("log removed", &remove_log),
        ("renamed", &rename),
        ("folder renamed", &rename_folder),
        ("replaced", &replace),
        ("log replaced", &replace_log),
    ];
    for (what, meddle) in all {
        let (recorded, why) = recorded_after(meddle).await;
        assert_eq!(recorded, 0, "{what}: {why}");
        assert!(why.contains("removed, moved or replaced"), "{what}: {why}");
    }
}
