//! Where tasks come in.

use std::{
    future::Future,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use actix::Recipient;
use tokio::{
    sync::{AcquireError, Semaphore, TryAcquireError},
    time::Instant,
};

use crate::{
    clock::{NEVER, Nanos, Reading, nanos},
    core::Core,
    error::{SubmitError, TrySubmitError},
    guard,
    ledger::{Change, LedgerError, Recorded, Value},
    message::{Batch, Hop, ToProducer, ToReporter},
    task::{Admission, Refused, StopCause, TaskId, TaskRef},
    ticket::Ticket,
};

/// How many tasks go to the first pool at once.
const BATCH: usize = 128;

/// Where tasks come in: given to each producer, cloned and sent wherever tasks are made.
///
/// While an intake or a [`PipelineHandle`](crate::PipelineHandle) is left, the pipeline stays open.
pub struct Intake<C: Send + 'static> {
    pub(crate) slip: Arc<Slip<C>>,
    pub(crate) door: Arc<Door>,
}

impl<C: Send + 'static> Clone for Intake<C> {
    fn clone(&self) -> Self {
        Intake {
            slip: self.slip.clone(),
            door: self.door.clone(),
        }
    }
}

/// Open as long as somebody may submit.
pub(crate) struct Door(pub(crate) Arc<Core>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.tell_reporter(ToReporter::Deserted);
    }
}

struct Admitted {
    task: TaskRef,
    id: TaskId,
}

/// What was submitted and not sent on yet. It gathers without waiting: its producer actor sends it
/// on after each poll of the user's future, or when told that something came in from elsewhere.
pub(crate) struct Slip<C: Send + 'static> {
    core: Arc<Core>,
    hop: Hop<C>,
    pending: Mutex<Pending<C>>,
    flusher: OnceLock<Recipient<ToProducer>>,
}

struct Pending<C> {
    batch: Batch<C>,
    /// The actor will flush without being told.
    expected: bool,
    /// The actor has left: nobody will flush, so each task goes by itself.
    direct: bool,
    /// The time, while the actor polls the user's future: nothing is awaited in between, so the
    /// clock need not be read for every task.
    reading: Option<Reading>,
}

impl<C: Send + 'static> Slip<C> {
    pub(crate) fn new(core: Arc<Core>, hop: Hop<C>) -> Self {
        Slip {
            core,
            hop,
            pending: Mutex::new(Pending {
                batch: Batch::new(),
                expected: false,
                direct: false,
                reading: None,
            }),
            flusher: OnceLock::new(),
        }
    }

    pub(crate) fn set_flusher(&self, flusher: Recipient<ToProducer>) {
        self.flusher.set(flusher).ok();
    }

    fn room(&self) -> Option<&Semaphore> {
        self.hop.room.as_deref()
    }

    fn push(&self, task: TaskRef, context: C) {
        let mut pending = guard::lock(&self.pending);
        pending.batch.push(task, context);
        if pending.batch.len() >= BATCH || pending.direct {
            let batch = mem::replace(&mut pending.batch, Batch::new());
            // Sent under the lock, so that tasks start in the order of acceptance.
            self.hop.send(batch);
        } else if !pending.expected {
            pending.expected = true;
            if let Some(flusher) = self.flusher.get() {
                flusher.do_send(ToProducer::Flush);
            }
        }
    }

    /// The actor is about to poll the user's future and will flush afterwards.
    pub(crate) fn expect_flush(&self) {
        let mut pending = guard::lock(&self.pending);
        pending.expected = true;
        pending.reading = Some(Reading::take(&self.core.clock));
    }

    /// The actor leaves. A task that was admitted before the intake closed may still come.
    pub(crate) fn leave(&self) {
        guard::lock(&self.pending).direct = true;
        self.flush();
    }

    /// The clock and the counter.
    fn time(&self) -> (Nanos, u64) {
        let clock = &self.core.clock;
        match &mut guard::lock(&self.pending).reading {
            Some(reading) => {
                reading.refresh(clock);
                (reading.now, reading.count)
            }
            None => (clock.now(), clock.count()),
        }
    }

    pub(crate) fn flush(&self) {
        let mut pending = guard::lock(&self.pending);
        pending.expected = false;
        pending.reading = None;
        if !pending.batch.is_empty() {
            let batch = mem::replace(&mut pending.batch, Batch::new());
            self.hop.send(batch);
        }
    }

    /// Gives a task its record and records it. The caller holds its place and its room.
    fn admit(&self, context: &C, terms: Terms) -> Result<(Admitted, Recorded), Refused> {
        let core = &self.core;
        let (now, count) = self.time();
        let deadline = terms.deadline_from(core, now);
        let admission = Admission {
            deadline,
            work_timeout: terms.work_timeout,
            wants_output: terms.wants_output,
            count,
        };
        let (task, id) = core.table.admit(admission)?;
        let admitted = Admitted { task, id };
        if core.ledger.is_none() {
            return Ok((admitted, Recorded::now()));
        }
        let change = Change::Accepted {
            context: Value::of(context),
            deadline: core.left(deadline),
        };
        let recorded = core.record(id, change);
        Ok((admitted, recorded))
    }

    /// The task is accepted: sends it on its way.
    fn accept<O>(&self, Admitted { task, id }: Admitted, context: C) -> Ticket<O> {
        let ticket = Ticket::new(task.clone(), id);
        log::debug!("task {id} accepted");
        self.push(task, context);
        ticket
    }

    fn give_back_permits(&self) {
        self.core.table.places.add_permits(1);
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
    }

    /// The task was refused by the ledger: it never was one.
    fn unaccept(&self, task: &TaskRef, error: &LedgerError) {
        if self.core.table.revoke(task) {
            self.core.table.places.add_permits(1);
        }
        if let Some(room) = self.room() {
            room.add_permits(1);
        }
        self.core.unrecorded(error);
    }

    fn refused(&self, context: C, why: Option<Refused>) -> SubmitError<C> {
        match why {
            None | Some(Refused::Closed) => SubmitError::Closed(context),
            Some(Refused::Stuck) => SubmitError::Stuck(context),
            Some(Refused::Suspended) => SubmitError::Suspended(context),
        }
    }

    /// Takes a place and room, if both are there now.
    fn take_permits(&self) -> Result<(), TryAcquireError> {
        let place = self.core.table.places.try_acquire()?;
        if let Some(room) = self.room() {
            room.try_acquire()?.forget();
        }
        place.forget();
        Ok(())
    }
}

