//! Distributions of times: cut into the buckets that a monitoring system wants.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::counts::Times;
use crate::{clock::Nanos, task::StageName};

/// The times of a stage, from the start of the pipeline on; made by
/// [`Control::times`](crate::Control::times).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageTimes {
    /// The stage.
    pub stage: StageName,
    /// The time that tasks waited for it, in its queue and for their next attempt.
    pub wait: TimeHistogram,
    /// The time that its attempts took.
    pub work: TimeHistogram,
}

/// A distribution of times: each to two significant digits, up to a day, and their sum to the nanosecond.
///
/// ```
/// # use std::time::Duration;
/// # use batrun::Control;
/// # fn example(control: &Control) {
/// let bounds = [1, 10, 100].map(Duration::from_millis);
/// for stage in control.times() {
///     // Calls of at most 1 ms, 10 ms, 100 ms; and all of them.
///     println!("{:?} {}", stage.work.cumulative(&bounds), stage.work.count());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TimeHistogram {
    histogram: Histogram<u64>,
    sum: Nanos,
}

impl TimeHistogram {
    pub(crate) fn new(histogram: Histogram<u64>, sum: Nanos) -> Self {
        TimeHistogram { histogram, sum }
    }

    /// The number of times in it.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The sum of all times, in nanoseconds. It wraps around after 584 years.
    pub fn sum_ns(&self) -> u64 {
        self.sum
    }

    /// The number of times that are at most as long as each of these bounds, which must ascend: the buckets
    /// of a Prometheus histogram without the last one, `+Inf`, which is [`count`](Self::count). A time
    /// is compared by its first two significant digits, so one of 1.001 ms is at most 1 ms long.
    ///
    /// Walks over the distribution once, however many bounds there are.
    pub fn cumulative(&self, bounds: &[Duration]) -> Vec<u64> {
        let mut counts = Vec::with_capacity(bounds.len());
        let mut seen = 0;
        let mut recorded = self.histogram.iter_recorded().peekable();
        for bound in bounds {
            let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
            while let Some(step) = recorded.peek()
                && self.histogram.lowest_equivalent(step.value_iterated_to()) <= bound
            {
                seen += step.count_since_last_iteration();
                recorded.next();
            }
            counts.push(seen);
        }
        counts
    }

    /// The time that so large a part of them is at most as long as: 0.5 for the median.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(part))
    }

    /// In short.
    pub fn times(&self) -> Times {
        times(&self.histogram)
    }
}

/// Up to a day, with two significant digits; what is longer counts as a day.
pub(crate) fn histogram() -> Histogram<u64> {
    const DAY: u64 = 86_400_000_000_000;
    let histogram = Histogram::new_with_bounds(1, DAY, 2);
    // The bounds are constants that the constructor accepts; without them the histogram grows.
    histogram.unwrap_or_else(|_| {
        Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are within 0 to 5"))
    })
}

pub(crate) fn times(histogram: &Histogram<u64>) -> Times {
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

    fn of(nanos: &[u64]) -> TimeHistogram {
        let mut all = histogram();
        nanos.iter().for_each(|nanos| all.saturating_record(*nanos));
        TimeHistogram::new(all, nanos.iter().sum())
    }

    #[test]
    fn d1_cumulative_counts_are_those_of_the_bounds() {
        let bounds = [10, 1_000, 1_000_000].map(Duration::from_nanos);
        assert_eq!(of(&[]).cumulative(&bounds), [0, 0, 0]);
        let some = of(&[3, 10, 11, 1_000, 2_000, 5_000_000]);
        assert_eq!(some.cumulative(&bounds), [2, 4, 5]);
        assert_eq!((some.count(), some.sum_ns()), (6, 5_003_024));
        assert_eq!(some.cumulative(&[]), [0u64; 0]);
        // All counts, whatever the longest is.
        assert_eq!(some.cumulative(&[Duration::MAX]), [6]);
    }

    #[test]
    fn d1_a_time_counts_where_its_two_digits_are() {
        let near = of(&[1_001_000, 1_020_000]);
        assert_eq!(near.cumulative(&[Duration::from_millis(1)]), [1]);
    }
}
