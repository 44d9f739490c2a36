//! The contract between a pipeline and the stages in it, and the settings of a stage.
//!
//! | to have | use |
//! |---|---|
//! | a stage that is a type | [`Stage`] |
//! | a stage that is a function | [`stage_fn`] |
//! | a stage that is an actix actor of yours | [`Work::actor`] |
//! | settings: workers, retries, timeouts | [`IntoWork`] |
//! | what a call is told of its task | [`TaskContext`], [`CancelContext`] |

pub(crate) mod context;
pub(crate) mod undo_registration;
pub(crate) mod config;
pub(crate) mod durability;
pub(crate) mod stage_fn;
pub(crate) mod actor_stage;
pub(crate) mod error;
#[cfg(feature = "tracing")]
pub(crate) mod traced;

use std::{fmt::Debug, future::Future};

pub use actor_stage::{ActorStage, Cancel, CancelReply, Reply};
pub use config::{CloneForEachWorker, IntoWork, Work};
pub use context::{CancelContext, Registered, StopSignal, TaskContext};
#[cfg(feature = "journal")]
pub use durability::{Durable, Kept};
pub use durability::{Keeps, Volatile};
pub use error::UndoError;
pub use stage_fn::{CancelWith, NoCancel, StageFn, stage_fn};

pub(crate) use config::{CopyInput, StageConfig, StageFactory};
pub(crate) use context::Watch;

use crate::failure::Failure;

/// One step of a pipeline: the work on a task there, and the way to undo it.
///
/// A pool of workers runs it, each with a value of its own (`&mut self`), so a connection or a
/// buffer lives in the value. Neither future needs to be `Send`.
///
/// # The contract
/// - **Intent first.** Register the undo, then have the effect:
///   `task.on_cancel(undo).await?`. If it returns an error, leave the effect out.
/// - **An effect that a drop can't stop is shielded.** At its deadline, or when it is cancelled, a
///   task's future is dropped at its next `.await`. Work that was handed on by then
///   (`spawn_blocking`, most of `tokio::fs`, a request already sent) may still take effect, after
///   its undo has run. Put it into [`task.shield(..)`](TaskContext::shield), or use `std::fs` and the
///   like in a [`.blocking()`](crate::IntoWork::blocking) stage.
/// - **An undo copes** with an effect that never, partly or already happened, and may run more than
///   once.
/// - **An effect of somebody else's is left alone**: [withdraw](Registered::withdraw) the undo.
/// - **A stage that blocks says so**, with [`BLOCKING`](Self::BLOCKING) or
///   [`.blocking()`](crate::IntoWork::blocking), and looks at
///   [`is_stopping`](TaskContext::is_stopping) if it takes long.
/// - **A stage never waits for room in its own pipeline**: all workers may wait for each other. Use
///   [`try_submit`](crate::Intake::try_submit) there.
///
/// The [guide](crate::guide::stages) has each rule broken once and kept once, and
/// [shows](crate::guide::testing) how a test finds out.
///
/// ```
/// use std::{fs, io::ErrorKind, path::PathBuf};
/// use batrun::prelude::*;
///
/// #[derive(Clone)]
/// struct CreateDirectory { root: PathBuf }
///
/// impl Stage for CreateDirectory {            // to be used as a `.blocking()` stage
///     type Input = String;
///     type Output = String;
///     type Undo = PathBuf;
///
///     async fn run(&mut self, name: String, task: &TaskContext<'_, PathBuf>) -> Result<String, Failure> {
///         let home = self.root.join(&name);
///         let undo = task.on_cancel(home.clone()).await?;             // intent first
///         match fs::create_dir(&home) {                               // then the effect
///             Err(e) if e.kind() == ErrorKind::AlreadyExists => {
///                 undo.withdraw().await?;                             // not ours: leave it
///                 Err(Failure::permanent(e))
///             }
///             other => { other?; Ok(name) }
///         }
///     }
///
///     async fn cancel(&mut self, home: PathBuf, _: &CancelContext<'_>) -> Result<(), Failure> {
///         match fs::remove_dir(home) {
///             Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
///             other => Ok(other?),
///         }
///     }
/// }
/// ```
///
/// Wrong: the effect first. It compiles, but a deadline that falls between the two lines leaves a
/// directory that nobody removes.
///
/// ```
/// # use std::{fs, path::PathBuf};
/// # use batrun::prelude::*;
/// # async fn wrong(home: PathBuf, task: &TaskContext<'_, PathBuf>) -> Result<(), Failure> {
/// fs::create_dir(&home)?;
/// task.on_cancel(home).await?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stage",
    label = "not a `Stage`",
    note = "a stage is a type that implements `Stage`, or a function: `stage_fn(name, async |input: In, task: &TaskContext<Undo>| ..)`",
    note = "a factory of stages that may fail is given to `Work::try_with`"
)]
pub trait Stage: 'static {
    /// Its input: the pipeline's own for the first stage, else the previous stage's output.
    type Input: Send + 'static;
    /// Its output: the next stage's input, or what the ticket gets.
    type Output: Send + 'static;
    /// All that [`cancel`](Self::cancel) needs to know about an effect: data, so that it can be kept.
    /// `()` for a stage that has none. The report of a stuck task shows its `Debug`, so keep secrets
    /// out of that.
    type Undo: Clone + Debug + Send + 'static;

    /// `true` if it blocks its thread, so that each worker needs one of its own; see
    /// [`blocking`](crate::IntoWork::blocking). Default: `false`.
    const BLOCKING: bool = false;

    /// The name in reports and logs; [`named`](crate::IntoWork::named) goes before it. Default: the
    /// type's name, without path and parameters.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Does the work.
    ///
    /// # Errors
    /// A [`Failure`] is [retried](crate::IntoWork::retry) as the stage's policy says, once the undos
    /// of this attempt have run. A [permanent](Failure::permanent) one, or the last one, fails the
    /// task, which is rolled back.
    ///
    /// # Panics
    /// A panic is caught and fails the task; the value is rebuilt. It is not retried.
    ///
    /// # Cancel safety
    /// The future is dropped at an `.await` when the task is late or cancelled, except within
    /// [`shield`](TaskContext::shield); the value is then rebuilt, unless the stage says
    /// [`keep_on_abort`](crate::IntoWork::keep_on_abort).
    fn run(
        &mut self,
        input: Self::Input,
        task: &TaskContext<'_, Self::Undo>,
    ) -> impl Future<Output = Result<Self::Output, Failure>>;

    /// Runs an undo: removes the effect that it was registered for. Default: does nothing.
    ///
    /// It may run on another worker's value than [`run`](Self::run) did, or on a spare one, so
    /// everything that it needs is in the undo.
    ///
    /// # Errors
    /// A [`Failure`] or a panic is a failed try. It is repeated as
    /// [`cancel_retry`](crate::IntoWork::cancel_retry) says; after the last one the task is
    /// [stuck](crate::policy::OnStuck).
    ///
    /// # Cancel safety
    /// Dropped at an `.await` when [`cancel_timeout`](crate::IntoWork::cancel_timeout) has passed,
    /// and then tried again.
    fn cancel(
        &mut self,
        undo: Self::Undo,
        cancel: &CancelContext<'_>,
    ) -> impl Future<Output = Result<(), Failure>> {
        let _ = (undo, cancel);
        async { Ok(()) }
    }
}
