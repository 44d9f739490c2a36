//! The node processes, as their parent has them.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    AnyError,
    node::{Place, UP},
};

/// The exit code of a node that has lost its lease.
pub(crate) const SUSPENDED: u8 = 4;
/// Maximum time for a start or an end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum number of nodes: with more than that, they don't last.
const MOST: u32 = 50;

/// It is killed when this is dropped, and ends by itself when this process is gone.
pub(crate) struct Node {
    pub(crate) number: u32,
    process: Child,
    out: BufReader<ChildStdout>,
    /// Open for as long as it may run. Kept out of the process, whose `wait` would close it.
    _leash: ChildStdin,
}

/// Starts nodes, each with a number of its own.
pub(crate) struct Nodes {
    place: Place,
    world: SocketAddr,
    folder: PathBuf,
    pub(crate) running: Vec<Node>,
    started: u32,
}

impl Nodes {
    pub(crate) fn new(place: Place, world: SocketAddr, folder: &Path) -> Self {
        Nodes {
            place,
            world,
            folder: folder.to_owned(),
            running: Vec::new(),
            started: 0,
        }
    }

    /// Starts another node. Returns its number.
    pub(crate) fn start(&mut self) -> Result<u32, AnyError> {
        if self.started == MOST {
            return Err(format!("{MOST} nodes were started, and they don't last").into());
        }
        self.started += 1;
        let number = self.started;
        let log = File::create(self.log_of(number))?;
        let lease = self.place.lease.as_millis().to_string();
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--node", &number.to_string()])
            .args(["--world", &self.world.to_string()])
            .args(["--schema", &self.place.schema])
            .args(["--lease", &lease])
            // Not an argument, which everybody on the machine can read: it may have a password.
            .env("BATRUN_EXAMPLE_DATABASE", &self.place.database)
            .env("RUST_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let leash = process.stdin.take().ok_or("a node without an input")?;
        let out = process.stdout.take().ok_or("a node without an output")?;
        self.running.push(Node {
            number,
            process,
            out: BufReader::new(out),
            _leash: leash,
        });
        Ok(number)
    }

    /// Starts a node in the place of each that has ended by itself, as what looks after processes does.
    /// Returns the numbers of those that have ended.
    pub(crate) fn replace_ended(&mut self) -> Result<Vec<u32>, AnyError> {
        let mut ended = Vec::new();
        for node in &mut self.running {
            if node.process.try_wait()?.is_some() {
                ended.push(node.number);
            }
        }
        self.running.retain(|node| !ended.contains(&node.number));
        for _ in &ended {
            self.start()?;
        }
        Ok(ended)
    }

    /// Takes out the first node that is like this.
    pub(crate) fn take(&mut self, is_it: impl FnMut(&Node) -> bool) -> Option<Node> {
        let at = self.running.iter().position(is_it)?;
        Some(self.running.remove(at))
    }

    /// The reason that a node gave at its end, if it was suspended.
    pub(crate) fn why_suspended(&self, number: u32) -> Option<String> {
        let log = fs::read_to_string(self.log_of(number)).ok()?;
        let mut lines = log.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with("suspended: "))?;
        Some(line.to_owned())
    }

    fn log_of(&self, number: u32) -> PathBuf {
        self.folder.join(format!("node-{number}.log"))
    }

    /// The last lines of each node's log.
    pub(crate) fn logs(&self) -> String {
        let mut all = String::new();
        for number in 1..=self.started {
            let text = fs::read_to_string(self.log_of(number)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            all += &format!("--- node {number}\n");
            for line in &lines[lines.len().saturating_sub(25)..] {
                all += line;
                all.push('\n');
            }
        }
        all
    }
}

impl Node {
    /// Waits until its pipeline has started.
    pub(crate) async fn up(&mut self) -> Result<(), AnyError> {
        let mut line = String::new();
        timeout(PATIENCE, self.out.read_line(&mut line)).await??;
        match line.trim() == UP {
            true => Ok(()),
            false => Err(format!("node {} has not started", self.number).into()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), AnyError> {
        let id = self.process.id().ok_or("the node has ended before")?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// Waits until it ends.
    pub(crate) async fn end(&mut self) -> Result<ExitStatus, AnyError> {
        let number = self.number;
        match timeout(PATIENCE, self.process.wait()).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(format!("node {number} has not ended within {PATIENCE:?}").into()),
        }
    }
}

/// The other end: ends this process once its parent has closed its input, by its death if need be.
pub(crate) fn end_with_the_parent() {
    std::thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        std::process::exit(1);
    });
}
