//! A stage goes down while one of its undos runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use batrun::{policy::Restart, prelude::*, report::StageHealth};

use crate::support::{Notes, ms, sleep, still, summary};

#[test]
fn g06_a_stage_that_goes_down_lets_a_running_undo_finish() {
    let notes = Notes::default();
    still(async {
        let broken = Arc::new(AtomicBool::new(false));
        let (switch, breaks, undid) = (broken.clone(), broken.clone(), notes.clone());
        let inner = stage_fn("s", async move |n: u32, task: &TaskContext<'_, u32>| {
            if n == 0 {
                // From now on no value can be built.
                sleep(10).await;
                breaks.store(true, Ordering::SeqCst);
                panic!("boom");
            }
            task.on_cancel(n).await?;
            Err::<u32, _>(Failure::new("no"))
        })
        .cancel_with(async move |n: u32, _: &CancelContext<'_>| {
            undid.note(format!("undo of {n} begins"));
            sleep(5000).await;
            undid.note(format!("undo of {n} ends"));
            Ok(())
        });
        let work = Work::try_with("s", move || match switch.load(Ordering::SeqCst) {
            true => Err(Failure::new("no database")),
            false => Ok(inner.clone()),
        })
        .restart(Restart::exponential(ms(1), ms(10)))
        .retry(Retry::constant(3, ms(1)));
        let handle = Pipeline::new("down")
            .stage(work)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // One batch: while the first one is cleaned up, by the spare, the second one panics.
        let cleaned = handle.submit(1).await.unwrap();
        let panics = handle.submit(0).await.unwrap();
        assert_eq!(
            summary(&panics.outcome().await.unwrap()),
            "failed in s: panicked: boom; nothing to take back"
        );
        sleep(1000).await;
        let health = handle.snapshot().stages[0].health.clone();
        assert!(matches!(health, StageHealth::Down { .. }), "{health:?}");
        assert_eq!(handle.snapshot().in_flight, 1, "its undo still runs");
        // The clean-up took its undo back; nobody is there for another attempt.
        let outcome = cleaned.outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "failed in s: stage s is down, no worker of it can be started: no database; nothing to take back"
        );
    });
    assert_eq!(notes.all(), ["undo of 1 begins", "undo of 1 ends"]);
}
