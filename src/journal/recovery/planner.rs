//! Decides how a task goes on, or that a person has to look at it.

use std::{mem, time::Duration};

use super::{
    plan::{PipelineSpec, RecoveredTask, Todo},
    stage_map::StageMap,
};
use crate::{
    failure::{Failure, FailureKind},
    journal::{
        task_state::TaskState,
        time::nanos_left,
        undo_state::{StoredUndoStatus, UndoState},
    },
    panic_guard,
    policy::Recovery,
    task::{
        AnyUndo, End, EndReason, StageIx, StageName, State, StopCause, TaskId, Undo, UndoStatus,
    },
};

/// A task is left alone once its stage, or one of its undos, was interrupted by this many kills.
const MAX_KILLS: u32 = 3;

/// No counter comes that far by itself, and one beyond could overflow.
const MAX_COUNT: u32 = u32::MAX / 2;

/// The way in which the last process on this journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastExit {
    /// It was shut down or suspended.
    OnPurpose,
    /// It was killed, or it crashed. A task that was at work may be the cause.
    Killed,
}

/// Everything that a decision depends on besides the task.
pub(super) struct Planner<'a> {
    /// Milliseconds since 1970.
    pub(super) now: u64,
    pub(super) last_exit: LastExit,
    pub(super) spec: &'a PipelineSpec,
    pub(super) stages: &'a StageMap,
}

