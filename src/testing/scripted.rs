//! Stages that do as they are told.

use std::{future::pending, marker::PhantomData, sync::Arc, time::Duration};

use super::recorder::Recorder;
use crate::{
    failure::Failure,
    stage::{CancelContext, Stage, TaskContext},
};

/// The act of a [`scripted`] stage, once it has had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Hand the task on.
    Pass,
    /// Fail in a way that may be tried again.
    Fail,
    /// Fail for good.
    FailForGood,
    /// Panic.
    Panic,
    /// Never return: a deadline, a timeout or a cancel ends it.
    Hang,
    /// Wait for this long, then hand the task on.
    Slow(Duration),
}

impl Act {
    async fn play(self, stage: &str) -> Result<(), Failure> {
        match self {
            Act::Pass => Ok(()),
            Act::Fail => Err(Failure::new(format!("{stage} fails by its script"))),
            Act::FailForGood => Err(Failure::permanent(format!("{stage} fails by its script"))),
            Act::Panic => panic!("{stage} panics by its script"),
            Act::Hang => pending().await,
            Act::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }
}

/// A stage that does as its script says for each input and attempt (from 1). It registers an undo,
/// records an effect named like the stage, then acts; its undo is recorded, too.
///
/// ```
/// use batrun::{prelude::*, testing::{Act, Recorder, scripted}};
///
/// // Fails at its first attempt, and then passes.
/// let world = Recorder::new();
/// let flaky = scripted("flaky", &world, |_: &u32, attempt| match attempt {
///     1 => Act::Fail,
///     _ => Act::Pass,
/// })
/// .retry(Retry::constant(1, std::time::Duration::ZERO));
/// # let _ = flaky;
/// ```
pub fn scripted<I>(
    name: impl Into<String>,
    recorder: &Recorder,
    script: impl Fn(&I, u32) -> Act + Send + Sync + 'static,
) -> Scripted<I> {
    Scripted {
        name: name.into(),
        recorder: recorder.clone(),
        run: Arc::new(script),
        cancel: Arc::new(|_| Act::Pass),
        input: PhantomData,
    }
}

/// The act for an input at each attempt.
type Script<I> = dyn Fn(&I, u32) -> Act + Send + Sync;

/// A stage that does as it is told; made by [`scripted`].
pub struct Scripted<I> {
    name: String,
    recorder: Recorder,
    run: Arc<Script<I>>,
    cancel: Arc<dyn Fn(u32) -> Act + Send + Sync>,
    input: PhantomData<fn(I) -> I>,
}

impl<I> Scripted<I> {
    /// Sets the act of its undos at each try (from 1), before they are recorded. Default:
    /// [`Act::Pass`].
    pub fn cancels(mut self, script: impl Fn(u32) -> Act + Send + Sync + 'static) -> Self {
        self.cancel = Arc::new(script);
        self
    }
}

impl<I> Clone for Scripted<I> {
    fn clone(&self) -> Self {
        Scripted {
            name: self.name.clone(),
            recorder: self.recorder.clone(),
            run: self.run.clone(),
            cancel: self.cancel.clone(),
            input: PhantomData,
        }
    }
}

impl<I: Send + 'static> Stage for Scripted<I> {
    type Input = I;
    type Output = I;
    type Undo = String;

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn run(&mut self, input: I, task: &TaskContext<'_, String>) -> Result<I, Failure> {
        task.on_cancel(self.name.clone()).await?;
        self.recorder.effect(task, &self.name);
        let act = (self.run)(&input, task.attempt());
        act.play(&self.name).await?;
        Ok(input)
    }

    async fn cancel(&mut self, undo: String, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        (self.cancel)(cancel.attempt()).play(&self.name).await?;
        self.recorder.cancel(cancel, undo);
        Ok(())
    }
}
