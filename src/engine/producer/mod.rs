//! The producer actor: it runs a producer, and sends on whatever is submitted through its intake.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};

use crate::{
    failure::{self, Failure},
    logging, panic_guard,
    shared::{
        Shared,
        messages::{ToProducer, ToReporter},
    },
    submit::{Intake, LocalBatch, Outbox, Producer},
};

type Body = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// Runs a producer, and sends on what is submitted through its intake.
pub(crate) struct ProducerActor<C: Send + 'static> {
    outbox: Arc<Outbox<C>>,
    /// Taken when the actor starts; none for the handle's own intake.
    body: Option<Running>,
}

struct Running {
    shared: Arc<Shared>,
    name: Arc<str>,
    body: Body,
}

impl<C: Send + 'static> ProducerActor<C> {
    pub(crate) fn new<P: Producer<C>>(
        shared: Arc<Shared>,
        name: Arc<str>,
        producer: P,
        tasks: Intake<C>,
    ) -> Self {
        let outbox = tasks.outbox.clone();
        // Within the future, so that a panic before the first await is caught too.
        let body = Box::pin(async move { producer.produce(tasks).await });
        ProducerActor {
            outbox,
            body: Some(Running { shared, name, body }),
        }
    }

    /// For the handle's own intake: sends on, produces nothing.
    pub(crate) fn idle(outbox: Arc<Outbox<C>>) -> Self {
        ProducerActor { outbox, body: None }
    }
}

impl<C: Send + 'static> Actor for ProducerActor<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.outbox.set_flusher(ctx.address().recipient());
        // Tasks may have come in before anyone could be told.
        self.outbox.flush();
        let Some(Running { shared, name, body }) = self.body.take() else {
            return;
        };
        let outbox = self.outbox.clone();
        let mut body = Some(body);
        let mut local_batch = None;
        let run = std::future::poll_fn(move |cx| {
            let Some(running) = &mut body else {
                return Poll::Ready(());
            };
            let polled = LocalBatch::during(&outbox, &mut local_batch, || {
                failure::catch_poll(running.as_mut(), cx)
            });
            let Poll::Ready(result) = polled else {
                return Poll::Pending;
            };
            panic_guard::drop_quietly(body.take());
            // Its own intake is gone with it, so it is not what keeps the pipeline open.
            let result = result.and_then(|result| result);
            if let Err(failure) = &result {
                logging::warning!("{name} ended: {}", panic_guard::shown(failure));
            }
            shared.tell_reporter(ToReporter::ProducerEnded {
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
            ToProducer::Flush => self.outbox.flush(),
            ToProducer::End => {
                self.outbox.leave();
                ctx.stop();
            }
        }
    }
}
