//! The codecs of a pipeline's values. The journal knows no type of the user's, only these.

use crate::{ledger::Codec, task::StageIx};

/// The codecs of a pipeline's stages, in the order of the stages.
pub(crate) struct StageCodecs(Vec<Codec>);

impl StageCodecs {
    /// The codec of a stage. The error is a text for people.
    pub(super) fn get(&self, stage: StageIx) -> Result<&Codec, String> {
        self.0
            .get(stage as usize)
            .ok_or_else(|| format!("there is no stage {stage}"))
    }

    /// The last stage's codec.
    pub(super) fn last(&self) -> Option<&Codec> {
        self.0.last()
    }

    /// Returns true for the last stage.
    pub(super) fn is_last(&self, stage: StageIx) -> bool {
        stage as usize + 1 >= self.0.len()
    }
}

impl FromIterator<Codec> for StageCodecs {
    fn from_iter<T: IntoIterator<Item = Codec>>(codecs: T) -> Self {
        StageCodecs(codecs.into_iter().collect())
    }
}
