//! A limit on the attempts that a stage starts in a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{NEVER, Nanos};

/// A start that came late, by its timer or because its thread was busy, counts from when it was due,
/// up to this long ago: timers fire at whole milliseconds, and a limit of 2,000 a second would be one
/// of 600 otherwise.
const LATE_NS: Nanos = 50_000_000;

/// A limit on the attempts that a stage starts in a time, evenly spread: ten a second is one each
/// 100 ms. Retries count, undos don't.
///
/// Set with [`rate_limit`](crate::IntoWork::rate_limit). It holds for the stage's pool, whatever the
/// number of its workers. A task that waits for its turn keeps its place in the queue, and its
/// deadline.
///
/// Timers fire at whole milliseconds, so a limit above 1,000 a second starts several at each. A start
/// that came late counts from when it was due, up to 50 ms: a stage with tasks waiting keeps its rate,
/// and in no time `t` does it start more than the rate allows in `t` + 50 ms, plus the burst.
///
/// ```
/// use std::time::Duration;
/// use batrun::policy::RateLimit;
///
/// // 100 a minute; after a rest, 10 may start at once.
/// let rate = RateLimit::new(100, Duration::from_secs(60)).burst(10);
/// # let _ = rate;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    count: u32,
    per: Duration,
    burst: u32,
}

impl RateLimit {
    /// `count` attempts a second. Zero is refused by [`start`](crate::Pipeline::start), with
    /// [`BuildError::ZeroRate`](crate::error::BuildError::ZeroRate).
    pub fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// `count` attempts in each period of this length. Zero of either is refused by
    /// [`start`](crate::Pipeline::start).
    pub fn new(count: u32, per: Duration) -> Self {
        RateLimit {
            count,
            per,
            burst: 1,
        }
    }

    /// The number of attempts that may start at once after a rest. Default: 1.
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// The number of attempts in each [period](Self::period).
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The length of a period.
    pub fn period(&self) -> Duration {
        self.per
    }

    /// The number of attempts that may start at once after a rest.
    pub fn burst_size(&self) -> u32 {
        self.burst
    }

    /// It would never let anything start.
    pub(crate) fn is_zero(&self) -> bool {
        self.count == 0 || self.per.is_zero() || self.burst == 0
    }

    /// Expects a limit that isn't zero.
    pub(crate) fn throttle(&self) -> Throttle {
        let period = self.per.as_nanos();
        Throttle {
            count: u128::from(self.count),
            period,
            ahead: u128::from(self.burst.saturating_sub(1)) * period,
            next: 0,
            waited: false,
        }
    }
}

/// A rate limit at work: the time from which on there is a permit, which each permit moves on by a
/// period.
///
/// Its times are nanoseconds times `count`, so that a period is a whole number of them: three a second
/// are three a second, not one each 333,333,333 ns. None of the sums overflows: a time is below 2^96, a
/// period below 2^94, a burst of them below 2^126.
pub(crate) struct Throttle {
    count: u128,
    /// Between two permits.
    period: u128,
    /// A permit may be taken that long before `next`.
    ahead: u128,
    next: u128,
    /// A task has been waiting for a permit since the last rest.
    waited: bool,
}

impl Throttle {
    /// Takes a permit, or says when there is one.
    pub(crate) fn take(&mut self, now: Nanos) -> Result<(), Nanos> {
        let due = self.next.saturating_sub(self.ahead);
        let scaled = u128::from(now) * self.count;
        if scaled < due {
            self.waited = true;
            return Err(Nanos::try_from(due.div_ceil(self.count)).unwrap_or(NEVER));
        }
        let late = if self.waited { LATE_NS } else { 0 };
        let from = u128::from(now.saturating_sub(late)) * self.count;
        self.next = self.next.max(from) + self.period;
        Ok(())
    }

    /// Takes permits back of which no use was made.
    pub(crate) fn give_back(&mut self, permits: usize) {
        let permits = u128::try_from(permits).unwrap_or(0);
        self.next = self
            .next
            .saturating_sub(permits.saturating_mul(self.period));
    }

