use std::{io::Write as _, time::Instant};

use batrun::{PipelineHandle, prelude::*};
use tempfile::{TempDir, tempdir};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

type Make = fn(PathBuf) -> Option<PathBuf>;

/// A pipeline that tells the test each file that was submitted.
struct Running {
    handle: PipelineHandle<PathBuf, ()>,
    came: UnboundedReceiver<String>,
}

impl Running {
    async fn start(
        producer: WatchFolder<impl FnMut(PathBuf) -> Option<PathBuf> + Send + 'static>,
    ) -> Self {
        let (tell, came) = unbounded_channel();
        let handle = Pipeline::new("watch")
            .producer(producer)
            .stage(crate::map("tell", move |path: PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                tell.send(name).unwrap();
            }))
            .start()
            .await
            .unwrap();
        Running { handle, came }
    }

    async fn next(&mut self) -> String {
        let next = self.came.recv();
        let next = tokio::time::timeout(Duration::from_secs(10), next).await;
        next.unwrap().unwrap()
    }

    async fn shutdown(self) -> batrun::report::Report {
        let drain = Shutdown::Drain(Duration::from_secs(10));
        self.handle.shutdown(drain).await.unwrap()
    }
}

/// With a first file, which comes once the folder is watched.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("first"), "").unwrap();
    folder
}

fn watch(folder: &TempDir) -> WatchFolder<Make> {
    WatchFolder::new(folder.path(), Some as Make).existing()
}

