//! A pipeline for those who look after it: what there is to see. [`actions`] are what there is to do.

mod actions;
#[cfg(feature = "journal")]
mod anywhere;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    engine::reporter::shutdown::FinalReport,
    error::Error,
    report::{
        Board, Cursor, EndedTask, Health, JournalReader, Report, Snapshot, StageTimes, TaskDetail,
        TaskFilter, TaskPage, TimeHistogram, Timeline,
    },
    shared::Shared,
    task::{StageName, Stuck, TaskId, TaskStatus},
};

/// A pipeline for those who look after it: a monitor, a console, a supervisor. Made by
/// [`PipelineHandle::control`](crate::PipelineHandle::control): `Clone + Send + Sync`, without type
/// parameters.
///
/// It is *weak*: it neither keeps the pipeline open, as a handle does, nor its values alive. **When the pipeline
/// has ended**, everything that one looks at is still answered, with what was last true: no task is in flight
/// any more, [`snapshot`](Self::snapshot) has the final counts, [`ended`](Self::ended) the last
/// tasks that were not done, and [`report`](Self::report) the final report. Everything that would change the
/// pipeline answers that it has ended: with [`Error::Ended`], or `false`.
///
/// ```
/// # use batrun::prelude::*;
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let double = stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n));
/// let numbers = Pipeline::new("numbers").stage(double).start().await?;
/// let control = numbers.control();
/// numbers.submit(7).await?.outcome().await?;
/// assert_eq!(control.snapshot().counts.done, 1);
/// assert!(control.report().is_none());
///
/// // The last handle: the pipeline ends, whoever watches it.
/// numbers.join().await?;
/// assert_eq!(control.report().map(|report| report.counts.done), Some(1));
/// assert!(control.snapshot().ended);
/// assert!(control.pause().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Control {
    shared: Weak<Shared>,
    board: Arc<Board>,
    final_report: Arc<FinalReport>,
    journal: Option<JournalReader>,
}

impl Control {
    pub(super) fn new(shared: &Arc<Shared>, final_report: Arc<FinalReport>) -> Self {
        Control {
            shared: Arc::downgrade(shared),
            board: shared.board.clone(),
            final_report,
            #[cfg(feature = "journal")]
            journal: shared
                .journal
                .as_ref()
                .and_then(|journal| Some(JournalReader::new(journal.reader()?))),
            #[cfg(not(feature = "journal"))]
            journal: None,
        }
    }

    /// The pipeline, unless it is gone. Not to be kept.
    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    /// The same for those who change it.
    fn running(&self) -> Result<Arc<Shared>, Error> {
        let shared = self.shared().filter(|_| !self.is_ended());
        shared.ok_or(Error::Ended)
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.board.name
    }

    /// The names of its stages, in order.
    pub fn stages(&self) -> &[StageName] {
        &self.board.stages
    }

    /// `true` once the pipeline has ended: every task has its outcome, or was left by a suspension.
    /// [`report`](Self::report) follows a moment later, or never if its runtime ended first.
    pub fn is_ended(&self) -> bool {
        self.board.is_ended() || self.shared.strong_count() == 0
    }

    /// The final report, once the pipeline has ended and none of its threads is left.
    pub fn report(&self) -> Option<Report> {
        self.final_report.report.borrow().clone()
    }

