//! A pipeline's account of itself at its end.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::counts::{StageCounts, Times};
use crate::{
    failure::Failure,
    panic_guard,
    task::{Counts, Outcome, StageName, Stuck},
    text::one_line,
};

/// The end of a pipeline: its tasks by outcome, its stages, its failures. Prints as a table for people,
/// and is `Serialize` for programs.
///
/// ```
/// # use batrun::prelude::*;
/// # #[actix::main]
/// # async fn main() -> Result<(), batrun::Error> {
/// let report = Pipeline::new("numbers")
///     .producer(from_iter(0..10))
///     .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n)))
///     .run()
///     .await?;
/// println!("{report}");
/// assert_eq!(report.counts.done, 10);
/// assert_eq!(report.stages[0].counts.started, 10);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Tasks, by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// The time from start to end.
    pub elapsed: Duration,
    /// Each stage, in order.
    pub stages: Vec<StageReport>,
    /// Producers that ended with an error.
    pub producer_errors: Vec<ProducerError>,
    /// The last 20 tasks that were not done, the latest last.
    pub last_failures: Vec<Outcome>,
    /// Every stuck task that nobody has resolved.
    pub stuck: Vec<Stuck>,
    /// The reason why the pipeline was suspended, if it was: its ledger's error, or the shutdown. As JSON it is
    /// `suspended_why`, since `suspended` is the number of tasks.
    #[serde(rename = "suspended_why")]
    pub suspended: Option<Arc<str>>,
}

/// The number of last failures that a report names.
pub(crate) const LAST_FAILURES: usize = 20;

/// A producer that ended with an error. The tasks that it had submitted went on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProducerError {
    /// Its name. Default: `producer 1` and so on.
    pub producer: Arc<str>,
    /// Its error.
    pub failure: Failure,
}

/// The work of a stage's pool. Attempts are counted, not tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageReport {
    /// The stage's name.
    pub name: StageName,
    /// Its attempts and undos.
    #[serde(flatten)]
    pub counts: StageCounts,
    /// The time that tasks waited for it, in its queue and for their next attempt.
    pub wait: Times,
    /// The time that its attempts took.
    pub work: Times,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            accepted,
            done,
            failed,
            timed_out,
            cancelled,
            taken_back,
            released,
            suspended,
        } = self.counts;
        writeln!(
            f,
            "pipeline {}: {accepted} tasks in {}",
            one_line(&self.pipeline),
            short(self.elapsed)
        )?;
        write!(
            f,
            "  done {done}, failed {failed}, timed out {timed_out}, cancelled {cancelled}"
        )?;
        if released > 0 {
            write!(f, ", left to other processes {released}")?;
        }
        if taken_back > 0 {
            write!(f, ", taken back {taken_back}")?;
        }
        if suspended > 0 {
            write!(f, ", suspended {suspended}")?;
        }
        writeln!(f)?;
        if let Some(why) = &self.suspended {
            writeln!(f, "  suspended: {}", one_line(why))?;
        }
        writeln!(f)?;
        self.table(f)?;
        for ProducerError { producer, failure } in &self.producer_errors {
            let failure = panic_guard::shown(failure);
            writeln!(f, "\n{} ended: {}", one_line(producer), one_line(&failure))?;
        }
        if !self.last_failures.is_empty() {
            writeln!(f, "\nlast failures")?;
            for outcome in &self.last_failures {
                writeln!(f, "  {}", one_line(&panic_guard::shown(outcome)))?;
            }
        }
        if !self.stuck.is_empty() {
            writeln!(f, "\nstuck, to be looked at by a person")?;
            for stuck in &self.stuck {
                let text = stuck.to_string();
                writeln!(f, "  task {}: {}", stuck.named(), one_line(&text))?;
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
                one_line(name).into_owned(),
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
}
