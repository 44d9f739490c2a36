//! A pool's decisions: who gets what waits, how much of it, and which tasks are let go of.

use std::sync::atomic::Ordering;

use actix::Context;

use super::{
    desk::{How, ToWorker},
    pool::Pool,
    queue::Decided,
    staff::MemberState,
};
use crate::{
    clock::Nanos,
    message::ToReporter,
    stage::Stage,
    task::{TaskRef, fence},
};

/// How much work a batch holds at most: what another worker would have to wait for.
const BATCH_NS: Nanos = 100_000;
/// The same on the pool's own thread, where it keeps the pools from handing out what the others
/// wait for.
const BATCH_HERE_NS: Nanos = 25_000;
const BATCH: usize = 256;
/// Work that is done sooner than this isn't worth waking another thread for.
const WORTH_WAKING_NS: Nanos = 60_000;
/// Calls that are done sooner than this are quick: they stay on their thread, and are started
/// without a fence each.
const QUICK_NS: Nanos = 1_000;

impl<S: Stage> Pool<S> {
    pub(super) fn dispatch(&mut self, ctx: &mut Context<Self>) {
        self.dispatch_cancels(ctx);
        if !self.is_closing() && !self.core.is_paused() && !self.core.is_suspended() {
            self.dispatch_tasks(ctx);
        }
        self.board.queued.store(self.queue.len(), Ordering::Relaxed);
    }

    /// Cancels go first, to whoever is free, or else to the spare.
    fn dispatch_cancels(&mut self, ctx: &mut Context<Self>) {
        if self.core.is_suspended() {
            self.cancels.clear();
        }
        if self.down {
            for (task, undo, _) in std::mem::take(&mut self.cancels) {
                let result = Err(self.is_down());
                self.core
                    .tell_reporter(ToReporter::CancelDone { task, undo, result });
            }
        }
        while let Some((task, undo, attempt)) = self.cancels.pop_front() {
            // Who is busy on this thread will be free at once, sooner than another thread is awake.
            let anywhere = !self.staff.is_busy_here();
            let state = MemberState::Busy { careful: true };
            let Some(member) = self.staff.engage(anywhere, anywhere, state) else {
                self.cancels.push_front((task, undo, attempt));
                break;
            };
            member.addr.do_send(ToWorker::Cancel {
                task,
                undo,
                attempt,
            });
        }
        let waiting = !self.cancels.is_empty();
        // Who is in the middle of a batch hands the rest back, and is free; not where the whole batch
        // takes no longer than that.
        self.recall
            .store(waiting && !self.is_quick(), Ordering::Relaxed);
        if waiting && !self.staff.is_busy_here() && !self.staff.has_spare() {
            self.hire(ctx, true);
        }
    }

    fn dispatch_tasks(&mut self, ctx: &mut Context<Self>) {
        while !self.queue.is_empty() {
            let anywhere = self.is_for_others();
            if !self.staff.has_idle(anywhere) {
                break;
            }
            if let Some(throttle) = &self.throttle
                && let Err(delay) = throttle.take()
            {
                let due = self
                    .core
                    .clock
                    .now()
                    .saturating_add(crate::clock::nanos(delay));
                self.wake_at(due, ctx);
                break;
            }
            let batch = self
                .queue
                .take(self.batch_size(self.staff.is_next_here(anywhere)));
            let how = How {
                // As long as something is missing, whoever is to have it must be careful.
                careful: !self.is_quick() || !self.missing.is_empty(),
                waiting: self.waits && batch.len() == 1,
            };
            let state = if how.waiting {
                MemberState::Waiting
            } else {
                MemberState::Busy {
                    careful: how.careful,
                }
            };
            let Some(member) = self.staff.engage(anywhere, false, state) else {
                break;
            };
            member.addr.do_send(ToWorker::Work { batch, how });
        }
    }

    /// Whether what waits is worth waking another thread for. Quick calls never are: to fetch a task
    /// from another core's cache takes longer than to run it here.
    fn is_worth_waking(&self) -> bool {
        let backlog = self.queue.len() as u64 * self.pace.unwrap_or(BATCH_NS);
        !self.is_quick() && backlog > WORTH_WAKING_NS
    }

    /// Whether somebody else is to have what waits, although there are workers on this thread.
    fn is_for_others(&self) -> bool {
        // Where the next stage is full, more workers only wait for it too.
        let held = self.is_quick() && self.staff.is_blocked_here();
        !(self.staff.is_busy_here() || held) || self.is_worth_waking()
    }

    /// Whether calls are so quick that each of them must not cost a fence.
    fn is_quick(&self) -> bool {
        !self.settings.blocking
            && self.core.ledger.is_none()
            && self.pace.is_some_and(|pace| pace < QUICK_NS)
    }

    /// As much as is done in `BATCH_NS`, but where calls take their time no more than leaves
    /// something for each idle worker, and little for one on this thread.
    fn batch_size(&self, here: bool) -> usize {
        let Some(pace) = self.pace.filter(|_| self.throttle.is_none()) else {
            return 1;
        };
        let time = if here && pace >= QUICK_NS && self.staff.is_elsewhere() {
            BATCH_HERE_NS
        } else {
            BATCH_NS
        };
        let most = (time / pace.max(1)).clamp(1, BATCH as u64) as usize;
        if pace < QUICK_NS {
            return most;
        }
        most.min(self.queue.len().div_ceil(self.staff.idle().max(1)))
    }

    /// Lets go of tasks that were taken out of the queue.
    pub(super) fn let_go(&mut self, decided: Decided) {
        if decided.room > 0 {
            self.room.add_permits(decided.room);
        }
        for task in decided.tasks {
            self.let_go_of(&task);
        }
    }

    fn let_go_of(&self, task: &TaskRef) {
        if task.let_go(self.stage) {
            let (id, attempt) = (task.id(), task.attempt());
            log::debug!(
                "task {id} stage {} attempt {attempt}: stopped",
                self.settings.name
            );
            self.core.tell_reporter(ToReporter::Stopped(task.clone()));
        }
    }

    /// Lets go of tasks that are not in the queue. They are in the hands of a worker that will look,
    /// behind a fence, before it starts one, or on their way here; in both cases nobody starts them
    /// any more. Not while a worker that isn't careful may have them: it has at most `BATCH_NS` of
    /// work in its hands, and lets go of them itself.
    pub(super) fn let_go_of_missing(&mut self) {
        if !self.missing.is_empty() && self.staff.all_careful() {
            fence();
            for task in std::mem::take(&mut self.missing) {
                if task.is_queued() {
                    self.let_go_of(&task);
                }
            }
        }
    }
}
