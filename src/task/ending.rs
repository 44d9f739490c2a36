//! The end of a task: one thread decides it, and the holder lets go of the task.

use std::sync::atomic::Ordering;

use super::{
    details::EndReason,
    outcome::{End, StageName, StopCause},
    record::Task,
    state::{Event, Illegal, StageIx, State},
};
use crate::failure::Failure;

/// The reason why a task is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    Late,
    Cancel(StopCause),
    /// Another process has nothing to do.
    #[cfg(feature = "journal")]
    Release,
}

/// The place where a stop met a task, which says whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoppedAt {
    /// In a queue of this stage, on its way there, or in the batch of one of its workers.
    Queued(StageIx),
    /// On this worker.
    Running(StageIx, u32),
    /// Between two attempts, while the first one's undos run.
    Cleaning,
}

impl Task {
    /// Decides from outside that the task is to end; `None` when that was decided before. Its holder
    /// has to be told, and lets go of it.
    pub(crate) fn stop(&self, why: StopReason) -> Option<StoppedAt> {
        // Under the lock, so that a thread that sees the decision also finds the reason.
        let mut details = self.details();
        let (met, stage) = match self.state.stop()? {
            State::Queued(stage) => (StoppedAt::Queued(stage), stage),
            State::Running(stage) => {
                let worker = self.worker.load(Ordering::Relaxed);
                (StoppedAt::Running(stage, worker), stage)
            }
            State::Cleaning(stage) => (StoppedAt::Cleaning, stage),
            State::Stopping(_) | State::RollingBack | State::Ended => return None,
        };
        details.end = Some(Box::new(match why {
            StopReason::Late => EndReason::TimedOut(stage),
            StopReason::Cancel(cause) => EndReason::Cancelled(stage, cause),
            #[cfg(feature = "journal")]
            StopReason::Release => EndReason::Released,
        }));
        Some(met)
    }

    /// Lets go of a task whose end was decided; `false` if that was done before.
    pub(crate) fn let_go(&self, stage: StageIx) -> bool {
        let mut details = self.details();
        if self.apply(Event::Stopped(stage)).is_err() {
            return false;
        }
        // It may have gone on while it was being stopped.
        match details.end.as_deref_mut() {
            Some(EndReason::TimedOut(at) | EndReason::Cancelled(at, _)) => *at = stage,
            #[cfg(feature = "journal")]
            Some(EndReason::TakenBack | EndReason::Released) => {}
            Some(EndReason::Failed(..)) | None => {}
        }
        true
    }

    /// It goes on in another process.
    #[cfg(feature = "journal")]
    pub(crate) fn is_released(&self) -> bool {
        self.has_details() && matches!(self.details().end.as_deref(), Some(EndReason::Released))
    }

    /// Its end is another one than that it is done.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.has_details() && self.details().end.is_some()
    }

    /// Ends the task because its stage failed for good.
    pub(crate) fn fail(&self, stage: StageIx, failure: Failure) -> Result<State, Illegal> {
        let mut details = self.details();
        let state = self.apply(Event::Fail(stage))?;
        details.end = Some(Box::new(EndReason::Failed(stage, failure)));
        Ok(state)
    }

    /// Its end, if it has ended; `names` are its stages'.
    pub(crate) fn end(&self, names: &[StageName]) -> Option<End> {
        let name = |stage: StageIx| names[(stage as usize).min(names.len() - 1)].clone();
        match self.details().end.as_deref() {
            Some(EndReason::Failed(stage, failure)) => Some(End::Failed {
                stage: name(*stage),
                failure: failure.clone(),
            }),
            Some(EndReason::TimedOut(stage)) => Some(End::TimedOut {
                stage: name(*stage),
            }),
            Some(EndReason::Cancelled(stage, cause)) => Some(End::Cancelled {
                stage: name(*stage),
                cause: *cause,
            }),
            #[cfg(feature = "journal")]
            Some(EndReason::TakenBack) => Some(End::TakenBack),
            // Only a shutdown asks, which gives up a stage that it had begun after all, and that doesn't return.
            #[cfg(feature = "journal")]
            Some(EndReason::Released) => Some(End::Cancelled {
                stage: name(0),
                cause: StopCause::Shutdown,
            }),
            None => (self.state() == State::Ended).then_some(End::Done),
        }
    }
}
