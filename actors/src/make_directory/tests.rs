use std::{
    sync::mpsc::{Receiver, Sender, channel},
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::{prelude::*, report::Report, state::Rollback};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::WriteFile;

mod kills;

/// The part of a test between the stage and the end of the task.
type Then = fn(&PathBuf) -> Result<(), Failure>;
type Make = MakeDirectory<PathBuf, fn(&PathBuf) -> PathBuf>;

/// Makes `a/b/c` of the folder, or what `with` changes of that.
fn run(folder: &TempDir, with: fn(Make) -> Make, then: Then) -> Report {
    let stage: Make = MakeDirectory::new(|root| root.join("a/b/c"));
    actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(with(stage))
                .stage(crate::try_map("then", move |root: PathBuf| then(&root)))
                .run(),
        )
        .unwrap()
}

fn fail(_: &PathBuf) -> Result<(), Failure> {
    Err(Failure::permanent("no"))
}

fn parents(make: Make) -> Make {
    make.parents()
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

fn rollback(report: &Report) -> &Rollback {
    &report.last_failures[0].rollback
}

#[test]
fn a_directory_is_made_with_its_parents() {
    let folder = tempdir().unwrap();
    let report = run(&folder, parents, |_| Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
    assert!(folder.path().join("a/b/c").is_dir());
}

#[test]
fn without_parents_one_that_is_missing_fails_the_task() {
    let folder = tempdir().unwrap();
    let report = run(&folder, |make| make, |_| Ok(()));
    assert_eq!(report.counts.failed, 1);
    assert_eq!(rollback(&report), &Rollback::None);
    assert!(is_empty(&folder));
}

#[test]
fn each_directory_is_removed_the_deepest_first() {
    let folder = tempdir().unwrap();
    let paths = ["a/b/c", "a/b", "a"].map(|path| folder.path().join(path));
    let staged = Staged::of(&paths[0], true).unwrap();
    let placed: Vec<_> = staged.directories.iter().map(|(_, path)| path).collect();
    assert_eq!(placed, paths.iter().collect::<Vec<_>>());
    let stage: Make = MakeDirectory::new(|root| root.join("a/b/c"));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(stage.parents().cancel_retry(Retry::none()))
                .stage(crate::try_map("then", |root: PathBuf| fail(&root)))
                .run(),
        )
        .unwrap();
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 3 });
    assert!(is_empty(&folder));
}

#[test]
fn parents_that_were_there_stay() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let report = run(&folder, parents, fail);
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 2 });
    // Only `a` is left, and it is empty.
    fs::remove_dir(folder.path().join("a")).unwrap();
    assert!(is_empty(&folder));
}

#[test]
fn a_directory_that_is_there_fails_the_task_and_stays() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    let report = run(&folder, parents, |_| Ok(()));
    assert_eq!(report.counts.failed, 1);
    assert_eq!(rollback(&report), &Rollback::None);
    assert!(folder.path().join("a/b/c").is_dir());
}

#[test]
fn an_existing_directory_may_do_and_stays() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
    let report = run(&folder, |make| make.or_existing(), |_| Ok(()));
    assert_eq!(report.counts.done, 1, "{report}");
    let report = run(&folder, |make| make.or_existing(), fail);
    assert_eq!(rollback(&report), &Rollback::None);
    assert!(folder.path().join("a/b/c").is_dir());
}

#[test]
fn a_file_is_no_existing_directory() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/c"), "file").unwrap();
    let report = run(&folder, |make| make.or_existing(), |_| Ok(()));
    assert_eq!(report.counts.failed, 1);
    assert!(folder.path().join("a/b/c").is_file());
}

#[cfg(unix)]
#[test]
fn the_mode_is_as_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    run(&folder, |make| make.parents().mode(0o700), |_| Ok(()));
    for path in ["a", "a/b", "a/b/c"] {
        let metadata = fs::metadata(folder.path().join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{path}");
    }
}

#[test]
fn what_later_stages_left_in_it_goes_first() {
    let folder = tempdir().unwrap();
    let make: Make = MakeDirectory::new(|root| root.join("a/b/c"));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(make.parents().cancel_retry(Retry::none()))
                .stage(WriteFile::new(
                    |root: &PathBuf| root.join("a/b/c/file"),
                    |_| "content",
                ))
                .stage(crate::try_map("then", |root: PathBuf| fail(&root)))
                .run(),
        )
        .unwrap();
    assert_eq!(
        rollback(&report),
        &Rollback::Complete { undos: 4 },
        "{report}"
    );
    assert!(is_empty(&folder));
}

