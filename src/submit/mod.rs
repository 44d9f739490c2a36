//! The way in: an [`Intake`] accepts tasks, made by a [`Producer`] or anywhere else, and gives a
//! [`Ticket`] for each.
//!
//! | to submit a task | use | waits for room | waits for the journal |
//! |---|---|---|---|
//! | from a producer, or where time doesn't matter | [`submit(context).await`](Intake::submit) | yes | yes |
//! | from a request handler | [`submit(context).now()`](Submit::now) | no | no: it is recorded later |
//! | from a request handler, with a journal | [`submit(context).if_room().await`](Submit::if_room) | no | yes |
//! | from a stage of the same pipeline | [`try_submit`](Intake::try_submit) or `if_room` | no | as above |

// A `Submit` is accepted at its first poll, in a `local_batch`, if it comes from within a producer;
// otherwise it goes the slow way of `waiting`, and gets to the first pool through its `outbox`.
pub(crate) mod local_batch;
pub(crate) mod waiting;
pub(crate) mod try_submit;
pub(crate) mod outbox;
mod answer;
pub(crate) mod ticket;
pub(crate) mod producer;
pub(crate) mod error;
#[cfg(feature = "postgres")]
mod submitter;

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

#[cfg(feature = "tracing")]
use crate::task::Trace;

#[cfg(feature = "postgres")]
pub use self::submitter::{Enqueue, Enqueued, Submitter};
pub(crate) use self::{answer::answer, error::CLOSED, local_batch::LocalBatch, outbox::Outbox};
pub use self::{
    error::{SubmitError, TrySubmitError},
    producer::{FromStream, Producer, from_iter, from_stream},
    ticket::Ticket,
};

use self::{
    local_batch::Permits,
    waiting::{Offer, Slow},
};
use crate::{
    clock::{NEVER, nanos},
    shared::{Shared, messages::ToReporter},
    task::{Limits, Names},
};

/// Accepts tasks: given to each producer, cloned and sent wherever tasks are made.
///
/// While an intake or a [`PipelineHandle`](crate::PipelineHandle) is left, the pipeline stays open:
/// [`run`](crate::Pipeline::run) and [`join`](crate::PipelineHandle::join) wait for the last one.
pub struct Intake<C: Send + 'static> {
    pub(crate) outbox: Arc<Outbox<C>>,
    open_guard: Arc<OpenGuard>,
}

impl<C: Send + 'static> Clone for Intake<C> {
    fn clone(&self) -> Self {
        Intake {
            outbox: self.outbox.clone(),
            open_guard: self.open_guard.clone(),
        }
    }
}

/// Keeps the pipeline open as long as somebody may submit: shared by its handles and intakes.
pub(crate) struct OpenGuard(pub(crate) Arc<Shared>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.tell_reporter(ToReporter::AllHandlesDropped);
    }
}

impl<C: Send + 'static> Intake<C> {
    pub(crate) fn new(outbox: Arc<Outbox<C>>, open_guard: Arc<OpenGuard>) -> Self {
        Intake { outbox, open_guard }
    }

    /// Submits a task: waits for room, and gives its [`Ticket`] once it is accepted. Set limits before
    /// you await it. The wait itself has none.
    ///
    /// Tasks of one producer are accepted in the order in which it submits them.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(tasks: batrun::Intake<u32>) -> Result<(), batrun::Failure> {
    /// let ticket = tasks.submit(7).timeout(Duration::from_secs(4)).await?;
    /// println!("{}", ticket.outcome().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SubmitError`], with the context in it: the pipeline is closed or suspended, too many tasks
    /// are stuck, or this one can't be recorded.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it leaves the task unaccepted. With a
    /// [`Ledger`](crate::ledger::Ledger) the task may have been recorded by then: it is cancelled, or
    /// goes on if it has a [key](Submit::key).
    pub fn submit(&self, context: C) -> Submit<'_, C> {
        Submit::new(&self.outbox, context, Limits::none(false))
    }

    /// Submits a task if there is room now: short for `submit(context).now()`, which also takes
    /// limits. For stages that submit to their own pipeline, among others.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    pub fn try_submit(&self, context: C) -> Result<Ticket, TrySubmitError<C>> {
        self.submit(context).now()
    }
}

