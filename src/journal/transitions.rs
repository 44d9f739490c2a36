//! The change that each entry makes to the state of its task. Pure: no clock, no file.

use std::mem;

use super::{
    entry::Entry,
    task_state::{DebugEq, TaskState},
    undo_state::{StoredUndoStatus, UndoState},
};
use crate::{
    panic_guard,
    task::{Event, Illegal, StageIx, State, next},
};

/// The parts that an entry has changed, which so have to be written.
#[derive(Debug, PartialEq)]
pub(super) enum Applied {
    /// The task's own row.
    Task,
    /// The task's own row, and its context with it.
    Context(Vec<u8>),
    /// Nothing yet: this is what the last stage returned.
    LastOutput(Vec<u8>),
    /// There is a new undo, with this value.
    NewUndo { undo: usize, value: Vec<u8> },
    /// An undo's row has changed, and perhaps the task's own row.
    Undo { undo: usize, task_row: bool },
    /// The task's own row, and those of all its undos.
    All,
    /// The task has its outcome and leaves.
    Left,
    /// The task is another process's once that is written.
    Released,
    /// The task has its outcome and stays, because it is stuck.
    Stuck,
}

/// The entry can't have happened to this task.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadEntry {
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error("undo {0} was not registered before, or not in its turn")]
    Undo(usize),
}

impl TaskState {
    /// Applies an entry. `last` is the pipeline's last stage, `now` in milliseconds since 1970.
    pub(super) fn apply(
        &mut self,
        entry: Entry,
        last: StageIx,
        now: u64,
    ) -> Result<Applied, BadEntry> {
        match entry {
            // A task is accepted once, and its state was made for that.
            Entry::Accepted { context, .. } => Ok(Applied::Context(context)),
            Entry::Started {
                stage,
                attempt,
                deadline_left,
            } => {
                self.started(stage, attempt, deadline_left, now)?;
                Ok(Applied::Task)
            }
            Entry::UndoRegistered {
                stage,
                attempt,
                undo,
                value,
            } => {
                if undo != self.undos.len() {
                    return Err(BadEntry::Undo(undo));
                }
                self.undos.push(UndoState {
                    stage,
                    attempt,
                    generation: self.details.generation,
                    runs: 0,
                    interrupted: 0,
                    running: false,
                    cleaned_up: false,
                    status: StoredUndoStatus::Registered,
                });
                Ok(Applied::NewUndo { undo, value })
            }
            Entry::UndoWithdrawn { undo } => {
                self.undo(undo)?.status = StoredUndoStatus::Withdrawn;
                Ok(undo_changed(undo))
            }
            // The output goes into the row of the outcome, which follows at once. Until that is
            // written, a restart runs the last stage again.
            Entry::Finished { stage, output } if stage == last => Ok(Applied::LastOutput(output)),
            Entry::Finished { stage, output } => {
                self.step(Event::Finish(stage))?;
                let details = &mut self.details;
                (details.attempt, details.interrupted, details.kills) = (1, 0, 0);
                (details.generation, details.attempt_undone) = (0, false);
                Ok(Applied::Context(output))
            }
            Entry::AttemptFailed { stage } => {
                self.step(Event::CleanUp(stage))?;
                Ok(Applied::Task)
            }
            Entry::RollbackStarted { end } => {
                self.stop()?;
                self.details.end = Some(DebugEq(end));
                Ok(Applied::Task)
            }
            Entry::UndoStarted { undo, attempt } => {
                let state = self.undo(undo)?;
                state.runs = attempt;
                state.running = true;
                Ok(undo_changed(undo))
            }
            Entry::UndoEnded { undo, failure } => {
                let status = match failure {
                    None => StoredUndoStatus::Undone,
                    Some(failure) => {
                        StoredUndoStatus::Failed(failure.kind(), panic_guard::shown(&failure))
                    }
                };
                self.undo_ended(undo, status)
            }
            Entry::Done => {
                if let State::Running(stage) = self.position {
                    self.step(Event::Complete(stage))?;
                }
                Ok(Applied::Left)
            }
            Entry::Ended(outcome) => {
                if !outcome.rollback.is_stuck() {
                    return Ok(Applied::Left);
                }
                // A shutdown gave the task up while a stage was still at work on it.
                if self.stop()? {
                    self.details.end = Some(DebugEq(Box::new(outcome.end.clone())));
                }
                self.details.stuck = Some(DebugEq(outcome));
                Ok(Applied::Stuck)
            }
            Entry::Retried => {
                self.unstick();
                Ok(Applied::All)
            }
            Entry::Resolved => Ok(Applied::Left),
            // The process that has it next cleans up after an attempt that had just begun.
            Entry::Released => Ok(Applied::Released),
        }
    }

    /// Makes a stuck task one that goes on, with every undo that is left to run again.
    pub(super) fn unstick(&mut self) {
        self.details.stuck = None;
        self.details.quarantined = false;
        for undo in &mut self.undos {
            if let StoredUndoStatus::Registered | StoredUndoStatus::Failed(..) = undo.status {
                undo.status = StoredUndoStatus::Registered;
                undo.interrupted = 0;
                undo.running = false;
            }
        }
    }

    fn started(
        &mut self,
        stage: StageIx,
        attempt: u32,
        deadline_left: Option<u64>,
        now: u64,
    ) -> Result<(), BadEntry> {
        if self.position == State::Cleaning(stage) {
            self.step(Event::Cleaned(stage))?;
            self.details.generation += u32::from(mem::take(&mut self.details.attempt_undone));
        }
        self.step(Event::Start(stage))?;
        self.details.attempt = attempt;
        self.details.work_timeout = None;
        if deadline_left.is_some() {
            self.details.deadline_left = deadline_left;
            self.details.measured_at = now;
        }
        Ok(())
    }

    /// Begins the rollback, unless it has begun. Returns whether it began now.
    ///
    /// The stage is not part of the entry: its author may have seen the task in the stage before.
    fn stop(&mut self) -> Result<bool, BadEntry> {
        let Some(stage) = self.stage() else {
            return Ok(false);
        };
        self.step(Event::Stop)?;
        self.step(Event::Stopped(stage))?;
        Ok(true)
    }

    fn undo_ended(&mut self, undo: usize, status: StoredUndoStatus) -> Result<Applied, BadEntry> {
        let between_attempts = matches!(self.position, State::Cleaning(_));
        let state = self.undo(undo)?;
        state.running = false;
        state.cleaned_up = between_attempts && status == StoredUndoStatus::Undone;
        state.status = status;
        let cleaned_up = state.cleaned_up;
        // The task's own row changes with the first undo of an attempt.
        let task_row = cleaned_up && !self.details.attempt_undone;
        self.details.attempt_undone |= cleaned_up;
        Ok(Applied::Undo { undo, task_row })
    }

    fn undo(&mut self, undo: usize) -> Result<&mut UndoState, BadEntry> {
        self.undos.get_mut(undo).ok_or(BadEntry::Undo(undo))
    }

    fn step(&mut self, event: Event) -> Result<(), Illegal> {
        self.position = next(self.position, event)?;
        Ok(())
    }
}

fn undo_changed(undo: usize) -> Applied {
    Applied::Undo {
        undo,
        task_row: false,
    }
}
