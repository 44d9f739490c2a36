//! A stage that is a plain actix actor of the user's.

use std::{
    fmt::Debug,
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::{Actor, Addr, Handler, Message, Recipient, dev::ToEnvelope};
use tokio::sync::{Notify, oneshot};

use super::{
    Stage,
    config::{IntoWork, Work},
    context::{CancelContext, TaskContext, key, report},
    error::UndoError,
    undo_registration::{record, register, settle, withdraw},
};
use crate::{
    failure::Failure,
    panic_guard,
    shared::{
        Shared,
        hop::{Batch, TaskMsg},
    },
    task::{Key, Progress, StageIx, TaskId, TaskRef},
};

/// The answer of an actor of yours for a task that it got in a [`TaskMsg`].
///
/// `Send`, so that the answer may come from anywhere, now or later. Dropped unanswered, it fails the
/// task.
pub struct Reply<O, U = ()> {
    shared: Arc<Shared>,
    task: TaskRef,
    id: TaskId,
    stage: StageIx,
    attempt: u32,
    stop: Arc<Stop>,
    /// An undo's number is taken and recorded in one go, whichever thread of the actor's asks.
    turn: Mutex<()>,
    answer: oneshot::Sender<Result<O, Failure>>,
    undo: PhantomData<fn(U)>,
}

#[derive(Default)]
struct Stop {
    announced: AtomicBool,
    notify: Notify,
}

impl<C, O, U> TaskMsg<C, Reply<O, U>> {
    /// The task's context, and the reply to answer with.
    pub fn into_parts(mut self) -> (C, Reply<O, U>) {
        match self.batch.values.pop() {
            Some(context) => (context, self.reply),
            None => unreachable!("a message to an actor is made with one task in it"),
        }
    }

    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.reply.id
    }
}

impl<O, U: Clone + Debug + Send + 'static> Reply<O, U> {
    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// The number of this attempt of this stage, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// An idempotency key for this task's work in this stage, as
    /// [`TaskContext::key`].
    pub fn key(&self) -> Key {
        key(&self.shared, self.id, self.stage, self.task.generation())
    }

    /// Tells how far this attempt has come, as [`TaskContext::progress`] does.
    pub fn progress(&self, fraction: f64, text: impl Into<String>) {
        let progress = Progress::new(self.stage, self.attempt, fraction, &text.into());
        report(&self.shared, &self.task, progress);
    }

    /// Registers the undo of the coming effect, as [`TaskContext::on_cancel`] does. The number is for
    /// [`withdraw`](Self::withdraw).
    ///
    /// # Errors
    /// [`UndoError`]; the effect must then not take place.
    ///
    /// # Cancel safety
    /// Once polled, the undo is part of the task's rollback, whether this future completes or not.
    pub async fn on_cancel(&self, undo: U) -> Result<usize, UndoError> {
        let (shared, task, stage) = (&self.shared, &self.task, self.stage);
        let turn = panic_guard::lock(&self.turn);
        let registered = if shared.ledger.is_none() {
            register(shared, task, stage, undo).map(|place| (place, None))
        } else {
            let recorded = record(shared, task, stage, undo);
            recorded.map(|(place, recorded)| (place, Some(recorded)))
        };
        drop(turn);
        let (place, recorded) = registered?;
        if let Some(recorded) = recorded {
            settle(shared, recorded).await?;
        }
        if place.is_stopping {
            Err(UndoError::Stopping(self.id))
        } else {
            Ok(place.number)
        }
    }

    /// Withdraws an undo of this attempt, which then never runs: for an effect that surely did not
    /// happen. Does nothing if the number is another attempt's.
    ///
    /// # Errors
    /// [`UndoError::Unrecorded`] if that could not be recorded.
    pub async fn withdraw(&self, number: usize) -> Result<(), UndoError> {
        let turn = panic_guard::lock(&self.turn);
        let recorded = withdraw(&self.shared, &self.task, self.stage, number);
        drop(turn);
        settle(&self.shared, recorded).await
    }

    /// `true` if the task is late or cancelled. Its rollback waits for this reply.
    pub fn is_stopping(&self) -> bool {
        self.stop.announced.load(Ordering::Acquire) || !self.task.is_running()
    }

    /// Ready once the task is late or cancelled.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn stopping(&self) {
        while !self.is_stopping() {
            self.stop.notify.notified().await;
        }
    }

    /// Hands the task on to the next stage. Too late if the task is being stopped: the output is
    /// dropped, and the rollback begins.
    pub fn done(self, output: O) {
        if let Err(Ok(late)) = self.answer.send(Ok(output)) {
            panic_guard::drop_quietly(late);
        }
    }

    /// Fails the attempt, which may be [retried](IntoWork::retry).
    pub fn fail(self, failure: impl Into<Failure>) {
        self.answer.send(Err(failure.into())).ok();
    }
}

