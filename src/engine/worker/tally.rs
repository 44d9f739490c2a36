//! The counts of a worker that runs a batch, added to its stage's statistics all at once.

use std::mem;

use crate::{
    clock::{Clock, Cycles, Nanos},
    report::{StageCounts, StageStats},
};

/// A call that took longer than this is entered into the histogram by itself, not with the mean of
/// its batch.
const QUICK_NS: Nanos = 10_000;

pub(super) struct Tally {
    pub(super) counts: StageCounts,
    /// Time that tasks have spent in the queue.
    queue_time: Cycles,
    /// All calls, also those that were counted before.
    pub(super) calls: u64,
    /// Calls that are entered into the histogram with their mean.
    quick_calls: u64,
    quick_time: Cycles,
    /// The longest that a quick call takes.
    most_quick: Cycles,
}

impl Tally {
    pub(super) fn new(clock: &Clock) -> Self {
        Tally {
            counts: StageCounts::default(),
            queue_time: Cycles(0),
            calls: 0,
            quick_calls: 0,
            quick_time: Cycles(0),
            most_quick: clock.cycles_in(QUICK_NS),
        }
    }

    /// An attempt begins, `waited` after its task was put into the queue.
    #[inline(always)]
    pub(super) fn start(&mut self, waited: Cycles) {
        self.queue_time += waited;
        self.counts.started += 1;
    }

    /// A call has ended that took so long; `waited` where it is not to count as a quick one.
    #[inline(always)]
    pub(super) fn call(&mut self, took: Cycles, waited: bool, clock: &Clock, stats: &StageStats) {
        self.calls += 1;
        if took <= self.most_quick && !waited {
            self.quick_calls += 1;
            self.quick_time += took;
        } else {
            let took = clock.to_nanos(took);
            stats.update(|totals| {
                totals.work.saturating_record(took);
                totals.work_sum = totals.work_sum.wrapping_add(took);
            });
        }
    }

    /// Adds up what was counted since it was last called.
    pub(super) fn flush(&mut self, clock: &Clock, stats: &StageStats) {
        let counts = mem::take(&mut self.counts);
        let (quick, quick_time) = (
            mem::take(&mut self.quick_calls),
            mem::take(&mut self.quick_time),
        );
        let queue_time = mem::take(&mut self.queue_time);
        // Once for the sum and the mean.
        let (queue_time, quick_time) = (clock.to_nanos(queue_time), clock.to_nanos(quick_time));
        stats.update(|totals| {
            totals.counts += counts;
            if let Some(mean) = queue_time.checked_div(counts.started) {
                totals.wait.saturating_record_n(mean, counts.started);
                totals.wait_sum = totals.wait_sum.wrapping_add(queue_time);
            }
            if let Some(mean) = quick_time.checked_div(quick) {
                totals.work.saturating_record_n(mean, quick);
                totals.work_sum = totals.work_sum.wrapping_add(quick_time);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PoolSettings;

    #[test]
    fn d1_sums_of_times_are_exact() {
        let (clock, stats) = (Clock::start(), StageStats::new(PoolSettings::default()));
        let mut tally = Tally::new(&clock);
        let mut waits = Cycles(0);
        let (quick, slow) = (clock.cycles_in(1_500), clock.cycles_in(20_000_000));
        for wait in [1_001, 70_003, 5_000_005] {
            let wait = clock.cycles_in(wait);
            waits += wait;
            tally.start(wait);
        }
        tally.call(quick, false, &clock, &stats);
        tally.call(quick + Cycles(1), false, &clock, &stats);
        tally.call(slow, false, &clock, &stats);
        tally.flush(&clock, &stats);
        // A batch without anything changes nothing.
        tally.flush(&clock, &stats);
        let (wait, work, counts) = stats.update(|totals| {
            let counts = (totals.wait.len(), totals.work.len());
            (totals.wait_sum, totals.work_sum, counts)
        });
        assert_eq!(counts, (3, 3));
        assert_eq!(wait, clock.to_nanos(waits));
        let of_quick = clock.to_nanos(quick + quick + Cycles(1));
        assert_eq!(work, of_quick + clock.to_nanos(slow));
    }
}
