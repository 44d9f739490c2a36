//! What a worker has in its hands: the rest of its batch, what it has finished, the room it has
//! reserved for that, and what it has to write down.

use std::mem;

use tokio::sync::Semaphore;

use super::{desk::How, pool::FromWorker, worker::Seat};
use crate::{
    clock::{Clock, Nanos, Reading},
    ledger::{AllRecorded, Recorded},
    message::{Batch, Hop},
    report::StageCounts,
    stage::Stage,
    task::TaskRef,
};

/// A call that took longer than this is entered into the histogram by itself, not with the mean of
/// its batch.
const QUICK_NS: Nanos = 10_000;

pub(super) struct Hand<S: Stage> {
    /// Not started yet, the next one last.
    rest: Batch<S::Input>,
    out: Batch<S::Output>,
    /// Room at the next stage for that many more results.
    pub(super) reserved: usize,
    /// Tasks that have left the queue whose room has not been given back yet.
    pub(super) left_queue: usize,
    pub(super) counts: StageCounts,
    /// In counts, as is the work.
    pub(super) waits: u64,
    quick: u64,
    quick_work: u64,
    /// How many counts a call may take to be a quick one.
    most_quick: u64,
    calls: u64,
    /// The time, as of the last call's end.
    pub(super) reading: Reading,
    pub(super) how: How,
    /// It had to wait for something.
    waited: bool,
    /// What has to be recorded before `out` is sent on.
    held: AllRecorded,
}

/// What a worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A call, as others of this stage may.
    Call,
    /// Room at the next stage.
    Room,
    /// A record.
    Record,
}

