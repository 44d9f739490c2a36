//! Reads one task after the other, and decides how each goes on, or that a person has to.

use std::{mem, time::Duration};

use super::{
    found::{Recovered, RecoveredTask, Start, Todo},
    stages::Stages,
};
use crate::{
    Failure, FailureKind, guard,
    journal::{
        book::Book,
        live::{Kept, Live, Mark, Status},
        note::nanos_left,
        rows::{Corrupt, TaskRow, UndoRow},
        store::{Op, TaskRead},
    },
    keeping::Codec,
    policy::Recovery,
    task::{
        AnyUndo, End, Ended, Outcome, Rollback, StageIx, StageName, State, StopCause, Stuck,
        StuckUndo, TaskId, Undo, UndoStatus,
    },
};

/// A task of which a stage, or a cancel, has ended with the process so often is left alone.
const MOST_INTERRUPTED: u32 = 3;

/// No count and no number comes so far by itself, and what is beyond could not be counted on.
const MOST_TIMES: u32 = u32::MAX / 2;
pub(super) const LAST_NUMBER: u64 = i64::MAX as u64 / 2;

pub(super) struct Reader<'a> {
    pub(super) now: u64,
    /// The process before did not end on purpose.
    pub(super) killed: bool,
    pub(super) start: &'a Start,
    pub(super) stages: &'a Stages,
    pub(super) book: Book,
    pub(super) ops: Vec<Op>,
    pub(super) recovered: Recovered,
}

