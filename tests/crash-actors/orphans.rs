//! The programs that a killed child has left.

use std::{
    fs, process, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Makes them this process's children, once their own parent is gone.
pub(crate) fn adopt() {
    prctl::set_child_subreaper(true).unwrap();
}

/// Kills them, or not, and waits for their end. No child of this process's own may be at work.
pub(crate) fn end(kills: bool) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if kills {
            for orphan in orphans() {
                // It may have ended just now; nobody else gets its number before it is collected.
                kill(orphan, Signal::SIGKILL).ok();
            }
        }
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(format!("programs can't be waited for: {error}")),
            Ok(WaitStatus::StillAlive) if Instant::now() > until => {
                return Err("a program that was left doesn't end".to_owned());
            }
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
            Ok(_) => {}
        }
    }
}

/// The children of this process.
fn orphans() -> Vec<Pid> {
    let own = process::id().to_string();
    let mut orphans = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue; // It has ended.
        };
        // The name, in parentheses, may hold anything: `pid (name) state parent ..`.
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        if parent == Some(&own) {
            orphans.push(Pid::from_raw(pid));
        }
    }
    orphans
}
