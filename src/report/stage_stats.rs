//! The counters of a stage's pool and its workers.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    counts::StageCounts,
    final_report::StageReport,
    snapshot::{StageHealth, StageSnapshot},
    times::{StageTimes, TimeHistogram, histogram, times},
};
use crate::{clock::Nanos, panic_guard, policy::RateLimit, task::StageName};

/// The settings of a stage's pool that a snapshot shows.
#[derive(Clone, Copy, Default)]
pub(crate) struct PoolSettings {
    pub(crate) capacity: usize,
    pub(crate) workers: usize,
    pub(crate) rate: Option<RateLimit>,
    /// Its number of workers stays as it is.
    pub(crate) fixed_size: bool,
}

/// The reasons for which a pool starts no work. Each is lifted by itself.
#[derive(Clone, Copy)]
pub(crate) enum PausedBy {
    Pipeline = 1,
    Stage = 2,
}

/// Statistics of a stage: written by its pool and its workers, read by snapshots and the report.
pub(crate) struct StageStats {
    pub(crate) queued: AtomicUsize,
    pub(crate) workers: AtomicUsize,
    /// The bits of [`PausedBy`]. Read by workers between two tasks.
    paused: AtomicU8,
    settings: Mutex<PoolSettings>,
    health: Mutex<StageHealth>,
    totals: Mutex<Totals>,
}

/// Counts and times of a stage.
pub(crate) struct Totals {
    pub(crate) counts: StageCounts,
    pub(crate) wait: Histogram<u64>,
    pub(crate) work: Histogram<u64>,
    /// The sums of the two, which the histograms only have to two digits.
    pub(crate) wait_sum: Nanos,
    pub(crate) work_sum: Nanos,
}

impl StageStats {
    pub(crate) fn new(settings: PoolSettings) -> Self {
        StageStats {
            queued: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            paused: AtomicU8::new(0),
            settings: Mutex::new(settings),
            health: Mutex::new(StageHealth::Up),
            totals: Mutex::new(Totals {
                counts: StageCounts::default(),
                wait: histogram(),
                work: histogram(),
                wait_sum: 0,
                work_sum: 0,
            }),
        }
    }

    /// No work starts here, for whatever reason.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) != 0
    }

    /// Returns `true` if that changes whether work may start here.
    pub(crate) fn set_paused(&self, by: PausedBy, paused: bool) -> bool {
        let bit = by as u8;
        let before = match paused {
            true => self.paused.fetch_or(bit, Ordering::SeqCst),
            false => self.paused.fetch_and(!bit, Ordering::SeqCst),
        };
        let after = if paused { before | bit } else { before & !bit };
        (before == 0) != (after == 0)
    }

    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut PoolSettings)) {
        change(&mut panic_guard::lock(&self.settings));
    }

    pub(crate) fn update<T>(&self, with: impl FnOnce(&mut Totals) -> T) -> T {
        with(&mut panic_guard::lock(&self.totals))
    }

    pub(crate) fn health(&self) -> StageHealth {
        panic_guard::lock(&self.health).clone()
    }

    pub(crate) fn set_health(&self, health: StageHealth) {
        *panic_guard::lock(&self.health) = health;
    }

    pub(crate) fn report(&self, name: &StageName) -> StageReport {
        self.update(|totals| StageReport {
            name: name.clone(),
            counts: totals.counts,
            wait: times(&totals.wait),
            work: times(&totals.work),
        })
    }

    /// `busy` and `oldest` are known from the tasks themselves.
    pub(crate) fn snapshot(
        &self,
        name: &StageName,
        busy: usize,
        oldest: Option<Nanos>,
    ) -> StageSnapshot {
        let settings = *panic_guard::lock(&self.settings);
        let sums = |totals: &mut Totals| (totals.counts, totals.wait_sum, totals.work_sum);
        let (counts, wait_sum, work_sum) = self.update(sums);
        StageSnapshot {
            name: name.clone(),
            queued: self.queued.load(Ordering::Relaxed),
            capacity: settings.capacity,
            oldest_queued: oldest.map(Duration::from_nanos),
            workers: self.workers.load(Ordering::Relaxed),
            target: settings.workers,
            // The tasks are counted one after the other, so that a worker may be seen at two.
            busy: busy.min(self.workers.load(Ordering::Relaxed)),
            resizable: !settings.fixed_size,
            rate: settings.rate,
            paused: self.paused.load(Ordering::SeqCst) & PausedBy::Stage as u8 != 0,
            health: self.health(),
            counts,
            wait_sum,
            work_sum,
        }
    }

    /// The distributions of its times. Cut into buckets by the caller, under no lock.
    pub(crate) fn times(&self, name: &StageName) -> StageTimes {
        let (wait, work) = self.update(|totals| {
            let wait = TimeHistogram::new(totals.wait.clone(), totals.wait_sum);
            let work = TimeHistogram::new(totals.work.clone(), totals.work_sum);
            (wait, work)
        });
        StageTimes {
            stage: name.clone(),
            wait,
            work,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_a_stage_is_paused_by_either_switch() {
        let stats = StageStats::new(PoolSettings::default());
        assert!(stats.set_paused(PausedBy::Stage, true));
        assert!(!stats.set_paused(PausedBy::Pipeline, true));
        assert!(!stats.set_paused(PausedBy::Stage, false));
        assert!(stats.is_paused());
        assert!(stats.set_paused(PausedBy::Pipeline, false));
        assert!(!stats.is_paused());
        assert!(!stats.set_paused(PausedBy::Pipeline, false));
    }

    #[test]
    fn quantiles_have_two_digits() {
        let stats = StageStats::new(PoolSettings::default());
        stats.update(|totals| {
            (1..=100u64).for_each(|ms| totals.work.saturating_record(ms * 1_000_000))
        });
        let work = stats.report(&"s".into()).work;
        assert_eq!(work.count, 100);
        assert!(work.p50.as_millis().abs_diff(50) <= 1, "{work:?}");
        assert!(work.max.as_millis().abs_diff(100) <= 1, "{work:?}");
    }
}
