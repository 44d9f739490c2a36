//! Decides how a task goes on, or that a person has to look at it.

use std::{mem, time::Duration};

use super::{
    plan::{PipelineSpec, RecoveredTask, Suspicion, Todo},
    stage_map::StageMap,
};
use crate::{
    failure::{Failure, FailureKind},
    journal::{
        store::Owners,
        task_state::TaskState,
        time::nanos_left,
        undo_state::{StoredUndoStatus, UndoState},
    },
    panic_guard,
    policy::Recovery,
    task::{
        AnyUndo, End, EndReason, RestOfRollback, StageIx, StageName, State, StopCause, TaskId, Undo,
    },
};

/// A task is a suspect from this many kills on. If the limit is lower, it is one at the last kill before that.
const SUSPECT_KILLS: u32 = 2;

/// No counter comes that far by itself, and one beyond could overflow.
const MAX_COUNT: u32 = u32::MAX / 2;

/// The way in which the last process on this journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastExit {
    /// It was shut down or suspended.
    OnPurpose,
    /// It was killed, or it crashed. A task that was at work may be the cause.
    Killed,
    /// There was none: the task was only submitted, or left to others by a process that goes on.
    Nobody,
}

/// The process that a task was of before.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) exit: LastExit,
    /// The number of those that it was of.
    pub(super) owners: u32,
}

impl Before {
    pub(super) fn of(owners: Owners) -> Self {
        let exit = match owners.killed {
            _ if owners.unowned => LastExit::Nobody,
            true => LastExit::Killed,
            false => LastExit::OnPurpose,
        };
        let owners = owners.count;
        Before { exit, owners }
    }
}

impl From<LastExit> for Before {
    fn from(exit: LastExit) -> Self {
        Before { exit, owners: 0 }
    }
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
                owners: 0,
                spared: task.details.interrupted,
                generation: task.details.generation,
                left,
                work_timeout: task.details.work_timeout.map(Duration::from_nanos),
                undos,
                suspicion: suspicion(
                    self.spec.crash_limit,
                    task,
                    matches!(todo, Todo::Queue(..) | Todo::CleanUp(..)),
                ),
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
                Todo::RollBack(self.end(&end.0)?, count_undone(task))
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
        // No earlier process has had it: it has only come here to begin.
        let is_new = self.last_exit == LastExit::Nobody;
        if self.spec.recovery == Recovery::RollBack && !is_new {
            return Some(EndReason::Cancelled(stage, StopCause::Recovery));
        }
        (task.details.kills >= self.spec.crash_limit).then(|| {
            let text = format!(
                "the process was killed {} times while the stage was at work on this task",
                task.details.kills
            );
            EndReason::Failed(stage, Failure::of(FailureKind::Interrupted, text))
        })
    }

    fn undo(&self, number: usize, state: &mut UndoState, value: &[u8]) -> Result<Undo, String> {
        let settled = state.is_settled();
        let value = match settled {
            // Nobody needs the value any more, so it may be one that can't be decoded.
            true => None,
            false => Some(self.decoded(number, state, value)?),
        };
        if mem::take(&mut state.running) {
            state.interrupted += u32::from(self.last_exit == LastExit::Killed);
        }
        if state.interrupted >= self.spec.crash_limit && !settled {
            panic_guard::drop_quietly(value);
            return Err(format!(
                "the process was killed {} times while undo {number} was running",
                state.interrupted
            ));
        }
        // Nobody recorded whether it would have been tried again, so it is.
        if let StoredUndoStatus::Failed(..) = state.status {
            state.status = StoredUndoStatus::Registered;
        }
        Ok(state.to_live(value))
    }

    /// The rest of a stuck task's rollback. The error says why this process can't try it again.
    pub(super) fn rest(
        &self,
        task: &TaskState,
        values: &[Vec<u8>],
    ) -> Result<RestOfRollback, String> {
        let (State::RollingBack, Some(end)) = (task.position, &task.details.end) else {
            return Err("it was set aside before its rollback had begun".to_owned());
        };
        let mut rest = RestOfRollback {
            end: self.end(&end.0)?,
            undos: Vec::with_capacity(values.len()),
            undone: count_undone(task),
        };
        for (number, (state, value)) in task.undos.iter().zip(values).enumerate() {
            let value = match state.is_settled() {
                true => None,
                false => Some(self.decoded(number, state, value)?),
            };
            rest.undos.push(state.to_live(value));
        }
        Ok(rest)
    }

    fn decoded(
        &self,
        number: usize,
        undo: &UndoState,
        value: &[u8],
    ) -> Result<Box<dyn AnyUndo>, String> {
        self.stages.check_usable(undo.stage)?;
        (self.spec.codecs.get(undo.stage)?.decode_undo)(value)
            .map_err(|why| format!("undo {number} can't be decoded: {why}"))
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
            End::TakenBack => EndReason::TakenBack,
        })
    }
}

