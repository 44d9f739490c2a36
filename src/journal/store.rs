//! Where rows are kept. One store is a file of SQLite's; the other is in memory, and fails when it
//! is told to. Both pass the same tests.

use super::rows::{Blob, BlockRow, Corrupt, KeptRow, StageRow, TaskRow, UndoRow};

/// One change of the rows.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A new task, or all of one.
    Task(TaskRow, Blob),
    /// A task whose context stays.
    State(TaskRow),
    /// A task that has left, with its undos, if it has any.
    Gone { task: u64, undos: bool },
    /// A new undo.
    Undo(UndoRow, Blob),
    /// An undo whose value stays.
    UndoState(UndoRow),
    /// Outcomes.
    Block(BlockRow),
    /// The outcome of a task with a key, in place of what was kept for that before.
    Kept(KeptRow),
    /// Outcomes whose time has passed, the rows of their keys among them.
    Forget {
        block: u64,
        keys: Vec<(Box<str>, u64)>,
    },
    /// The stages, in place of those before.
    Stages(Vec<StageRow>),
    /// A word about the journal itself.
    Word(&'static str, String),
}

/// Everything but the outcomes.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) words: Vec<(String, String)>,
    pub(super) stages: Vec<StageRow>,
    /// How many outcomes there are.
    pub(super) outcomes: u64,
    pub(super) last_block: u64,
    /// The highest number of a task that has one of them.
    pub(super) last_task: u64,
}

/// What goes wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// A task with its undos, as they are read: rows that may be corrupt.
pub(super) type TaskRead = (TaskRow, Blob, Vec<(UndoRow, Blob)>);

pub(super) trait Store: Send {
    /// Reads what there is besides tasks and outcomes, and looks whether those are as they were
    /// written.
    fn contents(&mut self) -> Result<Contents, StoreError>;

    /// Reads every task, in the order of their ids.
    fn tasks(&mut self, each: &mut dyn FnMut(TaskRead)) -> Result<(), StoreError>;

    /// Makes all of these changes or none. Once it has returned they survive what the store's
    /// durability says. After a failure nothing is known of them, and nothing may be written any
    /// more.
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError>;

    /// The outcome kept for a key.
    fn kept(&mut self, key: &str) -> Result<Option<KeptRow>, StoreError>;

    /// So many of the outcomes, after this block, the oldest first.
    fn blocks(&mut self, after: u64, most: usize) -> Result<Vec<BlockRow>, StoreError>;

    /// Nothing more will be written: lets go of the file. `clean` unless a write has failed.
    fn close(&mut self, clean: bool);
}
