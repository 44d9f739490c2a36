//! A PostgreSQL server of this program's own: made in a folder, started, restarted, stopped.

use std::{
    env, fmt, fs,
    fs::Permissions,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{Uid, User};

use crate::AnyError;

/// There is no server on this machine.
#[derive(Debug)]
pub(crate) struct NotInstalled;

impl std::error::Error for NotInstalled {}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no PostgreSQL server is installed: `apt install postgresql`, or give the address of one \
             with --database",
        )
    }
}

/// It is stopped when this is dropped.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// The user for it, if this one is root, whom it refuses.
    user: Option<String>,
    port: u16,
}

impl Server {
    /// Makes and starts a server in this folder, on a free port.
    pub(crate) fn start(folder: &Path) -> Result<Self, AnyError> {
        let folder = folder.join("server");
        fs::create_dir(&folder)?;
        let mut server = Server {
            programs: programs().ok_or(NotInstalled)?,
            folder,
            user: None,
            port: 0,
        };
        if Uid::effective().is_root() {
            server.give_away()?;
        }
        let options = ["-U", "batrun", "-A", "trust", "-E", "UTF8", "--no-sync"];
        server.call("initdb", &options)?;
        let socket = server.folder.display().to_string();
        let mut last = String::new();
        // A port is free only until somebody takes it: try others.
        for _ in 0..5 {
            server.port = free_port()?;
            // This machine stays up, so the server's own crash loses nothing that isn't synced.
            let port = server.port;
            let options = format!("-h 127.0.0.1 -p {port} -k '{socket}' -c fsync=off");
            match server.control("start", &["-o", &options]) {
                Ok(()) => return Ok(server),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last.into())
    }

    pub(crate) fn address(&self) -> String {
        let port = self.port;
        format!("host=127.0.0.1 port={port} user=batrun dbname=postgres")
    }

    /// Starts it anew, as after a crash: connections are cut, and it recovers from its log.
    pub(crate) fn restart(&self) -> Result<(), AnyError> {
        self.control("restart", &["-m", "immediate"])
    }

    fn control(&self, command: &str, arguments: &[&str]) -> Result<(), AnyError> {
        let log = self.folder.join("log").display().to_string();
        let mut all = vec![command, "-w", "-s", "-l", &log];
        if command == "stop" {
            all.truncate(3);
        }
        all.extend(arguments);
        self.call("pg_ctl", &all)
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Result<(), AnyError> {
        let path = self.programs.join(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(path);
                command
            }
            None => Command::new(path),
        };
        command
            .args(arguments)
            .arg("-D")
            .arg(self.folder.join("data"));
        // To a file: the server would hold a pipe open.
        let output = self.folder.join("output");
        let file = fs::File::create(&output)?;
        let status = command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(output).unwrap_or_default();
        Err(format!("{program} {arguments:?} failed, {status}: {said}").into())
    }

    /// Gives the folder to a user that isn't root.
    fn give_away(&mut self) -> Result<(), AnyError> {
        let find = |name| User::from_name(name).ok().flatten();
        let user = find("postgres").or_else(|| find("nobody"));
        let user = user.ok_or("a server doesn't run as root, and there is no user postgres")?;
        if let Some(parent) = self.folder.parent() {
            fs::set_permissions(parent, Permissions::from_mode(0o755))?;
        }
        chown(&self.folder, Some(user.uid.as_raw()), None)?;
        self.user = Some(user.name);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By the number in its own folder. It may not have started.
        if self.folder.join("data/postmaster.pid").exists()
            && let Err(error) = self.control("stop", &["-m", "immediate"])
        {
            eprintln!("cluster: {error}");
        }
    }
}

/// The folder with `initdb`, `pg_ctl` and `postgres`: that in `PATH`, or the newest of Debian's packages.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut packaged = Vec::new();
    for version in fs::read_dir("/usr/lib/postgresql").into_iter().flatten() {
        packaged.push(version.ok()?.path().join("bin"));
    }
    let number = |path: &PathBuf| {
        let version = path.parent()?.file_name()?.to_str()?;
        version.parse::<u32>().ok()
    };
    packaged.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let all = ["initdb", "pg_ctl", "postgres"];
    env::split_paths(&path)
        .chain(packaged)
        .find(|folder| all.iter().all(|program| folder.join(program).is_file()))
}

fn free_port() -> Result<u16, AnyError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
