//! This program as a child process, in another of its modes.

use std::{
    fs::OpenOptions,
    io,
    net::SocketAddr,
    path::Path,
    process::{Stdio, exit},
    time::Duration,
};

use actix_web::rt::time::timeout;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{ChildStdin, Command},
};

use crate::AnyError;

/// A server. It is killed when this is dropped, and ends by itself when this process is gone.
pub(crate) struct Child {
    process: tokio::process::Child,
    /// Open for as long as it may run. Kept out of the process, whose `wait` would close it.
    _leash: ChildStdin,
    pub(crate) address: SocketAddr,
}

impl Child {
    /// Starts a server with these arguments, and waits until it listens. What it logs is appended
    /// to a file.
    pub(crate) async fn start(arguments: &[&str], log: &Path) -> Result<Self, AnyError> {
        let log_file = OpenOptions::new().create(true).append(true).open(log)?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .arg("--leashed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()?;
        let leash = process.stdin.take().ok_or("a child without an input")?;
        let out = process.stdout.take().ok_or("a child without an output")?;
        let mut line = String::new();
        let mut out = BufReader::new(out);
        timeout(Duration::from_secs(15), out.read_line(&mut line)).await??;
        let address = line.trim().parse();
        let address = address.map_err(|_| format!("no start: see {}", log.display()))?;
        Ok(Child {
            process,
            _leash: leash,
            address,
        })
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// Has it end by SIGTERM.
    pub(crate) async fn stop(self) -> Result<(), AnyError> {
        let id = self.process.id().ok_or("it has ended before")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        match self.end().await? {
            Some(0) => Ok(()),
            code => Err(format!("after SIGTERM it ended with exit code {code:?}").into()),
        }
    }

    /// Waits until it ends by itself. Returns its exit code, if it has one.
    pub(crate) async fn end(mut self) -> Result<Option<i32>, AnyError> {
        let ended = timeout(Duration::from_secs(20), self.process.wait()).await??;
        Ok(ended.code())
    }
}

/// The other end: ends this process once its parent has closed its input, by its death if need be.
pub(crate) fn end_with_the_parent() {
    std::thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        exit(1);
    });
}
