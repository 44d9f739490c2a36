//! What the tests share: a world whose clock stands still, and a journal of what stages did.

use std::{
    fmt::Display,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::{Outcome, prelude::*};
use tokio::time::Instant;

pub use batrun::testing::{live, paused as still};

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, what: impl Display) {
        self.0.lock().unwrap().push(what.to_string());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Whether this is among it.
    pub fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line == what)
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Those that begin so, without that beginning.
    pub fn of(&self, beginning: &str) -> Vec<String> {
        self.all()
            .iter()
            .filter_map(|line| line.strip_prefix(beginning))
            .map(str::to_owned)
            .collect()
    }
}

/// What a task is to do in a stage that calls [`act`].
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

/// A stage whose undos are texts; each cancel is noted as `undid <undo>`.
pub fn noted<I, O, R>(
    name: &str,
    journal: &Journal,
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
    let journal = journal.clone();
    stage_fn(name, run).cancel_with(async move |undo: String, _: &CancelContext<'_>| {
        journal.note(format!("undid {undo}"));
        Ok(())
    })
}

/// An outcome in a line, without the task's number.
pub fn told<O>(outcome: &Outcome<O>) -> String {
    format!("{}; {}", outcome.end, outcome.rollback)
}

/// Milliseconds that have passed since then, on the clock that may stand still.
pub fn since(then: Instant) -> u128 {
    then.elapsed().as_millis()
}

/// Waits, in real time, until something another thread does is seen.
pub async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is() {
            return;
        }
        sleep(1).await;
    }
    panic!("it did not come about within ten seconds");
}
