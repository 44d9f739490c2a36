//! The changes of a commit as the statements of one: nearly all of them are arrays for the function
//! `change`, which makes one round trip of them.

use std::{borrow::Cow, collections::HashSet};

use tokio_postgres::types::ToSql;

use super::text::escaped;
use crate::journal::{
    rows::{
        blob::Blob, keyed_outcome::KeyedOutcomeRow, meta::meta_checksum,
        outcome_block::OutcomeBlockRow, task::TaskRow, undo::UndoRow,
    },
    store::{RowOp, Take},
};

/// A message of PostgreSQL's holds a gigabyte; a part of a commit stays far below.
const MOST_BYTES: usize = 64 << 20;

/// A value of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// A part of a commit.
pub(super) enum Part<'a> {
    Bulk(Box<Bulk<'a>>),
    /// A change that is rare, as a statement of its own.
    Single(&'static str, Vec<Box<dyn ToSql + Sync + Send + 'a>>),
}

/// The kinds of changes, in the order in which `change` makes them. Those of one kind are of different rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Kind {
    #[default]
    Task,
    Undo,
    Leave,
    Outcomes,
    Keyed,
    Kept,
    Old,
    Words,
}

/// Declares the arrays of [`Bulk`], and the values of `change` in their order.
macro_rules! arrays {
    ($($name:ident: $type:ty,)*) => {
        /// The arrays of the function `change`.
        #[derive(Default)]
        pub(super) struct Bulk<'a> {
            $($name: Vec<$type>,)*
            last: Kind,
            tasks: HashSet<i64>,
            undos: HashSet<(i64, i64)>,
            kept: HashSet<(i64, i64)>,
            keys: HashSet<&'a str>,
            taken: HashSet<&'a str>,
            /// The row of the task that takes a key comes next, and in the same call.
            takes: bool,
            /// The tasks whose undos are moved back, and away.
            back: HashSet<u64>,
            away: HashSet<u64>,
            words: HashSet<&'a str>,
            bytes: usize,
        }

        /// The number of parameters of `change`: those of the fence come first.
        pub(super) const CHANGE_PARAMS: usize = 4 + [$(stringify!($name)),*].len();

        impl Bulk<'_> {
            /// The arrays as values, in the order of the function's parameters.
            pub(super) fn params(&self) -> Vec<Param<'_>> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

arrays! {
    take_key: Cow<'a, str>,
    take_task: i64,
    take_digest: Option<i64>,
    take_back: bool,
    revived: i64,
    put_id: i64,
    put_key: Option<Cow<'a, str>>,
    put_stage: Option<i32>,
    put_state: &'a str,
    put_stuck: bool,
    put_more: &'a [u8],
    put_sum: i32,
    put_context: &'a [u8],
    put_context_sum: i32,
    up_id: i64,
    up_stage: Option<i32>,
    up_state: &'a str,
    up_stuck: bool,
    up_more: &'a [u8],
    up_sum: i32,
    up_context: Option<&'a [u8]>,
    up_context_sum: Option<i32>,
    new_task: i64,
    new_undo: i64,
    new_more: &'a [u8],
    new_sum: i32,
    new_value: &'a [u8],
    new_value_sum: i32,
    un_task: i64,
    un_undo: i64,
    un_more: &'a [u8],
    un_sum: i32,
    released: i64,
    keep: i64,
    gone: i64,
    gone_undos: i64,
    out_number: i64,
    out_at: i64,
    out_count: i64,
    out_body: &'a [u8],
    out_sum: i32,
    kept_key: Cow<'a, str>,
    kept_task: i64,
    kept_at: i64,
    kept_end: &'a str,
    kept_digest: Option<i64>,
    kept_undos: Option<i64>,
    kept_outcome: &'a [u8],
    kept_output: Option<&'a [u8]>,
    kept_sum: i32,
    re_task: i64,
    re_undo: i64,
    re_more: &'a [u8],
    re_sum: i32,
    old_number: i64,
    old_key: Cow<'a, str>,
    old_task: i64,
    old_at: i64,
    word_name: &'a str,
    word_value: Cow<'a, str>,
    word_sum: i32,
}

/// The parts of a commit, in their order.
pub(super) fn parts(ops: &[RowOp]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut bulk = Box::<Bulk<'_>>::default();
    for op in ops {
        if bulk.is_full(op) {
            parts.push(Part::Bulk(std::mem::take(&mut bulk)));
        }
        if !bulk.add(op) {
            parts.push(Part::Bulk(std::mem::take(&mut bulk)));
            singles(op, &mut parts);
        }
    }
    parts.push(Part::Bulk(bulk));
    parts.retain(|part| !matches!(part, Part::Bulk(bulk) if bulk.is_empty()));
    parts
}

impl<'a> Bulk<'a> {
    pub(super) fn takes_keys(&self) -> bool {
        !self.take_key.is_empty()
    }

    /// The values of the function `lost`.
    pub(super) fn taken(&self) -> [Param<'_>; 3] {
        [&self.take_key, &self.take_task, &self.take_back]
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Says if this change has to follow after those that are in it: it is of a kind that comes earlier, or it
    /// changes the same row.
    fn is_full(&mut self, op: &'a RowOp) -> bool {
        if self.is_empty() {
            return false;
        }
        let (kind, is_new) = match op {
            RowOp::TakeKey { key, .. } => (Kind::Task, self.taken.insert(key)),
            RowOp::ReviveUndos { task } => (Kind::Task, self.back.insert(*task)),
            RowOp::InsertTask(row, _) | RowOp::UpdateTask(row, _) => {
                (Kind::Task, self.tasks.insert(row.id as i64))
            }
            RowOp::PutUndo(row, _) | RowOp::UpdateUndo(row) => {
                let undo = (row.task as i64, row.undo.into());
                (Kind::Undo, self.undos.insert(undo))
            }
            // `change` moves undos first, and then deletes what is left.
            RowOp::KeepUndos { task } => (Kind::Leave, self.away.insert(*task)),
            RowOp::Release { .. } => (Kind::Leave, true),
            RowOp::DeleteTask { task, .. } => {
                self.away.insert(*task);
                (Kind::Leave, true)
            }
            RowOp::PutOutcomes(_) => (Kind::Outcomes, true),
            RowOp::PutKeyedOutcome(row) => (Kind::Keyed, self.keys.insert(&row.key)),
            RowOp::UpdateKeptUndo(row) => {
                let undo = (signed(row.task), row.undo.into());
                (Kind::Kept, self.kept.insert(undo))
            }
            RowOp::DeleteOutcomes { .. } => (Kind::Old, true),
            RowOp::SetMeta(name, _) => (Kind::Words, self.words.insert(name)),
            _ => return false,
        };
        !is_new || kind < self.last || self.bytes > MOST_BYTES && !self.takes
    }

    /// Adds a change, unless it is one of the rare ones.
    fn add(&mut self, op: &'a RowOp) -> bool {
        self.takes = matches!(op, RowOp::TakeKey { .. } | RowOp::ReviveUndos { .. });
        self.last = match op {
            RowOp::TakeKey {
                key,
                task,
                digest,
                take,
            } => {
                self.taken.insert(key);
                self.take_key.push(escaped(key));
                self.take_task.push(signed(*task));
                self.take_digest.push(digest.map(signed));
                self.take_back.push(*take == Take::Back);
                Kind::Task
            }
            RowOp::ReviveUndos { task } => {
                self.back.insert(*task);
                self.revived.push(signed(*task));
                Kind::Task
            }
            RowOp::InsertTask(row, context) => {
                self.insert_task(row, context);
                Kind::Task
            }
            RowOp::UpdateTask(row, context) => {
                self.update_task(row, context.as_ref());
                Kind::Task
            }
            RowOp::PutUndo(row, value) => {
                self.put_undo(row, value);
                Kind::Undo
            }
            RowOp::UpdateUndo(row) => {
                self.update_undo(row);
                Kind::Undo
            }
            RowOp::Release { task } => {
                self.released.push(signed(*task));
                Kind::Leave
            }
            RowOp::KeepUndos { task } => {
                self.away.insert(*task);
                self.keep.push(signed(*task));
                Kind::Leave
            }
            RowOp::DeleteTask { task, has_undos } => {
                self.away.insert(*task);
                self.gone.push(signed(*task));
                self.gone_undos.extend(has_undos.then_some(signed(*task)));
                Kind::Leave
            }
            RowOp::PutOutcomes(row) => {
                self.put_outcomes(row);
                Kind::Outcomes
            }
            RowOp::PutKeyedOutcome(row) => {
                self.put_keyed_outcome(row);
                Kind::Keyed
            }
            RowOp::DeleteOutcomes { block, at, keys } => {
                self.old_number.push(signed(*block));
                for (key, task) in keys {
                    self.old_key.push(escaped(key));
                    self.old_task.push(signed(*task));
                    self.old_at.push(signed(*at));
                }
                Kind::Old
            }
            RowOp::SetMeta(name, value) => {
                self.words.insert(name);
                self.word_name.push(name);
                self.word_value.push(escaped(value));
                self.word_sum.push(meta_checksum(name, value) as i32);
                Kind::Words
            }
            RowOp::UpdateKeptUndo(row) => {
                self.kept.insert((signed(row.task), row.undo.into()));
                self.re_task.push(signed(row.task));
                self.re_undo.push(row.undo.into());
                self.re_more.push(&row.state);
                self.re_sum.push(row.checksum as i32);
                self.bytes += row.state.len();
                Kind::Kept
            }
            // A process gives its stages when it begins.
            RowOp::ReplaceStages(_) => Kind::Task,
            RowOp::DeleteKey { .. } => return false,
        };
        self.bytes += 64;
        true
    }

    fn insert_task(&mut self, row: &'a TaskRow, context: &'a Blob) {
        self.tasks.insert(signed(row.id));
        self.put_id.push(signed(row.id));
        self.put_key.push(row.key.as_deref().map(escaped));
        self.put_stage.push(row.stage.map(Into::into));
        self.put_state.push(&row.state);
        self.put_stuck.push(row.stuck);
        self.put_more.push(&row.details);
        self.put_sum.push(row.checksum as i32);
        self.put_context.push(&context.bytes);
        self.put_context_sum.push(context.checksum as i32);
        self.bytes += row.details.len() + context.bytes.len();
    }

    fn update_task(&mut self, row: &'a TaskRow, context: Option<&'a Blob>) {
        self.tasks.insert(signed(row.id));
        self.up_id.push(signed(row.id));
        self.up_stage.push(row.stage.map(Into::into));
        self.up_state.push(&row.state);
        self.up_stuck.push(row.stuck);
        self.up_more.push(&row.details);
        self.up_sum.push(row.checksum as i32);
        self.up_context.push(context.map(|context| &*context.bytes));
        self.up_context_sum
            .push(context.map(|context| context.checksum as i32));
        self.bytes += context.map_or(0, |context| context.bytes.len());
        self.bytes += row.details.len();
    }

    fn put_undo(&mut self, row: &'a UndoRow, value: &'a Blob) {
        self.undos.insert((signed(row.task), row.undo.into()));
        self.new_task.push(signed(row.task));
        self.new_undo.push(row.undo.into());
        self.new_more.push(&row.state);
        self.new_sum.push(row.checksum as i32);
        self.new_value.push(&value.bytes);
        self.new_value_sum.push(value.checksum as i32);
        self.bytes += row.state.len() + value.bytes.len();
    }

    fn update_undo(&mut self, row: &'a UndoRow) {
        self.undos.insert((signed(row.task), row.undo.into()));
        self.un_task.push(signed(row.task));
        self.un_undo.push(row.undo.into());
        self.un_more.push(&row.state);
        self.un_sum.push(row.checksum as i32);
        self.bytes += row.state.len();
    }

    fn put_outcomes(&mut self, row: &'a OutcomeBlockRow) {
        self.out_number.push(signed(row.number));
        self.out_at.push(signed(row.at));
        self.out_count.push(signed(row.count));
        self.out_body.push(&row.body);
        self.out_sum.push(row.checksum as i32);
        self.bytes += row.body.len();
    }

    fn put_keyed_outcome(&mut self, row: &'a KeyedOutcomeRow) {
        self.keys.insert(&row.key);
        self.kept_key.push(escaped(&row.key));
        self.kept_task.push(signed(row.task));
        self.kept_at.push(signed(row.at));
        self.kept_end.push(&row.end);
        self.kept_digest.push(row.digest.map(signed));
        self.kept_undos.push(row.undos.map(Into::into));
        self.kept_outcome.push(&row.outcome);
        self.kept_output.push(row.output.as_deref());
        self.kept_sum.push(row.checksum as i32);
        self.bytes += row.outcome.len() + row.output.as_ref().map_or(0, Vec::len);
    }
}

/// Adds the statements of a change that is rare.
fn singles<'a>(op: &'a RowOp, parts: &mut Vec<Part<'a>>) {
    let mut single = |text, values| parts.push(Part::Single(text, values));
    if let RowOp::DeleteKey { key, task } = op {
        single(
            "DELETE FROM @.key k WHERE key = $1 AND task = $2 AND outcome IS NOT NULL \
                 AND NOT EXISTS (SELECT FROM @.task t WHERE t.id = k.task)",
            vec![Box::new(escaped(key)), Box::new(signed(*task))],
        );
        single(
            "DELETE FROM @.kept_undo WHERE task = $1",
            vec![Box::new(signed(*task))],
        );
    }
}

/// The same bits: PostgreSQL has no numbers without a sign.
pub(super) fn signed(number: u64) -> i64 {
    number as i64
}
