//! The processor time of a PostgreSQL server on this machine.

use std::{fs, time::Duration};

use rustix::param::clock_ticks_per_second;

use super::execute;

/// The server's first process. `None` if it is on another machine, or may not be asked.
pub fn postmaster(server: &str) -> Option<u32> {
    let rows = execute(
        server,
        "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)",
    )
    .ok()?;
    let pid: u32 = rows.first()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    matches!(name.trim(), "postgres" | "postmaster").then_some(pid)
}

/// The time of all its processes, with those that have ended: their time is in that of the first one, which
/// waits for them.
pub fn cpu(postmaster: u32) -> Option<Duration> {
    let mut ticks = stat(postmaster)?.with_ended();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // One that ends meanwhile is missed, for a moment.
        if let Some(stat) = pid.and_then(stat).filter(|stat| stat.parent == postmaster) {
            ticks += stat.with_ended();
        }
    }
    Some(Duration::from_secs_f64(
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

struct Stat {
    parent: u32,
    own: u64,
    ended: u64,
}

impl Stat {
    fn with_ended(&self) -> u64 {
        self.own + self.ended
    }
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have anything in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| -> Option<u64> { fields.get(at)?.parse().ok() };
    Some(Stat {
        parent: number(1)? as u32,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}
