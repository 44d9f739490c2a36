//! Counts the instructions of a task with valgrind's callgrind and compares them with
//! `benches/figures.toml`. `benches/guard` runs it.
//!
//! This program runs itself under callgrind: `instructions --run WORKLOAD TASKS` is one run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use kit::{
    cost, figures, measure,
    workloads::{self, Workload},
};

const WORKLOADS: [Workload; 4] = [
    Workload::Task,
    Workload::SixStages,
    Workload::Fail,
    Workload::Alone,
];

/// Number of runs, of which the median counts: the sizes of a pipeline's batches vary.
const RUNS: usize = 5;

/// Number of tasks of the run before the one that counts.
const WARM_UP: u64 = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [run, workload, tasks] = &args[..]
        && run == "--run"
    {
        let workload = WORKLOADS
            .into_iter()
            .find(|known| format!("{known:?}") == *workload)
            .expect("a workload");
        workloads::run(workload, WARM_UP);
        counted(workload, tasks.parse().expect("a number of tasks"));
        return ExitCode::SUCCESS;
    }
    if !has_valgrind() {
        println!("instructions: skipped, there is no valgrind here");
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().expect("a folder for callgrind's output");
    let median = |workload, tasks| {
        let mut runs = [0; RUNS].map(|_| instructions(workload, tasks, folder.path()));
        runs.sort();
        runs[RUNS / 2]
    };
    let seen = measure(|workload| cost(workload, 8, median));
    match figures::compare("instructions", &seen) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(table) => {
            eprintln!("{table}");
            ExitCode::FAILURE
        }
    }
}

/// The function in which callgrind counts, by this name. Work that a process does once, such as
/// gauging the clock, which varies, is over by then.
#[inline(never)]
fn counted(workload: Workload, tasks: u64) {
    workloads::run(workload, tasks);
}

fn has_valgrind() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Instructions of a run.
fn instructions(workload: Workload, tasks: u64, folder: &Path) -> u64 {
    let counts = folder.join("callgrind.out");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--toggle-collect=instructions::counted*")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--run", &format!("{workload:?}"), &tasks.to_string()])
        .output()
        .expect("valgrind starts");
    assert!(
        output.status.success(),
        "{workload:?} under valgrind: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counts = fs::read_to_string(counts).expect("callgrind wrote what it counted");
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok());
    total.expect("callgrind's file ends with its total")
}
