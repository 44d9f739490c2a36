//! Compares batrun with its alternatives on the same work.

mod child;
mod cluster;
mod collect;
mod draw;
mod durable;
mod job;
mod parent;
mod peers;
mod plots;
mod table;
mod work;

use std::{
    fs::{File, OpenOptions},
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    cluster::Server,
    parent::{Came, Parent},
    plots::Sweep,
    table::{Row, Samples},
    work::Workload,
};

/// Runs batrun and its peers on the same work: each in a process of its own, in interleaved rounds.
///
/// For each workload a table: the median and the span of the rounds, the ratio to batrun (the
/// median of the rounds' own ratios), processor time, peak memory, and whether every task had the
/// outcome that it was to have. Ctrl-C ends it early and prints what it has.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The workload to run
    #[arg(value_enum, default_value = "all")]
    workload: Which,
    /// Number of runs of each system
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Also write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only these systems, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "A,B", value_parser = known_system)]
    systems: Vec<String>,
    /// Shrink the number of tasks, for a quick try: 0.1 is a tenth
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    scale: f64,
    /// cluster: a PostgreSQL server, as postgres://user@host:port, instead of one of its own
    #[arg(long, value_name = "ADDRESS")]
    database: Option<String>,
    /// The run of a child process: system and workload
    #[arg(long, hide = true, num_args = 2, value_names = ["SYSTEM", "WORKLOAD"])]
    child: Option<Vec<String>>,
    #[arg(long, hide = true, num_args = 3, value_names = ["SWEEP", "VALUE", "TASKS"])]
    point: Option<Vec<String>>,
}