impl<S: Stage> Hand<S> {
    pub(super) fn new(mut batch: Batch<S::Input>, clock: &Clock, how: How) -> Self {
        batch.reverse();
        Hand {
            rest: batch,
            out: Batch::new(),
            reserved: 0,
            left_queue: 0,
            counts: StageCounts::default(),
            waits: 0,
            quick: 0,
            quick_work: 0,
            most_quick: clock.counts_in(QUICK_NS),
            calls: 0,
            reading: Reading::take(clock),
            how,
            waited: false,
            held: AllRecorded::default(),
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next task, where there is one.
    #[inline(always)]
    pub(super) fn next_task(&mut self) -> TaskRef {
        self.rest.tasks.swap_remove(self.rest.tasks.len() - 1)
    }

    /// The context of the task that was taken last.
    #[inline(always)]
    pub(super) fn next_value(&mut self) -> S::Input {
        self.rest.values.swap_remove(self.rest.values.len() - 1)
    }

    /// Puts that back for a moment.
    pub(super) fn put_back_value(&mut self, input: S::Input) {
        self.rest.values.push(input);
    }

    /// Makes sure of room for one more result, reserving for the whole rest at once; `false` when
    /// there is none now.
    #[inline(always)]
    pub(super) fn reserve(&mut self, hop: &Hop<S::Output>) -> bool {
        let Some(room) = &hop.room else { return true };
        self.reserved > 0 || self.reserve_more(room)
    }

    #[cold]
    fn reserve_more(&mut self, room: &Semaphore) -> bool {
        let wanted = self.rest.len() + 1;
        let there = room.available_permits().min(wanted);
        // Somebody else may be quicker: then it is tried with one.
        for wanted in [there, 1] {
            if wanted > 0
                && let Ok(permits) = room.try_acquire_many(wanted as u32)
            {
                permits.forget();
                self.reserved = wanted;
                return true;
            }
        }
        false
    }

    /// Puts a result with those to be sent on. Its room was reserved.
    pub(super) fn pass_on(&mut self, seat: &Seat<S>, task: TaskRef, output: S::Output) {
        self.pass_value(seat, output);
        self.pass_task(task);
    }

    /// The first half of [`pass_on`](Self::pass_on), while the task is still lent to its context.
    #[inline(always)]
    pub(super) fn pass_value(&mut self, seat: &Seat<S>, output: S::Output) {
        self.reserved = self.reserved.saturating_sub(1);
        if self.out.values.capacity() == 0 {
            self.out = seat.hop.batch(self.rest.len() + 1);
        }
        self.out.values.push(output);
    }

    #[inline]
    pub(super) fn pass_task(&mut self, task: TaskRef) {
        self.out.tasks.push(task);
    }

    /// What is finished is to wait for this record.
    pub(super) fn hold(&mut self, recorded: Recorded) {
        self.held.add(recorded);
    }

    /// Writes down what a call took.
    #[inline(always)]
    pub(super) fn tally(&mut self, seat: &Seat<S>, began: u64) {
        self.calls += 1;
        let took = self.reading.count.saturating_sub(began);
        if took <= self.most_quick && !self.waited {
            self.quick += 1;
            self.quick_work += took;
        } else {
            let took = seat.core.clock.between(0, took);
            seat.board.stats(|stats| stats.work.saturating_record(took));
        }
    }

    /// About to wait: sends on what is finished, hands back the rest of the batch, the room that
    /// was reserved for it, and the room in the own queue.
    pub(super) fn step_aside(&mut self, seat: &Seat<S>, why: Wait) {
        let first = !mem::replace(&mut self.waited, true);
        self.flush(seat);
        let mut rest = mem::replace(&mut self.rest, Batch::new());
        // Also without anything to hand back: its pool must know that it isn't free soon.
        if first && !self.how.waiting || !rest.is_empty() {
            rest.reverse();
            seat.tell(FromWorker::Aside {
                worker: seat.worker,
                rest,
                why,
            });
        }
    }

    /// What is left of the batch.
    pub(super) fn finish(mut self, seat: &Seat<S>) -> Batch<S::Input> {
        self.flush(seat);
        self.rest.reverse();
        self.rest
    }

    fn flush(&mut self, seat: &Seat<S>) {
        if let Some(room) = &seat.hop.room
            && self.reserved > 0
        {
            room.add_permits(mem::take(&mut self.reserved));
        }
        if !self.out.is_empty() {
            let out = mem::replace(&mut self.out, Batch::new());
            if self.held.is_empty() {
                seat.hop.send(out);
            } else {
                send_once_recorded(seat, out, mem::take(&mut self.held));
            }
        }
        if self.left_queue > 0 {
            seat.room.add_permits(mem::take(&mut self.left_queue));
        }
        let counts = mem::take(&mut self.counts);
        let (quick, work) = (mem::take(&mut self.quick), mem::take(&mut self.quick_work));
        let waits = mem::take(&mut self.waits);
        let clock = &seat.core.clock;
        let mean = |counts: u64, of: u64| Some(clock.between(0, counts.checked_div(of)?));
        seat.board.stats(|stats| {
            stats.counts += counts;
            if let Some(mean) = mean(waits, counts.started) {
                stats.wait.saturating_record_n(mean, counts.started);
            }
            if let Some(mean) = mean(work, quick) {
                stats.work.saturating_record_n(mean, quick);
            }
        });
    }

    /// What a call takes of its thread; `None` where calls wait for something, so that a batch
    /// would only be handed back.
    pub(super) fn pace(&self, took: Nanos) -> Option<Nanos> {
        took.checked_div(self.calls).filter(|_| !self.waited)
    }
}

/// Sends a batch on once all of it is recorded; the worker goes on meanwhile.
fn send_once_recorded<S: Stage>(seat: &Seat<S>, out: Batch<S::Output>, held: AllRecorded) {
    let (core, hop) = (seat.core.clone(), seat.hop.clone());
    actix_rt::spawn(async move {
        match held.wait().await {
            Ok(()) if core.is_suspended() => {}
            Ok(()) => hop.send(out),
            Err(error) => core.unrecorded(&error),
        }
    });
}
