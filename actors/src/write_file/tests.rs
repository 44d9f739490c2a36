use std::fs::{File, Permissions};

use batrun::{prelude::*, report::Report, state::Rollback};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::killed;

/// The part of a test between the write and the end of the task.
type Then = fn(&Path) -> Result<(), Failure>;

/// Writes "new" to `file` of the folder, then runs `then`, whose failure makes the undo run.
fn run(folder: &TempDir, then: Then) -> Report {
    run_with(folder, then, |stage| stage)
}

type Stage = WriteFile<PathBuf, fn(&PathBuf) -> PathBuf, fn(&PathBuf) -> &'static str>;

fn run_with(folder: &TempDir, then: Then, with: fn(Stage) -> Stage) -> Report {
    let then = stage_fn(
        "then",
        async move |path: PathBuf, _: &TaskContext<'_, ()>| then(&path),
    );
    actix_rt::System::new()
        .block_on(
            Pipeline::new("write")
                .producer(from_iter([folder.path().join("file")]))
                .stage(with(new()))
                .stage(then)
                .run(),
        )
        .unwrap()
}

fn fail(_: &Path) -> Result<(), Failure> {
    Err(Failure::permanent("no"))
}

fn content(folder: &TempDir) -> Option<String> {
    fs::read_to_string(folder.path().join("file")).ok()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn rollback(report: &Report) -> &Rollback {
    &report.last_failures[0].rollback
}

#[test]
fn a_file_is_written_and_nothing_else() {
    let folder = tempdir().unwrap();
    let report = run(&folder, |_| Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
    assert_eq!(content(&folder).as_deref(), Some("new"));
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn a_new_file_is_removed_by_its_cancel() {
    let folder = tempdir().unwrap();
    let report = run(&folder, fail);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert!(names(&folder).is_empty());
}

#[test]
fn a_replaced_file_is_restored_by_its_cancel() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("file"), "old").unwrap();
    let report = run(&folder, |path| {
        assert_eq!(fs::read_to_string(path).unwrap(), "new");
        fail(path)
    });
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert_eq!(content(&folder).as_deref(), Some("old"));
    assert_eq!(names(&folder), ["file"]);
}

#[cfg(unix)]
#[test]
fn permissions_are_kept_and_restored() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    run(&folder, |_| Ok(()));
    assert_eq!(
        (content(&folder).as_deref(), mode(&path)),
        (Some("new"), 0o640)
    );
    run(&folder, |path| {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        fail(path)
    });
    assert_eq!(
        (content(&folder).as_deref(), mode(&path)),
        (Some("new"), 0o640)
    );
}

#[test]
fn a_file_that_another_changed_is_left_and_the_task_is_stuck() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("file"), "old").unwrap();
    let report = run(&folder, |path| {
        fs::write(path, "theirs")?;
        fail(path)
    });
    let Rollback::Stuck(stuck) = rollback(&report) else {
        panic!("{report}")
    };
    assert!(stuck.undos[0].undo.starts_with("restore "), "{stuck}");
    assert!(stuck.undos[0].undo.ends_with("(3 bytes)"), "{stuck}");
    assert_eq!(content(&folder).as_deref(), Some("theirs"));
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn a_change_that_left_the_time_as_it_was_is_seen() {
    let folder = tempdir().unwrap();
    let report = run(&folder, |path| {
        // The same time as two writes within one tick of the file system's clock would have.
        let modified = fs::metadata(path)?.modified()?;
        fs::write(path, "NEW")?;
        File::options()
            .write(true)
            .open(path)?
            .set_modified(modified)?;
        fail(path)
    });
    assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
    assert_eq!(content(&folder).as_deref(), Some("NEW"));
}

#[test]
fn anothers_file_with_the_same_content_is_left() {
    let folder = tempdir().unwrap();
    let report = run(&folder, |path| {
        let theirs = path.with_extension("theirs");
        fs::write(&theirs, "new")?;
        fs::rename(theirs, path)?;
        fail(path)
    });
    assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}");
    assert_eq!(content(&folder).as_deref(), Some("new"));
}

#[test]
fn a_file_that_is_gone_needs_no_cancel() {
    let folder = tempdir().unwrap();
    let report = run(&folder, |path| {
        fs::remove_file(path)?;
        fail(path)
    });
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
}

/// The undo of a rename, as the next process finds it.
fn renamed(path: &Path, temporary: &Path, before: Option<Before>) -> Renamed {
    let content = fs::read(temporary).unwrap();
    killed::reread(&Renamed {
        path: Name(path.to_owned()),
        temporary: Name(temporary.to_owned()),
        written: Written::of(&fs::metadata(temporary).unwrap(), &content),
        before,
    })
}

#[test]
fn a_cancel_may_be_called_twice() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    for old in [None, Some("old")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let before = look(&path, LARGEST).unwrap();
        let temporary = temporary_for(&path).unwrap();
        write_new(&temporary, b"new", None).unwrap();
        let undo = renamed(&path, &temporary, before);
        fs::rename(&temporary, &path).unwrap();
        for _ in 0..2 {
            undo::restore(&undo).unwrap();
            assert_eq!(content(&folder).as_deref(), old);
        }
    }
}

