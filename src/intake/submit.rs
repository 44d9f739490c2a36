//! A task that is being submitted: it waits for a place, for room and for its record.

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{AcquireError, TryAcquireError},
    time::Instant,
};

use super::{
    now::{settle_now, try_submit},
    slip::{Recording, Slip},
    terms::Terms,
    tray,
};
use crate::{
    clock::{NEVER, nanos},
    error::{SubmitError, TrySubmitError},
    ledger::LedgerError,
    task::Refused,
    ticket::Ticket,
};

/// A task that is being submitted; see [`Intake::submit`](super::Intake::submit).
#[must_use = "a task is submitted once this is awaited"]
pub struct Submit<'a, C: Send + 'static, O = ()> {
    slip: &'a Arc<Slip<C>>,
    context: Option<C>,
    terms: Terms,
    step: Step,
    output: PhantomData<fn() -> O>,
}

enum Step {
    New,
    /// All that few tasks need: one word to look at for the others.
    Slow(Box<Slow>),
    Over,
}

enum Slow {
    /// New, with a key.
    Keyed(Box<str>),
    /// Waiting for a place and for room.
    Full(Full),
    Recording(Recording),
}

struct Full {
    wait: Pin<Box<dyn Future<Output = Result<(), AcquireError>> + Send>>,
    key: Option<Box<str>>,
}

// The context is never pinned.
impl<C: Send + 'static, O> Unpin for Submit<'_, C, O> {}

