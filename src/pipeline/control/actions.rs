//! The actions of a [`Control`]. Nothing here waits.

use std::sync::Arc;

use super::Control;
use crate::{
    error::{Error, RetryError},
    policy::{RateLimit, Shutdown},
    shared::{Shared, messages::ToReporter},
    task::{StopCause, TaskId},
};

impl Control {
    /// The pipeline, unless it is to end: a shutdown lifts every pause.
    fn open(&self) -> Result<Arc<Shared>, Error> {
        let shared = self.running()?;
        match shared.table.refused() {
            None => Ok(shared),
            Some(_) => Err(Error::Ended),
        }
    }

    /// Stops all stages from starting work on a task, until [`resume`](Self::resume). Work that has begun goes
    /// on, and so do deadlines, cancels, rollbacks and `submit`.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub fn pause(&self) -> Result<(), Error> {
        self.open()?.pause();
        Ok(())
    }

    /// Ends a [`pause`](Self::pause). Stages that are [paused by themselves](Self::pause_stage) stay so.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub fn resume(&self) -> Result<(), Error> {
        self.open()?.resume();
        Ok(())
    }

    /// Stops one stage from starting work on a task, until [`resume_stage`](Self::resume_stage). Its queue fills
    /// up, and once it is full, the stages before it wait. Its undos run all the same. A shutdown resumes it.
    ///
    /// A worker that has several tasks starts no other one; it hands the rest back.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::Ended`].
    pub fn pause_stage(&self, stage: &str) -> Result<(), Error> {
        self.open()?.pause_stage(stage, true)
    }

    /// Ends a [`pause_stage`](Self::pause_stage). While the whole pipeline is paused, the stage still waits.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::Ended`].
    pub fn resume_stage(&self, stage: &str) -> Result<(), Error> {
        self.open()?.pause_stage(stage, false)
    }

    /// Gives a stage another number of workers, 1 to 100,000, as
    /// [`PipelineHandle::resize`](crate::PipelineHandle::resize) does.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::ZeroWorkers`], [`Error::TooManyWorkers`], [`Error::FixedSize`] for a
    /// stage that is an actor of yours, [`Error::Ended`].
    pub fn resize(&self, stage: &str, workers: usize) -> Result<(), Error> {
        self.running()?.resize(stage, workers)
    }

    /// Gives a stage another limit on the attempts that it starts, or none. The new one counts from now on: one
    /// attempt may start at once, or a [burst](RateLimit::burst). Tasks that a worker has already start as they
    /// would have.
    ///
    /// # Errors
    /// [`Error::NoSuchStage`], [`Error::Build`] for a limit of zero, [`Error::Ended`].
    pub fn set_rate(&self, stage: &str, rate: Option<RateLimit>) -> Result<(), Error> {
        self.running()?.set_rate(stage, rate)
    }

    /// Cancels a task: it stops, and its undos run. `true` if this call decided the task's end; `false` if it had
    /// ended, or was about to, for another reason.
    pub fn cancel(&self, task: TaskId) -> bool {
        self.shared().is_some_and(|shared| {
            let found = shared.table.find(task);
            found.is_some_and(|task| shared.cancel(&task, StopCause::User))
        })
    }

    /// Has the undos that are left of a stuck task run again, as
    /// [`PipelineHandle::retry`](crate::PipelineHandle::retry) does.
    ///
    /// # Errors
    /// [`RetryError`] names the task and says why not; it stays as it was.
    pub fn retry(&self, task: TaskId) -> Result<(), RetryError> {
        match self.shared() {
            Some(shared) => shared.retry(task),
            None => Err(RetryError::Closed(task)),
        }
    }

    /// Takes a task off the list of [`stuck`](Self::stuck) ones, because a person has dealt with it. Its undos
    /// don't run. `false` if it wasn't there, or if it stays because that can't be recorded: the pipeline has
    /// ended, or its journal has failed.
    pub fn resolve(&self, task: TaskId) -> bool {
        self.shared().is_some_and(|shared| shared.resolve(task))
    }

    /// Ends the pipeline, and returns at once. Called again, it may only hasten the end.
    /// [`report`](Self::report) has the final report once it is there, [`wait`](Self::wait) waits for it.
    ///
    /// # Errors
    /// [`Error::Ended`] if the pipeline has ended.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        let shared = self.running()?;
        shared.tell_reporter(ToReporter::ShutDown(how));
        Ok(())
    }
}
