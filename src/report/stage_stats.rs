//! The counters of a stage's pool and its workers.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    counts::{StageCounts, Times},
    final_report::StageReport,
    snapshot::{StageHealth, StageSnapshot},
};
use crate::{panic_guard, task::StageName};

/// Statistics of a stage: written by its pool and its workers, read by snapshots and the report.
pub(crate) struct StageStats {
    pub(crate) queued: AtomicUsize,
    pub(crate) workers: AtomicUsize,
    health: Mutex<StageHealth>,
    totals: Mutex<Totals>,
}

/// Counts and times of a stage.
pub(crate) struct Totals {
    pub(crate) counts: StageCounts,
    pub(crate) wait: Histogram<u64>,
    pub(crate) work: Histogram<u64>,
}

impl StageStats {
    pub(crate) fn new() -> Self {
        StageStats {
            queued: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            health: Mutex::new(StageHealth::Up),
            totals: Mutex::new(Totals {
                counts: StageCounts::default(),
                wait: histogram(),
                work: histogram(),
            }),
        }
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

    pub(crate) fn snapshot(&self, name: &StageName) -> StageSnapshot {
        StageSnapshot {
            name: name.clone(),
            queued: self.queued.load(Ordering::Relaxed),
            workers: self.workers.load(Ordering::Relaxed),
            health: panic_guard::lock(&self.health).clone(),
            counts: self.update(|totals| totals.counts),
        }
    }
}

/// Up to a day, with two significant digits; what is longer counts as a day.
fn histogram() -> Histogram<u64> {
    const DAY: u64 = 86_400_000_000_000;
    let histogram = Histogram::new_with_bounds(1, DAY, 2);
    // The bounds are constants that the constructor accepts; without them the histogram grows.
    histogram.unwrap_or_else(|_| {
        Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are within 0 to 5"))
    })
}

fn times(histogram: &Histogram<u64>) -> Times {
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    Times {
        count: histogram.len(),
        p50: at(0.5),
        p99: at(0.99),
        max: Duration::from_nanos(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_have_two_digits() {
        let stats = StageStats::new();
        stats.update(|totals| {
            (1..=100u64).for_each(|ms| totals.work.saturating_record(ms * 1_000_000))
        });
        let work = stats.report(&"s".into()).work;
        assert_eq!(work.count, 100);
        assert!(work.p50.as_millis().abs_diff(50) <= 1, "{work:?}");
        assert!(work.max.as_millis().abs_diff(100) <= 1, "{work:?}");
    }
}