    /// No task is waiting: time that goes by now is not caught up with, beyond the burst.
    pub(crate) fn rest(&mut self) {
        self.waited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    /// The permits that are taken in five seconds by who looks at whole milliseconds.
    fn in_five_seconds(rate: RateLimit) -> u64 {
        let mut throttle = rate.throttle();
        let (mut now, mut taken) = (0, 0);
        while now < 5 * SECOND {
            match throttle.take(now) {
                Ok(()) => taken += 1,
                Err(due) => now = due.div_ceil(1_000_000) * 1_000_000,
            }
        }
        taken
    }

    #[test]
    fn f07_timers_of_a_millisecond_keep_the_rate() {
        for rate in [3, 100, 500, 600, 2_000, 20_000, 333_333] {
            let taken = in_five_seconds(RateLimit::per_second(rate));
            // Those of the last millisecond may come after it.
            let last = u64::from(rate) / 1_000 + 1;
            let wanted = 5 * u64::from(rate);
            assert!((wanted - last..=wanted).contains(&taken), "{rate}: {taken}");
        }
    }

    #[test]
    fn f07_a_rest_is_no_more_than_the_burst() {
        let mut throttle = RateLimit::per_second(1_000).throttle();
        assert_eq!(throttle.take(0), Ok(()));
        assert!(throttle.take(0).is_err());
        throttle.rest();
        assert_eq!(throttle.take(SECOND), Ok(()));
        assert_eq!(throttle.take(SECOND), Err(SECOND + 1_000_000));
    }

    #[test]
    fn g10_a_permit_that_is_given_back_can_be_taken_again() {
        let mut throttle = RateLimit::per_second(1).throttle();
        assert_eq!(throttle.take(SECOND), Ok(()));
        throttle.give_back(1);
        assert_eq!(throttle.take(SECOND), Ok(()));
        assert_eq!(throttle.take(SECOND), Err(2 * SECOND));
        throttle.give_back(usize::MAX);
        assert_eq!(throttle.take(SECOND), Ok(()));
        assert!(throttle.take(SECOND).is_err());
    }

    #[test]
    fn f07_a_thread_that_was_busy_for_long_catches_up_with_fifty_milliseconds() {
        let mut throttle = RateLimit::per_second(1_000).throttle();
        assert_eq!(throttle.take(0), Ok(()));
        assert!(throttle.take(0).is_err());
        let taken = (0..2_000).take_while(|_| throttle.take(SECOND).is_ok());
        assert_eq!(taken.count(), 51);
    }

    #[test]
    fn f06_a_rate_is_exact_at_both_ends_of_what_can_be_set() {
        let starts = |rate: RateLimit, now| {
            let mut throttle = rate.throttle();
            (0..2_000)
                .take_while(|_| throttle.take(now).is_ok())
                .count()
        };
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(starts(RateLimit::new(1, Duration::MAX), 0), 1);
        assert_eq!(
            starts(RateLimit::new(1, Duration::MAX).burst(u32::MAX), 0),
            2_000
        );
        assert_eq!(starts(RateLimit::new(1, year).burst(1_000), 0), 1_000);
        assert_eq!(
            starts(RateLimit::new(1, year).burst(586), Nanos::MAX - 1),
            586
        );
        // Two each nanosecond.
        let mut fast = RateLimit::per_second(2_000_000_000).throttle();
        assert_eq!((fast.take(0), fast.take(0)), (Ok(()), Err(1)));
        assert_eq!(
            (fast.take(1), fast.take(1), fast.take(1)),
            (Ok(()), Ok(()), Err(2))
        );
        let mut most = RateLimit::new(u32::MAX, Duration::from_nanos(1))
            .burst(u32::MAX)
            .throttle();
        assert_eq!(most.take(Nanos::MAX - 1), Ok(()));
    }
}
