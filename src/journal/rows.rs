//! What the journal's tables hold, and the checksum that each row carries: SQLite's own file has
//! none, so a flipped byte would be read as it is.

mod corrupt;
mod sum;
mod value;

use std::fmt;

pub(super) use self::corrupt::Corrupt;
pub(crate) use self::value::{decode, encode};
use self::{corrupt::agree, sum::Sum};
use super::live::{Live, Mark, More};
use crate::{
    Outcome,
    task::{StageIx, State},
};

/// A task that has not ended, or that is stuck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskRow {
    pub(super) id: u64,
    pub(super) key: Option<Box<str>>,
    /// `None` once it is rolled back.
    pub(super) stage: Option<StageIx>,
    pub(super) state: Text,
    pub(super) stuck: bool,
    pub(super) more: Vec<u8>,
    pub(super) sum: u32,
}

/// The column `state`, for people.
pub(super) type Text = std::borrow::Cow<'static, str>;

/// A value and its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    pub(super) sum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UndoRow {
    pub(super) task: u64,
    pub(super) undo: u32,
    pub(super) more: Vec<u8>,
    pub(super) sum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StageRow {
    pub(super) number: StageIx,
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) sum: u32,
}

/// Outcomes that were recorded in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockRow {
    pub(super) number: u64,
    /// Milliseconds since 1970.
    pub(super) at: u64,
    pub(super) count: u64,
    pub(super) body: Vec<u8>,
    pub(super) sum: u32,
}

/// The outcome of a task that had a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptRow {
    pub(super) key: Box<str>,
    pub(super) task: u64,
    pub(super) at: u64,
    pub(super) outcome: Vec<u8>,
    /// What the last stage returned.
    pub(super) output: Option<Vec<u8>>,
    pub(super) sum: u32,
}

/// The outcomes of a block.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Block {
    pub(super) done: Vec<u64>,
    pub(super) rest: Vec<Outcome>,
    /// Those among them that have a row of their own.
    pub(super) keys: Vec<(Box<str>, u64)>,
}

impl Block {
    /// The highest number of a task in it.
    pub(super) fn last_task(&self) -> u64 {
        let rest = self.rest.iter().map(|outcome| outcome.task.0);
        rest.chain(self.done.iter().copied()).max().unwrap_or(0)
    }
}

const STATES: [&str; 4] = ["queued", "running", "cleaning up", "rolling back"];

impl TaskRow {
    pub(super) fn of(id: u64, live: &Live) -> Result<Self, String> {
        let (state, stage) = match live.state {
            State::Queued(stage) => (STATES[0], Some(stage)),
            State::Running(stage) | State::Stopping(stage) => (STATES[1], Some(stage)),
            State::Cleaning(stage) => (STATES[2], Some(stage)),
            State::RollingBack | State::Ended => (STATES[3], None),
        };
        let mut row = TaskRow {
            id,
            key: live.more.key.clone(),
            stage,
            state: state.into(),
            stuck: live.is_stuck(),
            more: encode(&live.more)?,
            sum: 0,
        };
        row.sum = row.checksum();
        Ok(row)
    }

    fn checksum(&self) -> u32 {
        Sum::of("task")
            .number(self.id)
            .maybe(self.key.as_deref().map(str::as_bytes))
            .number(self.stage.map_or(u64::MAX, u64::from))
            .bytes(self.state.as_bytes())
            .number(self.stuck.into())
            .bytes(&self.more)
            .end()
    }

    /// What was written, its undos aside.
    pub(super) fn live(self) -> Result<Live, Corrupt> {
        let what = self.to_string();
        agree(&what, self.sum, self.checksum())?;
        let stage = self.stage.ok_or("it has no stage");
        let state = match &*self.state {
            "queued" => stage.map(State::Queued),
            "running" => stage.map(State::Running),
            "cleaning up" => stage.map(State::Cleaning),
            "rolling back" => Ok(State::RollingBack),
            _ => Err("its state is none"),
        };
        let state = state.map_err(|why| Corrupt::new(&what, why))?;
        let more: More = decode(&self.more).map_err(|why| Corrupt::new(&what, why))?;
        if state == State::RollingBack && more.end.is_none() {
            return Err(Corrupt::new(&what, "it is rolled back for no reason"));
        }
        if self.stuck != more.stuck.is_some() {
            return Err(Corrupt::new(&what, "it is stuck, and is not"));
        }
        let more = More {
            key: self.key,
            ..more
        };
        Ok(Live {
            state,
            more,
            undos: Vec::new(),
        })
    }
}

impl fmt::Display for TaskRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of task {}", self.id)
    }
}

impl Blob {
    pub(super) fn context(task: u64, bytes: Vec<u8>) -> Self {
        let sum = Sum::of("context").number(task).bytes(&bytes).end();
        Blob { bytes, sum }
    }

    pub(super) fn undo(task: u64, undo: u32, bytes: Vec<u8>) -> Self {
        let sum = Sum::of("value").number(task).number(undo.into());
        let sum = sum.bytes(&bytes).end();
        Blob { bytes, sum }
    }

