//! Stages from plain functions. They have no undo.

use std::marker::PhantomData;

use batrun::{Failure, Stage, TaskContext};

/// A stage that turns each context into something else. `name` is shown in reports and logs.
///
/// The function must not have an effect that outlives the task, because nothing takes it back. It
/// runs on the worker's arbiter; if it blocks or computes for long, call
/// [`.blocking()`](batrun::IntoWork::blocking). Each worker has a clone of it. There is nothing to
/// cancel within it: a task that is late or cancelled stops after it.
///
/// ```
/// use batrun::prelude::*;
/// use batrun_actors::{inspect, map, try_map};
///
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("ages")
///         .producer(from_iter(["31", "thirty"]))
///         .stage(try_map("parse", |age: &str| age.parse::<u32>()))
///         .stage(map("next", |age: u32| age + 1))
///         .stage(inspect("show", |age: &u32| println!("{age}")))
///         .run(),
/// )?;
/// assert_eq!((report.counts.done, report.counts.failed), (1, 1));
/// # Ok::<(), batrun::Error>(())
/// ```
pub fn map<I, O, F: FnMut(I) -> O>(name: impl Into<String>, function: F) -> Map<I, O, F> {
    Map(Function::new(name.into(), function))
}

/// A stage that turns each context into something else, or fails the task; otherwise like [`map`].
///
/// # Errors
/// An error of the function is the attempt's. It is retried by the stage's policy, unless it is a
/// [`Failure`] that is [permanent](Failure::permanent).
pub fn try_map<I, O, E, F>(name: impl Into<String>, function: F) -> TryMap<I, O, E, F>
where
    E: Into<Failure>,
    F: FnMut(I) -> Result<O, E>,
{
    TryMap(Function::new(name.into(), function))
}

/// A stage that looks at each context, which goes on unchanged: for counting, logging, tests.
/// Otherwise like [`map`].
pub fn inspect<I, F: FnMut(&I)>(name: impl Into<String>, function: F) -> Inspect<I, F> {
    Inspect(Function::new(name.into(), function))
}

/// The stage that [`map`] makes. It is `Clone` if its function is.
pub struct Map<I, O, F>(Function<fn(I) -> O, F>);

/// The stage that [`try_map`] makes. It is `Clone` if its function is.
pub struct TryMap<I, O, E, F>(Function<fn(I, E) -> O, F>);

/// The stage that [`inspect`] makes. It is `Clone` if its function is.
pub struct Inspect<I, F>(Function<fn(&I), F>);

impl<I, O, F: Clone> Clone for Map<I, O, F> {
    fn clone(&self) -> Self {
        Map(self.0.clone())
    }
}

impl<I, O, E, F: Clone> Clone for TryMap<I, O, E, F> {
    fn clone(&self) -> Self {
        TryMap(self.0.clone())
    }
}

impl<I, F: Clone> Clone for Inspect<I, F> {
    fn clone(&self) -> Self {
        Inspect(self.0.clone())
    }
}

struct Function<T, F> {
    name: String,
    call: F,
    types: PhantomData<T>,
}

impl<T, F> Function<T, F> {
    fn new(name: String, call: F) -> Self {
        Function {
            name,
            call,
            types: PhantomData,
        }
    }
}

// By hand, because a derived `Clone` would ask the contexts to be `Clone` as well.
impl<T, F: Clone> Clone for Function<T, F> {
    fn clone(&self) -> Self {
        Function::new(self.name.clone(), self.call.clone())
    }
}

impl<I, O, F> Stage for Map<I, O, F>
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnMut(I) -> O + 'static,
{
    type Input = I;
    type Output = O;
    type Undo = ();

    fn name(&self) -> String {
        self.0.name.clone()
    }

    async fn run(&mut self, input: I, _: &TaskContext<'_, ()>) -> Result<O, Failure> {
        Ok((self.0.call)(input))
    }
}

impl<I, O, E, F> Stage for TryMap<I, O, E, F>
where
    I: Send + 'static,
    O: Send + 'static,
    E: Into<Failure> + 'static,
    F: FnMut(I) -> Result<O, E> + 'static,
{
    type Input = I;
    type Output = O;
    type Undo = ();

    fn name(&self) -> String {
        self.0.name.clone()
    }

    async fn run(&mut self, input: I, _: &TaskContext<'_, ()>) -> Result<O, Failure> {
        (self.0.call)(input).map_err(Into::into)
    }
}

impl<I, F> Stage for Inspect<I, F>
where
    I: Send + 'static,
    F: FnMut(&I) + 'static,
{
    type Input = I;
    type Output = I;
    type Undo = ();

    fn name(&self) -> String {
        self.0.name.clone()
    }

    async fn run(&mut self, input: I, _: &TaskContext<'_, ()>) -> Result<I, Failure> {
        (self.0.call)(&input);
        Ok(input)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use batrun::prelude::*;
    use futures::stream;

    use super::*;
    use crate::from_stream;

    /// A context that is neither `Clone` nor `Sync`: neither is asked for.
    struct Age(std::cell::Cell<u32>);

    #[test]
    fn functions_are_stages_and_a_stream_is_a_producer() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let report = actix_rt::System::new()
            .block_on(
                Pipeline::new("functions")
                    .producer(from_stream(stream::iter(["1", "x", "3"])))
                    .stage(try_map("parse", |age: &str| age.parse::<u32>()).workers(2))
                    .stage(map("wrap", |age: u32| Age(age.into())))
                    .stage(inspect("keep", move |age: &Age| {
                        keep.lock().unwrap().push(age.0.get());
                    }))
                    .current_arbiter()
                    .run(),
            )
            .unwrap();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, [1, 3]);
        assert_eq!((report.counts.done, report.counts.failed), (2, 1));
        let names: Vec<_> = report.stages.iter().map(|stage| &*stage.name).collect();
        assert_eq!(names, ["parse", "wrap", "keep"]);
    }

    #[test]
    fn a_permanent_failure_is_not_tried_again() {
        let calls = Arc::new(Mutex::new(0));
        let count = calls.clone();
        let refuse = try_map("refuse", move |(): ()| -> Result<(), Failure> {
            *count.lock().unwrap() += 1;
            Err(Failure::permanent("no"))
        });
        let report = actix_rt::System::new()
            .block_on(
                Pipeline::new("functions")
                    .producer(from_iter([()]))
                    .stage(refuse.retry(Retry::exponential(3)))
                    .run(),
            )
            .unwrap();
        assert_eq!(report.counts.failed, 1);
        assert_eq!(*calls.lock().unwrap(), 1);
    }

    #[test]
    fn f26_functions_are_stages_of_a_pipeline_with_a_journal() {
        let disk = batrun::testing::Disk::new();
        let outcome = actix_rt::System::new().block_on(async {
            let journal = disk.journal(batrun::journal::Durability::Power).unwrap();
            let handle = Pipeline::new("functions")
                .journal(journal)
                .stage(try_map("parse", |age: String| age.parse::<u32>()))
                .stage(map("next", |age: u32| age + 1))
                .stage(inspect("show", |_: &u32| {}))
                .start()
                .await
                .unwrap();
            let ticket = handle.submit("7".to_owned()).await.unwrap();
            ticket.outcome().await.unwrap()
        });
        assert_eq!(outcome.output, Some(8));
    }
}
