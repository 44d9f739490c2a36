//! The results of a workload's rounds: a row for each system, as a table and as JSON.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::{child::Line, work::Workload};

/// All rounds of one system on one workload.
pub struct Samples {
    pub system: String,
    /// One for each round that it completed.
    pub lines: Vec<(usize, Line)>,
    pub errors: Vec<String>,
    /// It has no such workload.
    pub unable: bool,
}

impl Samples {
    pub fn new(system: &str) -> Self {
        Samples {
            system: system.to_owned(),
            lines: Vec::new(),
            errors: Vec::new(),
            unable: false,
        }
    }
}

#[derive(Clone, Serialize)]
pub struct Row {
    pub workload: Workload,
    pub system: String,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
    pub rss_mb: f64,
    pub exact: bool,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Number of latencies behind `p50` and `p99`.
    pub latency_unit: Option<&'static str>,
    pub rss_over_idle_mb: f64,
    pub cpu_ns_per_task: f64,
    /// cluster: the server's processor time, if it is on this machine.
    pub server_cpu_ns_per_task: Option<f64>,
    /// cluster-million: the pace of the last tenth by that of the second one, at least.
    pub last_tenth: Option<f64>,
    /// cluster-million: the size of the tables, at most.
    pub tables_mb: Option<f64>,
    /// The ratio to batrun: the median of the rounds' ratios.
    pub ratio: Option<f64>,
    pub tasks: u64,
    /// late: the share, in percent, of the tasks on which no stage hangs that were done.
    pub in_time: Option<f64>,
}

pub fn rows(workload: Workload, samples: &[Samples]) -> Vec<Row> {
    let batrun = samples.iter().find(|samples| samples.system == "batrun");
    let ran = samples.iter().filter(|samples| !samples.lines.is_empty());
    ran.map(|samples| row(workload, samples, batrun)).collect()
}

fn row(workload: Workload, samples: &Samples, batrun: Option<&Samples>) -> Row {
    let all = |value: &dyn Fn(&Line) -> f64| -> Vec<f64> {
        samples.lines.iter().map(|(_, line)| value(line)).collect()
    };
    let figures = all(&|line| figure(workload, line));
    let latencies = match workload {
        Workload::Late | Workload::LateFull | Workload::LateMixed => Some(("ms", 1e6)),
        Workload::Alone => Some(("us", 1e3)),
        _ => None,
    };
    let mut ratios = Vec::new();
    for (round, line) in &samples.lines {
        let theirs = batrun.into_iter().flat_map(|batrun| &batrun.lines);
        for (_, batrun) in theirs.filter(|(other, _)| other == round) {
            ratios.push(figure(workload, line) / figure(workload, batrun));
        }
    }
    Row {
        workload,
        system: samples.system.clone(),
        unit: unit(workload),
        median: median(figures.clone()),
        min: figures.iter().copied().fold(f64::INFINITY, f64::min),
        max: figures.iter().copied().fold(0.0, f64::max),
        rounds: figures.len(),
        rss_mb: median(all(&|line| line.peak_kb as f64 / 1024.0)),
        exact: samples.lines.iter().all(|(_, line)| exact(workload, line)),
        p50: latencies.map(|(_, unit)| median(all(&|line| line.p50_ns as f64 / unit))),
        p99: latencies.map(|(_, unit)| median(all(&|line| line.p99_ns as f64 / unit))),
        latency_unit: latencies.map(|(unit, _)| unit),
        rss_over_idle_mb: median(all(&|line| {
            line.peak_kb.saturating_sub(line.idle_kb) as f64 / 1024.0
        })),
        cpu_ns_per_task: median(all(&|line| line.cpu_ns as f64 / line.tasks as f64)),
        server_cpu_ns_per_task: server_cpu(samples),
        last_tenth: samples
            .lines
            .iter()
            .filter_map(|(_, line)| line.last_tenth)
            .reduce(f64::min),
        tables_mb: samples
            .lines
            .iter()
            .filter_map(|(_, line)| line.tables_mb)
            .reduce(f64::max),
        ratio: (!ratios.is_empty()).then(|| median(ratios)),
        tasks: samples.lines.first().map_or(0, |(_, line)| line.tasks),
        in_time: (workload == Workload::Late).then(|| {
            median(all(&|line| {
                line.done as f64 * 100.0 / (line.tasks - line.tasks / 10) as f64
            }))
        }),
    }
}

fn server_cpu(samples: &Samples) -> Option<f64> {
    let each = samples.lines.iter();
    let each = each.map(|(_, line)| Some(line.server_cpu_ns? as f64 / line.tasks as f64));
    each.collect::<Option<Vec<f64>>>().map(median)
}

fn unit(workload: Workload) -> &'static str {
    match workload {
        Workload::Hop | Workload::Fail => "ns/task/stage",
        Workload::Io => "tasks/s",
        workload if workload.in_flight().is_some() => "tasks/s",
        Workload::Cpu | Workload::Late | Workload::LateFull | Workload::LateMixed => "s",
        _ => "us",
    }
}

fn figure(workload: Workload, line: &Line) -> f64 {
    match workload {
        Workload::Hop | Workload::Fail => line.seconds * 1e9 / line.tasks as f64 / 3.0,
        Workload::Io => line.tasks as f64 / line.seconds,
        workload if workload.in_flight().is_some() => line.tasks as f64 / line.seconds,
        Workload::Cpu | Workload::Late | Workload::LateFull | Workload::LateMixed => line.seconds,
        _ => line.p50_ns as f64 / 1e3,
    }
}