#[derive(Subcommand)]
enum Command {
    /// batrun alone, swept by workers, stages, capacity, payload and failing tasks: an SVG for each
    Plots {
        /// The folder for the SVGs and plots.json
        #[arg(long, value_name = "DIR", default_value = "benches/plots")]
        out: PathBuf,
        /// One short round, to see that it works
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// 3 stages of 4 workers that add one, 1,000,000 tasks
    Hop,
    /// 3 stages of 256 workers that each wait for 1 ms, 100,000 tasks
    Io,
    /// 3 stages of 4 workers that each hash for about 10 µs, 200,000 tasks
    Cpu,
    /// hop, where 1 % fail in the last stage and what all three did is taken back
    Fail,
    /// 3 stages of 256 workers, the second hangs on 10 % of 100,000 tasks; 50 ms each
    Late,
    /// late, where the second stage hangs on every task: its workers are all busy, the queues full
    LateFull,
    /// late-full, where the timeouts go from 25 to 75 ms: the deadlines don't come all at once
    LateMixed,
    /// one task at a time through three idle stages, 20,000 times
    Alone,
    /// 3 stages that hand a task on, each step of it synced to the disk before the next: with 1
    /// task in flight, then 64, then 4,096. In $TMPDIR, which must be on a disk
    Durable,
    /// The same, each step of it committed to a PostgreSQL server
    Cluster,
    /// cluster with 1 task in flight
    #[value(name = "cluster-1")]
    Cluster1,
    /// cluster with 64
    #[value(name = "cluster-64")]
    Cluster64,
    /// cluster with 4,096
    #[value(name = "cluster-4096")]
    Cluster4096,
    /// cluster-4096 with 1,000,000 tasks: whether it slows down, and how large its tables get
    ClusterMillion,
    /// all of these but `late-full`, `late-mixed`, `durable` and `cluster`, one after the other
    All,
}

impl Which {
    fn workloads(self) -> Vec<Workload> {
        match self {
            Which::Hop => vec![Workload::Hop],
            Which::Io => vec![Workload::Io],
            Which::Cpu => vec![Workload::Cpu],
            Which::Fail => vec![Workload::Fail],
            Which::Late => vec![Workload::Late],
            Which::LateFull => vec![Workload::LateFull],
            Which::LateMixed => vec![Workload::LateMixed],
            Which::Alone => vec![Workload::Alone],
            Which::Durable => vec![
                Workload::Durable1,
                Workload::Durable64,
                Workload::Durable4096,
            ],
            Which::Cluster => vec![
                Workload::Cluster1,
                Workload::Cluster64,
                Workload::Cluster4096,
            ],
            Which::Cluster1 => vec![Workload::Cluster1],
            Which::Cluster64 => vec![Workload::Cluster64],
            Which::Cluster4096 => vec![Workload::Cluster4096],
            Which::ClusterMillion => vec![Workload::ClusterMillion],
            Which::All => {
                let all = Workload::value_variants().iter().copied();
                all.filter(|workload| !workload.only_by_name()).collect()
            }
        }
    }
}

fn known_system(name: &str) -> Result<String, String> {
    let all = || {
        let some = peers::SYSTEMS.iter().chain(&peers::DURABLE);
        some.chain(&peers::CLUSTER).copied()
    };
    if all().any(|system| system == name) {
        Ok(name.to_owned())
    } else {
        let mut names: Vec<&str> = all().collect();
        names.dedup();
        Err(format!("the systems are {}", names.join(", ")))
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if scale > 0.0 && scale <= 10.0 => Ok(scale),
        _ => Err("a number above 0, at most 10".to_owned()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args {
        Args {
            child: Some(child), ..
        } => run_child(child, &args),
        Args {
            point: Some(point), ..
        } => run_point(point),
        Args {
            command: Some(Command::Plots { out, quick }),
            ..
        } => plots::run(out, *quick),
        _ => compare(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(child: &[String], args: &Args) -> anyhow::Result<bool> {
    let [system, workload] = child else {
        bail!("--child takes a system and a workload");
    };
    let workload = Workload::from_str(workload, false)
        .map_err(|_| anyhow!("there is no workload {workload}"))?;
    let line = child::run(system, workload, args.scale, args.database.as_deref())?;
    println!("{}", serde_json::to_string(&line)?);
    Ok(true)
}

fn run_point(point: &[String]) -> anyhow::Result<bool> {
    let [sweep, value, tasks] = point else {
        bail!("--point takes a sweep, a value and a number of tasks");
    };
    let sweep = Sweep::from_str(sweep, false).map_err(|_| anyhow!("there is no sweep {sweep}"))?;
    let line = plots::point(sweep, value.parse()?, tasks.parse()?)?;
    println!("{}", serde_json::to_string(&line)?);
    Ok(true)
}

/// `false` if it was stopped, or something failed or wasn't exact.
fn compare(args: &Args) -> anyhow::Result<bool> {
    // Opened before the run: a file that can't be written is better known before hours than after.
    let json = match &args.json {
        Some(path) => Some((path, writable(path)?)),
        None => None,
    };
    let workloads = args.workload.workloads();
    let chosen = |workload| -> Vec<&'static str> {
        let systems = peers::systems(workload).iter().copied();
        systems
            .filter(|system| {
                (args.systems.is_empty() || args.systems.iter().any(|chosen| chosen == system))
                    && (!system.contains('(') || workload == Workload::Alone)
            })
            .collect()
    };
    let children: usize = workloads
        .iter()
        .map(|&workload| chosen(workload).len())
        .sum();
    ensure!(children > 0, "none of these systems has this workload");
    // It is stopped at the end, whatever that is.
    let own = args.database.is_none() && workloads.iter().any(|workload| workload.is_cluster());
    let started = own.then(Server::start).transpose()?;
    let server = match &started {
        Some(server) => Some(server.address()),
        None => args.database.clone(),
    };
    let mut parent = Parent::new(children * args.rounds as usize)?;
    let mut rows: Vec<Row> = Vec::new();
    let (mut stopped, mut failed) = (false, false);
    for workload in workloads {
        let mut samples: Vec<Samples> = chosen(workload).into_iter().map(Samples::new).collect();
        for round in 0..args.rounds as usize {
            for samples in &mut samples {
                stopped |= !run_once(
                    &mut parent,
                    args,
                    server.as_deref(),
                    (workload, round),
                    samples,
                )?;
            }
        }
        // A system that ended no round has no row.
        failed |= samples.iter().any(|samples| !samples.errors.is_empty());
        let these = table::rows(workload, &samples);
        parent
            .bar
            .suspend(|| println!("{}", table::text(workload, &samples, &these)));
        rows.extend(these);
        if stopped {
            break;
        }
    }
    parent.bar.finish_and_clear();
    if let Some((path, mut file)) = json {
        write(&mut file, &rows).with_context(|| format!("writing {}", path.display()))?;
    }
    if stopped {
        println!("stopped: these are the rounds that had ended");
    }
    let exact = rows.iter().all(|row| row.exact);
    Ok(exact && !failed && !stopped)
}

/// `false` if it was stopped.
fn run_once(
    parent: &mut Parent,
    args: &Args,
    server: Option<&str>,
    (workload, round): (Workload, usize),
    samples: &mut Samples,
) -> anyhow::Result<bool> {
    // A system without this workload hasn't got it in the next round either.
    if samples.unable {
        parent.bar.inc(1);
        return Ok(true);
    }
    let name = table::name(workload);
    let mut child = vec![
        "--scale".to_owned(),
        args.scale.to_string(),
        "--child".to_owned(),
        samples.system.clone(),
        name.clone(),
    ];
    if let Some(server) = server {
        child.splice(0..0, ["--database".to_owned(), server.to_owned()]);
    }
    let what = format!(
        "{name}, round {} of {}: {}",
        round + 1,
        args.rounds,
        samples.system
    );
    match parent.child(&child, what)? {
        Came::Line(line) => {
            let line: child::Line = serde_json::from_str(&line)
                .with_context(|| format!("reading what {} printed: {line}", samples.system))?;
            match line.ran {
                true => samples.lines.push((round, line)),
                false => samples.unable = true,
            }
        }
        Came::Failed(why) => samples.errors.push(format!("round {}: {why}", round + 1)),
        Came::Stopped => return Ok(false),
    }
    Ok(true)
}

/// Opens a file without changing its content.
fn writable(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options
        .open(path)
        .with_context(|| format!("can't write {}", path.display()))
}

fn write(file: &mut File, rows: &[Row]) -> anyhow::Result<()> {
    let mut text = String::from("[\n");
    for (at, row) in rows.iter().enumerate() {
        let comma = if at + 1 < rows.len() { "," } else { "" };
        text += &format!("{}{comma}\n", serde_json::to_string(row)?);
    }
    text += "]\n";
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
