//! Ten people go through two stages. One fails, one is too late, and their undos run while you
//! watch.
//!
//! `cargo run --release --example quickstart`: exits with 0 if the files are as they should be.
//! `cargo run --release --example quickstart -- --skip-cancel`: the undos do nothing, so files are
//! left behind, and the exit code is 1.
//! `RUST_LOG=batrun=debug` before either shows each transition.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use batrun::prelude::*;

/// A task's time from its acceptance to its end, in queues and at work.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The time that the late task would need.
const TOO_LONG: Duration = Duration::from_secs(60);
const THIS_YEAR: u32 = 2026;
/// An older person fails in the second stage.
const OLDEST: u32 = 130;

struct Person {
    name: &'static str,
    born: u32,
    slow: bool,
}

struct Aged {
    person: Person,
    age: u32,
}

fn people() -> Vec<Person> {
    let person = |name, born| Person {
        name,
        born,
        slow: name == "Hana",
    };
    vec![
        person("Ada", 1985),
        person("Bela", 1990),
        person("Cyra", 1950),
        person("Dario", 1781), // too old to be true: fails
        person("Emre", 2001),
        person("Fatou", 1977),
        person("Goran", 1969),
        person("Hana", 1993), // slow: is too late
        person("Iris", 2010),
        person("Jon", 1944),
    ]
}

/// The part that both stages share: writing a file, and its undo.
#[derive(Clone)]
struct Desk {
    folder: PathBuf,
    skip_cancel: bool,
    began: Instant,
}

impl Desk {
    fn say(&self, name: &str, what: impl std::fmt::Display) {
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:6.2} s  {name:<6} {what}");
    }

    /// Registers the undo, then writes the file.
    async fn write(
        &self,
        name: &str,
        ending: &str,
        content: String,
        task: &TaskContext<'_, Written>,
    ) -> Result<(), Failure> {
        let written = Written {
            name: name.to_owned(),
            file: format!("{name}.{ending}"),
        };
        let path = self.folder.join(&written.file);
        self.say(
            name,
            format_args!("{:<8} writes {}", task.stage(), written.file),
        );
        let undo = task.on_cancel(written).await?; // intent first
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                undo.withdraw().await?; // not ours: leave it
                Err(Failure::permanent(error))
            }
            other => Ok(other?.write_all(content.as_bytes())?), // then the effect
        }
    }

    fn take_back(&self, written: &Written, stage: &str) -> Result<(), Failure> {
        let Written { name, file } = written;
        if self.skip_cancel {
            self.say(name, format_args!("{stage:<8} CANCEL skips {file}"));
            return Ok(());
        }
        self.say(name, format_args!("{stage:<8} CANCEL removes {file}"));
        match fs::remove_file(self.folder.join(file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The undo of both stages: a file that was written.
#[derive(Clone, Debug)]
struct Written {
    name: String,
    file: String,
}

/// Sets the age, and writes `<name>.age`.
#[derive(Clone)]
struct SetAge(Desk);

impl Stage for SetAge {
    type Input = Person;
    type Output = Aged;
    type Undo = Written;

    async fn run(
        &mut self,
        person: Person,
        task: &TaskContext<'_, Written>,
    ) -> Result<Aged, Failure> {
        let age = THIS_YEAR - person.born;
        self.0
            .write(person.name, "age", age_text(person.name, age), task)
            .await?;
        actix_rt::time::sleep(Duration::from_millis(100)).await; // some work
        Ok(Aged { person, age })
    }

    async fn cancel(
        &mut self,
        written: Written,
        cancel: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        self.0.take_back(&written, cancel.stage())
    }
}

/// Reads the age, and writes `<name>.read`.
#[derive(Clone)]
struct ReadAge(Desk);

impl Stage for ReadAge {
    type Input = Aged;
    type Output = ();
    type Undo = Written;

    async fn run(
        &mut self,
        Aged { person, age }: Aged,
        task: &TaskContext<'_, Written>,
    ) -> Result<(), Failure> {
        self.0
            .write(person.name, "read", read_text(person.name, age), task)
            .await?;
        if age > OLDEST {
            self.0.say(person.name, "read-age FAILS");
            let why = format!("nobody is {age} years old");
            return Err(Failure::permanent(why));
        }
        if person.slow {
            self.0.say(person.name, "read-age takes too long ..");
            actix_rt::time::sleep(TOO_LONG).await; // dropped here at the deadline
        }
        Ok(())
    }

    async fn cancel(
        &mut self,
        written: Written,
        cancel: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        self.0.take_back(&written, cancel.stage())
    }
}

fn age_text(name: &str, age: u32) -> String {
    format!("{name} is {age}\n")
}

fn read_text(name: &str, age: u32) -> String {
    format!("{age} years were read for {name}\n")
}

/// Compares the folder with the files that should be in it. It asks the file system, not the
/// report.
fn check(folder: &Path) -> io::Result<bool> {
    let mut expected = Vec::new();
    for Person { name, born, slow } in people() {
        let age = THIS_YEAR - born;
        if age <= OLDEST && !slow {
            expected.push((format!("{name}.age"), age_text(name, age)));
            expected.push((format!("{name}.read"), read_text(name, age)));
        }
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push((name, fs::read_to_string(entry.path())?));
    }
    let missing = expected.iter().filter(|file| !found.contains(file));
    let missing: Vec<_> = missing.map(|(name, _)| name.as_str()).collect();
    let left = found.iter().filter(|file| !expected.contains(file));
    let mut left: Vec<_> = left.map(|(name, _)| name.as_str()).collect();
    left.sort();
    let right = missing.is_empty() && left.is_empty();
    if right {
        println!(
            "files: {} as they should be, nothing left of Dario and Hana",
            found.len()
        );
    }
    if !missing.is_empty() {
        println!("files: missing or wrong: {}", missing.join(", "));
    }
    if !left.is_empty() {
        println!("files: left behind or wrong: {}", left.join(", "));
    }
    Ok(right)
}

async fn show(skip_cancel: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let desk = Desk {
        folder: folder.path().to_owned(),
        skip_cancel,
        began: Instant::now(),
    };
    let report = Pipeline::new("people")
        .producer(from_iter(people()).timeout(TIMEOUT))
        .stage(SetAge(desk.clone()).named("set-age").workers(2).blocking())
        .stage(ReadAge(desk).named("read-age").workers(4).blocking())
        .run()
        .await?;
    println!("\n{report}");
    Ok(check(folder.path())?)
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let mut skip_cancel = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--skip-cancel" => skip_cancel = true,
            "--help" => {
                println!("quickstart [--skip-cancel]");
                println!("  --skip-cancel  the undos do nothing, so the check of the files fails");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("unknown option {other:?}; see --help");
                return ExitCode::from(2);
            }
        }
    }
    match show(skip_cancel).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