impl<'a, C: Send + 'static, O> Submit<'a, C, O> {
    #[inline]
    pub(crate) fn new(slip: &'a Arc<Slip<C>>, context: C, terms: Terms) -> Self {
        Submit {
            slip,
            context: Some(context),
            terms,
            step: Step::New,
            output: PhantomData,
        }
    }

    /// The task has this long from its acceptance, in queues and at work. Of several limits the
    /// earliest holds. The wait for room comes before acceptance and has no limit.
    /// `None` is no limit.
    #[inline]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.terms.timeout = timeout.into().map_or(NEVER, nanos);
        self
    }

    /// The task has this long from the moment the first stage takes it up.
    pub fn work_timeout(mut self, timeout: Duration) -> Self {
        self.terms.work_timeout = nanos(timeout);
        self
    }

    /// The task has until then.
    pub fn deadline(mut self, at: impl Into<Instant>) -> Self {
        self.terms.deadline = self.slip.core.clock.nanos(at.into());
        self
    }

    /// A name that the task can be found by, after a restart too, and that no other task has: where
    /// one that is in flight or whose outcome is kept has it, nothing is submitted, and the ticket is
    /// that one's. For pipelines with a journal. At most 1,024 bytes: more are refused with
    /// [`SubmitError::Unrecorded`]. Like every limit, it is given before the first poll: once the task
    /// is being recorded, it changes nothing.
    ///
    /// A `submit` with a key may be dropped: what is being recorded by then goes on if it can be
    /// recorded, as if the ticket had been dropped. Submitted again with its key, it is not done again.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        let key = key.into().into_boxed_str();
        match &mut self.step {
            Step::New => self.step = Step::Slow(Box::new(Slow::Keyed(key))),
            Step::Slow(slow) => match &mut **slow {
                Slow::Keyed(before) => *before = key,
                Slow::Full(full) => full.key = Some(key),
                Slow::Recording(_) => {}
            },
            Step::Over => {}
        }
        self
    }

    /// Doesn't wait for room, but for the task to be recorded: what [`now`](Self::now) is where there
    /// is no journal.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    ///
    /// # Cancel safety
    /// As [`Intake::submit`](super::Intake::submit).
    pub async fn if_room(mut self) -> Result<Ticket<O>, TrySubmitError<C>> {
        poll_fn(|cx| {
            let polled = Pin::new(&mut self).poll(cx);
            let is_full = matches!(&self.step, Step::Slow(slow) if matches!(**slow, Slow::Full(_)));
            match polled {
                Poll::Ready(result) => Poll::Ready(result.map_err(Into::into)),
                Poll::Pending if is_full => {
                    self.step = Step::Over;
                    match self.context.take() {
                        Some(context) => Poll::Ready(Err(TrySubmitError::Full(context))),
                        None => Poll::Pending,
                    }
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Doesn't wait: the task is accepted if there is room now.
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
    /// With a [key](Self::key) that is always [`TrySubmitError::Full`], since the key has to be looked up.
    /// Called once it was polled and is being recorded, that takes the task back: its key may then be that
    /// of a cancelled task.
    ///
    /// # Panics
    /// When it was polled to its end before.
    pub fn now(mut self) -> Result<Ticket<O>, TrySubmitError<C>> {
        let Some(context) = self.context.take() else {
            panic!("this task was submitted already");
        };
        // It may have been polled: what waits for room may hold the very room that is free, and
        // what waits for a record is accepted with that one or not at all.
        let Step::Slow(slow) = mem::replace(&mut self.step, Step::Over) else {
            return try_submit(self.slip, context, &self.terms);
        };
        match *slow {
            Slow::Recording(recording) => {
                let Recording {
                    task,
                    recorded,
                    key,
                } = recording;
                settle_now(self.slip, context, task, recorded, key)
            }
            // A key is looked up in the journal, for which this call can't wait.
            Slow::Keyed(_) | Slow::Full(Full { key: Some(_), .. }) => {
                Err(TrySubmitError::Full(context))
            }
            waiting => {
                drop(waiting);
                try_submit(self.slip, context, &self.terms)
            }
        }
    }

    fn wait(&self, key: Option<Box<str>>) -> Step {
        let (core, room) = (self.slip.core.clone(), self.slip.hop.room.clone());
        let wait = Box::pin(async move {
            let place = core.table.places.acquire().await?;
            if let Some(room) = &room {
                room.acquire().await?.forget();
            }
            place.forget();
            Ok(())
        });
        Step::Slow(Box::new(Slow::Full(Full { wait, key })))
    }

    /// A task that may be recorded by now is not waited for any more. With a key it goes on, since that
    /// is taken; without one it is taken back.
    fn leave(&mut self, recording: Recording) {
        match (&recording.key, self.context.take()) {
            (Some(_), Some(context)) => self.slip.go_on_without(recording, context),
            _ => self.slip.abandon(&recording.task.task),
        }
    }

    fn refuse(&mut self, why: Option<Refused>) -> Poll<Result<Ticket<O>, SubmitError<C>>> {
        self.step = Step::Over;
        match self.context.take() {
            Some(context) => Poll::Ready(Err(self.slip.refused(context, why))),
            None => Poll::Pending,
        }
    }

    /// Goes on with a place and room in hand.
    fn admit(&mut self, key: Option<Box<str>>) -> Option<Poll<Result<Ticket<O>, SubmitError<C>>>> {
        if self.slip.core.ledger.is_none() {
            if key.is_some() {
                self.slip.give_back_permits(1);
                self.step = Step::Over;
                let context = self.context.take()?;
                let why = "only a pipeline with a journal keeps keys".into();
                return Some(Poll::Ready(Err(SubmitError::Unrecorded(context, why))));
            }
            match tray::admit(self.slip, &mut self.context, &self.terms, true) {
                Some(Ok(ticket)) => {
                    self.step = Step::Over;
                    return Some(Poll::Ready(Ok(Ticket::new(ticket))));
                }
                Some(Err(why)) => return Some(self.refuse(Some(why))),
                None => {}
            }
        }
        let context = self.context.as_ref()?;
        match self.slip.admit(context, &self.terms, key.as_deref()) {
            Ok((task, recorded)) => {
                self.step = Step::Slow(Box::new(Slow::Recording(Recording {
                    task,
                    recorded,
                    key,
                })));
                None
            }
            Err(why) => {
                self.slip.give_back_permits(1);
                Some(self.refuse(Some(why)))
            }
        }
    }

    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ticket<O>, SubmitError<C>>> {
        loop {
            let slow = match &mut self.step {
                Step::New => {
                    if let Some(over) = self.take_room(None) {
                        return over;
                    }
                    continue;
                }
                Step::Slow(slow) => &mut **slow,
                // Polled after it was ready, which a future need not answer.
                Step::Over => return Poll::Pending,
            };
            let over = match slow {
                Slow::Keyed(key) => {
                    let key = mem::take(key);
                    self.take_room(Some(key))
                }
                Slow::Full(full) => match full.wait.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {
                        let key = full.key.take();
                        self.admit(key)
                    }
                    Poll::Ready(Err(_)) => return self.refuse(self.slip.core.table.refused()),
                },
                Slow::Recording(recording) => {
                    let result = match Pin::new(&mut recording.recorded).poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(result) => result,
                    };
                    Some(self.recorded(result))
                }
            };
            if let Some(over) = over {
                return over;
            }
        }
    }

    /// Takes a place and room, or waits for them.
    fn take_room(
        &mut self,
        key: Option<Box<str>>,
    ) -> Option<Poll<Result<Ticket<O>, SubmitError<C>>>> {
        match self.slip.take_permits() {
            Ok(()) => self.admit(key),
            Err(TryAcquireError::NoPermits) => {
                self.step = self.wait(key);
                None
            }
            Err(TryAcquireError::Closed) => Some(self.refuse(self.slip.core.table.refused())),
        }
    }

    fn recorded(
        &mut self,
        result: Result<(), LedgerError>,
    ) -> Poll<Result<Ticket<O>, SubmitError<C>>> {
        let Step::Slow(slow) = mem::replace(&mut self.step, Step::Over) else {
            return Poll::Pending;
        };
        let (Slow::Recording(Recording { task, key, .. }), Some(context)) =
            (*slow, self.context.take())
        else {
            return Poll::Pending;
        };
        Poll::Ready(match result {
            Ok(()) => Ok(self.slip.accept(task, context)),
            Err(error) => self.slip.unaccept(task.task, &error, key, context),
        })
    }
}

impl<C: Send + 'static, O> Future for Submit<'_, C, O> {
    type Output = Result<Ticket<O>, SubmitError<C>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Step::New = this.step {
            match tray::admit(this.slip, &mut this.context, &this.terms, false) {
                Some(Ok(ticket)) => {
                    this.step = Step::Over;
                    return Poll::Ready(Ok(Ticket::new(ticket)));
                }
                Some(Err(why)) => return this.refuse(Some(why)),
                None => {}
            }
        }
        this.go_on(cx)
    }
}

impl<C: Send + 'static, O> Drop for Submit<'_, C, O> {
    #[inline]
    fn drop(&mut self) {
        if let Step::Slow(_) = &self.step
            && let Step::Slow(slow) = mem::replace(&mut self.step, Step::Over)
            && let Slow::Recording(recording) = *slow
        {
            self.leave(recording);
        }
    }
}