impl Planner<'_> {
    /// Plans how a task goes on. The error is the reason why a person has to look at it.
    ///
    /// Changes the state to what it is then. The context and the undos' values are encoded.
    pub(super) fn plan(
        &self,
        id: TaskId,
        task: &mut TaskState,
        context: &[u8],
        values: &[Vec<u8>],
    ) -> Result<RecoveredTask, String> {
        if counts(task).any(|count| count > MAX_COUNT) {
            return Err("one of its counters has an impossible value".to_owned());
        }
        let mut undos = Vec::with_capacity(values.len());
        match self.decode_and_decide(&mut undos, task, context, values) {
            Ok((left, todo)) => Ok(RecoveredTask {
                id,
                attempt: task.details.attempt,
                spared: task.details.interrupted,
                generation: task.details.generation,
                left,
                work_timeout: task.details.work_timeout.map(Duration::from_nanos),
                undos,
                names: task.details.names().boxed(),
                todo,
            }),
            Err(why) => {
                // The user's values, whose drop may panic.
                undos.into_iter().for_each(panic_guard::drop_quietly);
                Err(why)
            }
        }
    }

    /// The time to the deadline, and the next step. Adds to `undos` as long as they can be decoded.
    fn decode_and_decide(
        &self,
        undos: &mut Vec<Undo>,
        task: &mut TaskState,
        context: &[u8],
        values: &[Vec<u8>],
    ) -> Result<(Option<Duration>, Todo), String> {
        for (number, (state, value)) in task.undos.iter_mut().zip(values).enumerate() {
            undos.push(self.undo(number, state, value)?);
        }
        let left = self.deadline_left(task);
        let todo = match task.position {
            State::RollingBack | State::Ended => {
                let end = task.details.end.as_ref().ok_or("it has no end")?;
                let undone =
                    |undo: &&UndoState| undo.status == StoredUndoStatus::Undone && !undo.cleaned_up;
                let undone = task.undos.iter().filter(undone).count();
                Todo::RollBack(self.end(&end.0)?, undone)
            }
            State::Queued(stage)
            | State::Running(stage)
            | State::Cleaning(stage)
            | State::Stopping(stage) => self.forward(stage, task, context, left)?,
        };
        Ok((left, todo))
    }

    /// The time to the deadline by now. It has not stood still since the journal was written, but
    /// a wall clock that was set back gives no time back.
    fn deadline_left(&self, task: &mut TaskState) -> Option<Duration> {
        let details = &mut task.details;
        let passed = Duration::from_millis(self.now.saturating_sub(details.measured_at));
        let left = details.deadline_left.map(Duration::from_nanos);
        let left = left.map(|left| left.saturating_sub(passed));
        details.deadline_left = nanos_left(left);
        details.measured_at = if left.is_some() { self.now } else { 0 };
        left
    }

    /// The next step of a task that has no end yet.
    fn forward(
        &self,
        stage: StageIx,
        task: &mut TaskState,
        context: &[u8],
        left: Option<Duration>,
    ) -> Result<Todo, String> {
        self.stages.check_usable(stage)?;
        let context = (self.spec.codecs.get(stage)?.decode_input)(context)
            .map_err(|why| format!("its context can't be decoded: {why}"))?;
        if task.position == State::Running(stage) {
            task.details.interrupted += 1;
            task.details.kills += u32::from(self.last_exit == LastExit::Killed);
            task.position = State::Cleaning(stage);
        }
        match self.stop(stage, task, left) {
            Some(end) => {
                // The user's value, whose drop may panic.
                panic_guard::drop_quietly(context);
                Ok(Todo::Stop(end))
            }
            None if task.position == State::Queued(stage) => Ok(Todo::Queue(stage, context)),
            None => Ok(Todo::CleanUp(stage, context)),
        }
    }

    /// The end of a task that must not go on.
    fn stop(&self, stage: StageIx, task: &TaskState, left: Option<Duration>) -> Option<EndReason> {
        if left.is_some_and(|left| left.is_zero()) {
            return Some(EndReason::TimedOut(stage));
        }
        if self.spec.recovery == Recovery::RollBack {
            return Some(EndReason::Cancelled(stage, StopCause::Recovery));
        }
        (task.details.kills >= MAX_KILLS).then(|| {
            let text = format!(
                "the process was killed {} times while the stage was at work on this task",
                task.details.kills
            );
            EndReason::Failed(stage, Failure::of(FailureKind::Interrupted, text))
        })
    }

    fn undo(&self, number: usize, undo: &mut UndoState, value: &[u8]) -> Result<Undo, String> {
        use StoredUndoStatus::{Failed, Registered, Undone, Withdrawn};
        let settled = matches!(undo.status, Undone | Withdrawn);
        let value: Option<Box<dyn AnyUndo>> = if settled {
            // Nobody needs the value any more, so it may be one that can't be decoded.
            None
        } else {
            self.stages.check_usable(undo.stage)?;
            let value = (self.spec.codecs.get(undo.stage)?.decode_undo)(value)
                .map_err(|why| format!("undo {number} can't be decoded: {why}"))?;
            Some(value)
        };
        if mem::take(&mut undo.running) {
            undo.interrupted += u32::from(self.last_exit == LastExit::Killed);
        }
        if undo.interrupted >= MAX_KILLS && !settled {
            panic_guard::drop_quietly(value);
            return Err(format!(
                "the process was killed {} times while undo {number} was running",
                undo.interrupted
            ));
        }
        // Nobody recorded whether it would have been tried again, so it is.
        if let Failed(..) = undo.status {
            undo.status = Registered;
        }
        Ok(Undo {
            stage: undo.stage,
            attempt: undo.attempt,
            generation: undo.generation,
            value,
            status: match undo.status {
                Registered | Failed(..) => UndoStatus::Registered,
                Withdrawn => UndoStatus::Withdrawn,
                Undone => UndoStatus::Undone,
            },
            tries: undo.runs,
        })
    }

    fn end(&self, end: &End) -> Result<EndReason, String> {
        let own = |stage: &StageName| {
            let number = self.stages.own(stage);
            number
                .ok_or_else(|| format!("it ended in {stage}, and there is no such stage any more"))
        };
        Ok(match end {
            End::Done => return Err("it is done, and yet it is rolled back".to_owned()),
            End::Failed { stage, failure } => EndReason::Failed(own(stage)?, failure.clone()),
            End::TimedOut { stage } => EndReason::TimedOut(own(stage)?),
            End::Cancelled { stage, cause } => EndReason::Cancelled(own(stage)?, *cause),
        })
    }
}

/// All counters of a task and its undos.
fn counts(task: &TaskState) -> impl Iterator<Item = u32> {
    let details = &task.details;
    let own = [
        details.attempt,
        details.interrupted,
        details.kills,
        details.generation,
    ];
    let of_undo = |undo: &UndoState| [undo.attempt, undo.generation, undo.runs, undo.interrupted];
    own.into_iter().chain(task.undos.iter().flat_map(of_undo))
}
