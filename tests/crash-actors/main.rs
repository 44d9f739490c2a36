//! The crash test of the ready-made stages: a pipeline of them with a journal is killed at random
//! instants, again and again. In the end each order is wholly in the world or not at all, none twice,
//! and what somebody else put in its place is still there.
//!
//!   BATRUN_KILLS=1000 cargo test -p batrun-crash-actors       more kills
//!   BATRUN_SEED=7 ..                                          the same kills, as far as time allows
//!
//! The program starts itself as its own child, which runs the pipeline of [`child`]. Once it has been
//! killed often enough, a last child brings everything to its end, and [`world`] is compared with
//! the outcomes. Linux only, since it collects the programs that a killed child has left.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod child;
mod orphans;
mod server;
mod world;

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant, SystemTime},
};

use child::{ORDERS, Orders, UP};
use server::Server;
use world::World;

/// The entry of a child that the test below starts; does nothing without orders.
#[test]
fn child() {
    child::run();
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn each_order_is_wholly_there_or_not_at_all() {
    let kills = variable("BATRUN_KILLS").unwrap_or(200);
    let seed = variable("BATRUN_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_millis() as u64
    });
    println!("BATRUN_SEED={seed} BATRUN_KILLS={kills}");
    // The programs that a killed child has started are this process's from then on.
    orphans::adopt();
    // Beside what is built, so on a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut killer = Killer {
        world: World::new(folder.path()),
        server: Server::start(),
        numbers: Numbers(seed),
    };
    killer.world.make_database();
    let began = Instant::now();
    let died = (1..=kills).try_for_each(|run| killer.kill(run));
    let ended = died.and_then(|()| killer.finish(kills + 1));
    let mut complaints = killer.world.check(&killer.server.charges());
    if let Err(why) = ended {
        complaints.insert(0, why);
    }
    println!(
        "{kills} kills: {}, {} charges taken back, in {:?}",
        killer.world.summary(),
        killer.server.cancelled(),
        began.elapsed()
    );
    if !complaints.is_empty() {
        let kept = folder.keep();
        let count = complaints.len();
        complaints.truncate(20);
        let complaints = complaints.join("\n");
        let kept = kept.display();
        panic!("{count} complaints with BATRUN_SEED={seed}; all is in {kept}\n{complaints}");
    }
}

/// The time that a child may take to start, and the last one to end.
const PATIENCE: Duration = Duration::from_secs(100);

struct Killer {
    world: World,
    server: Server,
    numbers: Numbers,
}

impl Killer {
    fn start(&mut self, run: u64, last: bool) -> Child {
        let orders = Orders {
            folder: self.world.folder().to_owned(),
            server: self.server.url.clone(),
            run,
            power: self.numbers.below(4) == 0,
            settles: run.is_multiple_of(2),
            last,
        };
        let errors = File::options()
            .create(true)
            .append(true)
            .open(self.world.errors())
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
    fn kill(&mut self, run: u64) -> Result<(), String> {
        let mut child = self.start(run, false);
        let early = run % 2 == 1 && self.numbers.below(4) == 0;
        let after = Duration::from_millis(match early {
            true => self.numbers.below(60),
            false => self.numbers.below(200),
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
        // A program goes on when batrun is killed, and the undo of the next process doesn't wait for
        // it: `Command` says so. Either the machine takes it down too, or somebody waits for it.
        orphans::end(self.numbers.below(2) == 0)?;
        self.world.intrude(&mut || self.numbers.below(3) == 0);
        Ok(())
    }

    /// Lets a last child end in peace.
    fn finish(&mut self, run: u64) -> Result<(), String> {
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
        let errors = fs::read_to_string(self.world.errors()).unwrap();
        let from = errors.len().saturating_sub(4_000);
        errors.get(from..).unwrap_or(&errors).to_owned()
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

/// Numbers from a seed, always the same ones.
struct Numbers(u64);

impl Numbers {
    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
