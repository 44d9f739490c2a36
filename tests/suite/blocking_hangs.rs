//! A call that hangs on a thread of its own holds up nothing else, and the thread ends with the call.

use std::{
    cell::RefCell,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use batrun::prelude::*;

use crate::support::{AT_MOST, gate, live, ms};

/// Tells when the thread it was left on ends.
struct Tell(mpsc::Sender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

thread_local! {
    static LEFT_HERE: RefCell<Option<Tell>> = const { RefCell::new(None) };
}

#[test]
fn g12_an_abandoned_thread_ends_once_its_call_returns() {
    let (gate, keeper) = gate();
    let (ended, has_ended) = mpsc::channel();
    let hang = stage_fn("hang", async move |_: u32, _: &TaskContext<'_, ()>| {
        LEFT_HERE.set(Some(Tell(ended.clone())));
        gate.pass();
        Ok(())
    });
    let report = live(async {
        let pipeline = Pipeline::new("left behind").abandon_after(ms(20));
        let handle = pipeline.stage(hang.blocking()).start().await.unwrap();
        let ticket = handle.submit(1).await.unwrap();
        keeper.wait_for_call();
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert!(matches!(
            ticket.outcome().await.unwrap().rollback,
            Rollback::Stuck(_)
        ));
        report
    });
    assert_eq!(report.stuck[0].still_running.as_deref(), Some("hang"));
    assert!(
        has_ended.try_recv().is_err(),
        "its call has not returned yet"
    );
    keeper.release();
    has_ended
        .recv_timeout(AT_MOST)
        .expect("the thread ends with its call");
}

#[test]
fn g06_a_factory_that_hangs_does_not_hold_up_undos() {
    let (cancelled, was_cancelled) = mpsc::channel();
    let (gate, keeper) = gate();
    let builds = AtomicU32::new(0);
    let work = Work::with("rebuilt", move || {
        // The one after the panic.
        if builds.fetch_add(1, Ordering::SeqCst) == 1 {
            gate.pass();
        }
        let cancelled = cancelled.clone();
        stage_fn(
            "rebuilt",
            async |_: u32, task: &TaskContext<'_, u32>| -> Result<(), Failure> {
                task.on_cancel(7).await?;
                panic!("scripted")
            },
        )
        .cancel_with(async move |undo: u32, _: &CancelContext<'_>| {
            cancelled.send(undo).unwrap();
            Ok(())
        })
    });
    let report = live(async {
        let handle = Pipeline::new("rebuilds")
            .stage(work.blocking())
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(outcome.rollback, Rollback::Complete { undos: 1 });
        assert_eq!(
            was_cancelled.try_recv(),
            Ok(7),
            "cancelled while the factory hangs"
        );
        keeper.release();
        handle.shutdown(Shutdown::Abort).await.unwrap()
    });
    assert_eq!(report.counts.failed, 1);
}