/// A task that is being submitted, with its limits; made by [`Intake::submit`] and
/// [`PipelineHandle::submit`](crate::PipelineHandle::submit).
#[must_use = "a task is submitted once this is awaited"]
pub struct Submit<'a, C: Send + 'static, O = ()> {
    offer: Offer<'a, C>,
    /// Nearly every submit of a producer needs none of it: one word to look at.
    slow: Option<Box<Slow>>,
    output: PhantomData<fn() -> O>,
}

// The context is never pinned.
impl<C: Send + 'static, O> Unpin for Submit<'_, C, O> {}

impl<'a, C: Send + 'static, O> Submit<'a, C, O> {
    #[inline]
    pub(crate) fn new(outbox: &'a Arc<Outbox<C>>, context: C, limits: Limits) -> Self {
        Submit {
            offer: Offer {
                outbox,
                context: Some(context),
                limits,
            },
            slow: None,
            output: PhantomData,
        }
        .traced()
    }

    /// In a span, if somebody wants one.
    #[cfg(feature = "tracing")]
    fn traced(mut self) -> Self {
        if let Some(trace) = Trace::of_submit(&self.offer.outbox.shared.name)
            && let Some(names) = self.names()
        {
            names.trace = trace;
        }
        self
    }

    #[cfg(not(feature = "tracing"))]
    #[inline(always)]
    fn traced(self) -> Self {
        self
    }

    /// Gives the task this long from its acceptance, in queues and at work. Default, and `None`: no
    /// limit.
    ///
    /// Of several limits the earliest applies. The wait for room comes before acceptance and has no
    /// limit.
    #[inline]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.offer.limits.timeout = timeout.into().map_or(NEVER, nanos);
        self
    }

    /// Gives the task this long from the moment the first stage takes it up. Default: no limit.
    pub fn work_timeout(mut self, timeout: Duration) -> Self {
        self.offer.limits.work_timeout = nanos(timeout);
        self
    }

    /// Gives the task until this instant. One that has passed already ends the task at once. Default:
    /// no limit.
    pub fn deadline(mut self, at: impl Into<Instant>) -> Self {
        self.offer.limits.deadline = self.offer.outbox.shared.clock.nanos(at.into());
        self
    }

    /// Names the task, so that it can be found by this key, after a restart too. No other task has the
    /// same key: if one that is in flight or whose outcome is kept has it, nothing is submitted, and
    /// the ticket is that task's. For pipelines with a journal.
    ///
    /// 1 to 1,024 bytes: an empty or longer key is refused with [`SubmitError::Unrecorded`], as is any key on
    /// a pipeline without a journal. Like every limit, it is given before the first poll; once the
    /// task is being recorded, it changes nothing.
    ///
    /// A `submit` with a key may be dropped: if the task is being recorded by then, it goes on as if
    /// the ticket had been dropped. Submitted again with its key, it is not done again.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        if let Some(names) = self.names() {
            names.key = Some(key.into());
        }
        self
    }

    /// Gives the task a name for people: its [outcome](crate::Outcome) has it, and with it reports, logs and
    /// a journal. It need not be the only one of its kind. Default: none.
    ///
    /// ```no_run
    /// # async fn example(tasks: batrun::Intake<u32>) -> Result<(), batrun::Failure> {
    /// let ticket = tasks.submit(7).label("ada").await?;
    /// println!("{}", ticket.outcome().await?); // task 1 "ada" done
    /// # Ok(()) }
    /// ```
    ///
    /// At most 64 bytes: a longer label is cut, between two characters. An empty one is none. Like a
    /// [key](Self::key), it is given before the first poll. A submit that finds its key taken leaves the label
    /// of that other task as it is.
    ///
    /// A task without a label pays nothing for this. One with a label takes the slow way of submitting, even
    /// from a producer: some allocations and the lock of its record, a fraction of a microsecond.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        let label = label.into();
        if let Some(names) = self.names() {
            names.set_label(&label);
        }
        self
    }

    /// The names of the task, until it is being recorded.
    fn names(&mut self) -> Option<&mut Names> {
        let new = || Box::new(Slow::New(Names::default()));
        match &mut **self.slow.get_or_insert_with(new) {
            Slow::New(names) | Slow::Full { names, .. } => Some(names),
            Slow::Recording(_) | Slow::Over => None,
        }
    }

    /// Submits the task if there is room now, and waits for it to be recorded: once there is a ticket, it
    /// survives the process. Without a journal it is as [`now`](Self::now).
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    ///
    /// # Cancel safety
    /// As [`Intake::submit`].
    pub async fn if_room(mut self) -> Result<Ticket<O>, TrySubmitError<C>> {
        poll_fn(|cx| match Pin::new(&mut self).poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Into::into)),
            Poll::Pending => {
                if let Some(Slow::Full { .. }) = self.slow.as_deref()
                    && let Some(context) = self.offer.context.take()
                {
                    self.slow = None;
                    return Poll::Ready(Err(self.offer.outbox.refuse_full(context)));
                }
                Poll::Pending
            }
        })
        .await
    }

    /// Submits the task if there is room now, without any wait.
    ///
    /// With a journal or a ledger the ticket is there before the task is recorded. That goes on in the
    /// background, and then the task begins; until then a kill of the process loses it.
    /// [`Ticket::recorded`] waits for it. If it is refused, [`Ticket::outcome`] says so with
    /// [`Error::Unrecorded`](crate::Error::Unrecorded), and if its [key](Self::key) is another task's, the ticket
    /// becomes that one's. To wait for the record before there is a ticket, use [`if_room`](Self::if_room).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use batrun::{Intake, TrySubmitError};
    /// # fn example(tasks: Intake<u32>) {
    /// match tasks.submit(7).timeout(Duration::from_secs(4)).now() {
    ///     Ok(ticket) => println!("task {} is accepted", ticket.id()),
    ///     Err(TrySubmitError::Full(seven)) => println!("no room for {seven}"),
    ///     Err(refused) => println!("{refused}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    ///
    /// # Panics
    /// If it was polled to its end before.
    pub fn now(mut self) -> Result<Ticket<O>, TrySubmitError<C>> {
        let offer = Offer {
            outbox: self.offer.outbox,
            context: self.offer.context.take(),
            limits: self.offer.limits,
        };
        try_submit::try_submit(offer, self.slow.take()).map(Ticket::new)
    }

    /// Goes the slow way, from its beginning or on.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ticket<O>, SubmitError<C>>> {
        // In its place before it is polled: if a record panics, `drop` finds the task that it is of.
        let slow = self
            .slow
            .get_or_insert_with(|| Box::new(Slow::New(Names::default())));
        let polled = self.offer.poll_slow(slow, cx);
        if polled.is_ready() {
            self.slow = None;
        }
        polled.map_ok(Ticket::new)
    }
}

impl<C: Send + 'static, O> Future for Submit<'_, C, O> {
    type Output = Result<Ticket<O>, SubmitError<C>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Offer {
            outbox,
            context,
            limits,
        } = &mut this.offer;
        if context.is_none() {
            // Polled after it was ready, which a future need not answer.
            return Poll::Pending;
        }
        if this.slow.is_none() {
            match local_batch::admit(outbox, context, limits, Permits::Needed) {
                Some(Ok(ticket)) => return Poll::Ready(Ok(Ticket::new(ticket))),
                Some(Err(why)) => {
                    return match context.take() {
                        Some(context) => Poll::Ready(Err(outbox.refuse(Some(why), context))),
                        None => Poll::Pending,
                    };
                }
                None => {}
            }
        }
        this.poll_slow(cx)
    }
}

impl<C: Send + 'static, O> Drop for Submit<'_, C, O> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slow) = self.slow.take()
            && let Slow::Recording(recording) = *slow
        {
            self.offer
                .outbox
                .leave_recording(recording, self.offer.context.take());
        }
    }
}