impl<C: Send + 'static> Intake<C> {
    pub(crate) fn new(slip: Arc<Slip<C>>, door: Arc<Door>) -> Self {
        Intake { slip, door }
    }

    /// Submits a task: waits for room, and gives its [`Ticket`] once it is accepted.
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
    /// [`SubmitError`], with the context in it.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it leaves the task unaccepted; with a [`Ledger`](crate::Ledger)
    /// the task may have been recorded and is then cancelled.
    pub fn submit(&self, context: C) -> Submit<'_, C> {
        Submit::new(&self.slip, context, Terms::default())
    }

    /// Submits a task if there is room now: short for `submit(context).now()`, which also takes
    /// limits.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it.
    pub fn try_submit(&self, context: C) -> Result<Ticket, TrySubmitError<C>> {
        self.submit(context).now()
    }
}

fn try_submit<C: Send + 'static, O>(
    slip: &Slip<C>,
    context: C,
    terms: Terms,
) -> Result<Ticket<O>, TrySubmitError<C>> {
    match slip.take_permits() {
        Ok(()) => {}
        Err(TryAcquireError::NoPermits) => return Err(TrySubmitError::Full(context)),
        Err(TryAcquireError::Closed) => {
            return Err(slip.refused(context, slip.core.table.refused()).into());
        }
    }
    let (task, recorded) = match slip.admit(&context, terms) {
        Ok(admitted) => admitted,
        Err(why) => {
            slip.give_back_permits();
            return Err(slip.refused(context, Some(why)).into());
        }
    };
    settle_now(slip, context, task, recorded)
}

/// Accepts a task whose acceptance is recorded by now.
fn settle_now<C: Send + 'static, O>(
    slip: &Slip<C>,
    context: C,
    task: Admitted,
    recorded: Recorded,
) -> Result<Ticket<O>, TrySubmitError<C>> {
    match recorded.ready() {
        Ok(Ok(())) => Ok(slip.accept(task, context)),
        Ok(Err(error)) => {
            slip.unaccept(&task.task, &error);
            Err(SubmitError::Suspended(context).into())
        }
        // This call can't wait: take it back as a dropped `submit` does.
        Err(_later) => {
            abandon(slip, &task.task);
            Err(TrySubmitError::Full(context))
        }
    }
}

/// A task that was recorded, or may have been, and that nobody waits for any more.
fn abandon<C: Send + 'static>(slip: &Slip<C>, task: &TaskRef) {
    slip.core.cancel(task, StopCause::User);
    if let Some(room) = slip.room() {
        room.add_permits(1);
    }
}

/// What a task is submitted with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    timeout: Option<Nanos>,
    deadline: Option<Instant>,
    work_timeout: Option<Nanos>,
    wants_output: bool,
}

impl Terms {
    /// The ticket wants the last stage's output.
    pub(crate) fn with_output() -> Self {
        Terms {
            wants_output: true,
            ..Terms::default()
        }
    }

