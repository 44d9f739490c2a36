//! The world: three nodes at a time, and the faults that befall them.

use std::{fmt, path::PathBuf, thread, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    child::{Command, LEASE, Orders},
    database,
    log::Line,
    node::Node,
    plan::Numbers,
};

/// The number of nodes at a time.
const NODES: usize = 3;

pub(crate) struct World {
    folder: PathBuf,
    seed: u64,
    server: String,
    /// The program that restarts the server.
    restart: String,
    numbers: Numbers,
    nodes: Vec<Node>,
    last: u32,
    pub(crate) counts: Counts,
}

/// The faults that there were.
#[derive(Default)]
pub(crate) struct Counts {
    kills: u32,
    zombies: u32,
    restarts: u32,
    locks: u32,
    locked: usize,
    /// Connections that were lost just after a claim.
    cuts: usize,
    handovers: u32,
    /// Nodes that suspended themselves, by the fault before that.
    gave_up: [u32; 4],
    failed_starts: u32,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} zombies, {} restarts of the server, {} locks of {} tasks, {} claims cut off, {} handovers; nodes that \
             gave up by themselves after a kill, stop, restart, lock: {:?}; {} starts that failed",
            self.kills,
            self.zombies,
            self.restarts,
            self.locks,
            self.locked,
            self.cuts,
            self.handovers,
            self.gave_up,
            self.failed_starts,
        )
    }
}

impl World {
    pub(crate) fn new(folder: PathBuf, seed: u64, server: String, restart: String) -> Self {
        World {
            folder,
            seed,
            server,
            restart,
            numbers: Numbers(seed),
            nodes: Vec::new(),
            last: 0,
            counts: Counts::default(),
        }
    }

    /// The number of processes that there were.
    pub(crate) fn processes(&self) -> u32 {
        self.last
    }

    /// Lets this many faults happen, and brings everything to its end.
    pub(crate) fn run(&mut self, faults: u64) -> Result<(), String> {
        let server = self.server.clone();
        on_a_system(database::clear(&server));
        // The tables are there once it has started.
        let mut first = self.start(false);
        first.wait_until_up()?;
        first.tell(Command::Drain);
        self.ended_in_peace(&mut first)?;
        on_a_system(database::audit(&server));
        for _ in 0..faults {
            self.fill()?;
            self.go_on();
            let fault = self.fault()?;
            self.go_on();
            self.reap(fault)?;
        }
        self.fill()?;
        let mut last = self.nodes.pop().unwrap();
        for mut node in std::mem::take(&mut self.nodes) {
            node.tell(self.some_end());
            self.ended_in_peace(&mut node)?;
        }
        // It may be too busy to keep its lease.
        for _ in 0..3 {
            last.tell(Command::Finish);
            self.ended_in_peace(&mut last)?;
            if last.last_line(&self.folder) == Some(Line::End) {
                return Ok(());
            }
            last = self.start(false);
            last.wait_until_up()?;
        }
        Err("the last nodes have suspended themselves".to_owned())
    }

    fn start(&mut self, produces: bool) -> Node {
        self.last += 1;
        Node::start(&Orders {
            folder: self.folder.clone(),
            seed: self.seed,
            process: self.last,
            produces,
            server: self.server.clone(),
        })
    }

    /// Starts nodes until all are there.
    fn fill(&mut self) -> Result<(), String> {
        let mut failed = 0;
        while self.nodes.len() < NODES {
            let missing = NODES - self.nodes.len();
            let new: Vec<Node> = (0..missing).map(|_| self.start(true)).collect();
            for node in new {
                if node.wait_until_up()? {
                    self.nodes.push(node);
                    continue;
                }
                failed += 1;
                let process = node.process;
                if failed > 3 {
                    let errors = node.errors(&self.folder);
                    return Err(format!("process {process} has not started: {errors}"));
                }
                eprintln!(
                    "process {process} has not started: {}",
                    node.errors(&self.folder)
                );
                self.counts.failed_starts += 1;
            }
        }
        Ok(())
    }

