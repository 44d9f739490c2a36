//! Reads one task after the other: verifies it, has it planned, and writes the differences.

use super::{
    plan::{Recovered, RecoveredTask},
    planner::{Before, Planner},
    stage_map::StageMap,
};
use crate::{
    failure::{Failure, FailureKind},
    journal::{
        rows::{task::TaskRow, undo::UndoRow},
        store::{RowOp, TaskRows},
        task_state::{DebugEq, TaskState},
        undo_state::{StoredUndoStatus, UndoState},
    },
    logging,
    task::{End, Names, Outcome, Rollback, StageName, State, Stuck, StuckTask, StuckUndo, TaskId},
};

/// The highest task number that is taken for one. Nobody counts that far, and others have to follow.
pub(super) const MAX_TASK_ID: u64 = i64::MAX as u64 / 2;

pub(super) struct TaskReader<'a> {
    pub(super) planner: Planner<'a>,
    /// Takes each task as it is from now on.
    pub(super) keep: &'a mut dyn FnMut(u64, TaskState),
    pub(super) ops: Vec<RowOp>,
    /// They follow on those: changes of one kind in a row are written together.
    pub(super) undo_ops: Vec<RowOp>,
    pub(super) recovered: Recovered,
}

/// A task with its encoded context and the encoded values of its undos, all checksums verified.
struct VerifiedTask {
    state: TaskState,
    context: Vec<u8>,
    values: Vec<Vec<u8>>,
}

impl<'a> TaskReader<'a> {
    /// Reads one task, the numbers in whose rows are those of these stages.
    pub(super) fn read_with(
        &mut self,
        stages: Option<&'a StageMap>,
        rows: TaskRows,
        before: Before,
    ) -> Result<(), String> {
        if let Some(stages) = stages {
            self.planner.stages = stages;
        }
        self.read(rows, before)
    }

    /// Reads one task. The error says what is corrupt.
    pub(super) fn read(&mut self, rows: TaskRows, before: Before) -> Result<(), String> {
        self.planner.last_exit = before.exit;
        let owners = before.owners;
        let id = rows.0.id;
        if id > MAX_TASK_ID {
            return Err(format!("a task has the impossible number {id}"));
        }
        let VerifiedTask {
            mut state,
            context,
            values,
        } = self.verified(rows)?;
        self.recovered.last_id = self.recovered.last_id.max(TaskId(id));
        let before = state.clone();
        if !state.is_stuck() {
            match self.planner.plan(TaskId(id), &mut state, &context, &values) {
                Ok(task) => self.recovered.tasks.push(RecoveredTask { owners, ..task }),
                Err(why) => self.quarantine(TaskId(id), &mut state, &why),
            }
        }
        self.add_stuck(&state, &values);
        self.write_changes(id, &before, &state)?;
        (self.keep)(id, state);
        Ok(())
    }

    fn verified(&self, (row, context, undos): TaskRows) -> Result<VerifiedTask, String> {
        let id = row.id;
        let stages = self.planner.stages;
        let mut state = row.into_state().map_err(|corrupt| corrupt.to_string())?;
        let context = context
            .into_context(id)
            .map_err(|corrupt| corrupt.to_string())?;
        let mut values = Vec::with_capacity(undos.len());
        // A list that grows by itself has room for four at least, times a million tasks.
        state.undos.reserve_exact(undos.len());
        for (number, (row, value)) in undos.into_iter().enumerate() {
            if row.undo as usize != number {
                return Err(format!("undo {number} of task {id} is missing"));
            }
            let mut undo = row.state().map_err(|corrupt| corrupt.to_string())?;
            undo.stage = stages.renumber(undo.stage)?;
            state.undos.push(undo);
            let value = value.into_undo(id, row.undo);
            values.push(value.map_err(|corrupt| corrupt.to_string())?);
        }
        state.position = match state.position {
            State::Queued(k) => State::Queued(stages.renumber(k)?),
            State::Running(k) => State::Running(stages.renumber(k)?),
            State::Cleaning(k) => State::Cleaning(stages.renumber(k)?),
            other => other,
        };
        Ok(VerifiedTask {
            state,
            context,
            values,
        })
    }

    /// Lists the task, if it is stuck.
    fn add_stuck(&mut self, task: &TaskState, values: &[Vec<u8>]) {
        let outcome = task.details.stuck.as_ref().map(|outcome| &*outcome.0);
        if let Some(Rollback::Stuck(listed)) = outcome.map(|outcome| &outcome.rollback) {
            self.recovered.stuck.push(StuckTask {
                listed: listed.clone(),
                rest: self.planner.rest(task, values),
            });
        }
    }

    /// Writes the rows that are not what they were, or that have the old number of a stage.
    fn write_changes(
        &mut self,
        id: u64,
        before: &TaskState,
        now: &TaskState,
    ) -> Result<(), String> {
        let renumbered = self.planner.stages.changed;
        if renumbered || before.position != now.position || before.details != now.details {
            self.ops
                .push(RowOp::UpdateTask(TaskRow::of(id, now)?, None));
        }
        for (number, (before, now)) in before.undos.iter().zip(&now.undos).enumerate() {
            if renumbered || before != now {
                let row = UndoRow::of(id, number as u32, now)?;
                self.undo_ops.push(RowOp::UpdateUndo(row));
            }
        }
        Ok(())
    }

    /// Makes a task stuck, for a person to look at. Everything else stays as it is, so that another
    /// start may go on with it.
    fn quarantine(&mut self, id: TaskId, task: &mut TaskState, why: &str) {
        let stages = self.planner.stages;
        let is_left = |undo: &&UndoState| {
            use StoredUndoStatus::{Failed, Registered};
            matches!(undo.status, Registered | Failed(..))
        };
        let undos = task.undos.iter().enumerate();
        let undos = undos.filter(|(_, undo)| is_left(undo));
        let undos = undos.map(|(number, undo)| StuckUndo {
            stage: stages.name(undo.stage),
            undo: format!("undo {number} of the task, as the journal has it"),
            error: why.to_owned(),
        });
        let Names { key, label, .. } = task.details.names();
        let stuck = Stuck {
            task: id,
            key: key.clone(),
            label: label.clone(),
            still_running: None,
            undos: undos.collect(),
        };
        logging::error!(
            "task {} is set aside for a person, and stuck until one resolves or retries it: {why}",
            stuck.named()
        );
        let end = End::Failed {
            stage: self.stage_of(task),
            failure: Failure::of(FailureKind::Quarantined, why.to_owned()),
        };
        let outcome = Outcome::new(
            id,
            Names {
                key,
                label,
                ..Names::default()
            },
            end,
            Rollback::Stuck(stuck),
        );
        task.details.quarantined = true;
        task.details.stuck = Some(DebugEq(Box::new(outcome.clone())));
        self.recovered.quarantined.push(outcome);
    }

    /// The stage that a task is in, or that it ended in.
    fn stage_of(&self, task: &TaskState) -> StageName {
        let stages = self.planner.stages;
        match (task.stage(), &task.details.end) {
            (Some(stage), _) => stages.name(stage),
            (None, Some(end)) => match &*end.0 {
                End::Failed { stage, .. } | End::TimedOut { stage } => stage.clone(),
                End::Cancelled { stage, .. } => stage.clone(),
                End::Done | End::TakenBack => stages.name(0),
            },
            (None, None) => stages.name(0),
        }
    }
}
