//! The stages of the journal, mapped to those of the pipeline that starts.

use std::collections::{HashMap, hash_map::Entry};

use super::plan::PipelineSpec;
use crate::{
    journal::rows::stage::StageRow,
    task::{StageIx, StageName},
};

/// New numbers for the stages in a journal.
///
/// The pipeline's own stages come first, in their order. Then follow stages that the journal knows
/// and the pipeline has not, at least not in that version: tasks may still refer to them.
pub(super) struct StageMap {
    /// The new number of each number in the journal.
    renumbered: Vec<(StageIx, StageIx)>,
    /// All stages, by their new numbers.
    pub(super) rows: Vec<StageRow>,
    /// The reason why a stage's values can't be decoded, by new number.
    unusable: Vec<Option<String>>,
    /// The rows are not those in the journal, so everything with a stage's number is written again.
    pub(super) changed: bool,
}

impl StageMap {
    /// Stages are the same if their names and versions are. A value keeps the version it was
    /// written with, so it never passes for a value of another version.
    pub(super) fn new(stored: &[StageRow], spec: &PipelineSpec) -> Self {
        let mut rows = spec.stage_rows();
        let mut unusable = vec![None; rows.len()];
        let mut renumbered = Vec::new();
        for row in stored {
            let same = |now: &&StageRow| now.name == row.name && now.version == row.version;
            let number = match rows.iter().find(same) {
                Some(now) => now.number,
                None => {
                    let own = spec.stages.iter().find(|(name, _)| **name == *row.name);
                    unusable.push(Some(match own {
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
            renumbered.push((row.number, number));
        }
        StageMap {
            changed: rows != stored,
            renumbered,
            rows,
            unusable,
        }
    }

    /// As [`new`](Self::new), for the rows of a revision. One without stages has tasks that only wait for the
    /// first stage, whatever that is.
    pub(super) fn of_revision(stored: &[StageRow], spec: &PipelineSpec) -> Self {
        match stored {
            [] => Self::new(&spec.stage_rows(), spec),
            stored => Self::new(stored, spec),
        }
    }

    /// The new number of a stage in the journal. The error is a text for people.
    pub(super) fn renumber(&self, stored: StageIx) -> Result<StageIx, String> {
        let found = self.renumbered.iter().find(|(old, _)| *old == stored);
        found.map(|(_, new)| *new).ok_or_else(|| {
            format!("a row refers to stage {stored}, which the journal doesn't list")
        })
    }

    pub(super) fn name(&self, stage: StageIx) -> StageName {
        self.rows[stage as usize].name.as_str().into()
    }

    /// The number of the pipeline's own stage with this name.
    pub(super) fn own(&self, name: &str) -> Option<StageIx> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        let usable = self.unusable[row.number as usize].is_none();
        usable.then_some(row.number)
    }

    /// Fails unless values of this stage can be decoded. The error is a text for people.
    pub(super) fn check_usable(&self, stage: StageIx) -> Result<(), String> {
        match &self.unusable[stage as usize] {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }
}

/// The maps of several revisions.
pub(super) fn stage_maps<E>(
    revisions: impl Iterator<Item = i32>,
    spec: &PipelineSpec,
    mut stages_of: impl FnMut(i32) -> Result<Vec<StageRow>, E>,
) -> Result<HashMap<i32, StageMap>, E> {
    let mut maps = HashMap::new();
    for revision in revisions {
        if let Entry::Vacant(place) = maps.entry(revision) {
            place.insert(StageMap::of_revision(&stages_of(revision)?, spec));
        }
    }
    Ok(maps)
}