    fn deadline_from(&self, core: &Core, now: Nanos) -> Nanos {
        let by_timeout = match self.timeout {
            Some(timeout) => now.saturating_add(timeout),
            None => NEVER,
        };
        match self.deadline {
            Some(at) => by_timeout.min(core.clock.nanos(at)),
            None => by_timeout,
        }
    }
}

/// A task that is being submitted; see [`Intake::submit`].
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
    /// Waiting for a place and for room.
    Full(Pin<Box<dyn Future<Output = Result<(), AcquireError>> + Send>>),
    Recording(Admitted, Recorded),
    Over,
}

// The context is never pinned.
impl<C: Send + 'static, O> Unpin for Submit<'_, C, O> {}

impl<'a, C: Send + 'static, O> Submit<'a, C, O> {
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
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.terms.timeout = timeout.into().map(nanos);
        self
    }

    /// The task has this long from the moment the first stage takes it up.
    pub fn work_timeout(mut self, timeout: Duration) -> Self {
        self.terms.work_timeout = Some(nanos(timeout));
        self
    }

    /// The task has until then.
    pub fn deadline(mut self, at: impl Into<Instant>) -> Self {
        self.terms.deadline = Some(at.into());
        self
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
    /// # Panics
    /// When it was polled to its end before.
    pub fn now(mut self) -> Result<Ticket<O>, TrySubmitError<C>> {
        let Some(context) = self.context.take() else {
            panic!("this task was submitted already");
        };
        // It may have been polled: what waits for room may hold the very room that is free, and
        // what waits for a record is accepted with that one or not at all.
        match mem::replace(&mut self.step, Step::Over) {
            Step::Recording(task, recorded) => settle_now(self.slip, context, task, recorded),
            waiting => {
                drop(waiting);
                try_submit(self.slip, context, self.terms)
            }
        }
    }

    fn wait(&self) -> Pin<Box<dyn Future<Output = Result<(), AcquireError>> + Send>> {
        let (core, room) = (self.slip.core.clone(), self.slip.hop.room.clone());
        Box::pin(async move {
            let place = core.table.places.acquire().await?;
            if let Some(room) = &room {
                room.acquire().await?.forget();
            }
            place.forget();
            Ok(())
        })
    }

    fn refuse(&mut self, why: Option<Refused>) -> Poll<Result<Ticket<O>, SubmitError<C>>> {
        self.step = Step::Over;
        match self.context.take() {
            Some(context) => Poll::Ready(Err(self.slip.refused(context, why))),
            None => Poll::Pending,
        }
    }

    fn admit(&mut self) -> Option<Poll<Result<Ticket<O>, SubmitError<C>>>> {
        let context = self.context.as_ref()?;
        match self.slip.admit(context, self.terms) {
            Ok((task, recorded)) => {
                self.step = Step::Recording(task, recorded);
                None
            }
            Err(why) => {
                self.slip.give_back_permits();
                Some(self.refuse(Some(why)))
            }
        }
    }
}

impl<C: Send + 'static, O> Future for Submit<'_, C, O> {
    type Output = Result<Ticket<O>, SubmitError<C>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.step {
                Step::New => match this.slip.take_permits() {
                    Ok(()) => {
                        if let Some(refused) = this.admit() {
                            return refused;
                        }
                    }
                    Err(TryAcquireError::NoPermits) => this.step = Step::Full(this.wait()),
                    Err(TryAcquireError::Closed) => {
                        return this.refuse(this.slip.core.table.refused());
                    }
                },
                Step::Full(wait) => match wait.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {
                        if let Some(refused) = this.admit() {
                            return refused;
                        }
                    }
                    Poll::Ready(Err(_)) => return this.refuse(this.slip.core.table.refused()),
                },
                Step::Recording(_, recorded) => {
                    let result = match Pin::new(recorded).poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(result) => result,
                    };
                    let Step::Recording(task, _) = mem::replace(&mut this.step, Step::Over) else {
                        return Poll::Pending;
                    };
                    let Some(context) = this.context.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(match result {
                        Ok(()) => Ok(this.slip.accept(task, context)),
                        Err(error) => {
                            this.slip.unaccept(&task.task, &error);
                            Err(SubmitError::Suspended(context))
                        }
                    });
                }
                // Polled after it was ready, which a future need not answer.
                Step::Over => return Poll::Pending,
            }
        }
    }
}

impl<C: Send + 'static, O> Drop for Submit<'_, C, O> {
    fn drop(&mut self) {
        if let Step::Recording(task, _) = &self.step {
            abandon(self.slip, &task.task);
        }
    }
}
