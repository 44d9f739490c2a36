use std::{
    io::{BufReader, Cursor, Read as _, Write as _},
    sync::{Arc, Mutex},
};

use batrun::{prelude::*, report::Report};

use super::*;
use crate::{
    bad_lines::{BadLines, NAMED},
    endless::endless,
};

fn run<P, C>(lines: Lines<P>) -> (Report, Vec<C>)
where
    Lines<P>: Producer<C>,
    C: Send + 'static,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("lines")
                .producer(lines)
                .stage(stage_fn(
                    "keep",
                    async move |c: C, _: &TaskContext<'_, ()>| {
                        keep.lock().unwrap().push(c);
                        Ok(())
                    },
                ))
                .current_arbiter()
                .run(),
        )
        .unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

fn text(line: &str) -> Result<String, std::convert::Infallible> {
    Ok(line.to_owned())
}

#[test]
fn every_line_is_a_task_in_order() {
    let (report, seen) = run(Lines::new(Cursor::new("a\r\nb\n\nlast"), text));
    assert_eq!(seen, ["a", "b", "", "last"]);
    assert!(report.producer_errors.is_empty());
}

#[test]
fn an_empty_reader_makes_no_task() {
    let (report, seen) = run(Lines::new(Cursor::new(""), text));
    assert!(seen.is_empty());
    assert!(report.producer_errors.is_empty());
}

#[test]
fn bad_lines_are_named_and_the_rest_go_on() {
    let input = Cursor::new(b"one\n\xff\xfe\nthree\n".to_vec());
    let (report, seen) = run(Lines::new(input, text));
    assert_eq!(seen, ["one", "three"]);
    let error = report.producer_errors[0].failure.to_string();
    assert!(
        error.starts_with("1 bad line: line 2: invalid utf-8"),
        "{error}"
    );
}

#[test]
fn the_list_of_bad_lines_is_bounded() {
    let input = Cursor::new("x\n".repeat(1_000) + "7\n");
    let (report, seen) = run(Lines::new(input, |line| line.parse::<u32>()));
    assert_eq!(seen, [7]);
    let failure = &report.producer_errors[0].failure;
    let bad = failure.error().downcast_ref::<BadLines>().unwrap();
    assert_eq!((bad.count(), bad.named().len()), (1_000, NAMED));
    assert!(bad.to_string().ends_with("; and 990 more"), "{bad}");
}

#[test]
fn a_line_that_is_too_long_is_bad() {
    let input = BufReader::with_capacity(4, Cursor::new("12345678\r\n123456789\nok"));
    let (report, seen) = run(Lines::new(input, text).longest(8));
    assert_eq!(seen, ["12345678", "ok"]);
    assert_eq!(
        report.producer_errors[0].failure.to_string(),
        "1 bad line: line 2: longer than 8 bytes, which is the limit that `longest` sets"
    );
}

#[test]
fn a_read_error_is_named_and_ends_the_reading() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let input = BufReader::new(Cursor::new("a\nb").chain(Broken));
    let (report, seen) = run(Lines::new(input, text));
    assert_eq!(seen, ["a"]);
    assert_eq!(
        report.producer_errors[0].failure.to_string(),
        "1 bad line: line 2: can't be read, and reading ended here: the disk is gone"
    );
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent");
    let (report, seen) = run(Lines::open(&path, text));
    assert!(seen.is_empty());
    let error = report.producer_errors[0].failure.to_string();
    assert!(error.contains(&*path.to_string_lossy()), "{error}");
}

#[test]
fn a_file_is_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for n in 0..1_000 {
        writeln!(file, "{n}").unwrap();
    }
    let (report, seen) = run(Lines::open(file.path(), |line| line.parse::<u32>()));
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    assert_eq!(report.counts.done, 1_000);
}

#[test]
fn a_panic_of_the_closure_is_the_producers() {
    let parse = |line: &str| -> Result<u32, std::num::ParseIntError> {
        assert_ne!(line, "13", "unlucky");
        line.parse()
    };
    let (report, seen) = run(Lines::new(Cursor::new("12\n13\n14\n"), parse));
    assert_eq!(seen, [12]);
    let failure = &report.producer_errors[0].failure;
    assert_eq!(failure.kind(), batrun::error::FailureKind::Panic);
}

#[test]
fn a_reader_that_blocks_leaves_the_arbiter_free() {
    // Its second line comes only once the first one went through a stage on the same arbiter.
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let tell = std::sync::Arc::new(std::sync::Mutex::new(Some(tell)));
    struct Waits(std::sync::mpsc::Receiver<()>);
    impl io::Read for Waits {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            match self.0.recv_timeout(Duration::from_secs(10)) {
                Ok(()) => (&b"second\n"[..]).read(to),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Ok(0),
                Err(error) => Err(io::Error::other(error)),
            }
        }
    }
    let input = BufReader::new(Cursor::new("first\n").chain(Waits(told)));
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("blocks")
                .producer(Lines::new(input, text))
                .stage(stage_fn(
                    "tell",
                    async move |_: String, _: &TaskContext<'_, ()>| {
                        // Once: then it is dropped, and the input ends.
                        if let Some(tell) = tell.lock().unwrap().take() {
                            tell.send(()).unwrap();
                        }
                        Ok(())
                    },
                ))
                .current_arbiter()
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.done, 2);
    assert!(report.producer_errors.is_empty(), "{report}");
}

#[test]
fn f20_a_shutdown_ends_an_endless_reader() {
    // Of lines, of bad lines, of one line that never ends.
    for bytes in ["\n", "bad\n", "x"] {
        let (input, watch) = endless("", bytes);
        let lines = Lines::new(input, |line| match line {
            "" => Ok(()),
            _ => Err("bad"),
        });
        watch.until_it_ends(lines);
    }
}

#[test]
fn f21_a_byte_order_mark_is_skipped() {
    for capacity in [1, 2, 3, 64] {
        let of = |bytes: &[u8]| {
            let input = BufReader::with_capacity(capacity, Cursor::new(bytes.to_vec()));
            run(Lines::new(input, text))
        };
        assert_eq!(of(b"\xef\xbb\xbfa\nb\n").1, ["a", "b"]);
        // One is enough, and a part of one is none.
        assert_eq!(of(b"\xef\xbb\xbf\xef\xbb\xbfa").1, ["\u{feff}a"]);
        assert_eq!(of(b"\xef\xbb\xbf").1, [""; 0]);
        for bytes in [&b"\xef\xbb\n"[..], b"\xefx\n", b"\xef\xbb"] {
            let error = of(bytes).0.producer_errors[0].failure.to_string();
            assert!(error.starts_with("1 bad line: line 1: in"), "{error}");
            assert!(error.contains(" utf-8 "), "{error}");
        }
    }
}

#[test]
fn f11_no_control_character_of_a_line_is_shown() {
    let input = Cursor::new("\u{1b}[31m\u{202e}\r\u{7}x\n");
    let (report, _) = run(Lines::new(input, |line| {
        Err::<(), _>(format!("no: {line}\nWARN all is well"))
    }));
    let failure = &report.producer_errors[0].failure;
    let bad = failure.error().downcast_ref::<BadLines>().unwrap();
    let plain = r"no: \u{1b}[31m\u{202e}\r\u{7}x\nWARN all is well";
    assert_eq!(bad.named(), [(1, plain.to_owned())]);
    assert_eq!(bad.to_string(), format!("1 bad line: line 1: {plain}"));
}
