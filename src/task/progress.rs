//! The progress of a task within a stage, as the stage tells it.

use super::{
    details::Progress,
    record::Task,
    state::{StageIx, State},
};

impl Task {
    /// Keeps the progress in place of the one before. `true` if it is the first one of its attempt; one of
    /// an attempt that the task has left is dropped.
    pub(crate) fn set_progress(&self, progress: Progress) -> bool {
        if !self.is_at(progress.stage, progress.attempt) {
            return false;
        }
        let (stage, attempt) = (progress.stage, progress.attempt);
        let new = Some(Box::new(progress));
        let mut details = self.details();
        let before = std::mem::replace(&mut details.progress, new);
        drop(details);
        before.is_none_or(|before| (before.stage, before.attempt) != (stage, attempt))
    }

    /// The progress that the stage has told of the attempt that is at work now.
    pub(crate) fn progress(&self) -> Option<Progress> {
        if !self.has_details() {
            return None;
        }
        let progress = self.details().progress.as_deref().cloned()?;
        self.is_at(progress.stage, progress.attempt)
            .then_some(progress)
    }

    /// This attempt of this stage is at work, whether the task's end is decided or not.
    fn is_at(&self, stage: StageIx, attempt: u32) -> bool {
        let at_work = [State::Running(stage), State::Stopping(stage)];
        at_work.contains(&self.state()) && self.attempt() == attempt
    }
}
