//! What a pipeline tells about itself: live as a snapshot, at the end as a report.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    Failure, guard,
    task::{Counts, Outcome, StageName, Stuck},
};

/// What became of the tasks of a pipeline: shown as a table, serialised for programs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Tasks, by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// From start to end.
    pub elapsed: Duration,
    /// Each stage, in order.
    pub stages: Vec<StageReport>,
    /// Producers that ended with an error.
    pub producer_errors: Vec<ProducerError>,
    /// The last tasks that were not done, the latest last.
    pub last_failures: Vec<Outcome>,
    /// Every stuck task that nobody has resolved.
    pub stuck: Vec<Stuck>,
    /// Why the pipeline was suspended, if it was.
    pub suspended: Option<Arc<str>>,
}

/// How many of the last failures a report names.
pub(crate) const LAST_FAILURES: usize = 20;

/// A producer that ended with an error.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProducerError {
    /// Its name, `producer 1` and so on unless it has one.
    pub producer: Arc<str>,
    /// Why.
    pub failure: Failure,
}

/// What a stage's pool did. Attempts are counted, not tasks.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StageReport {
    /// The stage's name.
    pub name: StageName,
    /// What happened to its attempts.
    #[serde(flatten)]
    pub counts: StageCounts,
    /// How long tasks waited for it.
    pub wait: Times,
    /// How long its attempts took.
    pub work: Times,
}

/// What happened to a stage's attempts and cancels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StageCounts {
    /// Attempts started.
    pub started: u64,
    /// Attempts whose result went on.
    pub finished: u64,
    /// Attempts that failed, panics and attempt timeouts included.
    pub failed: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Attempts that were stopped by a deadline or a cancel, or came back after it.
    pub stopped: u64,
    /// Undos cancelled.
    pub cancelled: u64,
    /// Attempts to cancel an undo that failed.
    pub cancel_failures: u64,
}

impl std::ops::AddAssign for StageCounts {
    fn add_assign(&mut self, more: Self) {
        self.started += more.started;
        self.finished += more.finished;
        self.failed += more.failed;
        self.retried += more.retried;
        self.panicked += more.panicked;
        self.stopped += more.stopped;
        self.cancelled += more.cancelled;
        self.cancel_failures += more.cancel_failures;
    }
}

/// Times, with two significant digits. Quick calls of one batch are entered with their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// A pipeline at one instant. The counts are one consistent cut.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Tasks, by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// Tasks accepted that have no outcome yet.
    pub in_flight: u64,
    /// Stuck tasks that nobody has resolved.
    pub stuck: usize,
    /// Whether no stage work starts.
    pub paused: bool,
    /// Each stage, in order.
    pub stages: Vec<StageSnapshot>,
}

/// A stage at one instant.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StageSnapshot {
    /// The stage's name.
    pub name: StageName,
    /// Tasks in its queue, of those that have reached it.
    pub queued: usize,
    /// Its workers that have a stage value.
    pub workers: usize,
    /// Whether its values can be built.
    pub health: Health,
    /// What happened to its attempts.
    #[serde(flatten)]
    pub counts: StageCounts,
}

/// Whether a pool can build its stage values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum Health {
    /// Every value that was to be built was built.
    Up,
    /// The last attempts to build one failed; they go on.
    Failing {
        /// How many in a row.
        failures: u32,
        /// Why the last one failed.
        error: String,
    },
    /// As `Failing`, and no worker is left: tasks that wait for this stage fail.
    Down {
        /// How many in a row.
        failures: u32,
        /// Why the last one failed.
        error: String,
    },
}

/// Where a pool writes down how it is; read by snapshots and the report.
pub(crate) struct Board {
    pub(crate) queued: AtomicUsize,
    pub(crate) workers: AtomicUsize,
    health: Mutex<Health>,
    stats: Mutex<Stats>,
}