    /// Waits for the final report. Keeps nothing open: the pipeline ends as if nobody waited.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn wait(&self) -> Result<Report, Error> {
        self.final_report.wait().await.ok_or(Error::Gone)
    }

    /// The pipeline as it is now, as [`PipelineHandle::snapshot`](crate::PipelineHandle::snapshot) shows it, or
    /// as it was at its end. Looks at each task in flight; once a second is fine.
    pub fn snapshot(&self) -> Snapshot {
        match self.shared() {
            Some(shared) => shared.snapshot(),
            None => self.board.last_snapshot(),
        }
    }

    /// Says if the pipeline can work now, as
    /// [`PipelineHandle::health`](crate::PipelineHandle::health) does: [`Health::Closed`] or
    /// [`Health::Suspended`] once it has ended.
    pub fn health(&self) -> Health {
        match self.shared() {
            Some(shared) => shared.health(),
            None => match self.board.last().suspended {
                Some(why) => Health::Suspended { why },
                None => Health::Closed,
            },
        }
    }

    /// The distributions of the times of each stage, in order: how long tasks waited for it, and how long its
    /// attempts took. Copies some 80 KB a stage.
    pub fn times(&self) -> Vec<StageTimes> {
        let stages = self.board.stages.iter().zip(&self.board.stats);
        stages.map(|(name, stats)| stats.times(name)).collect()
    }

    /// The distribution of the times that rollbacks took, from the end of a task's work to its outcome. A task
    /// with nothing to take back has one, too.
    pub fn rollback_times(&self) -> TimeHistogram {
        self.board.rollback_times()
    }

    /// The tasks in flight that the filter takes: at most `limit` of them, by their numbers, those after the
    /// cursor. A page's [`next`](TaskPage::next) is the cursor of the page after it. Tasks come and go between two
    /// pages; one that is there all the time is on one of them.
    ///
    /// Looks at each task in flight, in chunks, so that none has to wait for it. A stage that the pipeline
    /// doesn't have gives an empty page.
    ///
    /// ```
    /// # use batrun::{Control, report::TaskFilter};
    /// # fn example(control: &Control) {
    /// let (filter, mut after) = (TaskFilter::new().stage("pay"), None);
    /// loop {
    ///     let page = control.tasks(&filter, after, 100);
    ///     for task in page.tasks {
    ///         println!("{} {} {:?}", task.task, task.phase, task.age);
    ///     }
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// # }
    /// ```
    pub fn tasks(&self, filter: &TaskFilter, after: Option<TaskId>, limit: usize) -> TaskPage {
        match self.shared() {
            Some(shared) => shared.tasks(filter, after, limit),
            None => TaskPage::empty(),
        }
    }

    /// A task in flight, with everything that is known of it. Its undos are shown by their `Debug`, which is your
    /// code: it runs on this thread, under no lock, and a panic in it is caught. The pipeline waits for an undo
    /// that is just being shown, for a second at most; then it goes on without it.
    ///
    /// `None` if it has ended, or never was: see [`ended_task`](Self::ended_task) and [`stuck`](Self::stuck).
    pub fn task(&self, task: TaskId) -> Option<TaskDetail> {
        self.shared()?.task(task)
    }

    /// The number of the task with this [key](crate::submit::Submit::key), if it is in flight or stuck here.
    pub fn find_key(&self, key: &str) -> Option<TaskId> {
        self.shared()?.find_key(key)
    }

    /// The place where the task with this [key](crate::submit::Submit::key) is now, as
    /// [`PipelineHandle::status`](crate::PipelineHandle::status) says it; [`TaskStatus::Unknown`] once the pipeline
    /// has ended.
    pub fn status(&self, key: &str) -> TaskStatus {
        match self.shared() {
            Some(shared) => shared.status(key),
            None => TaskStatus::Unknown,
        }
    }

    /// The stuck tasks that nobody has [resolved](Self::resolve) or [retried](Self::retry): those of an earlier
    /// process by their numbers, then in the order in which they got stuck.
    pub fn stuck(&self) -> Vec<Stuck> {
        match self.shared() {
            Some(shared) => shared.table.stuck(),
            None => self.board.last().stuck,
        }
    }

    /// The last tasks that ended other than done, at most `limit` of them from the cursor on. The newest 1,000
    /// are kept.
    ///
    /// ```
    /// # use batrun::{Control, report::Cursor};
    /// # fn example(control: &Control, last_seen: u64) {
    /// for ended in control.ended(Cursor::After(last_seen), 50) {
    ///     println!("{:?} {}", ended.at, ended.outcome);
    /// }
    /// # }
    /// ```
    pub fn ended(&self, from: Cursor, limit: usize) -> Vec<EndedTask> {
        self.board.ended.page(from, limit)
    }

    /// The pipeline's journal, to look into: its finished tasks, and with a database the processes that share it.
    /// `None` if it has none. It is there after the end of the pipeline, too, for as long as the journal is.
    pub fn journal(&self) -> Option<&JournalReader> {
        self.journal.as_ref()
    }

    /// The last end of this task, if it is among those that are kept.
    pub fn ended_task(&self, task: TaskId) -> Option<EndedTask> {
        self.board.ended.find(task)
    }
}

/// The events of a task.
impl Control {
    /// The events of a task, in order: of one that has ended other than done, as long as there is room for it
    /// (1 MiB for all of them), and with a [recorder](crate::Pipeline::recorder) those of tasks in flight and of
    /// some that are done, too.
    ///
    /// ```
    /// # use batrun::{Control, state::TaskId};
    /// # fn example(control: &Control, task: TaskId) {
    /// if let Some(timeline) = control.timeline(task) {
    ///     for event in timeline.events {
    ///         println!("{:?} {} {:?}", event.at, event.stage, event.kind);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn timeline(&self, task: TaskId) -> Option<Timeline> {
        let live = self.shared().and_then(|shared| shared.live_timeline(task));
        live.or_else(|| self.board.ended_timeline(task))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("pipeline", &self.name())
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}