impl Reader<'_> {
    pub(super) fn read(&mut self, (row, context, undos): TaskRead) -> Result<(), String> {
        let id = row.id;
        if id > LAST_NUMBER {
            return Err(format!("a task has the number {id}"));
        }
        let shown = |corrupt: Corrupt| corrupt.to_string();
        let mut live = row.live().map_err(shown)?;
        let context = context.context_of(id).map_err(shown)?;
        let mut values = Vec::with_capacity(undos.len());
        // A list that grows by itself has room for four.
        live.undos.reserve_exact(undos.len());
        for (number, (row, value)) in undos.into_iter().enumerate() {
            if row.undo as usize != number {
                return Err(format!("undo {number} of task {id} is missing"));
            }
            let mut mark = row.mark().map_err(shown)?;
            mark.stage = self.stages.number(mark.stage)?;
            live.undos.push(mark);
            values.push(value.undo_of(id, row.undo).map_err(shown)?);
        }
        live.state = match live.state {
            State::Queued(k) => State::Queued(self.stages.number(k)?),
            State::Running(k) => State::Running(self.stages.number(k)?),
            State::Cleaning(k) => State::Cleaning(self.stages.number(k)?),
            other => other,
        };
        self.recovered.last_id = self.recovered.last_id.max(TaskId(id));
        let before = live.clone();
        if let Some(outcome) = &live.more.stuck {
            if let Rollback::Stuck(stuck) = &outcome.0.rollback {
                self.recovered.stuck.push(stuck.clone());
            }
        } else {
            match self.decide(TaskId(id), &mut live, &context, &values) {
                Ok(task) => self.recovered.tasks.push(task),
                Err(why) => self.quarantine(TaskId(id), &mut live, &why),
            }
        }
        self.changed(id, &before, &live)?;
        self.book.put(id, live);
        Ok(())
    }

    /// Writes what is another thing than it was.
    fn changed(&mut self, id: u64, before: &Live, live: &Live) -> Result<(), String> {
        if self.stages.changed || before.state != live.state || before.more != live.more {
            self.ops.push(Op::State(TaskRow::of(id, live)?));
        }
        for (number, (before, mark)) in before.undos.iter().zip(&live.undos).enumerate() {
            if self.stages.changed || before != mark {
                let row = UndoRow::of(id, number as u32, mark)?;
                self.ops.push(Op::UndoState(row));
            }
        }
        Ok(())
    }

    /// How a task goes on, or why it can't.
    fn decide(
        &self,
        id: TaskId,
        live: &mut Live,
        context: &[u8],
        values: &[Vec<u8>],
    ) -> Result<RecoveredTask, String> {
        if counts(live).any(|count| count > MOST_TIMES) {
            return Err("its counts are none".to_owned());
        }
        let mut undos = Vec::with_capacity(values.len());
        match self.decide_with(&mut undos, live, context, values) {
            Ok((left, todo)) => Ok(RecoveredTask {
                id,
                attempt: live.more.attempt,
                spared: live.more.interrupted,
                generation: live.more.generation,
                left,
                work_timeout: live.more.work_timeout.map(Duration::from_nanos),
                undos,
                todo,
            }),
            Err(why) => {
                undos.into_iter().for_each(guard::drop_quietly);
                Err(why)
            }
        }
    }

    /// The time that is left, and how it goes on. The undos that could be read are the user's values.
    fn decide_with(
        &self,
        undos: &mut Vec<Undo>,
        live: &mut Live,
        context: &[u8],
        values: &[Vec<u8>],
    ) -> Result<(Option<Duration>, Todo), String> {
        for (number, (mark, value)) in live.undos.iter_mut().zip(values).enumerate() {
            undos.push(self.undo(number, mark, value)?);
        }
        // What has passed since, but never less than nothing.
        let passed = Duration::from_millis(self.now.saturating_sub(live.more.seen));
        let left = live.more.left.map(Duration::from_nanos);
        let left = left.map(|left| left.saturating_sub(passed));
        live.more.left = nanos_left(left);
        live.more.seen = if left.is_some() { self.now } else { 0 };
        let todo = match live.state {
            State::RollingBack | State::Ended => {
                let end = live.more.end.as_ref().ok_or("it has no end")?;
                let cancelled = |mark: &&Mark| mark.status == Status::Cancelled && !mark.cleaned;
                let cancelled = live.undos.iter().filter(cancelled).count();
                Todo::RollBack(self.ended(&end.0)?, cancelled)
            }
            State::Queued(stage)
            | State::Running(stage)
            | State::Cleaning(stage)
            | State::Stopping(stage) => self.go_on(stage, live, context, left)?,
        };
        Ok((left, todo))
    }

    /// How a task goes on that no end was recorded of.
    fn go_on(
        &self,
        stage: StageIx,
        live: &mut Live,
        context: &[u8],
        left: Option<Duration>,
    ) -> Result<Todo, String> {
        self.is_fit(stage)?;
        let context = (self.codec(stage)?.decode_input)(context)
            .map_err(|why| format!("its context can't be read: {why}"))?;
        if live.state == State::Running(stage) {
            live.more.interrupted += 1;
            live.more.kills += u32::from(self.killed);
            live.state = State::Cleaning(stage);
        }
        match self.stop(stage, live, left) {
            Some(end) => {
                // The user's value, which nobody takes up any more.
                guard::drop_quietly(context);
                Ok(Todo::Stop(end))
            }
            None if live.state == State::Queued(stage) => Ok(Todo::Queue(stage, context)),
            None => Ok(Todo::CleanUp(stage, context)),
        }
    }

    /// Why a task does not go on, but back.
    fn stop(&self, stage: StageIx, live: &Live, left: Option<Duration>) -> Option<Ended> {
        if left.is_some_and(|left| left.is_zero()) {
            return Some(Ended::TimedOut(stage));
        }
        if self.start.recovery == Recovery::RollBack {
            return Some(Ended::Cancelled(stage, StopCause::Recovery));
        }
        (live.more.kills >= MOST_INTERRUPTED).then(|| {
            let text = format!(
                "the process ended {} times while the stage was at work on it",
                live.more.kills
            );
            Ended::Failed(stage, Failure::of(FailureKind::Interrupted, text))
        })
    }

    fn undo(&self, number: usize, mark: &mut Mark, value: &[u8]) -> Result<Undo, String> {
        let over = matches!(mark.status, Status::Cancelled | Status::Withdrawn);
        let value: Option<Box<dyn AnyUndo>> = if over {
            // Nobody will ask for it.
            None
        } else {
            self.is_fit(mark.stage)?;
            let value = (self.codec(mark.stage)?.decode_undo)(value)
                .map_err(|why| format!("undo {number} can't be read: {why}"))?;
            Some(value)
        };
        if mem::take(&mut mark.running) {
            mark.interrupted += u32::from(self.killed);
        }
        if mark.interrupted >= MOST_INTERRUPTED && !over {
            guard::drop_quietly(value);
            return Err(format!(
                "the process ended {} times while undo {number} was being cancelled",
                mark.interrupted
            ));
        }
        // Whether it was to be tried again is not known, so it is.
        if let Status::Failed(..) = mark.status {
            mark.status = Status::Registered;
        }
        Ok(Undo {
            stage: mark.stage,
            attempt: mark.attempt,
            generation: mark.generation,
            value,
            status: match mark.status {
                Status::Registered | Status::Failed(..) => UndoStatus::Registered,
                Status::Withdrawn => UndoStatus::Withdrawn,
                Status::Cancelled => UndoStatus::Cancelled,
            },
            tries: mark.tries,
        })
    }

    fn is_fit(&self, stage: StageIx) -> Result<(), String> {
        match &self.stages.unfit[stage as usize] {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }

    fn codec(&self, stage: StageIx) -> Result<&Codec, String> {
        let codec = self.start.codecs.get(stage as usize);
        codec.ok_or_else(|| format!("there is no stage {stage}"))
    }

    fn ended(&self, end: &End) -> Result<Ended, String> {
        let own = |stage: &StageName| {
            let number = self.stages.own(stage);
            number.ok_or_else(|| format!("it ended in {stage}, which is no stage any more"))
        };
        Ok(match end {
            End::Done => return Err("it is done, and rolled back".to_owned()),
            End::Failed { stage, failure } => Ended::Failed(own(stage)?, failure.clone()),
            End::TimedOut { stage } => Ended::TimedOut(own(stage)?),
            End::Cancelled { stage, cause } => Ended::Cancelled(own(stage)?, *cause),
        })
    }

    /// Sets a task aside for a person, as it is.
    fn quarantine(&mut self, id: TaskId, live: &mut Live, why: &str) {
        log::error!("task {id} is set aside: {why}");
        let stage = match (live.stage(), &live.more.end) {
            (Some(stage), _) => self.stages.name(stage),
            (None, Some(end)) => match &*end.0 {
                End::Failed { stage, .. } | End::TimedOut { stage } => stage.clone(),
                End::Cancelled { stage, .. } => stage.clone(),
                End::Done => self.stages.name(0),
            },
            (None, None) => self.stages.name(0),
        };
        let left = live
            .undos
            .iter()
            .enumerate()
            .filter(|(_, mark)| matches!(mark.status, Status::Registered | Status::Failed(..)));
        let undos = left.map(|(number, mark)| StuckUndo {
            stage: self.stages.name(mark.stage),
            undo: format!("undo {number} of the task, as the journal has it"),
            error: why.to_owned(),
        });
        let outcome = Outcome {
            task: id,
            end: End::Failed {
                stage,
                failure: Failure::of(FailureKind::Quarantined, why.to_owned()),
            },
            rollback: Rollback::Stuck(Stuck {
                task: id,
                still_running: None,
                undos: undos.collect(),
            }),
            output: None,
        };
        live.more.quarantined = true;
        live.more.stuck = Some(Kept(Box::new(outcome.clone())));
        if let Rollback::Stuck(stuck) = &outcome.rollback {
            self.recovered.stuck.push(stuck.clone());
        }
        self.recovered.quarantined.push(outcome);
    }
}

/// How often things have happened to a task.
fn counts(live: &Live) -> impl Iterator<Item = u32> {
    let more = &live.more;
    let own = [more.attempt, more.interrupted, more.kills, more.generation];
    let of_undo = |mark: &Mark| [mark.attempt, mark.generation, mark.tries, mark.interrupted];
    own.into_iter().chain(live.undos.iter().flat_map(of_undo))
}
