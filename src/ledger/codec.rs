//! Encoding the values of a stage, for a ledger that doesn't know their types.

use std::any::Any;

use super::change::Value;
use crate::task::AnyUndo;

/// Functions that encode and decode the values of a stage.
#[doc(hidden)]
#[cfg_attr(not(feature = "journal"), expect(dead_code))]
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    pub(crate) encode_input: Encode,
    pub(crate) encode_output: Encode,
    pub(crate) encode_undo: Encode,
    pub(crate) decode_input: Decode,
    pub(crate) decode_output: Decode,
    pub(crate) decode_undo: DecodeUndo,
}

/// `None` where the value is of another type.
type Encode = fn(Value<'_>) -> Option<Result<Vec<u8>, String>>;
type Decode = fn(&[u8]) -> Result<Box<dyn Any + Send>, String>;
type DecodeUndo = fn(&[u8]) -> Result<Box<dyn AnyUndo>, String>;
