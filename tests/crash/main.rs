//! The crash test of the journal: a pipeline is killed at random instants, again and again, and what
//! the outside world has seen must be what the promises say (J1 to J3 of GUARANTEES.md).
//!
//!   BATRUN_KILLS=2000 cargo test -p batrun-crash       more kills
//!   .ci/postgres cargo test -p batrun-crash postgres -- --ignored      with the journal on a server, on which
//!                                                                  one process after the other runs
//!   BATRUN_SEED=7 ..                                               the same kills, as far as time allows
//!
//! The program starts itself as its own child, which runs the pipeline of [`child`] and writes down
//! what it does in the [`log`]. Once it has been killed often enough, a last child brings everything to
//! its end, and [`check`] goes through the log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod by_key;
mod check;
mod child;
mod log;
mod plan;

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant, SystemTime},
};

use child::{ORDERS, Orders, UP};
use log::{Line, Reopen};
use plan::{Numbers, Plan};

/// The entry of a child that the test below starts; does nothing without orders.
#[test]
fn child() {
    child::run();
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn j1_j2_j3_kills_at_any_instant() {
    killed(variable("BATRUN_KILLS").unwrap_or(200) as u32, None);
}

/// The same with the journal on a server.
#[test]
#[ignore = "needs a server: .ci/postgres"]
fn j1_j2_j3_kills_at_any_instant_on_postgres() {
    let server = env::var("BATRUN_POSTGRES").expect("run it by .ci/postgres");
    clear(&server);
    let kills = variable("BATRUN_KILLS").unwrap_or(40) as u32;
    killed(kills, Some(server));
}

fn killed(kills: u32, server: Option<String>) {
    let seed = variable("BATRUN_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_millis() as u64
    });
    println!("BATRUN_SEED={seed} BATRUN_KILLS={kills}");
    // Beside what is built, so on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut killer = Killer {
        folder: folder.path().to_owned(),
        seed,
        numbers: Numbers(seed),
        again: Vec::new(),
        asked: Vec::new(),
        read: 0,
        server,
    };
    let began = Instant::now();
    let died = (1..=kills).try_for_each(|run| killer.kill(run));
    let ended = died.and_then(|()| killer.finish(kills + 1));
    let ended = ended.and_then(|()| {
        let left = match &killer.server {
            None => left_in_file(&folder.path().join("journal")),
            Some(server) => left_on_server(server),
        };
        no_undo_is_forgotten(left)
    });
    let log = log::lines(&fs::read_to_string(folder.path().join("effects")).unwrap());
    let mut complaints = check::check(&log, |number| Plan::of(seed, number));
    if let Err(why) = ended {
        complaints.insert(0, why);
    }
    if !log.iter().any(|line| matches!(line, Line::Start(_))) {
        complaints.push("no task ever started".to_owned());
    }
    println!("{} in {:?}", summary(&log, kills), began.elapsed());
    if !complaints.is_empty() {
        let kept = folder.keep();
        let count = complaints.len();
        complaints.truncate(20);
        let complaints = complaints.join("\n");
        let kept = kept.display();
        panic!("{count} complaints with BATRUN_SEED={seed}; all is in {kept}\n{complaints}");
    }
}

/// Counts of what happened, to show that it did.
fn summary(log: &[Line], kills: u32) -> String {
    let count = |what: fn(&Line) -> bool| log.iter().filter(|line| what(line)).count();
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for line in log {
        if let Line::Kept { told, .. } = line {
            let stuck = match told.went {
                log::Went::Stuck(_) => ", stuck",
                log::Went::Back(_) => "",
            };
            *ends.entry(format!("{:?}{stuck}", told.end)).or_default() += 1;
        }
    }
    format!(
        "{kills} kills: {} tasks submitted, {} attempts, {} undos run, {} taken back, {} tried again, {} \
         forgotten, {} cancelled by their keys; {ends:?}",
        count(|line| matches!(line, Line::Submitted { .. })),
        count(|line| matches!(line, Line::Start(_))),
        count(|line| matches!(line, Line::Back { .. })),
        count(|line| matches!(
            line,
            Line::Reopened {
                how: Reopen::TakeBack,
                ..
            }
        )),
        count(|line| matches!(
            line,
            Line::Reopened {
                how: Reopen::Retry,
                ..
            }
        )),
        count(|line| matches!(line, Line::Forgot { .. })),
        count(|line| matches!(line, Line::Stops { .. })),
    )
}

/// The time that a child may take to start, and the last one to end.
const PATIENCE: Duration = Duration::from_secs(100);

/// Undos are kept as long as the outcome of their task, and no longer.
fn no_undo_is_forgotten(left: i64) -> Result<(), String> {
    match left {
        0 => Ok(()),
        _ => Err(format!(
            "{left} undos of tasks that were forgotten are kept"
        )),
    }
}

