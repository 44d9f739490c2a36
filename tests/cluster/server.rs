//! PostgreSQL servers of the test's own, a primary and at times a standby, which it stops, stands still and kills.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_postgres::{Client, NoTls};

/// The longest time for something that a server has to do.
const AT_MOST: Duration = Duration::from_secs(60);

/// The settings of each server. Processes are killed here, and never the machine.
const SETTINGS: &str = "
fsync = off
max_connections = 200
wal_keep_size = 128MB
listen_addresses = '127.0.0.1'
";

/// A server, and a place for its standby.
pub(crate) struct Servers {
    folder: PathBuf,
    ports: [u16; 2],
    /// The place of the primary.
    current: usize,
}

/// The standby waits for what the primary commits, or it is the primary that waits for the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replication {
    Synchronous,
    Asynchronous,
}

impl Servers {
    pub(crate) fn start() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let folder = env::var("BATRUN_POSTGRES_SERVERS").expect("run it by .ci/postgres");
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(&folder).join(format!("{}-{number}", std::process::id()));
        let servers = Servers {
            folder,
            ports: free_ports(),
            current: 0,
        };
        let data = servers.data(0);
        let data = data.to_str().unwrap();
        run(
            "initdb",
            &["-D", data, "-U", "batrun", "-A", "trust", "--no-sync"],
        )
        .unwrap();
        let settings = servers.data(0).join("postgresql.conf");
        let mut text = fs::read_to_string(&settings).unwrap();
        write!(text, "{SETTINGS}").unwrap();
        fs::write(settings, text).unwrap();
        servers.start_at(0).unwrap();
        servers
    }

    /// The ports of the two places, of which one has the primary.
    pub(crate) fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// The address of the primary.
    pub(crate) fn address(&self) -> String {
        let port = self.ports[self.current];
        format!("host=127.0.0.1 port={port} user=batrun dbname=postgres sslmode=disable")
    }

    /// The address of both places, by these ports.
    pub(crate) fn addresses(ports: [u16; 2]) -> String {
        let [first, second] = ports;
        format!(
            "host=127.0.0.1,127.0.0.1 port={first},{second} user=batrun dbname=postgres sslmode=disable \
             target_session_attrs=read-write"
        )
    }

    fn data(&self, place: usize) -> PathBuf {
        self.folder.join(["first", "second"][place])
    }

    fn start_at(&self, place: usize) -> Result<(), String> {
        let (data, port) = (self.data(place), self.ports[place]);
        let data = data.to_str().unwrap();
        let log = format!("{data}.log");
        let options = format!("-p {port} -k {data}");
        run(
            "pg_ctl",
            &["start", "-w", "-s", "-D", data, "-l", &log, "-o", &options],
        )
    }

    /// Stops the primary, by one of pg_ctl's modes.
    pub(crate) fn stop(&self, mode: &str) -> Result<(), String> {
        let data = self.data(self.current);
        let data = data.to_str().unwrap();
        run("pg_ctl", &["stop", "-w", "-s", "-D", data, "-m", mode])
    }

    pub(crate) fn start_again(&self) -> Result<(), String> {
        self.start_at(self.current)
    }

    /// Sends a signal to all processes of the primary, so that it stands still or goes on. Returns how many.
    pub(crate) fn signal(&self, signal: Signal) -> usize {
        signal_all(&self.data(self.current), signal)
    }

    /// The processes of the primary whose titles have this word.
    pub(crate) fn processes(&self, word: &str) -> Vec<Pid> {
        let Some(main) = main_process(&self.data(self.current)) else {
            return Vec::new();
        };
        let mut all = children(main);
        all.retain(|process| {
            let title = fs::read_to_string(format!("/proc/{process}/cmdline"));
            title.is_ok_and(|title| title.contains(word))
        });
        all
    }

    /// Starts a standby that has all of the primary, and gets what comes.
    pub(crate) async fn stand_by(&self, replication: Replication) -> Result<(), String> {
        let (here, there) = (self.current, 1 - self.current);
        fs::remove_dir_all(self.data(there)).ok();
        let data = self.data(there);
        let source = self.address();
        let data = data.to_str().unwrap();
        run(
            "pg_basebackup",
            &["-D", data, "-d", &source, "-R", "-c", "fast", "--no-sync"],
        )?;
        self.start_at(there)?;
        let client = connect(&self.address()).await;
        let wanted = match replication {
            Replication::Asynchronous => "async",
            Replication::Synchronous => {
                let waits = "ALTER SYSTEM SET synchronous_standby_names = '*'";
                client.batch_execute(waits).await.unwrap();
                client
                    .batch_execute("SELECT pg_reload_conf()")
                    .await
                    .unwrap();
                "sync"
            }
        };
        let state = "SELECT state, sync_state FROM pg_stat_replication";
        let until = Instant::now() + AT_MOST;
        loop {
            let rows = client.query(state, &[]).await.unwrap();
            let is_there = rows
                .iter()
                .any(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)) == ("streaming", wanted));
            if is_there {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the standby of {here} has not come: {rows:?}"));
            }
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the primary, which never comes back, and lets the standby take its place.
    pub(crate) fn fail_over(&mut self) -> Result<(), String> {
        self.signal(Signal::SIGKILL);
        let gone = self.data(self.current);
        self.current = 1 - self.current;
        let data = self.data(self.current);
        run(
            "pg_ctl",
            &["promote", "-w", "-s", "-D", data.to_str().unwrap()],
        )?;
        fs::remove_dir_all(gone).map_err(|error| error.to_string())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for place in [0, 1] {
            signal_all(&self.data(place), Signal::SIGKILL);
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

pub(crate) async fn connect(address: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    actix_rt::spawn(connection);
    client
}

/// Runs one of the server's programs.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let runs = env::var("BATRUN_POSTGRES_RUN").expect("run it by .ci/postgres");
    let mut command = Command::new(runs);
    let output = command.arg(program).args(arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments:?}: {output:?}")),
    }
}

/// Two ports that nothing listens at, below those of outgoing connections.
fn free_ports() -> [u16; 2] {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let next = || loop {
        let number = std::process::id() * 16 + LAST.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    };
    [next(), next()]
}

/// The process that has started all others of a server.
fn main_process(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number = text.lines().next()?.trim().parse().ok()?;
    // The file outlives a kill, and the number is another one's some day.
    let title = fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
    let own = title.contains(data.to_str()?);
    own.then(|| Pid::from_raw(number))
}

fn children(process: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let text = text.unwrap_or_default();
    let numbers = text.split_whitespace().filter_map(|text| text.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

/// Sends a signal to all processes of a server: first to the one that starts others, but for the signal to go on.
fn signal_all(data: &Path, signal: Signal) -> usize {
    let Some(main) = main_process(data) else {
        return 0;
    };
    let mut all = vec![main];
    if signal == Signal::SIGKILL {
        // It starts none while their number is read.
        kill(main, Signal::SIGSTOP).ok();
    }
    if signal == Signal::SIGSTOP {
        kill(main, signal).ok();
    }
    all.extend(children(main));
    for process in all.iter().rev() {
        kill(*process, signal).ok();
    }
    if signal == Signal::SIGKILL {
        let until = Instant::now() + AT_MOST;
        while all.iter().any(|process| is_alive(*process)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }
    all.len()
}

/// Neither gone nor waiting to be taken note of.
fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next());
        state != Some("Z")
    })
}
