//! The codecs of a pipeline's values. The journal knows no type of the user's, only these.

use std::{
    any::Any,
    mem,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    ledger::{Codec, LedgerError, Value},
    task::StageIx,
};

/// The values of each kind that are decoded again as soon as they are encoded: not every type that
/// can be encoded can be decoded, and the program is to hear of it now, not after a crash.
const TRIALS: u32 = 64;

/// A value that takes more bytes counts as so many. The copies are never freed, and it is the type that is
/// tried, not the content.
const TRIAL_BYTES: usize = 1 << 14;

/// The codecs of a pipeline's stages, in the order of the stages.
pub(crate) struct StageCodecs(Vec<TriedCodec>);

struct TriedCodec {
    codec: Codec,
    inputs: AtomicU32,
    outputs: AtomicU32,
    undos: AtomicU32,
}

impl StageCodecs {
    fn tried(&self, stage: StageIx) -> Result<&TriedCodec, String> {
        self.0
            .get(stage as usize)
            .ok_or_else(|| format!("there is no stage {stage}"))
    }

    pub(super) fn get(&self, stage: StageIx) -> Result<&Codec, String> {
        Ok(&self.tried(stage)?.codec)
    }

    /// Encodes a pipeline's input.
    pub(super) fn encode_context(&self, context: Value<'_>) -> Result<Vec<u8>, LedgerError> {
        let TriedCodec { codec, inputs, .. } = self.tried(0).map_err(LedgerError::new)?;
        let bytes = encoded((codec.encode_input)(context), "the context")?;
        try_out(inputs, bytes.len(), "the context", || {
            (codec.decode_input)(&bytes)
        })?;
        Ok(bytes)
    }

    pub(super) fn encode_output(
        &self,
        stage: StageIx,
        output: Value<'_>,
    ) -> Result<Vec<u8>, LedgerError> {
        let TriedCodec { codec, outputs, .. } = self.tried(stage).map_err(LedgerError::new)?;
        let bytes = encoded((codec.encode_output)(output), "the output")?;
        try_out(outputs, bytes.len(), "the output", || {
            (codec.decode_output)(&bytes)
        })?;
        Ok(bytes)
    }

    pub(super) fn encode_undo(
        &self,
        stage: StageIx,
        undo: Value<'_>,
    ) -> Result<Vec<u8>, LedgerError> {
        let TriedCodec { codec, undos, .. } = self.tried(stage).map_err(LedgerError::new)?;
        let bytes = encoded((codec.encode_undo)(undo), "an undo")?;
        try_out(undos, bytes.len(), "an undo", || {
            (codec.decode_undo)(&bytes).map(|undo| Box::new(undo) as Box<dyn Any + Send>)
        })?;
        Ok(bytes)
    }

    pub(super) fn last(&self) -> Option<&Codec> {
        self.0.last().map(|tried| &tried.codec)
    }

    pub(super) fn is_last(&self, stage: StageIx) -> bool {
        stage as usize + 1 >= self.0.len()
    }
}

impl FromIterator<Codec> for StageCodecs {
    fn from_iter<T: IntoIterator<Item = Codec>>(codecs: T) -> Self {
        let untried = |codec| TriedCodec {
            codec,
            inputs: AtomicU32::new(0),
            outputs: AtomicU32::new(0),
            undos: AtomicU32::new(0),
        };
        StageCodecs(codecs.into_iter().map(untried).collect())
    }
}

/// The result of encoding a value. A failure concerns this change only.
fn encoded(bytes: Option<Result<Vec<u8>, String>>, what: &str) -> Result<Vec<u8>, LedgerError> {
    match bytes {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(why)) => Err(LedgerError::refused(format_args!(
            "{what} can't be encoded: {why}"
        ))),
        None => Err(LedgerError::refused(format_args!(
            "{what} is not of the type that its stage declares"
        ))),
    }
}

/// Decodes one of the first values of its kind.
fn try_out(
    tried: &AtomicU32,
    bytes: usize,
    what: &str,
    decode: impl FnOnce() -> Result<Box<dyn Any + Send>, String>,
) -> Result<(), LedgerError> {
    if tried.load(Ordering::Relaxed) >= TRIALS {
        return Ok(());
    }
    match decode() {
        Ok(decoded) => {
            let trials = 1 + u32::try_from(bytes / TRIAL_BYTES).unwrap_or(TRIALS);
            tried.fetch_add(trials.min(TRIALS), Ordering::Relaxed);
            // It stands for the same thing as the value that is at work, which its drop may end.
            mem::forget(decoded);
            Ok(())
        }
        Err(why) => Err(LedgerError::refused(format_args!(
            "{what} can be encoded, but not decoded again, so a restart could not use it: {why}; \
             look at its type's serde attributes (a tag, flatten, or skip without default), or \
             implement Deserialize by hand"
        ))),
    }
}
