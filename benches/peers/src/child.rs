//! Runs one system on one workload in a process of its own, so that its memory and its processor
//! time are nobody else's, and prints what it measured as one line of JSON.

use std::{fs, time::Duration};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{Place, Sizes},
    peers,
    work::{Measure, Params, Workload},
};

/// The line that a child prints for its parent.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Line {
    /// `false` if the system has no such workload.
    pub ran: bool,
    pub tasks: u64,
    pub seconds: f64,
    pub done: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub cancels: u64,
    pub wrong_order: u64,
    /// Number of latencies.
    pub latencies: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// User and system time.
    pub cpu_ns: u64,
    /// cluster: the same of the server, if it is on this machine.
    pub server_cpu_ns: Option<u64>,
    /// cluster-million: see [`Measure`].
    pub last_tenth: Option<f64>,
    pub tables_mb: Option<f64>,
    /// Peak memory.
    pub peak_kb: u64,
    /// Memory before the run.
    pub idle_kb: u64,
}

/// `database` is the address of the server, for the workloads that have one.
pub fn run(
    system: &str,
    workload: Workload,
    scale: f64,
    database: Option<&str>,
) -> anyhow::Result<Line> {
    let params = Params::new(workload, scale * peers::share(system, workload));
    let idle_kb = memory_kb("VmRSS:")?;
    let before = cpu_time();
    let measure = if workload.is_cluster() {
        let server = database.context("this workload needs --database")?;
        let place = Place::new(server, system)?;
        let sizes = (workload == Workload::ClusterMillion).then(|| place.watch_size());
        let measure = peers::run_at(system, &params, &place);
        measure.map(|measure| {
            let tables_mb = sizes.map(Sizes::most_mb);
            measure.map(|measure| Measure {
                tables_mb,
                ..measure
            })
        })
    } else {
        peers::run(system, &params)
    };
    let Some(measure) = measure.transpose()? else {
        return Ok(Line::default());
    };
    let cpu = measure.cpu.unwrap_or_else(|| cpu_time() - before);
    let line = Line {
        tasks: params.tasks,
        cpu_ns: cpu.as_nanos() as u64,
        server_cpu_ns: measure.server_cpu.map(|cpu| cpu.as_nanos() as u64),
        peak_kb: memory_kb("VmHWM:")?,
        idle_kb,
        ..summary(measure)
    };
    Ok(line)
}

fn summary(measure: Measure) -> Line {
    let mut latencies = measure.latencies_ns;
    latencies.sort_unstable();
    Line {
        ran: true,
        seconds: measure.seconds,
        done: measure.done,
        failed: measure.failed,
        timed_out: measure.timed_out,
        cancels: measure.cancels,
        wrong_order: measure.wrong_order,
        latencies: latencies.len() as u64,
        p50_ns: at_share(&latencies, 0.50),
        p99_ns: at_share(&latencies, 0.99),
        last_tenth: measure.last_tenth,
        tables_mb: measure.tables_mb,
        ..Line::default()
    }
}

/// Of sorted values, the one that this share of them doesn't exceed; 0 if there are none.
fn at_share(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The processor time of all threads of this process.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn memory_kb(field: &str) -> anyhow::Result<u64> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no {field}"))
}
