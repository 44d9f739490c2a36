use std::{
    io::{self, BufReader, Cursor, Read as _},
    sync::{Arc, Mutex},
};

use batrun::{prelude::*, report::Report};

use super::*;
use crate::{bad_lines::BadLines, endless::endless};

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Person {
    age: u32,
    name: String,
}

fn person(name: &str, age: u32) -> Person {
    let name = name.to_owned();
    Person { age, name }
}

type Keep = fn(Person) -> Result<Person, &'static str>;

fn keep(person: Person) -> Result<Person, &'static str> {
    Ok(person)
}

fn run(csv: Csv<Person, Keep>) -> (Report, Vec<Person>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let put = seen.clone();
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("csv")
                .producer(csv)
                .stage(crate::map("keep", move |person| {
                    put.lock().unwrap().push(person);
                }))
                .current_arbiter()
                .run(),
        )
        .unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (report, seen)
}

fn of(text: impl AsRef<[u8]> + Send + Unpin + 'static) -> Csv<Person, Keep> {
    // Small reads, so that rows come in pieces.
    Csv::new(BufReader::with_capacity(3, Cursor::new(text)), keep as Keep)
}

fn error(report: &Report) -> String {
    report.producer_errors[0].failure.to_string()
}

#[test]
fn every_row_is_a_task_in_order() {
    let (report, seen) = run(of("name,age\nAda,36\r\n\nBela,29"));
    assert_eq!(seen, [person("Ada", 36), person("Bela", 29)]);
    assert!(report.producer_errors.is_empty(), "{report}");
}

#[test]
fn quoted_fields_may_hold_anything() {
    let (report, seen) = run(of("name,age\n\"A, \"\"B\"\"\r\nC\",\"1\"\r\n\"\",2\n"));
    assert_eq!(seen, [person("A, \"B\"\r\nC", 1), person("", 2)]);
    assert!(report.producer_errors.is_empty(), "{report}");
}

#[test]
fn nothing_makes_no_task() {
    for text in ["", "\n", "name,age\n"] {
        let (report, seen) = run(of(text));
        assert!(
            seen.is_empty() && report.producer_errors.is_empty(),
            "{text:?}"
        );
    }
}

#[test]
fn the_delimiter_may_be_another_and_a_mark_is_skipped() {
    let (report, seen) = run(of("\u{feff}name;age\nA,B;1\n").delimiter(b';'));
    assert_eq!(seen, [person("A,B", 1)], "{report}");
    let (report, seen) = run(of("\u{feff}\"name\",\"age\"\n\"A,B\",1\n"));
    assert_eq!(seen, [person("A,B", 1)], "{report}");
}

#[test]
fn bad_rows_are_named_by_their_line_and_the_rest_go_on() {
    let mut text = b"name,age\n\"two\nlines\",1\nEve,old\nshort\na,b,c\n\xff,3\nAda,36\n".to_vec();
    text.extend(b"Refused,4\nBela,29\n");
    let refuse: Keep = |person| match &*person.name {
        "Refused" => Err("refused"),
        _ => Ok(person),
    };
    let (report, seen) = run(Csv::new(Cursor::new(text), refuse));
    assert_eq!(
        seen,
        [
            person("two\nlines", 1),
            person("Ada", 36),
            person("Bela", 29)
        ]
    );
    let failure = &report.producer_errors[0].failure;
    let bad = failure.error().downcast_ref::<BadLines>().unwrap();
    let lines: Vec<_> = bad.named().iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [4, 5, 6, 7, 9], "{bad}");
    assert_eq!(bad.named()[1].1, "1 fields instead of 2");
    assert_eq!(bad.named()[4].1, "refused");
}

#[test]
fn a_row_that_is_too_long_is_bad() {
    let long = format!("\"{}\n{}\",1", "x".repeat(50), "x".repeat(50));
    let (report, seen) = run(of(format!("name,age\n{long}\nAda,36\n")).longest(8));
    assert_eq!(seen, [person("Ada", 36)]);
    assert_eq!(
        error(&report),
        "1 bad line: line 2: longer than 8 bytes, which is the limit that `longest` sets"
    );
    let (report, seen) = run(of("name,age\n123456,1\n1234567,1\n").longest(8));
    assert_eq!(seen, [person("123456", 1)], "{report}");
}

