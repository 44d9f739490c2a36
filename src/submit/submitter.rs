//! A process without stages of its own, which submits to a pipeline that others run.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::error::{SubmitError, TrySubmitError};
use crate::{
    error::{AnywhereError, Error},
    failure,
    journal::{Answer, Decision, Enqueuer, Journal, JournalError, NewTask, decode, encode},
    ledger::{LedgerError, Why},
    logging, panic_guard,
    task::{Names, Outcome, TaskId, TaskStatus},
};

/// The tasks of processes without stages that may wait at once, unless one says otherwise.
const MOST_WAITING: u64 = 100_000;

/// Submits tasks to a pipeline that other processes run, on a journal [in a database](crate::guide::database):
/// for a web server whose work is done elsewhere, or a command that only starts something.
///
/// `I` is the input of the pipeline's first stage. The processes that have stages take the tasks, at most
/// `max_in_flight` each. One whose first stage can't decode a context sets that task aside.
///
/// ```no_run
/// # use batrun::journal::Journal;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Journal::postgres("postgres://shop@db.example/shop").await?;
/// let orders = journal.submitter::<u64>("orders").await?;
/// orders.submit(17).key("order-17").await?;
/// let outcome = orders.outcome_of::<u64>("order-17").await?;
/// # Ok(()) }
/// ```
///
/// It is a node of the journal, with a lease, and no task is its own. Once its lease has run out, because the
/// database was away for longer, the next call makes it another node.
///
/// Clones are the same submitter. Dropping the last one waits until what was submitted is recorded; in an actor or a
/// request handler, [`close`](Self::close) it before that.
pub struct Submitter<I> {
    inner: Arc<Inner>,
    input: PhantomData<fn(I)>,
}

impl<I> Clone for Submitter<I> {
    fn clone(&self) -> Self {
        Submitter {
            inner: self.inner.clone(),
            input: PhantomData,
        }
    }
}

struct Inner {
    pipeline: String,
    most_waiting: u64,
    node: Mutex<Arc<Enqueuer>>,
    /// Only one at a time makes another node.
    again: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

/// The reason why there is no node.
enum NoNode {
    Closed,
    Failed(JournalError),
}

impl Journal {
    /// Makes this process one that only submits to the pipeline with this name, whose other processes have the
    /// stages. See [`Submitter`].
    ///
    /// The journal's choices for keys count as they do for a pipeline; give them the same ones. At most 100,000
    /// tasks wait for a process to take them, or as many as [`submitter_with`](Self::submitter_with) says.
    ///
    /// # Errors
    /// Those of [`Pipeline::start`](crate::Pipeline::start) on this journal; [`JournalError::Io`] for a journal in a
    /// file, which has one process.
    ///
    /// # Cancel safety
    /// Dropped, it leaves at most a node that goes again at once.
    pub async fn submitter<I>(self, pipeline: &str) -> Result<Submitter<I>, JournalError> {
        self.submitter_with(pipeline, MOST_WAITING).await
    }