/// Counts and times of a stage.
pub(crate) struct Stats {
    pub(crate) counts: StageCounts,
    pub(crate) wait: Histogram<u64>,
    pub(crate) work: Histogram<u64>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Board {
            queued: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            health: Mutex::new(Health::Up),
            stats: Mutex::new(Stats {
                counts: StageCounts::default(),
                wait: histogram(),
                work: histogram(),
            }),
        }
    }

    pub(crate) fn stats<T>(&self, with: impl FnOnce(&mut Stats) -> T) -> T {
        with(&mut guard::lock(&self.stats))
    }

    pub(crate) fn set_health(&self, health: Health) {
        *guard::lock(&self.health) = health;
    }

    pub(crate) fn report(&self, name: &StageName) -> StageReport {
        self.stats(|stats| StageReport {
            name: name.clone(),
            counts: stats.counts,
            wait: times(&stats.wait),
            work: times(&stats.work),
        })
    }

    pub(crate) fn snapshot(&self, name: &StageName) -> StageSnapshot {
        StageSnapshot {
            name: name.clone(),
            queued: self.queued.load(Ordering::Relaxed),
            workers: self.workers.load(Ordering::Relaxed),
            health: guard::lock(&self.health).clone(),
            counts: self.stats(|stats| stats.counts),
        }
    }
}

/// Up to a day, with two significant digits; what is longer counts as a day.
fn histogram() -> Histogram<u64> {
    const DAY: u64 = 86_400_000_000_000;
    let histogram = Histogram::new_with_bounds(1, DAY, 2);
    // The bounds are constants that the constructor accepts; without them the histogram grows.
    histogram.unwrap_or_else(|_| {
        Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are within 0 to 5"))
    })
}

fn times(histogram: &Histogram<u64>) -> Times {
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    Times {
        count: histogram.len(),
        p50: at(0.5),
        p99: at(0.99),
        max: Duration::from_nanos(histogram.max()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            accepted,
            done,
            failed,
            timed_out,
            cancelled,
            suspended,
        } = self.counts;
        writeln!(
            f,
            "pipeline {}: {accepted} tasks in {}",
            self.pipeline,
            short(self.elapsed)
        )?;
        write!(
            f,
            "  done {done}, failed {failed}, timed out {timed_out}, cancelled {cancelled}"
        )?;
        if suspended > 0 {
            write!(f, ", suspended {suspended}")?;
        }
        writeln!(f)?;
        if let Some(why) = &self.suspended {
            writeln!(f, "  suspended: {why}")?;
        }
        writeln!(f)?;
        self.table(f)?;
        for ProducerError { producer, failure } in &self.producer_errors {
            writeln!(f, "\n{producer} ended: {}", guard::shown(failure))?;
        }
        if !self.last_failures.is_empty() {
            writeln!(f, "\nlast failures")?;
            for outcome in &self.last_failures {
                writeln!(f, "  {}", guard::shown(outcome))?;
            }
        }
        if !self.stuck.is_empty() {
            writeln!(f, "\nstuck, to be looked at by a person")?;
            for stuck in &self.stuck {
                writeln!(f, "  task {}: {stuck}", stuck.task)?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: [&str; 12] = [
            "stage", "started", "finished", "failed", "retried", "panics", "stopped", "undone",
            "wait p50", "p99", "work p50", "p99",
        ];
        let mut rows = vec![HEAD.map(str::to_owned)];
        for StageReport {
            name,
            counts,
            wait,
            work,
        } in &self.stages
        {
            rows.push([
                name.to_string(),
                counts.started.to_string(),
                counts.finished.to_string(),
                counts.failed.to_string(),
                counts.retried.to_string(),
                counts.panicked.to_string(),
                counts.stopped.to_string(),
                counts.cancelled.to_string(),
                short(wait.p50),
                short(wait.p99),
                short(work.p50),
                short(work.p99),
            ]);
        }
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; HEAD.len()] = std::array::from_fn(width);
        for row in &rows {
            let mut line = format!("  {:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A duration with two significant digits or so: 870 ns, 12 µs, 3.4 ms, 1.2 s.
fn short(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = usize::from(value < 10.0 && unit != "ns");
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [
            0,
            870,
            1_234,
            56_000,
            3_400_000,
            1_200_000_000,
            90_000_000_000,
        ]
        .map(|nanos| short(Duration::from_nanos(nanos)));
        assert_eq!(
            shown,
            [
                "0 ns", "870 ns", "1.2 µs", "56 µs", "3.4 ms", "1.2 s", "90 s"
            ]
        );
    }

    #[test]
    fn quantiles_have_two_digits() {
        let board = Board::new();
        board.stats(|stats| {
            (1..=100u64).for_each(|ms| stats.work.saturating_record(ms * 1_000_000))
        });
        let work = board.report(&"s".into()).work;
        assert_eq!(work.count, 100);
        assert!(work.p50.as_millis().abs_diff(50) <= 1, "{work:?}");
        assert!(work.max.as_millis().abs_diff(100) <= 1, "{work:?}");
    }
}
