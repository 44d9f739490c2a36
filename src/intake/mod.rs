//! Where tasks come in.

mod now;
mod slip;
mod submit;
mod terms;
mod tray;

use std::sync::Arc;

pub use self::submit::Submit;
pub(crate) use self::{slip::Slip, terms::Terms, tray::keep};
use crate::{core::Core, error::TrySubmitError, message::ToReporter, ticket::Ticket};

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
    /// [`SubmitError`](crate::SubmitError), with the context in it.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it leaves the task unaccepted; with a [`Ledger`](crate::Ledger)
    /// the task may have been recorded and is then cancelled, or goes on if it has a
    /// [key](Submit::key).
    pub fn submit(&self, context: C) -> Submit<'_, C> {
        Submit::new(&self.slip, context, Terms::new(false))
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
