//! What makes tasks.

use std::{fmt, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use futures::{Stream, StreamExt};

use crate::{
    Failure, Intake,
    core::Core,
    guard,
    intake::Slip,
    message::{ToProducer, ToReporter},
};

/// Makes tasks and submits them. Each producer of a pipeline runs in an actor of its own, side by
/// side with the others.
///
/// A closure `|tasks: Intake<C>| async move { ..; Ok(()) }` is one; [`from_iter`] and
/// [`from_stream`] make one of what they are given.
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't produce tasks with a context of type `{C}`",
    label = "not a producer of `{C}`",
    note = "a producer is a closure `|tasks: Intake<{C}>| async move {{ ..; Ok(()) }}`, `from_iter(..)`, `from_stream(..)` or a type that implements `Producer<{C}>`"
)]
pub trait Producer<C: Send + 'static>: Send + 'static {
    /// The name in reports and logs: `producer 1` and so on unless there is one.
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
    /// The future is dropped when the pipeline shuts down.
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

/// A producer of a stream's items; see [`from_stream`].
pub struct FromStream<S> {
    stream: S,
    timeout: Option<Duration>,
}

/// Submits each item of an iterator. The iterator's `next` must not block for long: it runs on
/// the pipeline's first arbiter.
pub fn from_iter<I>(items: I) -> FromStream<futures::stream::Iter<I::IntoIter>>
where
    I: IntoIterator,
{
    from_stream(futures::stream::iter(items))
}

/// Submits each item of a stream.
pub fn from_stream<S: Stream>(stream: S) -> FromStream<S> {
    FromStream {
        stream,
        timeout: None,
    }
}

impl<S> FromStream<S> {
    /// Each task has this long from its acceptance.
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

type Body = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// Runs a producer, and sends on what is submitted through its intake.
pub(crate) struct ProducerActor<C: Send + 'static> {
    slip: Arc<Slip<C>>,
    /// Taken when the actor starts; none for the handle's own intake.
    body: Option<Running>,
}

struct Running {
    core: Arc<Core>,
    name: Arc<str>,
    body: Body,
}

impl<C: Send + 'static> ProducerActor<C> {
    pub(crate) fn new<P: Producer<C>>(
        core: Arc<Core>,
        name: Arc<str>,
        producer: P,
        tasks: Intake<C>,
    ) -> Self {
        let slip = tasks.slip.clone();
        // Within the future, so that a panic before the first await is caught too.
        let body = Box::pin(async move { producer.produce(tasks).await });
        ProducerActor {
            slip,
            body: Some(Running { core, name, body }),
        }
    }

    /// For the handle's own intake: sends on, produces nothing.
    pub(crate) fn idle(slip: Arc<Slip<C>>) -> Self {
        ProducerActor { slip, body: None }
    }
}

impl<C: Send + 'static> Actor for ProducerActor<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.slip.set_flusher(ctx.address().recipient());
        // What came in before anyone could be told.
        self.slip.flush();
        let Some(Running { core, name, body }) = self.body.take() else {
            return;
        };
        let slip = self.slip.clone();
        let mut body = Some(body);
        let mut tray = None;
        let run = std::future::poll_fn(move |cx| {
            let Some(running) = &mut body else {
                return Poll::Ready(());
            };
            let polled = slip.with_tray(&mut tray, || guard::poll(running.as_mut(), cx));
            let Poll::Ready(result) = polled else {
                return Poll::Pending;
            };
            guard::drop_quietly(body.take());
            // Its own intake is gone with it, so it is not what keeps the pipeline open.
            let result = result.and_then(|result| result);
            if let Err(failure) = &result {
                log::warn!("{name} ended: {}", guard::shown(failure));
            }
            core.tell_reporter(ToReporter::ProducerEnded {
                name: name.clone(),
                result,
            });
            Poll::Ready(())
        });
        ctx.spawn(actix::fut::wrap_future(run));
    }
}

impl<C: Send + 'static> Handler<ToProducer> for ProducerActor<C> {
    type Result = ();

    fn handle(&mut self, message: ToProducer, ctx: &mut Self::Context) {
        match message {
            ToProducer::Flush => self.slip.flush(),
            ToProducer::End => {
                self.slip.leave();
                ctx.stop();
            }
        }
    }
}

impl<S> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromStream(..)")
    }
}
