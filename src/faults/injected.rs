//! A stage to which faults and repeats happen.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Faults,
    fault::{Call, CurrentCall, When},
};
use crate::{
    failure::Failure,
    panic_guard,
    stage::{CancelContext, Stage, TaskContext},
};

/// A stage to which faults and repeats happen.
pub(crate) struct Injected<S> {
    pub(crate) stage: S,
    pub(crate) faults: Arc<Faults>,
}

impl<S: Stage> Stage for Injected<S> {
    type Input = S::Input;
    type Output = S::Output;
    type Undo = S::Undo;

    const BLOCKING: bool = S::BLOCKING;

    async fn run(
        &mut self,
        input: S::Input,
        task: &TaskContext<'_, S::Undo>,
    ) -> Result<S::Output, Failure> {
        let repeat = &self.faults.repeat;
        let now = CurrentCall {
            call: Call::Run,
            stage: task.stage(),
            attempt: task.attempt(),
            task: task.task_id(),
        };
        self.faults.befall(When::Before, &now).await?;
        let output = self.stage.run(input, task).await?;
        self.faults.befall(When::After, &now).await?;
        if repeat.runs && now.attempt == 1 {
            repeat.seen.runs.fetch_add(1, Ordering::SeqCst);
            return Err(Failure::new("repeated by the test"));
        }
        Ok(output)
    }

    async fn cancel(&mut self, undo: S::Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        let repeat = &self.faults.repeat;
        let now = CurrentCall {
            call: Call::Cancel,
            stage: cancel.stage(),
            attempt: cancel.attempt(),
            task: cancel.task_id(),
        };
        self.faults.befall(When::Before, &now).await?;
        if repeat.cancels {
            self.stage.cancel(undo.clone(), cancel).await?;
            let seen = &repeat.seen;
            seen.cancels.fetch_add(1, Ordering::SeqCst);
            let again = self.stage.cancel(undo, cancel).await;
            if let Err(failure) = &again {
                // Printed before the lock is taken: that is the user's code.
                let failure = panic_guard::shown(failure);
                let text = format!("task {} {}: {failure}", now.task, now.stage);
                panic_guard::lock(&seen.refused).get_or_insert(text);
            }
            again?;
        } else {
            self.stage.cancel(undo, cancel).await?;
        }
        self.faults.befall(When::After, &now).await
    }
}
