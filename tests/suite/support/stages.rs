//! Stages that do what their task says, and stages that note the undos they run.

use std::future::pending;

use batrun::prelude::*;

use super::{Notes, sleep};

/// The behaviour of a task in a stage that calls [`act`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    Pass,
    Fail,
    Panic,
    Hang,
    Take(u64),
}

pub async fn act(what: Do) -> Result<Do, Failure> {
    match what {
        Do::Pass => Ok(what),
        Do::Fail => Err(Failure::permanent("no")),
        Do::Panic => panic!("boom"),
        Do::Hang => pending().await,
        Do::Take(millis) => {
            sleep(millis).await;
            Ok(what)
        }
    }
}

/// A stage that does what its task says and registers nothing.
pub fn acting(name: &str) -> impl Stage<Input = Do, Output = Do, Undo = ()> + Clone + Send + use<> {
    stage_fn(name, async |what: Do, _: &TaskContext<'_, ()>| {
        act(what).await
    })
}

/// A stage whose undos are texts; each that runs is noted as `undid <undo>`.
pub fn noted<I, O, R>(
    name: &str,
    notes: &Notes,
    run: R,
) -> impl Stage<Input = I, Output = O, Undo = String> + Clone + Send + use<I, O, R>
where
    I: Send + 'static,
    O: Send + 'static,
    R: for<'a, 'b> AsyncFnMut(I, &'a TaskContext<'b, String>) -> Result<O, Failure>
        + Clone
        + Send
        + 'static,
{
    let notes = notes.clone();
    stage_fn(name, run).cancel_with(async move |undo: String, _: &CancelContext<'_>| {
        notes.note(format!("undid {undo}"));
        Ok(())
    })
}