/// Number of undos that the task's rollback has run.
fn count_undone(task: &TaskState) -> usize {
    let undone = |undo: &&UndoState| undo.status == StoredUndoStatus::Undone && !undo.cleaned_up;
    task.undos.iter().filter(undone).count()
}

/// A task is a suspect if its next step was at work at several kills: its stage, or an undo.
fn suspicion(crash_limit: u32, task: &TaskState, runs_stage: bool) -> Option<Suspicion> {
    let threshold = crash_limit.saturating_sub(1).clamp(1, SUSPECT_KILLS);
    let is_left = |undo: &&UndoState| undo.status == StoredUndoStatus::Registered;
    let undos = task.undos.iter().filter(is_left);
    let by_undos = undos.map(|undo| undo.interrupted).max().unwrap_or(0);
    let by_stage = if runs_stage { task.details.kills } else { 0 };
    let kills = by_stage.max(by_undos);
    (kills >= threshold).then_some(Suspicion {
        kills,
        undo: by_undos >= threshold,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kills: u32, undos: &[(StoredUndoStatus, u32)]) -> TaskState {
        let mut task = TaskState::accepted(None, None, None, None, 0);
        task.details.kills = kills;
        let undo = |(status, interrupted): &(StoredUndoStatus, u32)| UndoState {
            stage: 0,
            attempt: 1,
            generation: 0,
            runs: 0,
            interrupted: *interrupted,
            running: false,
            cleaned_up: false,
            status: status.clone(),
        };
        task.undos = undos.iter().map(undo).collect();
        task
    }

    fn suspect(kills: u32, undo: bool) -> Option<Suspicion> {
        Some(Suspicion { kills, undo })
    }

    #[test]
    fn d04_a_task_at_work_at_two_kills_is_a_suspect() {
        assert_eq!(suspicion(3, &task(1, &[]), true), None);
        assert_eq!(suspicion(3, &task(2, &[]), true), suspect(2, false));
        // Its stage doesn't run any more.
        assert_eq!(suspicion(3, &task(2, &[]), false), None);
    }

    #[test]
    fn d04_a_task_whose_undo_ran_at_two_kills_is_a_suspect() {
        use StoredUndoStatus::{Registered, Undone};
        let undos = [(Registered, 0), (Registered, 2)];
        assert_eq!(suspicion(3, &task(0, &undos), false), suspect(2, true));
        assert_eq!(suspicion(3, &task(2, &undos), true), suspect(2, true));
        assert_eq!(suspicion(3, &task(0, &[(Undone, 2)]), false), None);
    }

    #[test]
    fn d04_below_a_limit_of_three_suspicion_begins_at_the_last_kill_but_one() {
        assert_eq!(suspicion(5, &task(1, &[]), true), None);
        assert_eq!(suspicion(5, &task(4, &[]), true), suspect(4, false));
        assert_eq!(suspicion(2, &task(0, &[]), true), None);
        assert_eq!(suspicion(2, &task(1, &[]), true), suspect(1, false));
        // Whatever was at work at one kill fails with this limit.
        assert_eq!(suspicion(1, &task(0, &[]), true), None);
    }
}
