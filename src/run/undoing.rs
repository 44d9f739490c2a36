//! A worker's other work: cancelling an undo.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::{Sleep, sleep};

use super::{call::Verdict, desk::Desk, pool::FromWorker, worker::Seat};
use crate::{
    Failure,
    error::FailureKind,
    guard,
    stage::{CancelContext, Stage},
    task::TaskRef,
};

/// Runs a cancel; `false` when the stage value must not be used again.
pub(super) async fn run_cancel<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    task: TaskRef,
    number: usize,
    attempt: u32,
) -> bool {
    let (id, taken) = {
        let mut life = task.life();
        let taken = life
            .undos
            .get_mut(number)
            .and_then(|undo| Some((undo.generation, undo.value.take()?)));
        (task.id(), taken)
    };
    let mut kept = true;
    let result = match taken {
        // Only a ledger that was interrupted leaves an undo without its value.
        None => Err(Failure::permanent("the undo was not recorded")),
        Some((generation, value)) => {
            let copy = guard::run(|| value.duplicate());
            if let Some(undo) = task.life().undos.get_mut(number) {
                undo.value = Some(value);
            }
            match copy.map(|copy| copy.downcast::<S::Undo>()) {
                Err(failure) => Err(failure),
                Ok(Err(_)) => Err(Failure::permanent("the undo is of another type")),
                Ok(Ok(undo)) => {
                    log::debug!(
                        "task {id} stage {}: cancelling undo {number}, attempt {attempt}",
                        seat.settings.name
                    );
                    let core = &seat.core;
                    let context = CancelContext {
                        core,
                        id,
                        stage: seat.stage,
                        generation,
                        attempt,
                    };
                    let result;
                    (result, kept) = call_cancel(seat, desk, stage, *undo, &context).await;
                    result
                }
            }
        }
    };
    if desk.is_suspended() {
        return kept;
    }
    seat.board.stats(|stats| match &result {
        Ok(()) => stats.counts.cancelled += 1,
        Err(_) => stats.counts.cancel_failures += 1,
    });
    let shown = result
        .as_ref()
        .err()
        .map_or("done".to_owned(), guard::shown);
    log::debug!(
        "task {id} stage {}: cancel of undo {number}: {shown}",
        seat.settings.name
    );
    let worker = seat.worker;
    seat.tell(FromWorker::Cancelled {
        worker,
        task,
        undo: number,
        result,
        kept,
    });
    kept
}

pub(super) async fn call_cancel<S: Stage>(
    seat: &Seat<S>,
    desk: &Desk<S::Input>,
    stage: &mut S,
    undo: S::Undo,
    context: &CancelContext<'_>,
) -> (Result<(), Failure>, bool) {
    let mut future = pin!(Some(async { stage.cancel(undo, context).await }));
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let verdict = poll_fn(|cx| {
        if desk.is_suspended() {
            return Poll::Ready(Verdict::Suspended);
        }
        if let Some(future) = future.as_mut().as_pin_mut() {
            match guard::poll(future, cx) {
                Poll::Ready(Ok(result)) => return Poll::Ready(Verdict::Returned(result)),
                Poll::Ready(Err(failure)) => return Poll::Ready(Verdict::Panicked(failure)),
                Poll::Pending => {}
            }
        }
        let timer = timer.get_or_insert_with(|| {
            // Nobody is to wait for this worker to be free.
            let worker = seat.worker;
            seat.tell(FromWorker::CancelWaits { worker });
            Box::pin(sleep(seat.settings.cancel_timeout))
        });
        timer.as_mut().poll(cx).map(|()| Verdict::Overran)
    })
    .await;
    let dropped = guard::run(|| future.set(None)).is_ok();
    match verdict {
        Verdict::Returned(result) => (result, dropped),
        Verdict::Panicked(failure) => (Err(failure), false),
        Verdict::Overran | Verdict::Aborted | Verdict::Suspended => {
            let text = format!(
                "the cancel took longer than {:?}",
                seat.settings.cancel_timeout
            );
            let failure = Failure::of(FailureKind::AttemptTimeout, text);
            (Err(failure), seat.settings.keep_on_abort && dropped)
        }
    }
}
