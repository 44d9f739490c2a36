//! A look at a running pipeline: what its tasks, its pools and its table say now.

use std::time::Duration;

use super::Shared;
use crate::{
    clock::{Cycles, Nanos},
    panic_guard,
    report::{
        Health, LastState, MOST_PROGRESS, Now, PageBuilder, Seen, Snapshot, StageHealth,
        TaskDetail, TaskFilter, TaskPage, TaskPhase, TaskProgress, TaskView, Timeline, UndoState,
        UndoView,
    },
    task::{Refusal, StageIx, StageProgress, State, Task, TaskId, TaskRef, UndoStatus},
    text::cut,
};

/// The longest text of an undo that is shown, in bytes.
const MAX_UNDO_BYTES: usize = 4_096;

/// A stage's load, from the tasks in flight.
#[derive(Clone, Copy, Default)]
struct StageLoad {
    busy: usize,
    oldest: Option<Cycles>,
}

impl Shared {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let loads = self.loads();
        let cycles = self.clock.cycles();
        let stages = self.stages.iter().zip(&self.board.stats).zip(loads);
        let stages = stages.map(|((name, stats), load)| {
            let oldest = load
                .oldest
                .map(|queued| self.clock.to_nanos(cycles.since(queued)));
            stats.snapshot(name, load.busy, oldest)
        });
        let stages = stages.collect();
        let tasks = self.table.reporting();
        let told = tasks
            .iter()
            .filter_map(|task| TaskProgress::of(task, &self.stages));
        let progress = told.take(MOST_PROGRESS).collect();
        // They may be the last holds of records, with values of the user's in them.
        panic_guard::drop_quietly(tasks);
        let now = Now {
            counts: self.table.counts(),
            stuck: self.table.count_stuck(),
            paused: self.is_paused(),
            suspended: self.suspended_why.get().cloned(),
            uptime: self.clock.now(),
        };
        Snapshot {
            progress,
            ..self.board.snapshot(now, stages)
        }
    }

    /// By stage. Counted when somebody asks, so that no task pays for it.
    fn loads(&self) -> Vec<StageLoad> {
        let mut loads = vec![StageLoad::default(); self.stages.len()];
        let look = |task: &TaskRef| {
            match (task.place(), task.state()) {
                (State::Running(stage), _) => {
                    if let Some(load) = loads.get_mut(stage as usize) {
                        load.busy += 1;
                    }
                }
                // One that waits for another attempt may have to, for longer than any alarm.
                (_, State::Queued(stage)) if task.attempt() == 1 => {
                    if let Some(load) = loads.get_mut(stage as usize) {
                        let queued = task.queued_at();
                        load.oldest = Some(load.oldest.map_or(queued, |oldest| oldest.min(queued)));
                    }
                }
                _ => {}
            }
            false
        };
        self.table.visit(look, drop);
        loads
    }

    pub(crate) fn health(&self) -> Health {
        let stuck = || Health::TooManyStuck {
            stuck: self.table.count_stuck(),
        };
        let suspended = || Health::Suspended {
            why: self
                .suspended_why
                .get()
                .cloned()
                .unwrap_or_else(|| "the log says why".into()),
        };
        match self.table.why_closed() {
            Some(Refusal::Suspended) => return suspended(),
            Some(Refusal::Closed) => return Health::Closed,
            Some(Refusal::Stuck) => return stuck(),
            None => {}
        }
        for (stats, stage) in self.board.stats.iter().zip(&self.stages) {
            if let StageHealth::Down { error, .. } = stats.health() {
                let stage = stage.clone();
                return Health::StageDown { stage, error };
            }
        }
        match self.is_paused() {
            true => Health::Paused,
            false => Health::Ready,
        }
    }

    /// The state that stays once everything else is gone.
    pub(crate) fn last_state(&self) -> LastState {
        LastState {
            counts: self.table.counts(),
            stuck: self.table.stuck(),
            suspended: self.suspended_why.get().cloned(),
            uptime: self.clock.now(),
        }
    }

    /// Some of the tasks in flight that a filter takes.
    pub(crate) fn tasks(
        &self,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: usize,
    ) -> TaskPage {
        let stage = match filter.stage_name() {
            None => None,
            Some(name) => match self.stage_number(name) {
                Ok(stage) => Some(stage),
                Err(_) => return TaskPage::empty(),
            },
        };
        let cycles = self.clock.cycles();
        let look = |task: &TaskRef| {
            // Names are behind another lock, and nearly no task without details has any.
            self.seen(task, cycles)
                .is_some_and(|seen| filter.takes(&seen, stage))
                && (!filter.asks_for_label() || task.has_details())
        };
        let mut page = PageBuilder::new(after, limit);
        self.table.visit(look, |task| {
            if filter.asks_for_label() && !filter.takes_label(task.names().label.as_deref()) {
                return panic_guard::drop_quietly(task);
            }
            let id = task.id();
            panic_guard::drop_quietly(page.offer(id, || (id, task)));
        });
        let total = page.total();
        let (tasks, next) = page.finish();
        let views = tasks.iter().filter_map(|(id, task)| {
            let view = self.view(task)?;
            // Its record may be another task's by now.
            (view.task == *id).then_some(view)
        });
        let views = views.collect();
        // Perhaps the last holds.
        tasks.into_iter().for_each(panic_guard::drop_quietly);
        TaskPage {
            tasks: views,
            next,
            total,
        }
    }

    /// `None` for a task that has its outcome.
    fn seen(&self, task: &Task, cycles: Cycles) -> Option<Seen> {
        Some(Seen {
            phase: TaskPhase::of(task.state())?,
            stage: task.stage_or_cleaning(),
            age: self.age(task, cycles),
        })
    }

    fn age(&self, task: &Task, cycles: Cycles) -> Nanos {
        self.clock.to_nanos(cycles.since(task.queued_at()))
    }

    fn view(&self, task: &Task) -> Option<TaskView> {
        let id = task.id();
        let state = task.state();
        let names = task.names();
        let progress = task.progress().map(|progress| StageProgress {
            fraction: progress.fraction,
            text: progress.text,
        });
        let name = |stage: StageIx| self.stage_name(stage).clone();
        let view = TaskView {
            task: id,
            key: names.key,
            label: names.label,
            phase: TaskPhase::of(state)?,
            stage: task.stage_or_cleaning().map(name),
            attempt: task.attempt(),
            worker: task.is_at_work().then(|| task.worker()),
            age: Duration::from_nanos(self.age(task, self.clock.cycles())),
            deadline_left: self.time_left(task.deadline()),
            progress,
        };
        (task.id() == id).then_some(view)
    }

    /// A task in flight, with everything that is known of it.
    pub(crate) fn task(&self, id: TaskId) -> Option<TaskDetail> {
        let task = self.table.find(id)?;
        let detail = self.detail(&task, id);
        panic_guard::drop_quietly(task);
        detail
    }

    fn detail(&self, task: &TaskRef, id: TaskId) -> Option<TaskDetail> {
        let view = self.view(task)?;
        // Of an open task there is none yet.
        let end = task.is_ending().then(|| task.end(&self.stages)).flatten();
        let count = task.details().undos.len();
        let undos = (0..count).filter_map(|number| self.undo(task, id, number));
        let undos: Vec<_> = undos.collect();
        // One that has ended meanwhile has let go of them.
        let is_whole = task.id() == id && undos.len() == count;
        is_whole.then_some(TaskDetail { view, end, undos })
    }

    fn undo(&self, task: &TaskRef, id: TaskId, number: usize) -> Option<UndoView> {
        let value = self.table.lent.lend(task, id, number);
        let undo = value.map(|value| {
            let text = panic_guard::printed(|| value.debug());
            self.table.lent.give_back(task, id, number, value);
            cut(&text, MAX_UNDO_BYTES).to_owned()
        });
        let details = task.details();
        let entry = details.undos.get(number)?;
        let (stage, attempt, tries) = (entry.stage, entry.attempt, entry.tries);
        let (state, failure) = match &entry.status {
            UndoStatus::Registered => (UndoState::Registered, None),
            UndoStatus::Withdrawn => (UndoState::Withdrawn, None),
            UndoStatus::Undone => (UndoState::Undone, None),
            UndoStatus::Failed(failure) => (UndoState::Failed, Some(failure.clone())),
        };
        drop(details);
        let error = failure.as_ref().map(panic_guard::shown);
        panic_guard::drop_quietly(failure);
        Some(UndoView {
            stage: self.stage_name(stage).clone(),
            attempt,
            undo,
            state,
            error,
            tries,
        })
    }

    /// The events that the recorder has of a task in flight.
    pub(crate) fn live_timeline(&self, id: TaskId) -> Option<Timeline> {
        let task = self.table.find(id)?;
        let timeline = self.board.live_timeline(&task);
        panic_guard::drop_quietly(task);
        timeline
    }

    /// The task with this key, in flight or stuck.
    pub(crate) fn find_key(&self, key: &str) -> Option<TaskId> {
        let task = self.keyed.find(key);
        let id = task.as_ref().map(|task| task.id());
        panic_guard::drop_quietly(task);
        id.or_else(|| self.table.stuck_with_key(key))
    }
}

/// A running pipeline leaves what can be told of it to those who look later.
impl Drop for Shared {
    fn drop(&mut self) {
        let last = self.last_state();
        self.board.leave(last);
    }
}
