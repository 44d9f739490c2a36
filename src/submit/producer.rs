//! The contract for producers, and producers made of an iterator or a stream.

use std::{fmt, future::Future, time::Duration};

use futures::{Stream, StreamExt};

use super::Intake;
use crate::failure::Failure;

/// Makes tasks and submits them. Each producer of a pipeline runs in an actor of its own, side by
/// side with the others.
///
/// A closure `|tasks: Intake<C>| async move { ..; Ok(()) }` is one; [`from_iter`] and
/// [`from_stream`] make one of an iterator or a stream. Implement the trait for one with options:
///
/// ```
/// use batrun::prelude::*;
///
/// struct Countdown { from: u32 }
///
/// impl Producer<u32> for Countdown {
///     async fn produce(self, tasks: Intake<u32>) -> Result<(), Failure> {
///         for n in (0..=self.from).rev() {
///             tasks.submit(n).await?; // waits for room
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// A producer must not block for long: all of them share the pipeline's first thread. Read on a
/// thread of your own, and pass items through a small channel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't produce tasks with a context of type `{C}`",
    label = "not a producer of `{C}`",
    note = "a producer is a closure `|tasks: Intake<{C}>| async move {{ ..; Ok(()) }}`, `from_iter(..)`, `from_stream(..)` or a type that implements `Producer<{C}>`"
)]
pub trait Producer<C: Send + 'static>: Send + 'static {
    /// The name in reports and logs. Default: `producer 1` and so on.
    fn name(&self) -> Option<String> {
        None
    }

    /// Makes tasks until there are no more.
    ///
    /// # Errors
    /// A [`Failure`] or a panic ends this producer and is shown in the report; the tasks it has
    /// submitted go on, and so do the other producers.
    ///
    /// # Cancel safety
    /// The future is dropped at an `.await` when the pipeline shuts down.
    fn produce(self, tasks: Intake<C>) -> impl Future<Output = Result<(), Failure>>;
}

impl<C, F, Fut> Producer<C> for F
where
    C: Send + 'static,
    F: FnOnce(Intake<C>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Failure>>,
{
    fn produce(self, tasks: Intake<C>) -> impl Future<Output = Result<(), Failure>> {
        self(tasks)
    }
}

/// A producer of a stream's items; made by [`from_stream`] and [`from_iter`].
pub struct FromStream<S> {
    stream: S,
    timeout: Option<Duration>,
}

/// A producer that submits each item of an iterator. The iterator's `next` must not block for long:
/// it runs on the pipeline's first arbiter.
pub fn from_iter<I>(items: I) -> FromStream<futures::stream::Iter<I::IntoIter>>
where
    I: IntoIterator,
{
    from_stream(futures::stream::iter(items))
}

/// A producer that submits each item of a stream, and ends when the stream does.
pub fn from_stream<S: Stream>(stream: S) -> FromStream<S> {
    FromStream {
        stream,
        timeout: None,
    }
}

impl<S> FromStream<S> {
    /// Gives each task this long from its acceptance. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<C, S> Producer<C> for FromStream<S>
where
    C: Send + 'static,
    S: Stream<Item = C> + Send + 'static,
{
    async fn produce(self, tasks: Intake<C>) -> Result<(), Failure> {
        let mut stream = Box::pin(self.stream);
        while let Some(context) = stream.next().await {
            let submitted = tasks.submit(context).timeout(self.timeout).await;
            if let Err(refused) = submitted {
                return Err(refused.into_failure());
            }
        }
        Ok(())
    }
}

impl<S> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromStream(..)")
    }
}
