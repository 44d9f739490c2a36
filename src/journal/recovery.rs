//! The start: reads what is there, and says what is to be done with each task.

mod found;
mod parts;
mod reader;
mod stages;

pub(crate) use self::found::{Recovered, RecoveredTask, Start, Todo};
use self::{
    parts::Parts,
    reader::{LAST_NUMBER, Reader},
    stages::Stages,
};
use super::{
    Journal, JournalError,
    book::Book,
    keeper::Keeper,
    note::wall_clock,
    store::Op,
    unusable,
    writer::{ENDED, ON_PURPOSE, Writer},
};
use crate::task::{StageIx, TaskId};

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
