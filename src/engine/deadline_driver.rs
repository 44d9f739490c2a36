//! Deadlines, apart from the workers: a future of its own that sleeps until the next one.

use std::sync::Arc;

use tokio::time::sleep_until;

use crate::shared::{Shared, stop::StopNotices};

/// Number of tasks that are ended before the others on this thread get their turn.
const AT_ONCE: usize = 256;

/// Ends late tasks, for as long as it is polled.
pub(super) async fn drive(shared: Arc<Shared>) {
    let Shared { clock, table, .. } = &*shared;
    loop {
        match table.arm() {
            Some(at) => {
                tokio::select! {
                    () = sleep_until(clock.instant(at)) => {}
                    () = table.sooner.notified() => continue,
                }
            }
            None => {
                table.sooner.notified().await;
                continue;
            }
        }
        loop {
            let due = table.expire(clock.now(), AT_ONCE);
            let mut notices = StopNotices::new(&shared);
            for task in &due {
                shared.time_out(task, &mut notices);
            }
            notices.send(&shared);
            if due.len() < AT_ONCE {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
