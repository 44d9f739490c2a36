//! The failure of a stage, an undo or a producer.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::panic_guard::{self, Payload};

type Source = Box<dyn StdError + Send + Sync>;

/// The reason why a stage, an undo or a producer failed.
///
/// Any [`std::error::Error`] becomes one with `?`, and errors that aren't one, of anyhow say, with
/// [`or_fail()?`](OrFail). It may be tried again unless it is
/// [permanent](Failure::permanent). For that conversion's sake it is not an error itself;
/// [`Failure::error`] is. It prints as the error with all its sources: `can't save: disk full`.
///
/// ```
/// use batrun::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     if text.is_empty() {
///         return Err(Failure::permanent("nothing to parse")); // trying again won't help
///     }
///     Ok(text.parse()?)
/// }
///
/// assert!(!parse("").unwrap_err().is_retryable());
/// assert!(parse("x").unwrap_err().is_retryable());
/// ```
#[derive(Clone)]
pub struct Failure {
    error: Arc<QuietError>,
    kind: FailureKind,
}

/// An error of the user's. Dropping it is code of the user's, and failures are dropped in all places,
/// so the guard is here, once and for all.
struct QuietError(Option<Source>);

impl QuietError {
    fn get(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match &self.0 {
            Some(error) => &**error,
            // Only its own drop takes it out.
            None => unreachable!("an error was used after its drop"),
        }
    }
}

impl Drop for QuietError {
    fn drop(&mut self) {
        panic_guard::drop_quietly(self.0.take());
    }
}

/// The most sources of an error that are printed. A chain may have no end: an error may be its own
/// source.
const MOST_SOURCES: usize = 32;

pub(crate) const PANICKED: &str = "panicked: ";

/// The kind of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// An error that another attempt may not meet.
    Error,
    /// An error that every attempt would meet: it is not tried again.
    Permanent,
    /// A panic. A stage's attempt is not tried again; an undo is.
    Panic,
    /// The attempt's own timeout passed.
    AttemptTimeout,
    /// The stage has no worker, because its factory keeps failing or there are no threads.
    StageDown,
    /// The process ended while the stage was at work, too often: it is not tried again.
    Interrupted,
    /// A journal's record of the task can't be used by this pipeline: its stage is gone or another
    /// version, or a value doesn't decode. It waits for a person.
    Quarantined,
}

impl Failure {
    /// An error that another attempt may not meet. Takes an error or a text.
    pub fn new(error: impl Into<Source>) -> Self {
        Self::of(FailureKind::Error, error)
    }

    /// An error that every attempt would meet: the task fails at once. Takes an error or a text.
    pub fn permanent(error: impl Into<Source>) -> Self {
        Self::of(FailureKind::Permanent, error)
    }

    pub(crate) fn of(kind: FailureKind, error: impl Into<Source>) -> Self {
        Failure {
            error: Arc::new(QuietError(Some(error.into()))),
            kind,
        }
    }

    /// From the payload of a panic.
    pub(crate) fn panic(payload: Payload) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        // Its drop is the user's code too.
        panic_guard::drop_quietly(payload);
        Self::of(FailureKind::Panic, text)
    }

    /// From its kind and how it was shown.
    pub(crate) fn as_shown(kind: FailureKind, mut shown: String) -> Self {
        // It is added when the failure is shown.
        if kind == FailureKind::Panic
            && let Some(text) = shown.strip_prefix(PANICKED)
        {
            shown = text.to_owned();
        }
        Self::of(kind, shown)
    }

    /// The kind of failure.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// `true` if another attempt makes sense: for an error that isn't permanent, and for an attempt
    /// that took too long.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, FailureKind::Error | FailureKind::AttemptTimeout)
    }

    /// The error it was made of.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self.error.get()
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::new(error)
    }
}

/// Makes a [`Failure`] of an error that `?` can't take, because it is no [`std::error::Error`] itself:
/// `anyhow::Error`, `eyre::Report`, a `Box<dyn Error + Send + Sync>`, a text.
///
/// The failure prints with all sources of the error, and may be tried again. For one that may not there
/// is `.map_err(Failure::permanent)?`.
///
/// ```
/// use std::error::Error;
/// use batrun::prelude::*;
///
/// fn measure(page: &str) -> Result<usize, Box<dyn Error + Send + Sync>> {
///     Ok(page.trim().parse()?)
/// }
///
/// let measured = stage_fn("measure", async |page: String, _: &TaskContext<()>| {
///     Ok(measure(&page).or_fail()?)
/// });
/// # let _ = measured.workers(2);
/// ```
pub trait OrFail<T>: Sized {
    /// The value, or the error as a [`Failure`].
    ///
    /// # Errors
    /// The error, if there is one.
    fn or_fail(self) -> Result<T, Failure>;
}

impl<T, E: Into<Source>> OrFail<T> for Result<T, E> {
    fn or_fail(self) -> Result<T, Failure> {
        self.map_err(Failure::new)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FailureKind::Panic {
            f.write_str(PANICKED)?;
        }
        let error = self.error();
        fmt::Display::fmt(error, f)?;
        let mut source = error.source();
        for _ in 0..MOST_SOURCES {
            let Some(error) = source else { return Ok(()) };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("Failure", 2)?;
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("error", &panic_guard::shown(self))?;
        fields.end()
    }
}

/// Of a failure its kind and its text are kept.
impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Failure")]
        struct Shown {
            kind: FailureKind,
            error: String,
        }
        let Shown { kind, error } = Shown::deserialize(from)?;
        Ok(Failure::as_shown(kind, error))
    }
}

/// Runs code of the user's; a panic is a failure of the kind [`FailureKind::Panic`].
#[inline(always)]
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Failure> {
    panic_guard::catch(code).map_err(Failure::panic)
}

/// Polls a future of the user's; a panic is a failure of the kind [`FailureKind::Panic`].
#[inline(always)]
pub(crate) fn catch_poll<F: Future + ?Sized>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Failure>> {
    match panic_guard::catch(|| future.poll(cx)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => Poll::Ready(Err(Failure::panic(payload))),
    }
}
