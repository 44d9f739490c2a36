//! The slow way in: a submit that waits for a place, for room and for its record.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{AcquireError, TryAcquireError};

use super::{
    error::{NO_JOURNAL, SubmitError},
    local_batch::{self, Permits},
    outbox::{Outbox, Recording},
};
use crate::{
    ledger::LedgerError,
    panic_guard,
    task::{Limits, Names, Refusal, TaskRef},
};

/// A context that is submitted, and its way in.
pub(super) struct Offer<'a, C: Send + 'static> {
    pub(super) outbox: &'a Arc<Outbox<C>>,
    /// Taken once the task is accepted or refused.
    pub(super) context: Option<C>,
    pub(super) limits: Limits,
}

/// The progress of a submit that isn't accepted at its first poll.
pub(super) enum Slow {
    /// It has asked for nothing yet.
    New(Names),
    /// It waits for a place and for room.
    Full {
        wait: Pin<Box<dyn Future<Output = Result<(), AcquireError>> + Send>>,
        names: Names,
    },
    Recording(Recording),
    Over,
}

/// The ticket's hold, or why there is none.
pub(super) type Answer<C> = Result<TaskRef, SubmitError<C>>;

/// Polls a wait for something that a pool or the reporter gives.
fn poll_quietly<T>(
    wait: Pin<&mut (dyn Future<Output = T> + Send)>,
    cx: &mut Context<'_>,
) -> Poll<T> {
    let waker = panic_guard::quiet_waker(cx.waker());
    wait.poll(&mut Context::from_waker(&waker))
}

/// The result of a step.
enum Next<C> {
    Step(Slow),
    Over(Answer<C>),
}

impl<C: Send + 'static> Offer<'_, C> {
    /// Goes on until the task is accepted or refused, or has to wait.
    pub(super) fn poll_slow(&mut self, slow: &mut Slow, cx: &mut Context<'_>) -> Poll<Answer<C>> {
        loop {
            let next = match slow {
                Slow::New(names) => {
                    let names = mem::take(names);
                    self.take_room(names)
                }
                Slow::Full { wait, names } => match poll_quietly(wait.as_mut(), cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {
                        let names = mem::take(names);
                        self.admit(names)
                    }
                    Poll::Ready(Err(_)) => self.refuse(self.outbox.shared.table.refused()),
                },
                Slow::Recording(recording) => match Pin::new(&mut recording.recorded).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(result) => match mem::replace(slow, Slow::Over) {
                        Slow::Recording(recording) => self.recorded(recording, result),
                        over => Some(Next::Step(over)),
                    },
                },
                Slow::Over => return Poll::Pending,
            };
            match next {
                Some(Next::Step(step)) => *slow = step,
                Some(Next::Over(answer)) => {
                    *slow = Slow::Over;
                    return Poll::Ready(answer);
                }
                // The context is gone: it was polled after it was ready.
                None => return Poll::Pending,
            }
        }
    }

    /// Takes a place and room, or waits for them.
    fn take_room(&mut self, names: Names) -> Option<Next<C>> {
        // One with neither name has tried this before it came here.
        if names.key.is_none() && (names.label.is_some() || names.trace.is_some()) {
            let quick = self.admit_quickly(&names, Permits::Needed);
            if quick.is_some() {
                return quick;
            }
        }
        match self.outbox.take_permits() {
            Ok(()) => self.admit(names),
            Err(TryAcquireError::NoPermits) => Some(Next::Step(self.wait(names))),
            Err(TryAcquireError::Closed) => self.refuse(self.outbox.shared.table.refused()),
        }
    }

    /// Accepts the task through the batch of its producer, if that is being polled just now.
    fn admit_quickly(&mut self, names: &Names, permits: Permits) -> Option<Next<C>> {
        match local_batch::admit(self.outbox, &mut self.context, &self.limits, permits)? {
            Ok(ticket) => {
                // Its batch waits for the end of this poll, so nobody has looked for them yet.
                ticket.set_names(names.clone());
                Some(Next::Over(Ok(ticket)))
            }
            Err(why) => self.refuse(Some(why)),
        }
    }

    fn wait(&self, names: Names) -> Slow {
        let (shared, room) = (self.outbox.shared.clone(), self.outbox.hop.room.clone());
        let wait = Box::pin(async move {
            let place = shared.table.places.acquire().await?;
            if let Some(room) = &room {
                room.acquire().await?.forget();
            }
            place.forget();
            Ok(())
        });
        Slow::Full { wait, names }
    }

    /// Goes on with a place and room in hand.
    fn admit(&mut self, names: Names) -> Option<Next<C>> {
        if self.outbox.shared.ledger.is_none() {
            if names.key.is_some() {
                self.outbox.give_back_permits(1);
                let context = self.context.take()?;
                return Some(Next::Over(Err(SubmitError::Unrecorded(
                    context,
                    NO_JOURNAL.into(),
                ))));
            }
            // Its producer may be polled just now, and what it has submitted in this poll comes first.
            let quick = self.admit_quickly(&names, Permits::Held);
            if quick.is_some() {
                return quick;
            }
        }
        let context = self.context.as_ref()?;
        let key = names.key.clone();
        match self.outbox.admit(context, &self.limits, names) {
            Ok((task, recorded)) => Some(Next::Step(Slow::Recording(Recording {
                task,
                recorded,
                key,
            }))),
            Err(why) => {
                self.outbox.give_back_permits(1);
                self.refuse(Some(why))
            }
        }
    }

    fn recorded(
        &mut self,
        recording: Recording,
        result: Result<(), LedgerError>,
    ) -> Option<Next<C>> {
        let Recording { task, key, .. } = recording;
        let context = self.context.take()?;
        Some(Next::Over(match result {
            Ok(()) => Ok(self.outbox.accept(task, context, key)),
            Err(error) => self.outbox.unaccept(task.task, &error, key, context),
        }))
    }

    fn refuse(&mut self, why: Option<Refusal>) -> Option<Next<C>> {
        let context = self.context.take()?;
        Some(Next::Over(Err(self.outbox.refuse(why, context))))
    }
}
