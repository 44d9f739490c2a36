//! The settings of a pipeline with a journal.

use std::marker::PhantomData;

use super::Pipeline;
use crate::{journal::Journal, policy::Recovery, stage::Durable};

/// A pipeline whose stages are still to come.
///
/// It is there for the compiler's message about a journal that comes after them.
#[diagnostic::on_unimplemented(
    message = "`.journal(..)` comes after a stage",
    label = "say it before the first `.stage(..)`, so that each stage is checked for it"
)]
pub trait BeforeStages {}

impl<I: Send + 'static> BeforeStages for Pipeline<I, I> {}

impl<I: Send + 'static, C: Send + 'static> Pipeline<I, C> {
    /// Records everything in a [`Journal`], so that a crash loses nothing. Default: none.
    ///
    /// Say it before the stages, whose inputs, outputs and undos must then be
    /// `Serialize + DeserializeOwned`. See the [guide](crate::guide::journal).
    pub fn journal(self, journal: Journal) -> Pipeline<I, C, Durable>
    where
        Self: BeforeStages,
    {
        let mut parts = self.parts;
        parts.options.journal = Some(journal);
        Pipeline {
            parts,
            durability: PhantomData,
        }
    }
}

impl<I: Send + 'static, C: Send + 'static> Pipeline<I, C, Durable> {
    /// The way to treat the tasks that an earlier process has left. Default: [`Recovery::Resume`].
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.parts.options.recovery = recovery;
        self
    }

    /// Keeps the undos of a task with a [key](crate::submit::Submit::key) that is done, as long as its
    /// outcome, so that it can be [taken back](crate::PipelineHandle::take_back) later. Default: they are dropped
    /// once the task is done.
    ///
    /// The undos of a kept task take up room in the journal's file, and none in memory.
    pub fn keep_undos(mut self) -> Self {
        self.parts.options.keep_undos = true;
        self
    }

    /// The number of kills of the process at which a task is left alone: one whose stage was at work at as
    /// many fails, and one of whose undos was running at as many is left for a person. Default: 3.
    ///
    /// From two kills on (or one less than the limit, if that is fewer) a task is a suspect. Suspects go on
    /// one at a time, each once the one before has its outcome, so that a task that brings the process down
    /// each time doesn't fail the other tasks: of ten with one such, nine are done. Meanwhile those that wait
    /// can be cancelled and run into their deadlines. With a limit of 1 there are none, and whatever was at
    /// work at a kill fails.
    pub fn crash_limit(mut self, kills: u32) -> Self {
        self.parts.options.crash_limit = kills;
        self
    }
}