/// A message that asks an actor of yours to run an undo. Dropped unanswered, that try has failed.
///
/// A pool sends one at a time for each task, the next one when this one was answered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Cancel<U> {
    undo: U,
    id: TaskId,
    key: Key,
    attempt: u32,
    answer: oneshot::Sender<Result<(), Failure>>,
}

/// The answer of an actor of yours for a [`Cancel`]. Dropped unanswered, that try has failed.
pub struct CancelReply(oneshot::Sender<Result<(), Failure>>);

impl<U> Cancel<U> {
    /// The undo, and the reply to answer with.
    pub fn into_parts(self) -> (U, CancelReply) {
        (self.undo, CancelReply(self.answer))
    }

    /// The task's number.
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// The [`key`](Reply::key) that the task's work in this stage had when it registered the undo.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The number of this try of the undo, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl CancelReply {
    /// The undo has run: the effect is gone.
    pub fn done(self) {
        self.0.send(Ok(())).ok();
    }

    /// The undo failed, and is tried again as [`cancel_retry`](IntoWork::cancel_retry) says.
    pub fn fail(self, failure: impl Into<Failure>) {
        self.0.send(Err(failure.into())).ok();
    }
}

/// The stage that stands for an actor of yours; made by [`Work::actor`].
pub struct ActorStage<I: Send + 'static, O: Send + 'static, U: Send + 'static> {
    tasks: Recipient<TaskMsg<I, Reply<O, U>>>,
    cancels: Recipient<Cancel<U>>,
}

/// The number of tasks that an actor of yours may have at once, by default.
const UNANSWERED: usize = 16;

impl<I, O, U> Work<ActorStage<I, O, U>>
where
    I: Send + 'static,
    O: Send + 'static,
    U: Clone + Debug + Send + 'static,
{
    /// A stage that is an actor of yours, started by you. It handles
    /// [`TaskMsg<I, Reply<O, U>>`](TaskMsg) and [`Cancel<U>`], and may have as many tasks at once as
    /// [`capacity`](IntoWork::capacity) says (default: 16), while as many more wait;
    /// [`workers`](IntoWork::workers) has no effect.
    ///
    /// A late or cancelled task is announced through its [`Reply`], and its rollback waits until that
    /// is answered or dropped. A dead address fails the tasks that are sent to it, and the undos that
    /// it was to run become stuck.
    ///
    /// The [guide](crate::guide::actors) has an example.
    pub fn actor<A>(name: impl Into<String>, addr: Addr<A>) -> Self
    where
        A: Actor + Handler<TaskMsg<I, Reply<O, U>>> + Handler<Cancel<U>>,
        A::Context: ToEnvelope<A, TaskMsg<I, Reply<O, U>>> + ToEnvelope<A, Cancel<U>>,
    {
        let (tasks, cancels) = (addr.clone().recipient(), addr.recipient());
        let mut work = Work::with(name, move || ActorStage {
            tasks: tasks.clone(),
            cancels: cancels.clone(),
        })
        .keep_on_abort()
        .capacity(UNANSWERED);
        work.config.actor = true;
        work
    }
}

impl<I, O, U> Stage for ActorStage<I, O, U>
where
    I: Send + 'static,
    O: Send + 'static,
    U: Clone + Debug + Send + 'static,
{
    type Input = I;
    type Output = O;
    type Undo = U;

    async fn run(&mut self, input: I, task: &TaskContext<'_, U>) -> Result<O, Failure> {
        if !self.tasks.connected() {
            return Err(Failure::permanent("the stage's actor is dead"));
        }
        let (shared, record, stage) = task.parts();
        let (answer, mut answered) = oneshot::channel();
        let stop = Arc::new(Stop::default());
        let reply = Reply {
            shared: shared.clone(),
            task: record.clone(),
            id: task.task_id(),
            stage,
            attempt: task.attempt(),
            stop: stop.clone(),
            turn: Mutex::default(),
            answer,
            undo: PhantomData,
        };
        let mut batch = Batch::new();
        // Without the task: the reply has it, and says so if it is dropped with the message.
        batch.values.push(input);
        self.tasks.do_send(TaskMsg { batch, reply });
        let wait = async {
            tokio::select! {
                biased;
                answer = &mut answered => return answer,
                () = task.stopping() => {}
            }
            stop.announced.store(true, Ordering::Release);
            stop.notify.notify_waiters();
            // And whoever is just about to wait.
            stop.notify.notify_one();
            answered.await
        };
        // The actor can't be stopped, only told: its answer is waited for.
        task.shield(wait).await.unwrap_or_else(|_| {
            Err(Failure::new(
                "the stage's actor dropped the task unanswered",
            ))
        })
    }

    async fn cancel(&mut self, undo: U, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        let (id, key, attempt) = (cancel.task_id(), cancel.key(), cancel.attempt());
        self.cancels.do_send(Cancel {
            undo,
            id,
            key,
            attempt,
            answer,
        });
        answered.await.unwrap_or_else(|_| {
            Err(Failure::new(
                "the stage's actor is dead, or dropped the cancel unanswered",
            ))
        })
    }
}