fn test(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

#[test]
fn files_that_are_there_and_files_that_come() {
    test(async {
        let folder = folder();
        let mut running = Running::start(watch(&folder)).await;
        assert_eq!(running.next().await, "first");
        fs::write(folder.path().join("written"), "content").unwrap();
        assert_eq!(running.next().await, "written");
        let elsewhere = tempfile::NamedTempFile::new_in(folder.path().parent().unwrap()).unwrap();
        elsewhere.persist(folder.path().join("renamed")).unwrap();
        assert_eq!(running.next().await, "renamed");
        let report = running.shutdown().await;
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_comes_once_it_is_complete() {
    test(async {
        let folder = folder();
        let mut running = Running::start(watch(&folder)).await;
        assert_eq!(running.next().await, "first");
        let mut slow = fs::File::create(folder.path().join("slow")).unwrap();
        slow.write_all(b"content").unwrap();
        fs::write(folder.path().join("quick"), "").unwrap();
        assert_eq!(running.next().await, "quick");
        drop(slow);
        assert_eq!(running.next().await, "slow");
        running.shutdown().await;
    });
}

#[test]
fn hidden_files_links_and_folders_are_left_alone() {
    test(async {
        let folder = folder();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let mut running = Running::start(watch(&folder)).await;
        assert_eq!(running.next().await, "first");
        fs::write(folder.path().join(".hidden"), "").unwrap();
        fs::write(folder.path().join("inner/file"), "").unwrap();
        fs::write(folder.path().join("last"), "").unwrap();
        assert_eq!(running.next().await, "last");
        running.shutdown().await;

        let folder = tempdir().unwrap();
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let mut running = Running::start(watch(&folder).hidden()).await;
        assert_eq!(running.next().await, ".hidden");
        running.shutdown().await;
    });
}

#[test]
fn files_of_inner_folders_come_too() {
    test(async {
        let folder = folder();
        let mut running = Running::start(watch(&folder).recursive()).await;
        assert_eq!(running.next().await, "first");
        // At once, so that the file may be there before the folder is watched.
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/deep"), "").unwrap();
        assert_eq!(running.next().await, "deep");
        fs::write(folder.path().join("a/next"), "").unwrap();
        // It may come twice.
        while running.next().await != "next" {}
        running.shutdown().await;
    });
}

#[test]
fn what_the_closure_leaves_alone_makes_no_task() {
    test(async {
        let folder = folder();
        let make: Make = |path| (!path.ends_with("no")).then_some(path);
        let mut running = Running::start(WatchFolder::new(folder.path(), make).existing()).await;
        assert_eq!(running.next().await, "first");
        fs::write(folder.path().join("no"), "").unwrap();
        fs::write(folder.path().join("yes"), "").unwrap();
        assert_eq!(running.next().await, "yes");
        running.shutdown().await;
    });
}

#[test]
fn a_folder_that_is_not_there_or_goes_away_ends_it() {
    test(async {
        let absent = tempdir().unwrap().path().join("absent");
        let report = Pipeline::new("watch")
            .producer(WatchFolder::new(absent, Some as Make))
            .stage(crate::map("none", |_: PathBuf| ()))
            .run()
            .await
            .unwrap();
        assert_eq!(report.producer_errors.len(), 1);

        // The pipeline ends with its only producer.
        let removes: [fn(&Path); 2] = [
            |root| fs::remove_dir_all(root).unwrap(),
            |root| fs::rename(root, root.with_extension("moved")).unwrap(),
        ];
        for remove in removes {
            let folder = tempdir().unwrap();
            let root = folder.path().join("root");
            fs::create_dir(&root).unwrap();
            fs::write(root.join("first"), "").unwrap();
            let run = Pipeline::new("watch")
                .producer(WatchFolder::new(&root, Some as Make).existing())
                .stage(crate::map("remove", move |_: PathBuf| remove(&root)))
                .run();
            let report = tokio::time::timeout(Duration::from_secs(10), run).await;
            let report = report.unwrap().unwrap();
            let error = report.producer_errors[0].failure.to_string();
            assert!(error.ends_with("removed or moved"), "{error}");
        }
    });
}

#[test]
fn a_shutdown_ends_the_thread() {
    test(async {
        let folder = folder();
        let alive = Arc::new(());
        let held = alive.clone();
        let make = move |path| {
            let _ = &held;
            Some(path)
        };
        let mut running = Running::start(WatchFolder::new(folder.path(), make).existing()).await;
        assert_eq!(running.next().await, "first");
        running.shutdown().await;
        // The closure is dropped with its thread, though nothing happens in the folder.
        let began = Instant::now();
        while Arc::strong_count(&alive) > 1 {
            assert!(began.elapsed() < Duration::from_secs(10));
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn lost_events_are_noticed_and_bounded() {
    let (sender, events) = sync_channel(2);
    let lost = Arc::new(AtomicBool::new(false));
    let tell = Tell {
        root: "folder".into(),
        sender,
        lost: lost.clone(),
    };
    let event = |kind| Ok(Event::new(kind).add_path("file".into()));
    let complete = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    for _ in 0..2 {
        tell.event(event(complete));
    }
    assert!(!lost.load(Ordering::SeqCst));
    tell.event(event(complete));
    assert!(lost.swap(false, Ordering::SeqCst));
    assert_eq!(events.try_iter().count(), 2);
    let rescan = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    tell.event(Ok(rescan));
    assert!(lost.load(Ordering::SeqCst));
    assert!(matches!(events.try_recv(), Ok(News::Wake)));
}

#[test]
fn after_lost_events_all_files_come_again() {
    test(async {
        let folder = folder();
        let root = folder.path().to_owned();
        let producer = move |tasks: Intake<PathBuf>| async move {
            let (sender, events) = sync_channel(WAITING);
            let lost = Arc::new(AtomicBool::new(true));
            sender.send(News::Wake).unwrap();
            // Without events, it ends after that one.
            drop(sender);
            reading::submit_all("batrun-watch", tasks, None, &Progress::default(), move |ahead| {
                let mut watch = Watch {
                    watcher: notify::recommended_watcher(|_| {})?,
                    look: Look {
                        recursive: false,
                        hidden: false,
                    },
                    make: Some as Make,
                    ahead,
                };
                watch.run(&root, true, &events, &lost)
            })
            .await
        };
        let report = Pipeline::new("watch")
            .producer(producer)
            .stage(crate::map("none", |_: PathBuf| ()))
            .run()
            .await
            .unwrap();
        assert_eq!(report.counts.done, 2, "{report}");
    });
}
