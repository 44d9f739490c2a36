//! The outcomes in a database.

use std::{collections::HashMap, time::SystemTime};

use super::{
    database::{JournalDatabase, at},
    view::{JournalOutcome, JournalValue},
};
use crate::{
    journal::{error::JournalError, rows::keyed_outcome::KeyedOutcomeRow},
    task::Outcome,
};

/// The blocks of outcomes that are read at once.
const BLOCKS_AT_ONCE: i64 = 64;

impl JournalDatabase {
    /// The number of outcomes that are kept.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn outcomes_kept(&mut self) -> Result<u64, JournalError> {
        let count = self.snapshot.count_outcomes();
        count.map_err(|error| self.store_error(error))
    }

    /// Calls `each` with every outcome that is kept, in the order in which each node has written them.
    ///
    /// A damaged block of outcomes is an error that names it, and the others follow.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server doesn't answer.
    pub fn outcomes(
        &mut self,
        mut each: impl FnMut(Result<JournalOutcome, JournalError>),
    ) -> Result<(), JournalError> {
        let mut after = None;
        loop {
            let blocks = self.snapshot.outcome_blocks(after, BLOCKS_AT_ONCE);
            let blocks = blocks.map_err(|error| self.store_error(error))?;
            let Some(last) = blocks.last() else {
                return Ok(());
            };
            after = Some(last.number);
            for row in blocks {
                let written = at(row.at);
                match row.block() {
                    Ok(block) => {
                        let outcomes: Vec<_> = block.into_outcomes().collect();
                        self.with_outputs(outcomes, written, &mut each)?;
                    }
                    Err(corrupt) => each(Err(self.corrupt_error(corrupt))),
                }
            }
        }
    }

    /// The outcome of the task that has this key, if it is kept.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if it is damaged, and [`JournalError::Io`] if the server doesn't answer.
    pub fn outcome_of(&mut self, key: &str) -> Result<Option<JournalOutcome>, JournalError> {
        let rows = self.snapshot.keyed_outcomes(&[key]);
        let row = rows.map_err(|error| self.store_error(error))?.pop();
        let shown = |row: KeyedOutcomeRow| {
            Ok(JournalOutcome {
                outcome: row.outcome()?,
                key: Some(row.key.into()),
                at: at(row.at),
                output: row.output.map(JournalValue),
            })
        };
        let shown = row.map(|row| row.and_then(shown)).transpose();
        shown.map_err(|corrupt| self.corrupt_error(corrupt))
    }

    /// Looks up the outputs of tasks that are done and have a key.
    fn with_outputs(
        &mut self,
        outcomes: Vec<(Outcome, Option<String>)>,
        at: SystemTime,
        each: &mut impl FnMut(Result<JournalOutcome, JournalError>),
    ) -> Result<(), JournalError> {
        let done = outcomes.iter().filter(|(outcome, _)| outcome.is_done());
        let keys: Vec<&str> = done.filter_map(|(_, key)| key.as_deref()).collect();
        let mut outputs = HashMap::new();
        if !keys.is_empty() {
            let rows = self.snapshot.keyed_outcomes(&keys);
            for row in rows.map_err(|error| self.store_error(error))? {
                match row {
                    // The key may be another task's by now.
                    Ok(row) => drop(outputs.insert(row.task, row)),
                    Err(corrupt) => each(Err(self.corrupt_error(corrupt))),
                }
            }
        }
        for (outcome, key) in outcomes {
            let row = match outcome.is_done() {
                true => outputs.remove(&outcome.task.0),
                false => None,
            };
            let output = row.map(|row| row.outcome().map(|_| row.output)).transpose();
            each(match output {
                Ok(output) => Ok(JournalOutcome {
                    outcome,
                    key,
                    at,
                    output: output.flatten().map(JournalValue),
                }),
                Err(corrupt) => Err(self.corrupt_error(corrupt)),
            });
        }
        Ok(())
    }
}
