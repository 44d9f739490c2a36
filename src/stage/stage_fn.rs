//! Stages made of functions.

use std::{fmt::Debug, marker::PhantomData};

use super::{
    Stage,
    context::{CancelContext, TaskContext},
};
use crate::failure::Failure;

/// A stage made of an async function; [`cancel_with`](StageFn::cancel_with) adds its undo.
///
/// The function is `Clone + Send` if what it captures is, and is then cloned for each worker. It may
/// keep state of its own between calls (`AsyncFnMut`). The name is for reports and logs.
///
/// ```
/// use batrun::prelude::*;
///
/// let reserve = stage_fn("reserve", async |seats: u32, task: &TaskContext<u32>| {
///     task.on_cancel(seats).await?;
///     Ok(seats)
/// })
/// .cancel_with(async |seats: u32, _: &CancelContext| {
///     println!("{seats} seats are free again");
///     Ok(())
/// });
/// # let _ = reserve.workers(2);
/// ```
pub fn stage_fn<I, O, U, R>(name: impl Into<String>, run: R) -> StageFn<I, O, U, R, NoCancel>
where
    R: for<'a, 'b> AsyncFnMut(I, &'a TaskContext<'b, U>) -> Result<O, Failure>,
{
    StageFn {
        name: name.into(),
        run,
        cancel: NoCancel(()),
        types: PhantomData,
    }
}

/// A stage made of functions; made by [`stage_fn`].
pub struct StageFn<I, O, U, R, C> {
    name: String,
    run: R,
    cancel: C,
    types: PhantomData<fn(I, U) -> O>,
}

/// The undo of a [`StageFn`] that has none: it does nothing.
#[derive(Clone)]
pub struct NoCancel(());

/// The undo of a [`StageFn`] that [`cancel_with`](StageFn::cancel_with) has added.
#[derive(Clone)]
pub struct CancelWith<C>(C);

impl<I, O, U, R> StageFn<I, O, U, R, NoCancel> {
    /// Adds the function that runs an undo of this stage, as [`Stage::cancel`] does: it copes with
    /// an effect that never, partly or already happened, and may be called more than once.
    pub fn cancel_with<C>(self, cancel: C) -> StageFn<I, O, U, R, CancelWith<C>>
    where
        C: for<'a, 'b> AsyncFnMut(U, &'a CancelContext<'b>) -> Result<(), Failure>,
    {
        let StageFn {
            name, run, types, ..
        } = self;
        StageFn {
            name,
            run,
            cancel: CancelWith(cancel),
            types,
        }
    }
}

impl<I, O, U, R: Clone, C: Clone> Clone for StageFn<I, O, U, R, C> {
    fn clone(&self) -> Self {
        let (name, run, cancel) = (self.name.clone(), self.run.clone(), self.cancel.clone());
        StageFn {
            name,
            run,
            cancel,
            types: PhantomData,
        }
    }
}

impl<I, O, U, R> Stage for StageFn<I, O, U, R, NoCancel>
where
    I: Send + 'static,
    O: Send + 'static,
    U: Clone + Debug + Send + 'static,
    R: for<'a, 'b> AsyncFnMut(I, &'a TaskContext<'b, U>) -> Result<O, Failure> + 'static,
{
    type Input = I;
    type Output = O;
    type Undo = U;

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn run(&mut self, input: I, task: &TaskContext<'_, U>) -> Result<O, Failure> {
        (self.run)(input, task).await
    }
}

impl<I, O, U, R, C> Stage for StageFn<I, O, U, R, CancelWith<C>>
where
    I: Send + 'static,
    O: Send + 'static,
    U: Clone + Debug + Send + 'static,
    R: for<'a, 'b> AsyncFnMut(I, &'a TaskContext<'b, U>) -> Result<O, Failure> + 'static,
    C: for<'a, 'b> AsyncFnMut(U, &'a CancelContext<'b>) -> Result<(), Failure> + 'static,
{
    type Input = I;
    type Output = O;
    type Undo = U;

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn run(&mut self, input: I, task: &TaskContext<'_, U>) -> Result<O, Failure> {
        (self.run)(input, task).await
    }

    async fn cancel(&mut self, undo: U, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        (self.cancel.0)(undo, cancel).await
    }
}
