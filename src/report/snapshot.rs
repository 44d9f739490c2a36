//! A pipeline at one instant.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{counts::StageCounts, refusals::RefusedCounts};
use crate::{
    policy::RateLimit,
    task::{Counts, Named, Names, Progress, StageName, Task, TaskId},
    text::one_line,
};

/// A pipeline at one instant; made by [`PipelineHandle::snapshot`](crate::PipelineHandle::snapshot).
///
/// The counts of tasks are one consistent cut: accepted = done + failed + timed out + cancelled +
/// taken back + suspended + released + in flight. Those of stages are read one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Tasks, by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// Tasks accepted that have no outcome yet.
    pub in_flight: u64,
    /// The number of tasks that may be in flight: see [`max_in_flight`](crate::Pipeline::max_in_flight).
    pub in_flight_limit: usize,
    /// Stuck tasks that nobody has resolved.
    pub stuck: usize,
    /// The number of stuck tasks at which nothing more is accepted: see
    /// [`max_stuck`](crate::Pipeline::max_stuck).
    pub stuck_limit: usize,
    /// Submits that were refused.
    pub refused: RefusedCounts,
    /// `true` if no stage starts work on a task; see [`pause`](crate::PipelineHandle::pause).
    pub paused: bool,
    /// `true` once it accepts nothing more, because it is to end.
    pub draining: bool,
    /// The time that is left of a [drain](crate::Shutdown::Drain) until what is still in flight is cancelled; zero
    /// once it is. None while there is no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_left: Option<Duration>,
    /// The reason why it is suspended, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_why: Option<Arc<str>>,
    /// `true` once it has ended: nothing changes any more.
    pub ended: bool,
    /// The time of its start, as the machine's clock showed it.
    pub started_at: SystemTime,
    /// The time from its start until now, or until its end.
    pub uptime: Duration,
    /// Each stage, in order.
    pub stages: Vec<StageSnapshot>,
    /// The progress of the tasks that are at work and whose stages [tell it](crate::TaskContext::progress):
    /// at most 1,000 of them, those with the lowest numbers.
    pub progress: Vec<TaskProgress>,
}

/// The number of tasks whose progress a snapshot has.
pub(crate) const MOST_PROGRESS: usize = 1_000;

/// The progress of a task in the stage that is at work on it, as that stage has
/// [told](crate::TaskContext::progress) it.
///
/// It prints as a line: `task 4 "ada" in upload: 40 %, part 2 of 5`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskProgress {
    /// The task.
    pub task: TaskId,
    /// The [key](crate::submit::Submit::key) that it was submitted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The [label](crate::submit::Submit::label) that it was submitted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// The stage.
    pub stage: StageName,
    /// The stage's attempt, from 1.
    pub attempt: u32,
    /// The part of this stage's work that is done, from 0 to 1.
    pub fraction: f64,
    /// The text, for people.
    pub text: Arc<str>,
}

impl TaskProgress {
    /// The progress of a task of the pipeline with these stages, if there is any.
    pub(crate) fn of(task: &Task, stages: &[StageName]) -> Option<Self> {
        let Progress {
            stage,
            attempt,
            fraction,
            text,
        } = task.progress()?;
        let Names { key, label, .. } = task.names();
        Some(TaskProgress {
            task: task.id(),
            key,
            label,
            stage: stages.get(stage as usize)?.clone(),
            attempt,
            fraction,
            text,
        })
    }
}

impl fmt::Display for TaskProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = Named {
            task: self.task,
            key: self.key.as_deref(),
            label: self.label.as_deref(),
        };
        let (stage, percent) = (one_line(&self.stage), 100.0 * self.fraction);
        write!(f, "task {task} in {stage}: {percent:.0} %")?;
        if !self.text.is_empty() {
            write!(f, ", {}", one_line(&self.text))?;
        }
        Ok(())
    }
}

/// A stage at one instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageSnapshot {
    /// The stage's name.
    pub name: StageName,
    /// Tasks in its queue, of those that have reached it.
    pub queued: usize,
    /// The number of tasks that its queue has room for.
    pub capacity: usize,
    /// The time that the task has waited which has waited longest for its first attempt here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_queued: Option<Duration>,
    /// Its workers that have a stage value.
    pub workers: usize,
    /// The number of workers that it is to have.
    pub target: usize,
    /// Its workers that are in an attempt.
    pub busy: usize,
    /// `false` for an actor of yours, which can't be [resized](crate::PipelineHandle::resize).
    pub resizable: bool,
    /// The limit on the attempts that it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// `true` if this stage alone starts no work: see [`pause_stage`](crate::Control::pause_stage).
    pub paused: bool,
    /// Says whether its values can be built.
    pub health: StageHealth,
    /// Its attempts and undos.
    #[serde(flatten)]
    pub counts: StageCounts,
    /// The sum of the times that tasks waited for it, in nanoseconds. It wraps around after 584 years.
    pub wait_sum: u64,
    /// The sum of the times that its attempts took, in nanoseconds.
    pub work_sum: u64,
}

/// A pool's success in building its stage values. One that fails is [tried
/// again](crate::policy::Restart) for as long as the pipeline runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum StageHealth {
    /// Every value that was to be built was built.
    Up,
    /// The last attempts to build one failed; they go on.
    Failing {
        /// The number of failures in a row.
        failures: u32,
        /// The last failure.
        error: String,
    },
    /// As `Failing`, ten times in a row or more, and no worker is left: tasks that wait for this stage
    /// fail, and so do its undos. The attempts to build go on.
    Down {
        /// The number of failures in a row.
        failures: u32,
        /// The last failure.
        error: String,
    },
}