    /// As [`submitter`](Self::submitter), for at most so many tasks that wait: as long as there are more, counted
    /// once a second, submits are refused with [`TrySubmitError::Full`].
    ///
    /// # Errors
    /// The same.
    ///
    /// # Cancel safety
    /// The same.
    pub async fn submitter_with<I>(
        self,
        pipeline: &str,
        most_waiting: u64,
    ) -> Result<Submitter<I>, JournalError> {
        let pipeline = pipeline.to_owned();
        let node = self.enqueuer(pipeline.clone(), most_waiting).await?;
        let inner = Inner {
            pipeline,
            most_waiting,
            node: Mutex::new(Arc::new(node)),
            again: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Submitter {
            inner: Arc::new(inner),
            input: PhantomData,
        })
    }
}

impl Inner {
    /// The node, or another one if its lease is over.
    async fn node(&self) -> Result<Arc<Enqueuer>, NoNode> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(NoNode::Closed);
        }
        let node = || panic_guard::lock(&self.node).clone();
        if !node().is_over() {
            return Ok(node());
        }
        let _one = self.again.lock().await;
        let last = node();
        if !last.is_over() {
            return Ok(last);
        }
        let again = last.again(self.pipeline.clone(), self.most_waiting).await;
        let again = Arc::new(again.map_err(|error| {
            logging::warning!("the journal can't be entered again: {error}");
            NoNode::Failed(error)
        })?);
        let before = mem::replace(&mut *panic_guard::lock(&self.node), again.clone());
        // Its end may take as long as the database.
        drop_on_a_thread(before);
        if self.closed.load(Ordering::SeqCst) {
            drop_on_a_thread(again);
            return Err(NoNode::Closed);
        }
        Ok(again)
    }

    async fn node_or_gone(&self) -> Result<Arc<Enqueuer>, AnywhereError> {
        self.node().await.map_err(|why| match why {
            NoNode::Closed => AnywhereError::Closed,
            NoNode::Failed(_) => AnywhereError::Suspended,
        })
    }
}

impl<I: Serialize + Send + 'static> Submitter<I> {
    /// Submits a task: await it, after its key and limits. It is accepted once it is recorded.
    ///
    /// # Errors
    /// [`TrySubmitError`], with the context in it: as many tasks wait as may, this one can't be recorded, its key is
    /// that of a task with another context, or the database is away.
    ///
    /// # Cancel safety
    /// Once polled, the task may be accepted, whether this completes or not. Submit it again with its key.
    pub fn submit(&self, context: I) -> Enqueue<'_, I> {
        Enqueue {
            submitter: &self.inner,
            context,
            names: Names::default(),
            timeout: None,
            work_timeout: None,
        }
    }
}

impl<I> Submitter<I> {
    /// The outcome of the task that was submitted with this key, wherever: at once if it is kept, else once the task
    /// has it. `None` if no task in flight has this key and no outcome with it is kept.
    ///
    /// `O` is the output of the last stage. An output that can't be decoded is left out, with a line at `warn`.
    ///
    /// # Errors
    /// [`Error::Suspended`] if the database is away for longer than the lease; ask again. [`Error::Gone`] once it is
    /// closed.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn outcome_of<O: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Outcome<O>>, Error> {
        let node = self.inner.node().await.map_err(|why| match why {
            NoNode::Closed => Error::Gone,
            NoNode::Failed(error) => Error::Suspended(error.to_string().into()),
        })?;
        let found = node.outcome_of(key).await;
        let Some((outcome, output)) = found.map_err(|error| Error::Suspended(error.text()))? else {
            return Ok(None);
        };
        let task = outcome.task;
        let warn = |why| logging::warning!("the output of task {task} can't be decoded: {why}");
        let output = output.and_then(|bytes| decode(&bytes).map_err(warn).ok());
        Ok(Some(outcome.with_output(output)))
    }

    /// The place where the task with this key is now.
    ///
    /// # Errors
    /// [`AnywhereError::Suspended`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn status(&self, key: &str) -> Result<TaskStatus, AnywhereError> {
        let node = self.inner.node_or_gone().await?;
        node.status(key).await.map_err(|error| broken(&error))
    }

    /// Cancels a task, as [`cancel_anywhere`](crate::PipelineHandle::cancel_anywhere) does: waits for the answer of the
    /// process that has it.
    ///
    /// # Errors
    /// [`AnywhereError`].
    ///
    /// # Cancel safety
    /// Once polled, the task may be cancelled, whether this completes or not.
    pub async fn cancel(&self, task: TaskId) -> Result<bool, AnywhereError> {
        let node = self.inner.node_or_gone().await?;
        let answer = node.tell(task, Decision::Cancel).await;
        match answer.map_err(|error| broken(&error))? {
            None => Err(AnywhereError::NoSuchTask(task)),
            Some(Answer::Done) => Ok(true),
            Some(Answer::Ended) => Ok(false),
            Some(Answer::Refused(why)) => Err(AnywhereError::Refused(why)),
        }
    }

    /// Waits until everything that was submitted is recorded, and leaves the journal. Later calls fail. Blocks the
    /// thread for a commit.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let node = panic_guard::lock(&self.inner.node).clone();
        node.close();
    }
}

