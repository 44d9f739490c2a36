//! Whether a pipeline keeps its tasks, as a type: which bounds its stages must meet.

use std::any::Any;

#[cfg(feature = "journal")]
use serde::{Serialize, de::DeserializeOwned};

use crate::{ledger::Value, stage::Stage, task::AnyUndo};

/// A pipeline that keeps nothing: what it has in flight ends with the process.
#[derive(Debug)]
pub enum Volatile {}

/// A pipeline with a journal: contexts and undos must be `Serialize` and `DeserializeOwned`.
#[cfg(feature = "journal")]
#[derive(Debug)]
pub enum Durable {}

/// Which stages a pipeline of this durability takes: [`Volatile`] any, [`Durable`] those whose input,
/// output and undo can be encoded.
#[diagnostic::on_unimplemented(
    message = "`{S}` can't be a stage of a pipeline with a journal",
    note = "its `Input`, `Output` and `Undo` must each be `Serialize + DeserializeOwned`"
)]
pub trait Keeps<S: Stage>: sealed::Sealed {
    #[doc(hidden)]
    fn codec() -> Option<Codec>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Volatile {}
    #[cfg(feature = "journal")]
    impl Sealed for super::Durable {}
}

/// How the values of a stage are kept, for whoever doesn't know their types.
#[doc(hidden)]
#[cfg_attr(not(feature = "journal"), expect(dead_code))]
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// `None` where the value is of another type.
    pub(crate) encode_input: Encode,
    pub(crate) encode_output: Encode,
    pub(crate) encode_undo: Encode,
    pub(crate) decode_input: Decode,
    pub(crate) decode_output: Decode,
    pub(crate) decode_undo: DecodeUndo,
}

type Encode = fn(Value<'_>) -> Option<Result<Vec<u8>, String>>;
type Decode = fn(&[u8]) -> Result<Box<dyn Any + Send>, String>;
type DecodeUndo = fn(&[u8]) -> Result<Box<dyn AnyUndo>, String>;

impl<S: Stage> Keeps<S> for Volatile {
    fn codec() -> Option<Codec> {
        None
    }
}

#[cfg(feature = "journal")]
impl<S: Stage> Keeps<S> for Durable
where
    S::Input: Serialize + DeserializeOwned,
    S::Output: Serialize + DeserializeOwned,
    S::Undo: Serialize + DeserializeOwned,
{
    fn codec() -> Option<Codec> {
        Some(Codec {
            encode_input: encode::<S::Input>,
            encode_output: encode::<S::Output>,
            encode_undo: encode::<S::Undo>,
            decode_input: |bytes| Ok(Box::new(decode::<S::Input>(bytes)?)),
            decode_output: |bytes| Ok(Box::new(decode::<S::Output>(bytes)?)),
            decode_undo: |bytes| Ok(Box::new(decode::<S::Undo>(bytes)?)),
        })
    }
}

/// Encoding is the user's code, and may panic.
#[cfg(feature = "journal")]
fn encode<T: Serialize + 'static>(value: Value<'_>) -> Option<Result<Vec<u8>, String>> {
    let value = value.downcast_ref::<T>()?;
    let encoded = crate::guard::run(|| crate::journal::encode(value));
    Some(encoded.unwrap_or_else(|panic| Err(crate::guard::shown(&panic))))
}

/// So is decoding.
#[cfg(feature = "journal")]
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    crate::guard::run(|| crate::journal::decode(bytes))
        .unwrap_or_else(|panic| Err(crate::guard::shown(&panic)))
}