#[test]
fn what_is_no_regular_file_is_left() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("file")).unwrap();
    let report = run(&folder, |_| Ok(()));
    assert_eq!(report.counts.failed, 1);
    assert_eq!(rollback(&report), &Rollback::None);
    assert!(folder.path().join("file").is_dir());
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn a_file_too_large_to_be_kept_is_left() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("file"), "old").unwrap();
    let report = run_with(&folder, |_| Ok(()), |stage| stage.largest(2));
    assert_eq!(report.counts.failed, 1);
    assert_eq!(content(&folder).as_deref(), Some("old"));
}

#[test]
fn a_folder_that_is_not_there_fails_the_task() {
    let folder = tempdir().unwrap();
    let stage: Stage = WriteFile::new(|path| path.join("absent/file"), |_| "new");
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("write")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(stage)
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.failed, 1);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 });
    assert!(names(&folder).is_empty());
}

#[test]
fn an_undo_shows_no_contents() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "secret").unwrap();
    let before = look(&path, LARGEST).unwrap();
    let undo = WriteFileUndo(Step::Renamed(renamed("a/file".as_ref(), &path, before)));
    assert_eq!(format!("{undo:?}"), "restore a/file (6 bytes)");
}

#[test]
fn a_name_may_be_as_long_as_a_name_can_be() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("n".repeat(255));
    let temporary = temporary_for(&path).unwrap();
    assert!(temporary.file_name().unwrap().len() < 100);
    assert_eq!(temporary.parent(), path.parent());
}

#[cfg(unix)]
#[test]
fn what_replaces_a_secret_is_never_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    // It is private even if the file's permissions are never set afterwards.
    let path = folder.path().join("secret");
    let own = Access::of(&Permissions::from_mode(0o600));
    let options = private(Some(own));
    let file = options.open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

fn new() -> Stage {
    WriteFile::new(|path| path.clone(), |_| "new")
}

#[test]
fn f26_the_undo_runs_after_a_restart() {
    for old in [None, Some("old")] {
        let folder = tempdir().unwrap();
        if let Some(old) = old {
            fs::write(folder.path().join("file"), old).unwrap();
        }
        let outcome = killed::after_it(new, folder.path().join("file"), || {
            assert_eq!(content(&folder).as_deref(), Some("new"));
        });
        assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
        assert_eq!(content(&folder).as_deref(), old);
        assert_eq!(names(&folder).len(), old.iter().count());
    }
}

#[test]
fn f26_a_file_that_another_wrote_before_the_restart_stays() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let outcome = killed::after_it(new, path.clone(), || {
        // The first one is kept, so that its inode isn't free to be used again.
        fs::rename(&path, folder.path().join("kept")).unwrap();
        fs::write(&path, "new").unwrap();
    });
    assert!(outcome.rollback.is_stuck(), "{outcome}");
    assert_eq!(content(&folder).as_deref(), Some("new"));
}

#[test]
fn f26_a_kill_before_the_rename_leaves_what_another_wrote() {
    for (old, theirs) in [
        (None, None),
        (None, Some("theirs")),
        (Some("old"), None),
        (Some("old"), Some("old")),
        (Some("old"), Some("theirs")),
    ] {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let before = look(&path, LARGEST).unwrap();
        let temporary = temporary_for(&path).unwrap();
        write_new(&temporary, b"new", None).unwrap();
        let undo = renamed(&path, &temporary, before);
        // Killed here, and another one writes or removes the file.
        match theirs {
            Some(theirs) => fs::write(&path, theirs).unwrap(),
            None => undo::remove(&path).unwrap(),
        }
        undo::restore(&undo).unwrap();
        assert_eq!(content(&folder).as_deref(), theirs);
        assert_eq!(names(&folder).len(), theirs.iter().count());
    }
}

#[test]
fn f26_a_kill_of_the_undo_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    let before = look(&path, LARGEST).unwrap();
    let temporary = temporary_for(&path).unwrap();
    write_new(&temporary, b"new", None).unwrap();
    let undo = renamed(&path, &temporary, before);
    fs::rename(&temporary, &path).unwrap();
    // The undo was killed while it wrote the old content.
    fs::write(undo::name_of_old(&temporary), "ol").unwrap();
    undo::restore(&undo).unwrap();
    assert_eq!(content(&folder).as_deref(), Some("old"));
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn f26_a_new_file_never_replaces_one_that_came_in_between() {
    let folder = tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, "new").unwrap();
    fs::write(&to, "theirs").unwrap();
    let error = place_file(&from, &to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&to).unwrap(), "theirs");
}

#[test]
fn f26_an_undo_that_is_repeated_may_find_its_folder_gone() {
    let folder = tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let (path, temporary) = (inner.join("file"), inner.join("temporary"));
    fs::write(&temporary, "new").unwrap();
    let undo = renamed(&path, &temporary, None);
    fs::rename(&temporary, &path).unwrap();
    undo::restore(&undo).unwrap();
    // Killed before that was recorded. Meanwhile the undo of the folder has run.
    fs::remove_dir(&inner).unwrap();
    undo::restore(&undo).unwrap();
}
