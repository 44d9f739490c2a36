//! What a stage is: the contract between the pipeline and the user's code.

mod context;
mod registering;

use std::{fmt::Debug, future::Future};

pub use self::context::{CancelContext, Registered, StopSignal, TaskContext};
pub(crate) use self::{
    context::{Watch, is_stopping, key},
    registering::{register, settle, withdraw},
};
use crate::Failure;

/// One step of a pipeline: what is done to a task there, and how it is taken back.
///
/// A pool of workers runs it, each with a value of its own (`&mut self`), so a connection or a
/// buffer lives in the value. Neither future needs to be `Send`.
///
/// # The contract
/// - **Intent first.** Register the undo, then have the effect:
///   `task.on_cancel(undo).await?`. Where it returns an error, leave the effect.
/// - **An effect that a drop can't stop is shielded.** At its deadline, or when it is cancelled, a
///   task's future is dropped at its next `.await`. What was handed on by then (`spawn_blocking`,
///   most of `tokio::fs`, a request already sent) may still take effect, after its undo was
///   cancelled. Put it into [`task.shield(..)`](TaskContext::shield), or use `std::fs` and the like
///   in a [`.blocking()`](crate::IntoWork::blocking) stage.
/// - **A cancel copes** with an effect that never, partly or already happened, and may be called
///   more than once for the same undo.
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
/// Wrong: the effect first. A deadline that falls between the two lines leaves a directory that
/// nobody removes.
/// ```ignore
/// fs::create_dir(&home)?;
/// task.on_cancel(home).await?;
/// ```
pub trait Stage: 'static {
    /// What it takes: the pipeline's input, or the previous stage's output.
    type Input: Send + 'static;
    /// What it hands on.
    type Output: Send + 'static;
    /// What it needs to know to take an effect back: data, so that it can be kept. `()` for a
    /// stage that has none.
    type Undo: Clone + Debug + Send + 'static;

    /// Whether it blocks its thread, so that each worker needs one of its own; see
    /// [`blocking`](crate::IntoWork::blocking).
    const BLOCKING: bool = false;

    /// The name in reports and logs: the type's own, unless told otherwise here or with
    /// [`named`](crate::IntoWork::named).
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Does the work.
    ///
    /// # Errors
    /// A [`Failure`] is retried as the stage's policy says; a
    /// [permanent](Failure::permanent) one, or the last one, fails the task. A panic is caught and
    /// fails the task.
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

    /// Takes back what this undo stands for. Does nothing unless the stage says what.
    ///
    /// It may run on another worker's value than the run did, or on a spare one: what it needs to
    /// know is in the undo.
    ///
    /// # Errors
    /// A [`Failure`] or a panic is a failed cancel: tried again by the stage's cancel policy, then
    /// [stuck](crate::OnStuck).
    ///
    /// # Cancel safety
    /// Dropped at an `.await` when its timeout has passed, and then tried again.
    fn cancel(
        &mut self,
        undo: Self::Undo,
        cancel: &CancelContext<'_>,
    ) -> impl Future<Output = Result<(), Failure>> {
        let _ = (undo, cancel);
        async { Ok(()) }
    }
}
