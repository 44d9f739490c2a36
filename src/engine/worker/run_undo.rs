//! A worker runs an undo: it calls the stage's `cancel`.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::{Sleep, sleep};

use super::{
    call_end::{CallEnd, StageValue},
    death::Answer,
    env::{FromWorker, WorkerEnv},
    inbox::{Inbox, UndoJob},
};
use crate::{
    failure::{self, Failure, FailureKind},
    logging, panic_guard,
    stage::{CancelContext, Stage},
    task::TaskRef,
};

/// Runs an undo, and tells the pool how that went.
pub(super) async fn run_undo<S: Stage>(
    env: &WorkerEnv<S>,
    inbox: &Inbox<S::Input>,
    stage: &mut S,
    job: UndoJob,
) -> StageValue {
    let answer = Answer {
        env,
        job: Some(job),
    };
    let Some(UndoJob {
        task,
        undo: number,
        attempt,
    }) = &answer.job
    else {
        return StageValue::Keep;
    };
    let (number, attempt) = (*number, *attempt);
    let id = task.id();
    let mut value = StageValue::Keep;
    let result = match copy_undo::<S>(env, task, number) {
        Err(failure) => Err(failure),
        Ok((undo, generation)) => {
            logging::debug!(
                "task {id} stage {}: undo {number} runs, attempt {attempt}",
                env.config.name
            );
            let context = CancelContext {
                shared: &env.shared,
                id,
                stage: env.stage,
                generation,
                attempt,
                #[cfg(feature = "tracing")]
                undo: number,
            };
            let result;
            (result, value) = call_cancel(env, inbox, stage, undo, &context).await;
            result
        }
    };
    if inbox.is_suspended() {
        answer.forget();
        return value;
    }
    env.stats.update(|totals| match &result {
        Ok(()) => totals.counts.cancelled += 1,
        Err(_) => totals.counts.cancel_failures += 1,
    });
    let shown = result
        .as_ref()
        .err()
        .map_or("done".to_owned(), panic_guard::shown);
    logging::debug!(
        "task {id} stage {}: undo {number}: {shown}",
        env.config.name
    );
    answer.send(result, value);
    value
}

/// A copy of an undo, since it may have to run again, and the generation that it belongs to.
fn copy_undo<S: Stage>(
    env: &WorkerEnv<S>,
    task: &TaskRef,
    number: usize,
) -> Result<(S::Undo, u32), Failure> {
    // Out of its place while it is copied: that is the user's code, and runs under no lock.
    let take = || {
        let mut details = task.details();
        let undo = details.undos.get_mut(number)?;
        Some((undo.generation, undo.value.take()?))
    };
    let taken = take().or_else(|| {
        // Somebody may be looking at it.
        env.shared.table.lent.wait(task, number);
        take()
    });
    let Some((generation, value)) = taken else {
        // Only a ledger that was interrupted leaves an undo without its value.
        return Err(Failure::permanent("the undo was not recorded"));
    };
    let copy = failure::catch(|| value.duplicate());
    if let Some(undo) = task.details().undos.get_mut(number) {
        undo.value = Some(value);
    }
    match copy?.downcast::<S::Undo>() {
        Ok(undo) => Ok((*undo, generation)),
        Err(_) => Err(Failure::permanent("the undo is of another type")),
    }
}

async fn call_cancel<S: Stage>(
    env: &WorkerEnv<S>,
    inbox: &Inbox<S::Input>,
    stage: &mut S,
    undo: S::Undo,
    context: &CancelContext<'_>,
) -> (Result<(), Failure>, StageValue) {
    let mut future = pin!(Some(async { stage.cancel(undo, context).await }));
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let end = poll_fn(|cx| {
        if inbox.is_suspended() {
            return Poll::Ready(CallEnd::Suspended);
        }
        if let Some(future) = future.as_mut().as_pin_mut() {
            match failure::catch_poll(future, cx) {
                Poll::Ready(Ok(result)) => return Poll::Ready(CallEnd::Returned(result)),
                Poll::Ready(Err(failure)) => return Poll::Ready(CallEnd::Panicked(failure)),
                Poll::Pending => {}
            }
        }
        let timer = timer.get_or_insert_with(|| {
            // Nobody is to wait for this worker to be free.
            let worker = env.worker;
            env.leave(FromWorker::UndoWaits { worker });
            Box::pin(sleep(env.config.cancel_timeout))
        });
        timer.as_mut().poll(cx).map(|()| CallEnd::TimedOut)
    })
    .await;
    let dropped = failure::catch(|| future.set(None)).is_ok();
    let value = match end {
        // Unlike a run's, its result stands even if its future panics when it is dropped.
        CallEnd::Returned(_) if !dropped => StageValue::Rebuild,
        _ => end.stage_value(env.config.keep_on_abort && dropped),
    };
    let result = match end {
        CallEnd::Returned(result) => result,
        CallEnd::Panicked(failure) => Err(failure),
        CallEnd::TimedOut | CallEnd::Aborted | CallEnd::Suspended => {
            let text = format!(
                "the cancel took longer than {:?}",
                env.config.cancel_timeout
            );
            Err(Failure::of(FailureKind::AttemptTimeout, text))
        }
    };
    (result, value)
}