#[test]
fn what_another_put_into_it_stays_and_the_task_is_stuck() {
    let folder = tempdir().unwrap();
    let stage: Make = MakeDirectory::new(|root| root.join("a"));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(stage.cancel_retry(Retry::none()))
                .stage(crate::try_map("then", |root: PathBuf| {
                    fs::write(root.join("a/theirs"), "theirs").unwrap();
                    fail(&root)
                }))
                .run(),
        )
        .unwrap();
    let Rollback::Stuck(stuck) = rollback(&report) else {
        panic!("{report}")
    };
    assert!(stuck.undos[0].undo.starts_with("remove "), "{stuck}");
    assert!(folder.path().join("a/theirs").is_file());
}

/// Makes the directory anew until it was born at another time, as it is unless the clock's tick is the
/// same. `false` if this file system keeps no time of birth.
fn anew(path: &Path, born: io::Result<std::time::SystemTime>) -> bool {
    let Ok(born) = born else { return false };
    while fs::metadata(path).unwrap().created().unwrap() == born {
        fs::remove_dir(path).unwrap();
        fs::create_dir(path).unwrap();
    }
    true
}

#[cfg(unix)]
#[test]
fn a_directory_that_another_put_in_its_place_stays() {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    let report = run(
        &folder,
        |make| make,
        |root| {
            // The first one is kept, so that its inode isn't free to be used again.
            fs::rename(root.join("a/b/c"), root.join("a/b/kept"))?;
            fs::create_dir(root.join("a/b/c"))?;
            anew(
                &root.join("a/b/c"),
                fs::metadata(root.join("a/b/kept"))?.created(),
            );
            fail(root)
        },
    );
    let kept = fs::metadata(folder.path().join("a/b/kept")).unwrap();
    match kept.created() {
        Ok(_) => assert_eq!(rollback(&report), &Rollback::Complete { undos: 1 }),
        Err(_) => assert!(matches!(rollback(&report), Rollback::Stuck(_)), "{report}"),
    }
    assert!(folder.path().join("a/b/c").is_dir());
}

#[test]
fn a_directory_that_is_gone_needs_no_cancel() {
    let folder = tempdir().unwrap();
    let report = run(&folder, parents, |root| {
        fs::remove_dir_all(root.join("a"))?;
        fail(root)
    });
    assert_eq!(rollback(&report), &Rollback::Complete { undos: 3 });
}

#[test]
fn a_late_task_leaves_no_directory() {
    let folder = tempdir().unwrap();
    let stage: Make = MakeDirectory::new(|root| root.join("a/b/c"));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]).timeout(Duration::from_millis(100)))
                .stage(stage.parents())
                .stage(stage_fn(
                    "never",
                    async |_: PathBuf, _: &TaskContext<'_, ()>| {
                        std::future::pending::<Result<(), Failure>>().await
                    },
                ))
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.timed_out, 1);
    assert!(is_empty(&folder));
}

/// A closure that tells when it runs, and waits until it may go on.
fn gate() -> (
    impl Fn(&PathBuf) -> PathBuf + Clone + Send,
    Receiver<()>,
    Sender<()>,
) {
    let (tell, runs) = channel();
    let (go, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let path = move |root: &PathBuf| {
        tell.send(()).unwrap();
        let wait = wait.lock().unwrap();
        wait.recv_timeout(Duration::from_secs(10)).unwrap();
        root.join("a/b/c")
    };
    (path, runs, go)
}

#[test]
fn a_task_that_is_stopped_in_the_middle_leaves_no_directory() {
    let folder = tempdir().unwrap();
    let (path, runs, go) = gate();
    let report = actix_rt::System::new().block_on(async {
        let pipeline = Pipeline::<PathBuf>::new("make").stage(MakeDirectory::new(path).parents());
        let handle = pipeline.start().await.unwrap();
        let ticket = handle.submit(folder.path().to_owned()).await.unwrap();
        while runs.try_recv().is_err() {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(handle.cancel(ticket.id()));
        go.send(()).unwrap();
        handle
            .shutdown(Shutdown::Drain(Duration::from_secs(10)))
            .await
            .unwrap()
    });
    assert_eq!(report.counts.cancelled, 1, "{report}");
    assert!(is_empty(&folder));
}

#[test]
fn a_parent_that_another_made_at_the_same_time_will_do() {
    let folder = tempdir().unwrap();
    let root = folder.path().to_owned();
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter(
                    (0..40).map(move |n| root.join(format!("a/b/{n}"))),
                ))
                .stage(
                    MakeDirectory::new(|path: &PathBuf| path.clone())
                        .parents()
                        .workers(8),
                )
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.done, 40, "{report}");
    assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 40);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_way_back_out_of_a_missing_directory_is_refused() {
    let folder = tempdir().unwrap();
    let stage: Make = MakeDirectory::new(|root| root.join("a/../b"));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("make")
                .producer(from_iter([folder.path().to_owned()]))
                .stage(stage.parents())
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.failed, 1, "{report}");
    assert!(is_empty(&folder));
}