    /// The nodes work, and take over.
    fn go_on(&mut self) {
        thread::sleep(Duration::from_millis(500 + self.numbers.below(500)));
    }

    fn some_node(&mut self) -> Node {
        let at = self.numbers.below(self.nodes.len() as u64) as usize;
        self.nodes.swap_remove(at)
    }

    fn some_end(&mut self) -> Command {
        match self.numbers.below(2) {
            0 => Command::Suspend,
            _ => Command::Drain,
        }
    }

    /// Something happens. Returns its place in the counts.
    fn fault(&mut self) -> Result<usize, String> {
        let server = self.server.clone();
        match self.numbers.below(13) {
            0..=3 => {
                self.counts.kills += 1;
                self.some_node().kill();
                Ok(0)
            }
            4..=6 => {
                self.counts.zombies += 1;
                let mut node = self.some_node();
                node.signal(Signal::SIGSTOP);
                thread::sleep(LEASE + Duration::from_millis(100 + self.numbers.below(1_500)));
                node.signal(Signal::SIGCONT);
                let process = node.process;
                let status = node.wait("and it stood still for longer than its lease")?;
                match node.last_line(&self.folder) {
                    Some(Line::Suspended) if status.success() => Ok(1),
                    line => {
                        let errors = node.errors(&self.folder);
                        Err(format!(
                            "zombie {process} ended, {status}, {line:?}: {errors}"
                        ))
                    }
                }
            }
            7 => {
                self.counts.restarts += 1;
                let restart = std::process::Command::new(&self.restart);
                let restarted = { restart }.arg("immediate").output().unwrap();
                match restarted.status.success() {
                    true => Ok(2),
                    false => Err(format!("the server did not restart: {restarted:?}")),
                }
            }
            8 => {
                self.counts.locks += 1;
                let time = Duration::from_millis(200 + self.numbers.below(400));
                self.counts.locked += on_a_system(database::lock_some(&server, time));
                Ok(3)
            }
            9..=10 => {
                self.some_node().kill();
                let (cuts, still) = on_a_system(database::cut_claims(&server));
                self.counts.cuts = cuts;
                match still.is_empty() {
                    true => Ok(0),
                    false => Err(format!("C3: claimed tasks stand still: {still:?}")),
                }
            }
            _ => {
                self.counts.handovers += 1;
                let mut node = self.some_node();
                node.tell(self.some_end());
                self.ended_in_peace(&mut node)?;
                Ok(0)
            }
        }
    }

    /// Removes nodes that have suspended themselves, which is theirs to decide: a lease is short, and so is the
    /// time of a machine that is busy.
    fn reap(&mut self, fault: usize) -> Result<(), String> {
        for mut node in std::mem::take(&mut self.nodes) {
            let Some(status) = node.has_ended() else {
                self.nodes.push(node);
                continue;
            };
            let (process, line) = (node.process, node.last_line(&self.folder));
            if !status.success() || line != Some(Line::Suspended) {
                let errors = node.errors(&self.folder);
                return Err(format!(
                    "process {process} ended, {status}, {line:?}: {errors}"
                ));
            }
            self.counts.gave_up[fault] += 1;
        }
        Ok(())
    }

    fn ended_in_peace(&self, node: &mut Node) -> Result<(), String> {
        let status = node.wait("though it was told to")?;
        let line = node.last_line(&self.folder);
        match line {
            Some(Line::End | Line::Suspended) if status.success() => {
                let errors = node.errors(&self.folder);
                if errors.contains("tasks that don't end") {
                    return Err(format!("process {}: {errors}", node.process));
                }
                Ok(())
            }
            _ => {
                let (process, errors) = (node.process, node.errors(&self.folder));
                Err(format!(
                    "process {process} ended, {status}, {line:?}: {errors}"
                ))
            }
        }
    }
}

fn on_a_system<T>(work: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}
