//! Behaviour that the wrapper of the feature `testing` would hide. Built without it:
//! `cargo test -p batrun --test plain`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_rt::time::timeout;
use batrun::prelude::*;

/// A future written by hand: ready at once, or when it is polled again. Its drop panics for 1.
struct ByHand {
    value: u32,
    waits: bool,
}

impl Future for ByHand {
    type Output = Result<u32, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.value))
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        assert_ne!(self.value, 1, "dropped after it was ready");
    }
}

struct Stands(bool);

impl Stage for Stands {
    type Input = u32;
    type Output = u32;
    type Undo = ();

    fn run(
        &mut self,
        value: u32,
        _: &TaskContext<'_, ()>,
    ) -> impl Future<Output = Result<u32, Failure>> {
        ByHand {
            value,
            waits: self.0,
        }
    }
}

fn ends(waits: bool) -> Vec<bool> {
    actix_rt::System::new().block_on(async {
        let handle = Pipeline::new("p")
            .stage(Work::with("h", move || Stands(waits)).workers(1))
            .start()
            .await
            .unwrap();
        let mut done = Vec::new();
        for value in 0..4 {
            let ticket = handle.submit(value).await.unwrap();
            let outcome = timeout(Duration::from_secs(10), ticket.outcome()).await;
            done.push(outcome.expect("no outcome").unwrap().is_done());
        }
        let report = handle
            .shutdown(Shutdown::Drain(Duration::from_secs(1)))
            .await;
        assert_eq!(report.unwrap().stages[0].counts.panicked, 1);
        done
    })
}

#[test]
fn g06_a_future_that_panics_when_dropped_after_it_was_ready_fails_one_task() {
    for waits in [false, true] {
        assert_eq!(ends(waits), [true, false, true, true], "waits: {waits}");
    }
}