#[test]
fn a_quote_that_is_not_closed_is_told_and_never_held_in_memory() {
    let (report, seen) = run(of("name,age\nAda,36\n\"Eve,1\nBela,29\n"));
    assert_eq!(seen, [person("Ada", 36)]);
    assert_eq!(
        error(&report),
        "1 bad line: line 3: a quote is not closed, so the rest of the input is lost"
    );

    let endless = Cursor::new("a,\"").chain(io::repeat(b'\n').take(1 << 20));
    let input = Input::new(Box::new(BufReader::new(endless)), &|| false).unwrap();
    let mut rows = Rows::new(input, b',', 1_000);
    assert!(matches!(rows.next(), Ok(Some(Row::Bad(_)))));
    assert!(rows.held() <= 2_000, "{}", rows.held());
}

#[test]
fn carriage_returns_without_end_are_empty_lines() {
    let returns = BufReader::new(io::repeat(b'\r').take(1 << 20));
    let input = Input::new(Box::new(returns), &|| false).unwrap();
    let mut rows = Rows::new(input, b',', 1_000);
    assert!(matches!(rows.next(), Ok(None)));
    assert_eq!((rows.line(), rows.held()), ((1 << 20) + 1, 0));
}

#[test]
fn a_bad_header_ends_it() {
    let (report, seen) = run(of(b"name,\xff\nAda,36\n"));
    assert!(seen.is_empty());
    let error = error(&report);
    assert!(error.starts_with("the first row, which"), "{error}");
}

#[test]
fn a_read_error_ends_the_reading() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let input = Cursor::new("name,age\nAda,36\nBe").chain(Broken);
    let (report, seen) = run(Csv::new(BufReader::new(input), keep as Keep));
    assert_eq!(seen, [person("Ada", 36)]);
    assert_eq!(
        error(&report),
        "1 bad line: line 3: can't be read, and reading ended here: the disk is gone"
    );
}

#[test]
fn a_file_is_read_and_its_tasks_may_be_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    std::fs::write(&path, "name,age\nAda,36\n").unwrap();
    let (_, seen) = run(Csv::open(&path, keep as Keep));
    assert_eq!(seen, [person("Ada", 36)]);
    let report = actix_rt::System::new()
        .block_on(
            Pipeline::new("csv")
                .producer(Csv::open(&path, keep).timeout(Duration::from_millis(20)))
                .stage(stage_fn(
                    "never",
                    async |_: Person, _: &TaskContext<'_, ()>| {
                        std::future::pending::<Result<(), Failure>>().await
                    },
                ))
                .run(),
        )
        .unwrap();
    assert_eq!(report.counts.timed_out, 1);
}

#[test]
fn f20_a_shutdown_ends_an_endless_reader() {
    // Of rows, of bad rows, of empty lines, and of one row that never ends.
    for bytes in ["Ada,1\n", "x\n", "\n", "\r", "x", "\"", "\"\n"] {
        let (input, watch) = endless("name,age\n", bytes);
        watch.until_it_ends(Csv::new(input, keep));
    }
    // A header that never ends.
    let (input, watch) = endless("", "name,");
    watch.until_it_ends(Csv::new(input, keep));
}

#[test]
fn f21_a_byte_order_mark_in_pieces_is_skipped() {
    for capacity in [1, 2, 64] {
        for text in [
            "\u{feff}name,age\nAda,36\n",
            "\u{feff}\"name\",age\nAda,36\n",
        ] {
            let input = BufReader::with_capacity(capacity, Cursor::new(text));
            let (report, seen) = run(Csv::new(input, keep as Keep));
            assert_eq!(seen, [person("Ada", 36)], "{report}");
        }
    }
}

#[test]
fn f22_lines_may_end_with_a_carriage_return_alone() {
    for capacity in [1, 3, 64] {
        let text = "name,age\r\"two\rlines\",1\r\rEve,old\rAda,36\r\nBela,29\rshort";
        let input = BufReader::with_capacity(capacity, Cursor::new(text));
        let (report, seen) = run(Csv::new(input, keep as Keep));
        let all = [
            person("two\rlines", 1),
            person("Ada", 36),
            person("Bela", 29),
        ];
        assert_eq!(seen, all, "{report}");
        let failure = &report.producer_errors[0].failure;
        let bad = failure.error().downcast_ref::<BadLines>().unwrap();
        let lines: Vec<_> = bad.named().iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [5, 8], "{bad}");
    }
}

#[test]
fn f11_no_control_character_of_a_field_is_shown() {
    let refuse: Keep = |_| Err("no\u{9b}\u{2028}");
    let text = "name,age\n\u{1b}]0;x\u{7},\u{1b}[31m\nAda,1\n";
    let (report, _) = run(Csv::new(Cursor::new(text), refuse));
    let error = error(&report);
    assert!(error.ends_with(r"line 3: no\u{9b}\u{2028}"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}
