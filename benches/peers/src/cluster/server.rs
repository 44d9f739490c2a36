//! A PostgreSQL server of the program's own, on a disk.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::execute;
use crate::durable::in_memory;

/// The same for all systems.
const SETTINGS: [&str; 6] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=512MB",
    "max_connections=200",
    // By default it looks once a minute, which is a million tasks.
    "autovacuum_naptime=5s",
];

/// A running server. It is stopped and its folder removed with this.
pub struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// # Errors
    /// PostgreSQL isn't installed, or doesn't start.
    pub fn start() -> anyhow::Result<Self> {
        let programs = installed().context(
            "no PostgreSQL server is installed: install one (Debian: apt-get install postgresql), or \
             give --database",
        )?;
        let user = user()?;
        let folder = folder(user)?;
        let data = folder.path().join("data");
        let run = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command.current_dir(folder.path()).stdin(Stdio::null());
            command
        };
        let made = run("initdb")
            .args([
                "-U", "batrun", "-A", "trust", "-E", "UTF8", "--locale", "C", "-D",
            ])
            .arg(&data)
            .output()
            .context("starting initdb")?;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let log = fs::File::create(folder.path().join("log"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = run("postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        // Ctrl-C is for this program, which stops the server.
        let process = server
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let mut server = Server {
            process,
            port,
            folder,
        };
        server.wait()?;
        Ok(server)
    }

    pub fn address(&self) -> String {
        format!("postgres://batrun@127.0.0.1:{}/postgres", self.port)
    }

    /// Until it takes connections.
    fn wait(&mut self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if execute(&self.address(), "SELECT 1").is_ok() {
                return Ok(());
            }
            if self.process.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        bail!("the PostgreSQL server didn't start: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // First what ends connections, then what asks for no checkpoint either.
        for signal in [Signal::INT, Signal::QUIT] {
            if let Some(pid) = i32::try_from(self.process.id())
                .ok()
                .and_then(Pid::from_raw)
            {
                kill_process(pid, signal).ok();
            }
            for _ in 0..100 {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// The folder of initdb and postgres.
fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(debian.map(|version| version.path().join("bin")));
    let program = |folder: &Path, name| folder.join(name).is_file();
    // A link in the path may lead to where both are.
    let folders = folders.into_iter().filter_map(|folder| {
        let initdb = fs::canonicalize(folder.join("initdb")).ok()?;
        initdb.parent().map(Path::to_path_buf)
    });
    folders
        .into_iter()
        .find(|folder| program(folder, "initdb") && program(folder, "postgres"))
}

/// The server refuses to be root's. `None`: it is this user's.
fn user() -> anyhow::Result<Option<(u32, u32)>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let find = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = find("postgres").or_else(|| find("nobody"));
    user.map(Some)
        .ok_or_else(|| anyhow!("there is neither a user postgres nor nobody to run the server"))
}

/// A folder on a disk that this user can reach: beside this program if that is one.
fn folder(user: Option<(u32, u32)>) -> anyhow::Result<TempDir> {
    let program = env::current_exe()?;
    let places = [
        program.parent().map(Path::to_path_buf),
        Some(env::temp_dir()),
        Some("/var/tmp".into()),
    ];
    for place in places.into_iter().flatten() {
        let Ok(folder) = TempDir::with_prefix_in("postgres-", &place) else {
            continue;
        };
        if in_memory(folder.path())? {
            continue;
        }
        let Some((user, group)) = user else {
            return Ok(folder);
        };
        chown(folder.path(), Some(user), Some(group))?;
        let mut enter = Command::new("true");
        enter.current_dir(folder.path()).uid(user).gid(group);
        if enter.status().is_ok_and(|status| status.success()) {
            return Ok(folder);
        }
    }
    bail!("no folder on a disk is there for the server: set TMPDIR to one");
}