fn drop_on_a_thread(node: Arc<Enqueuer>) {
    let close = move || node.close();
    if let Err(error) = thread::Builder::new()
        .name("batrun-close".to_owned())
        .spawn(close)
    {
        logging::warning!("a node could not be left, and ends with its lease: {error}");
    }
}

fn broken(error: &LedgerError) -> AnywhereError {
    AnywhereError::Failed(error.to_string())
}

/// A task that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enqueued {
    /// The task's number.
    pub task: TaskId,
    /// This submit has added no task: an earlier one had the same key, and this is its task.
    pub is_known: bool,
}

/// A task that is being submitted, with its limits; made by [`Submitter::submit`].
#[must_use = "a task is submitted once this is awaited"]
pub struct Enqueue<'a, I> {
    submitter: &'a Inner,
    context: I,
    names: Names,
    timeout: Option<Duration>,
    work_timeout: Option<Duration>,
}

impl<I> Enqueue<'_, I> {
    /// As [`Submit::key`](super::Submit::key).
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.names.key = Some(key.into().into());
        self
    }

    /// As [`Submit::label`](super::Submit::label).
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.names.set_label(&label.into());
        self
    }

    /// Gives the task this long from its acceptance, the wait for a process included. Default, and `None`: no limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Gives the task this long from the moment the first stage takes it up. Default: no limit.
    pub fn work_timeout(mut self, timeout: Duration) -> Self {
        self.work_timeout = Some(timeout);
        self
    }
}

impl<I: Serialize + Send + 'static> Enqueue<'_, I> {
    async fn send(self) -> Result<Enqueued, TrySubmitError<I>> {
        let Enqueue {
            submitter,
            context,
            names,
            timeout,
            work_timeout,
        } = self;
        let node = match submitter.node().await {
            Ok(node) => node,
            Err(NoNode::Closed) => return Err(SubmitError::Closed(context).into()),
            Err(NoNode::Failed(_)) => return Err(SubmitError::Suspended(context).into()),
        };
        if node.is_full() {
            return Err(TrySubmitError::Full(context));
        }
        // The user's code, which may panic.
        let encoded = failure::catch(|| encode(&context))
            .unwrap_or_else(|panic| Err(panic_guard::shown(&panic)));
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(why) => {
                let why = format!("the context can't be encoded: {why}");
                return Err(SubmitError::Unrecorded(context, why.into()).into());
            }
        };
        let accepted = node.accept(NewTask {
            context: encoded,
            names,
            timeout,
            work_timeout,
        });
        let (task, error) = match accepted {
            Ok((task, recorded)) => match recorded.await {
                Ok(()) => {
                    panic_guard::drop_quietly(context);
                    let is_known = false;
                    return Ok(Enqueued { task, is_known });
                }
                Err(error) => (task, error),
            },
            Err(error) => (TaskId(0), error),
        };
        match error.why() {
            Why::Known(task) => {
                panic_guard::drop_quietly(context);
                let is_known = true;
                Ok(Enqueued { task, is_known })
            }
            Why::Conflict(owner) => Err(SubmitError::KeyConflict(context, owner).into()),
            Why::Refused => Err(SubmitError::Unrecorded(context, error.text()).into()),
            Why::Broken => {
                logging::warning!("task {task} may not be recorded: {error}");
                Err(SubmitError::Suspended(context).into())
            }
        }
    }
}

impl<'a, I: Serialize + Send + 'static> IntoFuture for Enqueue<'a, I> {
    type Output = Result<Enqueued, TrySubmitError<I>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
