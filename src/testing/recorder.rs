//! A world of words: the effects that took place, and those that were undone.

use std::{
    fmt::{self, Debug, Display},
    sync::{Arc, Mutex},
};

use crate::{
    panic_guard,
    stage::{CancelContext, TaskContext},
    task::{StageName, TaskId},
};

/// A world to test in: records effects and undos, in the order in which they took place. Clones share
/// one record.
///
/// ```
/// use batrun::{prelude::*, testing::{Harness, Recorder, paused}};
///
/// let world = Recorder::new();
/// let (run, cancel) = (world.clone(), world.clone());
/// let seat = stage_fn("seat", async move |n: u32, task: &TaskContext<u32>| {
///     task.on_cancel(n).await?;
///     run.effect(task, n);
///     Ok(n)
/// })
/// .cancel_with(async move |n: u32, task: &CancelContext| Ok(cancel.cancel(task, n)));
/// paused(async { Harness::new(seat).await.take_back(7).await });
/// assert_eq!(world.lines(), ["task 1 seat: effect 7", "task 1 seat: cancel 7"]);
/// assert!(world.left().is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Noted>>>);

#[derive(Clone)]
struct Noted {
    stage: StageName,
    task: TaskId,
    what: What,
    thing: String,
}

/// An effect, or its undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// It took place.
    Effect,
    /// It was undone.
    Cancel,
}

impl Recorder {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something takes place. Say so where your stage has its effect, after `on_cancel`.
    pub fn effect<U: Clone + Debug + Send + 'static>(
        &self,
        task: &TaskContext<'_, U>,
        thing: impl Display,
    ) {
        let id = task.task_id();
        self.note(task.stage(), id, What::Effect, thing.to_string());
    }

    /// Something is undone. Say so in your stage's `cancel`, with the same thing.
    pub fn cancel(&self, cancel: &CancelContext<'_>, thing: impl Display) {
        let id = cancel.task_id();
        self.note(cancel.stage(), id, What::Cancel, thing.to_string());
    }

    fn note(&self, stage: &str, task: TaskId, what: What, thing: String) {
        panic_guard::lock(&self.0).push(Noted {
            stage: stage.into(),
            task,
            what,
            thing,
        });
    }

    /// Everything, in order, a line each: `task 1 reserve: effect seat 7`.
    pub fn lines(&self) -> Vec<String> {
        let noted = panic_guard::lock(&self.0);
        noted.iter().map(Noted::to_string).collect()
    }

    /// The effects and undos of one task, in order, each with its thing.
    pub fn of(&self, task: TaskId) -> Vec<(What, String)> {
        let noted = panic_guard::lock(&self.0);
        let its = noted.iter().filter(|noted| noted.task == task);
        its.map(|noted| (noted.what, noted.thing.clone())).collect()
    }

    /// The effects that weren't undone, in the order of tasks, then of things: the world as it is now.
    /// An undo removes each effect of its task, stage and thing that came before it; one of something
    /// that never took place does nothing.
    pub fn left(&self) -> Vec<(TaskId, String)> {
        let noted = panic_guard::lock(&self.0);
        let mut left: Vec<&Noted> = Vec::new();
        for now in noted.iter() {
            match now.what {
                What::Effect => left.push(now),
                What::Cancel => left.retain(|then| {
                    (then.task, &then.stage, &then.thing) != (now.task, &now.stage, &now.thing)
                }),
            }
        }
        let mut left: Vec<_> = left
            .iter()
            .map(|noted| (noted.task, noted.thing.clone()))
            .collect();
        left.sort();
        left
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Effect => "effect",
            What::Cancel => "cancel",
        };
        write!(
            f,
            "task {} {}: {what} {}",
            self.task, self.stage, self.thing
        )
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}
