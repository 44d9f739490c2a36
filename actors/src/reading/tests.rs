use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use batrun::{
    journal::{Durability, Journal},
    prelude::*,
    report::Report,
    testing::Disk,
};
use tempfile::{TempDir, tempdir};

use super::{End, *};
use crate::{Csv, Lines, progress::State};

/// The contexts that a stage saw.
type Seen = Arc<Mutex<Vec<String>>>;

fn keep(seen: &Seen) -> impl Stage<Input = String, Output = (), Undo = ()> + Clone + Send {
    let seen = seen.clone();
    crate::map("keep", move |line: String| seen.lock().unwrap().push(line))
}

fn text(line: &str) -> Result<String, &'static str> {
    match line {
        "bad" => Err("bad"),
        line => Ok(line.to_owned()),
    }
}

/// A file with this number of lines, each of which is its number.
fn file(lines: u32) -> (TempDir, PathBuf, Vec<String>) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("lines");
    let all: Vec<String> = (1..=lines).map(|line| line.to_string()).collect();
    fs::write(&path, all.join("\n") + "\n").unwrap();
    (folder, path, all)
}

fn test<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(test)
}

/// Stops the pipeline once it has done some tasks.
async fn stop(handle: PipelineHandle<String, ()>) -> Report {
    while handle.snapshot().counts.done < 100 {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
    let grace = Duration::from_secs(10);
    handle.shutdown(Shutdown::Drain(grace)).await.unwrap()
}

fn all<P: Producer<String>>(producer: P) -> (Report, Vec<String>) {
    let seen = Seen::default();
    let pipeline = Pipeline::new("lines").producer(producer);
    let report = test(pipeline.stage(keep(&seen)).run()).unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

#[test]
fn progress_says_up_to_which_line_tasks_were_accepted() {
    let (_folder, path, lines) = file(1_000);
    let producer = Lines::open(&path, text);
    let progress = producer.progress();
    let report = test(async {
        let never = async |_: String, _: &TaskContext<'_, ()>| {
            std::future::pending::<Result<(), Failure>>().await
        };
        let handle = Pipeline::new("lines")
            .producer(producer)
            .stage(stage_fn("never", never))
            .max_in_flight(16)
            .start()
            .await
            .unwrap();
        // The channel is full, and the producer waits for room.
        while progress.read().line < 16 + AHEAD as u64 {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        handle.shutdown(Shutdown::Abort).await.unwrap()
    });
    let accepted = progress.accepted();
    assert_eq!((accepted.line, progress.tasks()), (16, 16));
    assert_eq!(report.counts.accepted, 16);
    assert!(progress.read().line > accepted.line, "{progress:?}");
    let before = lines[..16].join("\n") + "\n";
    assert_eq!(accepted.byte, before.len() as u64);

    // The next run goes on where that one has stopped.
    let rest = all(Lines::open(&path, text).from_line(accepted.line + 1)).1;
    assert_eq!(rest, lines[16..]);
}

#[test]
fn progress_counts_bytes_and_lines_as_they_are_in_the_input() {
    let input = "\u{feff}a\r\nbad\nlast";
    let producer = Lines::new(Cursor::new(input), text);
    let progress = producer.progress();
    all(producer);
    let end = Position {
        line: 3,
        byte: input.len() as u64,
    };
    assert_eq!((progress.read(), progress.accepted()), (end, end));
    assert_eq!((progress.tasks(), progress.bad()), (2, 1));

    // A row may have several lines, and bad ones at the end count as dealt with.
    let input = "\u{feff}name,age\r\n\"a\r\nb\",1\n\nbad\r\n";
    let producer = Csv::new(Cursor::new(input), |(name, _): (String, u32)| text(&name));
    let progress = producer.progress();
    all(producer);
    let end = Position {
        line: 5,
        byte: input.len() as u64,
    };
    assert_eq!((progress.read(), progress.accepted()), (end, end));
    assert_eq!((progress.tasks(), progress.bad()), (1, 1));
}

#[test]
fn a_place_to_begin_stands_until_a_line_is_accepted() {
    let producer = Lines::new(Cursor::new("a\nb\n"), text).from_line(7);
    let progress = producer.progress();
    let told = |progress: &Progress| End {
        source: "x".to_owned(),
        progress: progress.clone(),
        is_whole: false,
    };
    // Dropped before it has read anything.
    test(async {
        let pipeline = Pipeline::new("lines").producer(producer);
        let handle = pipeline
            .stage(keep(&Seen::default()))
            .start()
            .await
            .unwrap();
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
    assert!([2, 6].contains(&progress.accepted().line), "{progress:?}");
    *progress.state() = State::default();
    let mut end = told(&progress);
    assert_eq!(
        end.told(),
        "x: stopped after line 0 (byte 0), 0 tasks, 0 bad; nothing was read ahead"
    );
    progress.state().read.line = 3;
    assert!(
        end.told()
            .ends_with("; 3 lines more were read and are not accepted")
    );
    end.is_whole = true;
    assert_eq!(end.told(), "x: read up to line 3 (byte 0), 0 tasks, 0 bad");
}

#[test]
fn rows_begin_at_a_line_and_keep_their_header() {
    let input = "name,age\n\"a\nb\",1\nc,2\nbad,3\n";
    let rows = |from| {
        let make = |(name, age): (String, u32)| Ok::<_, &str>(format!("{name} {age}"));
        all(Csv::new(Cursor::new(input), make).from_line(from)).1
    };
    assert_eq!(rows(0), ["a\nb 1", "c 2", "bad 3"]);
    assert_eq!(rows(2), ["a\nb 1", "c 2", "bad 3"]);
    // The first row begins on line 2.
    assert_eq!(rows(3), ["c 2", "bad 3"]);
    assert_eq!(rows(5), ["bad 3"]);
    assert_eq!(rows(6), [""; 0]);
    // Those that are left out are not bad.
    let skipped = Lines::new(Cursor::new("bad\nbad\nx"), text).from_line(3);
    let (report, seen) = all(skipped);
    assert!(report.producer_errors.is_empty(), "{report}");
    assert_eq!(seen, ["x"]);
}

/// Runs the file's lines in a pipeline with a journal, to the end or until some are done.
fn resumed(folder: &Path, path: &Path, seen: &Seen, to_the_end: bool) -> (Report, Progress) {
    let journal = Journal::open_with(folder.join("journal"), Durability::Process).unwrap();
    let producer = Lines::open(path, text).resume();
    let progress = producer.progress();
    let report = test(async {
        let pipeline = Pipeline::new("lines")
            .producer(producer)
            .journal(journal)
            .stage(keep(seen));
        match to_the_end {
            true => pipeline.run().await.unwrap(),
            false => stop(pipeline.start().await.unwrap()).await,
        }
    });
    (report, progress)
}

#[test]
fn a_second_run_does_no_line_twice() {
    let (folder, path, lines) = file(3_000);
    let seen = Seen::default();
    let disk = folder.path();
    let (first, progress) = resumed(disk, &path, &seen, false);
    let done = first.counts.done;
    assert!(done >= 100, "{first}");
    // The submit of one more may have been dropped while it was recorded.
    let accepted = progress.accepted().line;
    assert!(
        [accepted, accepted + 1].contains(&done),
        "{progress:?} {first}"
    );

    // The same file by another way.
    #[cfg(unix)]
    let path = {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        link
    };
    let (second, progress) = resumed(disk, &path, &seen, true);
    assert_eq!(second.counts.accepted, 3_000 - done, "{second}");
    assert_eq!((progress.tasks(), progress.known()), (3_000 - done, done));
    let mut all = seen.lock().unwrap().clone();
    all.sort_by_key(|line| line.parse::<u32>().unwrap());
    assert_eq!(all, lines);

    // A third time there is nothing left to do; under another name everything is.
    let (third, _) = resumed(disk, &path, &seen, true);
    assert_eq!(third.counts.accepted, 0, "{third}");
    let other = folder.path().join("other");
    fs::copy(&path, &other).unwrap();
    let (fourth, _) = resumed(disk, &other, &seen, true);
    assert_eq!(fourth.counts.accepted, 3_000, "{fourth}");
}

#[test]
fn a_kill_in_the_middle_leaves_no_line_out() {
    let (_folder, path, lines) = file(300);
    let (disk, seen) = (Disk::new(), Seen::default());
    let run = |is_killed: bool| {
        let pipeline = Pipeline::new("lines")
            .producer(Lines::open(&path, text).resume_as("file"))
            .journal(disk.journal(Durability::Process).unwrap())
            .stage(keep(&seen));
        test(async {
            if !is_killed {
                return pipeline.run().await.unwrap();
            }
            let handle = pipeline.start().await.unwrap();
            while handle.snapshot().counts.done < 100 {
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
            disk.kill();
            handle.shutdown(Shutdown::Suspend).await.unwrap()
        })
    };
    run(true);
    run(false);
    // A line whose stage had ended and was not recorded is done again, as a journal says.
    let mut all = seen.lock().unwrap().clone();
    all.sort_by_key(|line| line.parse::<u32>().unwrap());
    all.dedup();
    assert_eq!(all, lines);
    assert_eq!(run(false).counts.accepted, 0);
}

#[test]
fn keys_are_the_name_and_the_line() {
    let disk = Disk::new();
    let rows = Cursor::new("name,age\n\"a\nb\",1\nc,2\n");
    let make = |(name, _): (String, u32)| text(&name);
    test(async {
        let handle = Pipeline::new("rows")
            .producer(Csv::new(rows, make).resume_as("people"))
            .journal(disk.journal(Durability::Process).unwrap())
            .stage(crate::map("length", |name: String| name.len() as u32))
            .start()
            .await
            .unwrap();
        for (key, length) in [
            ("people:2", Some(3)),
            ("people:4", Some(1)),
            ("people:3", None),
        ] {
            let outcome = loop {
                // Known once it is submitted.
                let outcome = handle.outcome_of(key).await.unwrap();
                if outcome.is_some() || length.is_none() {
                    break outcome;
                }
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            };
            assert_eq!(outcome.and_then(|outcome| outcome.output), length, "{key}");
        }
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn what_can_not_be_resumed_is_told() {
    let error = |producer: Lines<_>, journal: bool| {
        let disk = Disk::new();
        let pipeline = Pipeline::new("lines").producer(producer);
        let report = test(async {
            match journal {
                true => {
                    let journal = disk.journal(Durability::Process).unwrap();
                    let pipeline = pipeline.journal(journal);
                    pipeline.stage(keep(&Seen::default())).run().await.unwrap()
                }
                false => pipeline.stage(keep(&Seen::default())).run().await.unwrap(),
            }
        });
        assert_eq!(report.counts.accepted, 0);
        report.producer_errors[0].failure.to_string()
    };
    type Parse = fn(&str) -> Result<String, &'static str>;
    let reader = || Lines::new(Cursor::new("a"), text as Parse);
    let text = error(reader().resume(), true);
    assert!(
        text.starts_with("a reader has no path") && text.contains("resume_as"),
        "{text}"
    );
    let text = error(reader().resume_as("x".repeat(1_001)), true);
    assert!(text.contains("1001 bytes, more than 1000"), "{text}");
    let text = error(reader().resume_as("x"), false);
    assert!(text.contains(".journal(..)"), "{text}");
}
