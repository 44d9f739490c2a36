//! Deadlines, apart from the workers: a task of its own that sleeps until the next one.

use std::sync::Arc;

use tokio::time::sleep_until;

use crate::core::{Core, Decided};

/// How many tasks are ended before the others on this thread get their turn.
const AT_ONCE: usize = 256;

/// Ends late tasks, for as long as it is polled.
pub(super) async fn drive(core: Arc<Core>) {
    loop {
        match core.table.arm() {
            Some(at) => {
                tokio::select! {
                    () = sleep_until(core.clock.instant(at)) => {}
                    () = core.table.sooner.notified() => continue,
                }
            }
            None => {
                core.table.sooner.notified().await;
                continue;
            }
        }
        loop {
            let due = core.table.expire(core.clock.now(), AT_ONCE);
            let mut decided = Decided::new(&core);
            for task in &due {
                core.time_out(task, &mut decided);
            }
            decided.tell(&core);
            if due.len() < AT_ONCE {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
