//! A worker's batch comes to an end, or to a wait: what is finished is sent on, what has not begun is handed
//! back, and the pool hears of it, unless the worker goes on with the next task by itself.

use std::{mem, sync::atomic::Ordering};

use super::{
    call_end::StageValue,
    env::{FromWorker, WaitReason},
    run_batch::BatchRun,
};
use crate::{clock::Cycles, shared::hop::Batch, stage::Stage};

impl<S: Stage> BatchRun<'_, S> {
    /// About to wait: sends on what is finished, and hands back the rest of the batch, the room that
    /// was reserved for it, and the room in the own queue.
    pub(super) fn step_aside(&mut self, reason: WaitReason) {
        let first = self.waited.is_none();
        self.waited.get_or_insert(reason);
        self.flush();
        let mut rest = mem::replace(&mut self.rest, Batch::new());
        // Also without anything to hand back: its pool must know that it isn't free soon.
        if first && !self.mode.expected_to_wait || !rest.is_empty() {
            let is_news = !rest.is_empty();
            self.handed_back |= is_news;
            rest.reverse();
            let waits = FromWorker::Waits {
                worker: self.env.worker,
                rest,
                reason,
            };
            if is_news {
                self.env.tell(waits);
            } else {
                self.env.leave(waits);
            }
        }
    }

    /// Sends on what is finished, gives back what was reserved, and adds up the counts.
    pub(super) fn flush(&mut self) {
        let env = self.env;
        if let Some(room) = &env.hop.room
            && self.reserved > 0
        {
            room.add_permits(mem::take(&mut self.reserved));
        }
        if !self.out.is_empty() {
            let out = mem::replace(&mut self.out, Batch::new());
            if self.unrecorded.is_empty() {
                env.hop.send(out);
            } else {
                self.send_once_recorded(out);
            }
        }
        if self.left_queue > 0 {
            env.room.add_permits(mem::take(&mut self.left_queue));
        }
        self.tally.flush(&env.shared.clock, &env.stats);
    }

    /// Returns the next task, if the worker may take it by itself. Otherwise tells the pool that the batch is over,
    /// and hands back what is left of it.
    pub(super) fn end(mut self, value: StageValue, began: Cycles) -> Option<Batch<S::Input>> {
        let clock = &self.env.shared.clock;
        // The time that a call takes of its thread; unknown where calls wait for something, so that a batch
        // would only be handed back.
        let took = clock.to_nanos(clock.cycles().since(began));
        let pace = took.checked_div(self.tally.calls);
        let pace = pace.filter(|_| self.waited.is_none());
        self.flush();
        self.over = true;
        if self.inbox.is_suspended() {
            return None;
        }
        if value == StageValue::Keep && self.rest.is_empty() && self.may_take() {
            let next = self.env.backlog.take_one();
            if next.is_some() {
                return next;
            }
        }
        let mut rest = mem::replace(&mut self.rest, Batch::new());
        rest.reverse();
        let worker = self.env.worker;
        match value {
            StageValue::Keep if rest.is_empty() => {
                self.env.leave(FromWorker::Idle { worker, rest, pace });
            }
            StageValue::Keep => self.env.tell(FromWorker::Idle { worker, rest, pace }),
            StageValue::Rebuild => self.env.tell(FromWorker::Rebuilds { worker, rest }),
        }
        None
    }

    /// The pool takes this worker for one that waits, and need not hear of it before its next task.
    ///
    /// Only if others have had the thread meanwhile: a call that is ready when it is polled once more has kept it, and
    /// one such task after the other would keep it for as long as there are any. And not while tasks that it has handed
    /// back are on their way: they come first.
    fn may_take(&self) -> bool {
        let waits = match self.waited {
            None => false,
            Some(WaitReason::Room) => self.mode.expected_to_wait,
            Some(WaitReason::Call | WaitReason::Record) => true,
        };
        waits
            && self.yielded
            && !self.handed_back
            && !self.inbox.is_leaving()
            && !self.env.stats.is_paused()
            && !self.env.hand_back.load(Ordering::Relaxed)
    }
}
