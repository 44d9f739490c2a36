//! The start: reads what is there, and says what is to be done with each task.

use std::{any::Any, time::Duration};

use super::{
    Journal, JournalError,
    book::Book,
    keeper::Keeper,
    live::{Live, Mark, Status},
    note::wall_clock,
    rows::{StageRow, TaskRow, UndoRow},
    store::{Contents, Op, TaskRead},
    unusable,
    writer::Writer,
};
use crate::{
    Failure, FailureKind,
    keeping::Codec,
    policy::Recovery,
    task::{
        AnyUndo, End, Ended, Outcome, Rollback, StageIx, StageName, State, StopCause, Stuck,
        StuckUndo, TaskId, Undo, UndoStatus,
    },
};

/// The word that says how the process before has ended.
pub(super) const ENDED: &str = "ended";
pub(super) const ON_PURPOSE: &str = "on purpose";

/// A task of which a stage, or a cancel, has ended with the process so often is left alone.
const MOST_INTERRUPTED: u32 = 3;

/// No count and no number comes so far by itself, and what is beyond could not be counted on.
const MOST_TIMES: u32 = u32::MAX / 2;
const LAST_NUMBER: u64 = i64::MAX as u64 / 2;

/// The pipeline that a journal is to be of.
pub(crate) struct Start {
    pub(crate) pipeline: String,
    pub(crate) stages: Vec<(StageName, u32)>,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) recovery: Recovery,
}

/// What a journal had in it.
pub(crate) struct Recovered {
    pub(crate) tasks: Parts<RecoveredTask>,
    /// What waits for a person.
    pub(crate) stuck: Vec<Stuck>,
    /// Those among them that could not be used as they were, and have their outcome now.
    pub(crate) quarantined: Vec<Outcome>,
    pub(crate) last_id: TaskId,
}

/// A list of many, in parts: it never moves as it grows, and the memory of a large part goes back to
/// the system once that is taken out.
pub(crate) struct Parts<T>(Vec<Vec<T>>);

impl<T> Parts<T> {
    /// Glibc asks the system for each piece above 32 MB by itself; smaller ones it may keep.
    const LARGEST: usize = (33 << 20) / size_of::<T>();

    fn new() -> Self {
        Parts(Vec::new())
    }

    fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < last.capacity() => last.push(item),
            _ => {
                let room = match self.len() {
                    few @ ..4_096 => few.max(64),
                    _ => Self::LARGEST,
                };
                let mut part = Vec::with_capacity(room);
                part.push(item);
                self.0.push(part);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> IntoIterator for Parts<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// A task that goes on.
pub(crate) struct RecoveredTask {
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
    /// How many of the attempts of its stage don't count as tries.
    pub(crate) spared: u32,
    pub(crate) generation: u32,
    pub(crate) left: Option<Duration>,
    pub(crate) work_timeout: Option<Duration>,
    pub(crate) undos: Vec<Undo>,
    pub(crate) todo: Todo,
}

/// How it goes on.
pub(crate) enum Todo {
    /// It waits for this stage.
    Queue(StageIx, Box<dyn Any + Send>),
    /// An attempt was interrupted: what it registered is cancelled, then comes the next one.
    CleanUp(StageIx, Box<dyn Any + Send>),
    /// It is over for it, which has to be recorded first.
    Stop(Ended),
    /// Its rollback was under way, and has cancelled so many undos.
    RollBack(Ended, usize),
}

impl Journal {
    /// Reads the journal and makes it this pipeline's ledger. Blocks while it reads.
    pub(crate) fn start(self, start: Start) -> Result<(Keeper, Recovered), JournalError> {
        let Journal {
            mut store,
            path,
            retention,
        } = self;
        let failed = |error| unusable(&path, error);
        let contents = store.contents().map_err(failed)?;
        let word = |name| {
            let of = |(known, value): &(String, String)| (known == name).then(|| value.clone());
            contents.words.iter().find_map(of)
        };
        let mut ops = Vec::new();
        match word("pipeline") {
            Some(found) if found != start.pipeline => {
                return Err(JournalError::OtherPipeline {
                    path,
                    found,
                    wanted: start.pipeline,
                });
            }
            Some(_) => {}
            None => ops.push(Op::Word("pipeline", start.pipeline.clone())),
        }
        let last_id = match word("last task").map(|id| id.parse::<u64>()) {
            None => contents.last_task,
            // Outcomes that are not kept any more have had numbers too.
            Some(Ok(id)) => contents.last_task.max(id),
            Some(Err(_)) => {
                let why = "the last task's number is none".to_owned();
                return Err(JournalError::Corrupt { path, why });
            }
        };
        if last_id.max(contents.last_block) > LAST_NUMBER {
            let why = "its last number is none".to_owned();
            return Err(JournalError::Corrupt { path, why });
        }
        let killed = word(ENDED).as_deref() != Some(ON_PURPOSE);
        ops.push(Op::Word(ENDED, "no".to_owned()));
        let stages = Stages::new(&contents, &start);
        let last_stage = (start.stages.len() - 1) as StageIx;
        let mut reader = Reader {
            now: wall_clock(),
            killed,
            start: &start,
            stages: &stages,
            book: Book::new(last_stage, last_id, contents.last_block, contents.outcomes),
            ops,
            recovered: Recovered {
                tasks: Parts::new(),
                stuck: Vec::new(),
                quarantined: Vec::new(),
                last_id: TaskId(last_id),
            },
        };
        if stages.changed {
            reader.ops.push(Op::Stages(stages.rows.clone()));
        }
        let mut result = Ok(());
        let read = store.tasks(&mut |task| {
            if result.is_ok() {
                result = reader.read(task);
            }
        });
        read.map_err(failed)?;
        result.map_err(|why| JournalError::Corrupt {
            path: path.clone(),
            why,
        })?;
        let Reader {
            now,
            mut book,
            mut ops,
            recovered,
            ..
        } = reader;
        let encoding = |why: String| JournalError::Corrupt {
            path: path.clone(),
            why,
        };
        for outcome in &recovered.quarantined {
            book.quarantined(outcome.clone(), now).map_err(encoding)?;
        }
        book.rows(now, &mut ops).map_err(encoding)?;
        if !ops.is_empty() {
            store.commit(&ops).map_err(failed)?;
        }
        let writer = Writer::start(store, book, retention).map_err(|error| JournalError::Io {
            path: path.clone(),
            error: error.into(),
        })?;
        let keeper = Keeper {
            writer,
            codecs: start.codecs,
            names: start.stages.into_iter().map(|(name, _)| name).collect(),
            recovered: recovered.last_id,
        };
        Ok((keeper, recovered))
    }
}

/// The stages of the journal and those of the pipeline.
struct Stages {
    /// The new number of each of the journal's numbers.
    numbers: Vec<(StageIx, StageIx)>,
    /// The stages, by their new numbers: the pipeline's own, then those that are gone or were of
    /// another version.
    rows: Vec<StageRow>,
    /// Why a stage's values can't be used, by new number.
    unfit: Vec<Option<String>>,
    changed: bool,
}

impl Stages {
    /// A stage is another one where its version is: what was written for the one before keeps that
    /// version, so that it never passes for a value of this one.
    fn new(contents: &Contents, start: &Start) -> Self {
        let mut rows: Vec<StageRow> = Vec::new();
        for (number, (name, version)) in start.stages.iter().enumerate() {
            rows.push(StageRow::new(number as StageIx, name, *version));
        }
        let mut unfit = vec![None; rows.len()];
        let mut numbers = Vec::new();
        for row in &contents.stages {
            let same = |now: &&StageRow| now.name == row.name && now.version == row.version;
            let number = match rows.iter().find(same) {
                Some(now) => now.number,
                None => {
                    let own = start.stages.iter().find(|(name, _)| **name == *row.name);
                    unfit.push(Some(match own {
                        Some((name, version)) => format!(
                            "the stage {name} has version {version} now, and this is of version {}",
                            row.version
                        ),
                        None => format!("there is no stage {} any more", row.name),
                    }));
                    let number = rows.len() as StageIx;
                    rows.push(StageRow::new(number, &row.name, row.version));
                    number
                }
            };
            numbers.push((row.number, number));
        }
        Stages {
            changed: rows != contents.stages,
            numbers,
            rows,
            unfit,
        }
    }

    fn number(&self, before: StageIx) -> Result<StageIx, String> {
        let known = self.numbers.iter().find(|(old, _)| *old == before);
        known
            .map(|(_, new)| *new)
            .ok_or_else(|| format!("a row is of stage {before}, which the journal doesn't know"))
    }

    fn name(&self, stage: StageIx) -> StageName {
        self.rows[stage as usize].name.as_str().into()
    }

    /// The number of one of the pipeline's own.
    fn own(&self, name: &str) -> Option<StageIx> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        self.unfit[row.number as usize]
            .is_none()
            .then_some(row.number)
    }
}

struct Reader<'a> {
    now: u64,
    /// The process before did not end on purpose.
    killed: bool,
    start: &'a Start,
    stages: &'a Stages,
    book: Book,
    ops: Vec<Op>,
    recovered: Recovered,
}

