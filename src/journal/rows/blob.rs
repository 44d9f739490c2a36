//! The values of contexts and undos: bytes with a checksum of their own.

use crate::journal::{
    checksum::Checksum,
    corrupt::{Corrupt, verify},
};

/// An encoded value. Its checksum covers whose value it is, so that no value passes for another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: u32,
}

impl Blob {
    /// The context of a task.
    pub(crate) fn context(task: u64, bytes: Vec<u8>) -> Self {
        let checksum = Checksum::of("context").number(task).bytes(&bytes).finish();
        Blob { bytes, checksum }
    }

    /// The value of an undo.
    pub(crate) fn undo(task: u64, undo: u32, bytes: Vec<u8>) -> Self {
        let checksum = Checksum::of("value").number(task).number(undo.into());
        let checksum = checksum.bytes(&bytes).finish();
        Blob { bytes, checksum }
    }

    /// The bytes, if they are the context of this task.
    pub(crate) fn into_context(self, task: u64) -> Result<Vec<u8>, Corrupt> {
        let Blob { bytes, checksum } = self;
        let read = Self::context(task, bytes);
        let what = format_args!("the context of task {task}");
        verify(what, checksum, read.checksum)?;
        Ok(read.bytes)
    }

    /// The bytes, if they are the value of this undo.
    pub(crate) fn into_undo(self, task: u64, undo: u32) -> Result<Vec<u8>, Corrupt> {
        let Blob { bytes, checksum } = self;
        let read = Self::undo(task, undo, bytes);
        let what = format_args!("undo {undo} of task {task}");
        verify(what, checksum, read.checksum)?;
        Ok(read.bytes)
    }
}
