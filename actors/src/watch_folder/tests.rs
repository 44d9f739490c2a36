use std::{io::Write as _, sync::Arc, time::Instant};

use batrun::{PipelineHandle, prelude::*};
use tempfile::{TempDir, tempdir};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use notify::{
    Event, EventKind,
    event::{ModifyKind, RenameMode},
};

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
fn f18_a_file_that_is_linked_into_the_folder_comes() {
    test(async {
        let folder = folder();
        let mut running = Running::start(watch(&folder)).await;
        assert_eq!(running.next().await, "first");
        let elsewhere = tempdir().unwrap();
        let theirs = elsewhere.path().join("theirs");
        fs::write(&theirs, "content").unwrap();
        fs::hard_link(&theirs, folder.path().join("linked")).unwrap();
        assert_eq!(running.next().await, "linked");
        // As a mailbox gets its mail: linked, and the other name removed.
        fs::hard_link(&theirs, folder.path().join("delivered")).unwrap();
        fs::remove_file(&theirs).unwrap();
        assert_eq!(running.next().await, "delivered");
        // One that is read at once, as an indexer does.
        fs::write(&theirs, "content").unwrap();
        fs::hard_link(&theirs, folder.path().join("indexed")).unwrap();
        fs::remove_file(&theirs).unwrap();
        fs::read(folder.path().join("indexed")).unwrap();
        assert_eq!(running.next().await, "indexed");
        let report = running.shutdown().await;
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn f18_a_file_without_a_name_that_gets_one_comes() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    use std::os::fd::AsRawFd;
    test(async {
        let folder = folder();
        let mut running = Running::start(watch(&folder)).await;
        assert_eq!(running.next().await, "first");
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let Ok(nameless) = open(folder.path(), flags, Mode::RUSR | Mode::WUSR) else {
            return; // This file system has none.
        };
        rustix::io::write(&nameless, b"content").unwrap();
        let its = format!("/proc/self/fd/{}", nameless.as_raw_fd());
        let name = folder.path().join("named");
        linkat(CWD, its, CWD, &name, AtFlags::SYMLINK_FOLLOW).unwrap();
        assert_eq!(running.next().await, "named");
        running.shutdown().await;
    });
}

#[cfg(unix)]
#[test]
fn f19_a_link_that_is_swapped_leads_to_the_new_folder() {
    use std::os::unix::fs::symlink;
    test(async {
        let base = tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for folder in ["one", "two"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join(format!("first of {folder}")), "").unwrap();
        }
        symlink(at("one"), at("link")).unwrap();
        let producer = WatchFolder::new(at("link"), Some as Make).existing();
        let mut running = Running::start(producer).await;
        assert_eq!(running.next().await, "first of one");
        // As `ln -sfn` does it.
        symlink(at("two"), at("new")).unwrap();
        fs::rename(at("new"), at("link")).unwrap();
        assert_eq!(running.next().await, "first of two");
        fs::write(at("two/later"), "").unwrap();
        assert_eq!(running.next().await, "later");
        // The old one means nothing any more.
        fs::remove_dir_all(at("one")).unwrap();
        fs::write(at("two/last"), "").unwrap();
        while running.next().await != "last" {}
        let report = running.shutdown().await;
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}

#[cfg(unix)]
#[test]
fn f19_a_folder_above_that_is_made_anew_is_followed() {
    test(async {
        let base = tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::create_dir_all(at("above/inbox")).unwrap();
        fs::write(at("above/inbox/first"), "").unwrap();
        let producer = WatchFolder::new(at("above/inbox"), Some as Make).existing();
        let mut running = Running::start(producer).await;
        assert_eq!(running.next().await, "first");
        fs::rename(at("above"), at("old")).unwrap();
        fs::create_dir_all(at("above/inbox")).unwrap();
        fs::write(at("above/inbox/second"), "").unwrap();
        assert_eq!(running.next().await, "second");
        running.shutdown().await;
    });
}

#[test]
fn f19_a_folder_above_that_is_gone_ends_it() {
    test(async {
        let base = tempdir().unwrap();
        let (above, moved) = (base.path().join("above"), base.path().join("moved"));
        fs::create_dir_all(above.join("inbox")).unwrap();
        fs::write(above.join("inbox/first"), "").unwrap();
        let run = Pipeline::new("watch")
            .producer(WatchFolder::new(above.join("inbox"), Some as Make).existing())
            .stage(crate::map("move", move |_: PathBuf| {
                fs::rename(&above, &moved).unwrap();
            }))
            .run();
        let report = tokio::time::timeout(Duration::from_secs(20), run).await;
        let report = report.unwrap().unwrap();
        let error = report.producer_errors[0].failure.to_string();
        assert!(error.ends_with("removed or moved"), "{error}");
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
    let tell = Tell::new("folder".into(), sender);
    let event = |kind| Ok(Event::new(kind).add_path("file".into()));
    let complete = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    for _ in 0..2 {
        tell.event(event(complete));
    }
    assert!(!tell.were_lost());
    tell.event(event(complete));
    assert!(tell.were_lost());
    assert_eq!(events.try_iter().count(), 2);
    let rescan = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    tell.event(Ok(rescan));
    assert!(tell.were_lost());
    assert!(matches!(events.try_recv(), Ok(News::Wake)));
}

#[cfg(target_os = "linux")]
#[test]
fn f18_new_names_are_bounded() {
    let (sender, _events) = sync_channel(2 * WAITING);
    let tell = Tell::new("folder".into(), sender);
    for n in 0..=WAITING {
        assert!(!tell.were_lost());
        let made = Event::new(EventKind::Create(notify::event::CreateKind::File));
        tell.event(Ok(made.add_path(n.to_string().into())));
    }
    // They come with the search that follows.
    assert!(tell.were_lost());
    assert!(tell.linked().is_empty());
}

#[test]
fn after_lost_events_all_files_come_again() {
    test(async {
        let folder = folder();
        let root = folder.path().to_owned();
        let producer = move |tasks: Intake<PathBuf>| async move {
            let (sender, events) = sync_channel(WAITING);
            let tell = Tell::new(root.clone(), sender);
            tell.event(Ok(
                Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)
            ));
            let none = Progress::default();
            reading::submit_all("batrun-watch", tasks, None, &none, move |ahead| {
                let mut calls = 0;
                let mut watch = Watch {
                    root: root.clone(),
                    tell,
                    watcher: None,
                    watched: None,
                    missing: false,
                    look: Look {
                        recursive: false,
                        hidden: false,
                    },
                    // The second time it ends with its folder.
                    make: |path| {
                        calls += 1;
                        if calls == 2 {
                            fs::rename(&root, root.with_extension("moved")).unwrap();
                        }
                        Some(path)
                    },
                    ahead,
                };
                watch.run(true, &events)
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