impl Reader<'_> {
    fn read(&mut self, (row, context, undos): TaskRead) -> Result<(), String> {
        let id = row.id;
        if id > LAST_NUMBER {
            return Err(format!("a task has the number {id}"));
        }
        let shown = |corrupt: super::rows::Corrupt| corrupt.to_string();
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
        for (number, (mark, value)) in live.undos.iter_mut().zip(values).enumerate() {
            undos.push(self.undo(number, mark, value)?);
        }
        // What has passed since, but never less than nothing.
        let passed = Duration::from_millis(self.now.saturating_sub(live.more.seen));
        let left = live.more.left.map(Duration::from_nanos);
        let left = left.map(|left| left.saturating_sub(passed));
        live.more.left = super::note::nanos_left(left);
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
        Ok(RecoveredTask {
            id,
            attempt: live.more.attempt,
            spared: live.more.interrupted,
            generation: live.more.generation,
            left,
            work_timeout: live.more.work_timeout.map(Duration::from_nanos),
            undos,
            todo,
        })
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
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Todo::Stop(Ended::TimedOut(stage)));
        }
        if self.start.recovery == Recovery::RollBack {
            return Ok(Todo::Stop(Ended::Cancelled(stage, StopCause::Recovery)));
        }
        if live.more.kills >= MOST_INTERRUPTED {
            let text = format!(
                "the process ended {} times while the stage was at work on it",
                live.more.kills
            );
            let failure = Failure::of(FailureKind::Interrupted, text);
            return Ok(Todo::Stop(Ended::Failed(stage, failure)));
        }
        Ok(match live.state {
            State::Queued(_) => Todo::Queue(stage, context),
            _ => Todo::CleanUp(stage, context),
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
        if std::mem::take(&mut mark.running) {
            mark.interrupted += u32::from(self.killed);
        }
        if mark.interrupted >= MOST_INTERRUPTED && !over {
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
        live.more.stuck = Some(super::live::Kept(Box::new(outcome.clone())));
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

#[cfg(test)]
mod tests {
    use super::Parts;

    #[test]
    fn parts_keep_the_order() {
        let mut parts = Parts::new();
        (0..1_000).for_each(|number| parts.push(number));
        assert!(parts.0.len() > 1);
        assert_eq!(parts.len(), 1_000);
        assert!(parts.iter().copied().eq(0..1_000));
        assert!(parts.into_iter().eq(0..1_000));
    }
}
