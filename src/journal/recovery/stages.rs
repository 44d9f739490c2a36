//! Which stage of the pipeline is which of the journal's.

use super::found::Start;
use crate::{
    journal::{rows::StageRow, store::Contents},
    task::{StageIx, StageName},
};

/// The stages of the journal and those of the pipeline.
pub(super) struct Stages {
    /// The new number of each of the journal's numbers.
    numbers: Vec<(StageIx, StageIx)>,
    /// The stages, by their new numbers: the pipeline's own, then those that are gone or were of
    /// another version.
    pub(super) rows: Vec<StageRow>,
    /// Why a stage's values can't be used, by new number.
    pub(super) unfit: Vec<Option<String>>,
    pub(super) changed: bool,
}

impl Stages {
    /// A stage is another one where its version is: what was written for the one before keeps that
    /// version, so that it never passes for a value of this one.
    pub(super) fn new(contents: &Contents, start: &Start) -> Self {
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

    pub(super) fn number(&self, before: StageIx) -> Result<StageIx, String> {
        let known = self.numbers.iter().find(|(old, _)| *old == before);
        known
            .map(|(_, new)| *new)
            .ok_or_else(|| format!("a row is of stage {before}, which the journal doesn't know"))
    }

    pub(super) fn name(&self, stage: StageIx) -> StageName {
        self.rows[stage as usize].name.as_str().into()
    }

    /// The number of one of the pipeline's own.
    pub(super) fn own(&self, name: &str) -> Option<StageIx> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        self.unfit[row.number as usize]
            .is_none()
            .then_some(row.number)
    }
}