/// `true` if every task had the outcome that it was to have, and every undo ran in its turn. In
/// `late` a task may have run out of time in a queue, behind those that hang: that is slow, which
/// `in_time` shows, but not wrong.
fn exact(workload: Workload, line: &Line) -> bool {
    let (failed, late, latencies) = match workload {
        Workload::Fail => (line.tasks / 100, 0, 0),
        Workload::Late => (0, line.timed_out.max(line.tasks / 10), line.timed_out),
        Workload::LateFull | Workload::LateMixed => (0, line.tasks, line.tasks),
        Workload::Alone => (0, 0, line.tasks),
        _ => (0, 0, 0),
    };
    line.failed == failed
        && line.timed_out == late
        && line.done + failed + late == line.tasks
        && line.cancels == 3 * failed
        && line.wrong_order == 0
        && line.latencies == latencies
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The table of a workload, with notes on systems that are missing or not exact.
pub fn text(workload: Workload, samples: &[Samples], rows: &[Row]) -> String {
    let mut text = String::new();
    let Some(tasks) = rows.iter().map(|row| row.tasks).max() else {
        return format!("{}: no figures\n", name(workload));
    };
    let title = format!("{}, {} tasks", name(workload), grouped(tasks as f64));
    let latencies = rows[0].latency_unit;
    let mut head = vec![
        title,
        unit(workload).to_owned(),
        "min-max".to_owned(),
        "x batrun".to_owned(),
    ];
    if let Some(unit) = latencies {
        head.extend([format!("p50 {unit}"), format!("p99 {unit}")]);
    }
    if rows[0].in_time.is_some() {
        head.push("% in time".to_owned());
    }
    if workload.is_cluster() {
        head.extend(["server us/task", "a step"].map(str::to_owned));
    }
    if workload == Workload::ClusterMillion {
        head.extend(["last tenth", "tables MB"].map(str::to_owned));
    }
    head.extend(["CPU us/task", "RSS MB", "over idle", "counts"].map(str::to_owned));
    let mut lines = vec![head];
    for row in rows {
        let mut line = vec![
            row.system.clone(),
            short(row.median),
            format!("{}-{}", short(row.min), short(row.max)),
            row.ratio
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ];
        if latencies.is_some() {
            line.extend([row.p50, row.p99].map(|value| value.map_or("-".to_owned(), short)));
        }
        line.extend(row.in_time.map(|share| format!("{share:.1}")));
        if workload.is_cluster() {
            // Accepted, and the results of three stages, the last with the outcome.
            let steps =
                [1.0, 4.0].map(|steps| row.server_cpu_ns_per_task.map(|ns| ns / steps / 1e3));
            line.extend(steps.map(|us| us.map_or("-".to_owned(), short)));
        }
        if workload == Workload::ClusterMillion {
            let figures = [row.last_tenth, row.tables_mb];
            line.extend(figures.map(|figure| figure.map_or("-".to_owned(), short)));
        }
        line.extend([
            format!("{:.3}", row.cpu_ns_per_task / 1e3),
            format!("{:.1}", row.rss_mb),
            format!("{:.1}", row.rss_over_idle_mb),
            if row.exact { "exact" } else { "NOT EXACT" }.to_owned(),
        ]);
        lines.push(line);
    }
    columns(&mut text, &lines);
    notes(&mut text, workload, samples, rows, tasks);
    text
}

fn notes(text: &mut String, workload: Workload, samples: &[Samples], rows: &[Row], tasks: u64) {
    let mut note = |line: String| {
        writeln!(text, "  {line}").ok();
    };
    let left_out: Vec<&str> = samples
        .iter()
        .filter(|samples| samples.unable)
        .map(|samples| samples.system.as_str())
        .collect();
    if !left_out.is_empty() {
        note(format!("not for this workload: {}", left_out.join(", ")));
    }
    for row in rows.iter().filter(|row| row.tasks != tasks) {
        let fewer = grouped(row.tasks as f64);
        note(format!("{} had {fewer} tasks: it is slow", row.system));
    }
    for samples in samples {
        for (round, line) in samples
            .lines
            .iter()
            .filter(|(_, line)| !exact(workload, line))
        {
            note(format!(
                "{}, round {}: {} tasks, {} done, {} failed, {} timed out, {} undos in order, {} not",
                samples.system,
                round + 1,
                line.tasks,
                line.done,
                line.failed,
                line.timed_out,
                line.cancels,
                line.wrong_order
            ));
        }
        for error in &samples.errors {
            note(format!("{}: {error}", samples.system));
        }
    }
}

/// The first column to the left, the others to the right.
fn columns(text: &mut String, lines: &[Vec<String>]) {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for (at, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(text, "{cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            }
            .ok();
        }
        text.push('\n');
        if at == 0 {
            let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            writeln!(text, "{}", "-".repeat(total)).ok();
        }
    }
}

/// Its name on the command line.
pub fn name(workload: Workload) -> String {
    let value = workload.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

/// Three significant figures, and all of those before the point.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => grouped(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A whole number, with commas.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
