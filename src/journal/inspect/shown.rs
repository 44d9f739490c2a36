//! Rows as people read them.

use std::time::Duration;

use super::view::{JournalTask, JournalUndo, JournalUndoStatus, JournalValue};
use crate::{
    journal::{
        corrupt::Corrupt,
        rows::stage::StageRow,
        store::TaskRows,
        undo_state::{StoredUndoStatus, UndoState},
    },
    ledger::cluster::JournalStage,
    task::{StageIx, StageName, TaskId},
};

pub(super) fn stages(rows: &[StageRow]) -> Vec<JournalStage> {
    let stage = |row: &StageRow| JournalStage {
        number: row.number,
        name: row.name.as_str().into(),
        version: row.version,
    };
    rows.iter().map(stage).collect()
}

/// The task in these rows, at a time in milliseconds since 1970.
pub(super) fn task(
    (row, context, undos): TaskRows,
    now: u64,
    stage_name: &dyn Fn(StageIx) -> StageName,
) -> Result<JournalTask, Corrupt> {
    let id = row.id;
    let task = row.into_state()?;
    let context = JournalValue(context.into_context(id)?);
    let mut shown = Vec::with_capacity(undos.len());
    for (number, (row, value)) in undos.into_iter().enumerate() {
        if row.undo as usize != number {
            let what = format_args!("undo {number} of task {id}");
            return Err(Corrupt::new(what, "it is missing"));
        }
        let value = JournalValue(value.into_undo(id, row.undo)?);
        let state = row.state()?;
        shown.push(undo(state, value, stage_name));
    }
    let stage = task.stage().map(stage_name);
    let details = task.details;
    let passed = Duration::from_millis(now.saturating_sub(details.measured_at));
    let left = details.deadline_left.map(Duration::from_nanos);
    Ok(JournalTask {
        id: TaskId(id),
        key: details.key.map(Into::into),
        label: details.label.as_deref().map(Into::into),
        state: task.position,
        stage,
        attempt: details.attempt,
        interrupted: details.interrupted,
        left: left.map(|left| left.saturating_sub(passed)),
        end: details.end.map(|end| *end.0),
        stuck: details.stuck.map(|outcome| *outcome.0),
        quarantined: details.quarantined,
        undos: shown,
        context,
    })
}

fn undo(
    undo: UndoState,
    value: JournalValue,
    stage_name: &dyn Fn(StageIx) -> StageName,
) -> JournalUndo {
    JournalUndo {
        stage: stage_name(undo.stage),
        attempt: undo.attempt,
        tries: undo.runs,
        running: undo.running,
        status: match undo.status {
            StoredUndoStatus::Registered => JournalUndoStatus::Registered,
            StoredUndoStatus::Withdrawn => JournalUndoStatus::Withdrawn,
            StoredUndoStatus::Undone => JournalUndoStatus::Cancelled,
            StoredUndoStatus::Failed(_, error) => JournalUndoStatus::Failed(error),
        },
        value,
    }
}

/// The name of a stage, or its number if its row is damaged.
pub(super) fn stage_name(stages: &[StageRow], stage: StageIx) -> StageName {
    let row = stages.iter().find(|row| row.number == stage);
    row.map_or_else(
        || format!("stage {stage}").into(),
        |row| row.name.as_str().into(),
    )
}