    /// The context of a task, as it was written.
    pub(super) fn context_of(self, task: u64) -> Result<Vec<u8>, Corrupt> {
        let Blob { bytes, sum } = self;
        let read = Self::context(task, bytes);
        agree(format_args!("the context of task {task}"), sum, read.sum)?;
        Ok(read.bytes)
    }

    /// The value of an undo, as it was written.
    pub(super) fn undo_of(self, task: u64, undo: u32) -> Result<Vec<u8>, Corrupt> {
        let Blob { bytes, sum } = self;
        let read = Self::undo(task, undo, bytes);
        agree(format_args!("undo {undo} of task {task}"), sum, read.sum)?;
        Ok(read.bytes)
    }
}

impl UndoRow {
    pub(super) fn of(task: u64, undo: u32, mark: &Mark) -> Result<Self, String> {
        let mut row = UndoRow {
            task,
            undo,
            more: encode(mark)?,
            sum: 0,
        };
        row.sum = row.checksum();
        Ok(row)
    }

    fn checksum(&self) -> u32 {
        Sum::of("undo")
            .number(self.task)
            .number(self.undo.into())
            .bytes(&self.more)
            .end()
    }

    pub(super) fn mark(&self) -> Result<Mark, Corrupt> {
        let what = format_args!("undo {} of task {}", self.undo, self.task);
        agree(what, self.sum, self.checksum())?;
        decode(&self.more).map_err(|why| Corrupt::new(what, why))
    }
}

impl StageRow {
    pub(super) fn new(number: StageIx, name: &str, version: u32) -> Self {
        let mut row = StageRow {
            number,
            name: name.to_owned(),
            version,
            sum: 0,
        };
        row.sum = row.checksum();
        row
    }

    fn checksum(&self) -> u32 {
        Sum::of("stage")
            .number(self.number.into())
            .bytes(self.name.as_bytes())
            .number(self.version.into())
            .end()
    }

    pub(super) fn check(&self) -> Result<(), Corrupt> {
        let what = format_args!("stage {}", self.number);
        agree(what, self.sum, self.checksum())
    }
}

impl BlockRow {
    pub(super) fn new(number: u64, at: u64, block: &Block) -> Result<Self, String> {
        let mut row = BlockRow {
            number,
            at,
            count: (block.done.len() + block.rest.len()) as u64,
            body: encode(block)?,
            sum: 0,
        };
        row.sum = row.checksum();
        Ok(row)
    }

    fn checksum(&self) -> u32 {
        Sum::of("outcomes")
            .number(self.number)
            .number(self.at)
            .number(self.count)
            .bytes(&self.body)
            .end()
    }

    pub(super) fn check(&self) -> Result<(), Corrupt> {
        agree(self, self.sum, self.checksum())
    }

    pub(super) fn block(&self) -> Result<Block, Corrupt> {
        self.check()?;
        decode(&self.body).map_err(|why| Corrupt::new(self, why))
    }
}

impl fmt::Display for BlockRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} of outcomes", self.number)
    }
}

impl KeptRow {
    pub(super) fn new(
        key: Box<str>,
        task: u64,
        at: u64,
        outcome: &Outcome,
        output: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let mut row = KeptRow {
            key,
            task,
            at,
            outcome: encode(outcome)?,
            output,
            sum: 0,
        };
        row.sum = row.checksum();
        Ok(row)
    }

    fn checksum(&self) -> u32 {
        Sum::of("kept")
            .bytes(self.key.as_bytes())
            .number(self.task)
            .number(self.at)
            .bytes(&self.outcome)
            .maybe(self.output.as_deref())
            .end()
    }

    pub(super) fn check(&self) -> Result<(), Corrupt> {
        agree(self, self.sum, self.checksum())
    }

    pub(super) fn outcome(&self) -> Result<Outcome, Corrupt> {
        self.check()?;
        decode(&self.outcome).map_err(|why| Corrupt::new(self, why))
    }
}

impl fmt::Display for KeptRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the outcome kept for {:?}", self.key)
    }
}

/// The checksum of a word about the journal itself.
pub(super) fn word_sum(name: &str, value: &str) -> u32 {
    Sum::of("word")
        .bytes(name.as_bytes())
        .bytes(value.as_bytes())
        .end()
}

/// Reads bytes as whatever a column may hold: an error or a value, never a panic.
#[cfg(feature = "internals")]
pub(crate) fn read_rows(bytes: &[u8]) {
    let _ = decode::<Block>(bytes);
    let _ = decode::<Outcome>(bytes);
    let _ = decode::<Mark>(bytes);
    let _ = decode::<More>(bytes);
    // As a row whose checksum is right, too.
    for state in STATES {
        let mut row = TaskRow {
            id: 1,
            key: None,
            stage: Some(0),
            state: state.into(),
            stuck: false,
            more: bytes.to_vec(),
            sum: 0,
        };
        row.sum = row.checksum();
        if let Ok(live) = row.live() {
            let again =
                TaskRow::of(1, &live).and_then(|row| row.live().map_err(|error| error.to_string()));
            assert_eq!(again, Ok(live), "what was read is written as it was");
        }
    }
}