fn left_in_file(journal: &Path) -> i64 {
    let journal = rusqlite::Connection::open(journal).unwrap();
    let left = "SELECT count(*) FROM kept_undo WHERE task NOT IN (SELECT task FROM kept)";
    journal.query_row(left, [], |row| row.get(0)).unwrap()
}

/// Removes what an earlier test has left.
fn clear(server: &str) {
    let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", child::SCHEMA);
    actix_rt::System::new().block_on(async {
        let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls)
            .await
            .unwrap();
        actix_rt::spawn(connection);
        client.batch_execute(&drop).await.unwrap();
    });
}

fn left_on_server(server: &str) -> i64 {
    let schema = child::SCHEMA;
    let left = format!(
        "SELECT count(*) FROM \"{schema}\".kept_undo WHERE task NOT IN (SELECT task FROM \"{schema}\".key)"
    );
    actix_rt::System::new().block_on(async {
        let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls)
            .await
            .unwrap();
        actix_rt::spawn(connection);
        client.query_one(&left, &[]).await.unwrap().get(0)
    })
}

/// The number of tasks that a child visits, about, and from how many they are.
const OLDER: u64 = 40;
const REMEMBERED: usize = 120;

struct Killer {
    folder: PathBuf,
    seed: u64,
    numbers: Numbers,
    again: Vec<u64>,
    /// The latest tasks that were submitted, or were to be.
    asked: Vec<u64>,
    /// The length of the log that was read.
    read: u64,
    /// The server that has the journal, if one has.
    server: Option<String>,
}

impl Killer {
    fn start(&mut self, run: u32, last: bool) -> Child {
        let older = child::latest(self.asked.clone());
        let older = match older.len() as u64 {
            0 => older,
            len => (0..OLDER)
                .map(|_| older[self.numbers.below(len) as usize])
                .collect(),
        };
        let orders = Orders {
            folder: self.folder.clone(),
            seed: self.seed,
            run,
            rolls_back: !last && run % 12 == 5,
            power: self.numbers.below(4) == 0,
            // Then everything has ended at the next start.
            most: (run % 10 == 8).then_some(4),
            last,
            again: std::mem::take(&mut self.again),
            retries: !last && run % 5 == 2,
            older: child::latest(older),
            server: self.server.clone(),
        };
        let errors = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("errors"))
            .unwrap();
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ORDERS, serde_json::to_string(&orders).unwrap())
            // Closed when this process ends, however it does: see `child::run`.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap()
    }

    /// Starts a child and kills it, while it starts or some time later.
    fn kill(&mut self, run: u32) -> Result<(), String> {
        let mut child = self.start(run, false);
        let early = self.numbers.below(5) == 0;
        let after = Duration::from_millis(match early {
            true => self.numbers.below(40),
            false => 20 + self.numbers.below(130),
        });
        let said = until_up(&mut child);
        if !early {
            said.recv_timeout(PATIENCE).ok();
        }
        thread::sleep(after);
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(status) = ended {
            return Err(format!(
                "run {run} ended by itself, {status}: {}",
                self.errors()
            ));
        }
        self.again = self.unanswered();
        Ok(())
    }

    /// Lets a last child end in peace.
    fn finish(&mut self, run: u32) -> Result<(), String> {
        let mut child = self.start(run, true);
        let said = until_up(&mut child);
        said.recv_timeout(PATIENCE).ok();
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                None => {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
            }
        };
        match status.success() {
            true => Ok(()),
            false => Err(format!("the last run ended, {status}: {}", self.errors())),
        }
    }

    fn errors(&self) -> String {
        let errors = fs::read_to_string(self.folder.join("errors")).unwrap();
        let from = errors.len().saturating_sub(4_000);
        errors.get(from..).unwrap_or(&errors).to_owned()
    }

    /// Tasks that the last child has submitted without learning of it.
    fn unanswered(&mut self) -> Vec<u64> {
        let text = rest(&self.folder.join("effects"), &mut self.read);
        let mut asked = Vec::new();
        for line in log::lines(&text) {
            match line {
                Line::Ask { number } => {
                    asked.push(number);
                    self.asked.push(number);
                }
                Line::Submitted { number, .. } => asked.retain(|asked| *asked != number),
                _ => {}
            }
        }
        let from = self.asked.len().saturating_sub(REMEMBERED);
        self.asked.drain(..from);
        asked
    }
}

/// Reads the child's output, and tells once it is up; never, if it ended first.
fn until_up(child: &mut Child) -> Receiver<()> {
    let (up, is_up) = mpsc::channel();
    let stdout = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.ends_with(UP) {
                up.send(()).ok();
            }
        }
    });
    is_up
}

/// The text that was added to a file since.
fn rest(path: &Path, from: &mut u64) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        file.seek(SeekFrom::Start(*from)).unwrap();
        *from += file.read_to_string(&mut text).unwrap() as u64;
    }
    text
}
