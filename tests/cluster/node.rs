//! A node, as its parent has it.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    child::{Command, ORDERS, Orders, PATIENCE, UP, log_of},
    log::{self, Line},
    proxy::Proxy,
};

pub(crate) struct Node {
    pub(crate) process: u32,
    /// Its network.
    pub(crate) proxy: Arc<Proxy>,
    folder: PathBuf,
    child: Child,
    up: Receiver<()>,
}

impl Node {
    pub(crate) fn start(orders: &Orders, proxy: Arc<Proxy>) -> Self {
        let errors = File::options()
            .create(true)
            .append(true)
            .open(errors(&orders.folder, orders.process))
            .unwrap();
        let mut child = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            // Closed when this process ends, however it does: see `child::run`.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (up, is_up) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.ends_with(UP) {
                    up.send(()).ok();
                }
            }
        });
        Node {
            process: orders.process,
            proxy,
            folder: orders.folder.clone(),
            child,
            up: is_up,
        }
    }

    /// Waits until its pipeline has started. `false` if it ended before that.
    pub(crate) fn wait_until_up(&self) -> Result<bool, String> {
        match self.up.recv_timeout(PATIENCE) {
            Ok(()) => Ok(true),
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(false),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let process = self.process;
                Err(format!(
                    "process {process} has not started within {PATIENCE:?}"
                ))
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn tell(&mut self, command: Command) {
        let line = serde_json::to_string(&command).unwrap();
        // It may have ended by itself.
        if let Some(stdin) = &mut self.child.stdin {
            writeln!(stdin, "{line}").ok();
        }
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self, why: &str) -> Result<ExitStatus, String> {
        let (process, until) = (self.process, Instant::now() + 2 * PATIENCE);
        loop {
            match self.has_ended() {
                Some(status) => return Ok(status),
                None if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
                None => return Err(format!("process {process} has not ended, {why}")),
            }
        }
    }

    /// Waits until it has ended as it was told to, or has suspended itself meanwhile.
    pub(crate) fn ended_in_peace(&mut self) -> Result<(), String> {
        let status = self.wait("though it was told to")?;
        let (process, line, errors) = (self.process, self.last_line(), self.errors());
        match line {
            Some(Line::End | Line::Suspended(_)) if !status.success() => {}
            Some(Line::End | Line::Suspended(_)) if errors.contains("tasks that don't end") => {
                return Err(format!("process {process}: {errors}"));
            }
            Some(Line::End | Line::Suspended(_)) => return Ok(()),
            _ => {}
        }
        Err(format!(
            "process {process} ended, {status}, {line:?}: {errors}"
        ))
    }

    /// Waits until it has suspended itself.
    pub(crate) fn gave_up(&mut self, why: &str) -> Result<(), String> {
        let status = self.wait(why)?;
        let (process, line) = (self.process, self.last_line());
        if status.success() && matches!(line, Some(Line::Suspended(_))) {
            return Ok(());
        }
        let errors = self.errors();
        Err(format!(
            "process {process} ended, {why}, {status}, {line:?}: {errors}"
        ))
    }

    /// The last line of its log: [`Line::Suspended`] or [`Line::End`] if it ended in peace.
    pub(crate) fn last_line(&self) -> Option<Line> {
        let last = log::entries(&log_of(&self.folder, self.process)).pop();
        last.map(|entry| entry.line)
    }

    pub(crate) fn errors(&self) -> String {
        let text = std::fs::read_to_string(errors(&self.folder, self.process)).unwrap_or_default();
        let from = text.len().saturating_sub(3_000);
        text.get(from..).unwrap_or(&text).to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn errors(folder: &Path, process: u32) -> std::path::PathBuf {
    folder.join(format!("errors.{process}"))
}
