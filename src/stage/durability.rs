//! The durability of a pipeline as a type, which says what bounds its stages must meet.

#[cfg(feature = "journal")]
use serde::{Serialize, de::DeserializeOwned};

use super::Stage;
use crate::ledger::Codec;
#[cfg(feature = "journal")]
use crate::{failure, journal, ledger::Value, panic_guard};

/// A pipeline that keeps nothing: what it has in flight ends with the process.
#[derive(Debug)]
pub enum Volatile {}

/// A pipeline with a journal: contexts and undos must be `Serialize` and `DeserializeOwned`.
#[cfg(feature = "journal")]
#[derive(Debug)]
pub enum Durable {}

/// A value that a journal can keep: whatever is `Serialize + DeserializeOwned`.
///
/// It is there for the compiler's message about a context or an undo that isn't.
#[cfg(feature = "journal")]
#[diagnostic::on_unimplemented(
    message = "a journal can't keep a value of type `{Self}`",
    label = "this stage has a `{Self}` as input, output or undo, and the pipeline has a journal",
    note = "derive both: `#[derive(serde::Serialize, serde::Deserialize)]`, on what is in it, too"
)]
pub trait Kept: Serialize + DeserializeOwned {}

#[cfg(feature = "journal")]
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Kept for T {}

/// The stages that a pipeline of this durability takes: [`Volatile`] any, a `Durable` one those whose
/// input, output and undo can be encoded.
///
/// It is sealed: it is there so that a stage that can't be kept doesn't compile.
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

impl<S: Stage> Keeps<S> for Volatile {
    fn codec() -> Option<Codec> {
        None
    }
}

#[cfg(feature = "journal")]
impl<S: Stage> Keeps<S> for Durable
where
    S::Input: Kept,
    S::Output: Kept,
    S::Undo: Kept,
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
    let encoded = failure::catch(|| journal::encode(value));
    Some(encoded.unwrap_or_else(|panic| Err(panic_guard::shown(&panic))))
}

/// Decoding is, too.
#[cfg(feature = "journal")]
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    failure::catch(|| journal::decode(bytes))
        .unwrap_or_else(|panic| Err(panic_guard::shown(&panic)))
}
