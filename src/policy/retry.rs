//! Repeats of something that failed, and the delays before them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The number of times that a failed attempt, or a failed undo, is repeated, and the delays before
/// that. Set with [`retry`](crate::IntoWork::retry) and
/// [`cancel_retry`](crate::IntoWork::cancel_retry).
///
/// A [permanent](crate::Failure::permanent) failure is never repeated, nor is a panic of a stage; one of an undo is. If
/// a delay would outlast the task's deadline, the task fails at once, with its last error.
///
/// ```
/// use std::time::Duration;
/// use batrun::Retry;
///
/// // Four attempts in all, with delays around 50, 100 and 200 ms.
/// let retry = Retry::exponential(3).min_delay(Duration::from_millis(50));
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    retries: u32,
    min: Duration,
    max: Duration,
    factor: f32,
    jitter: bool,
}

impl Retry {
    /// No second attempt. Given to [`retry`](crate::IntoWork::retry), it lets the input be copied all the same, which a
    /// [repeat](crate::guide::testing) in a test needs.
    pub fn none() -> Self {
        Self::exponential(0)
    }

    /// Up to `retries` attempts after the first. The delay before each doubles, from 100 ms to
    /// 30 s, and up to as much again is added at random, so that tasks that failed together don't
    /// come back together.
    pub fn exponential(retries: u32) -> Self {
        Retry {
            retries,
            min: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: true,
        }
    }

    /// Up to `retries` attempts after the first, each after the same delay.
    pub fn constant(retries: u32, delay: Duration) -> Self {
        Retry {
            retries,
            min: delay,
            max: delay,
            factor: 1.0,
            jitter: false,
        }
    }

    /// The delay before the second attempt. Default: 100 ms.
    pub fn min_delay(mut self, delay: Duration) -> Self {
        self.min = delay;
        self.max = self.max.max(delay);
        self
    }

    /// The longest delay, before jitter. Default: 30 s.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max = delay;
        self.min = self.min.min(delay);
        self
    }

    /// The factor between a delay and the next. Values below 1 count as 1. Default: 2.
    pub fn factor(mut self, factor: f32) -> Self {
        self.factor = factor;
        self
    }

    /// The delays as they are, without a random part: for tests.
    pub fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// One attempt more, and all of them without a delay.
    #[cfg(feature = "testing")]
    pub(crate) fn one_more_at_once(self) -> Self {
        Self::constant(self.retries.saturating_add(1), Duration::ZERO)
    }

    /// The number of attempts after the first. For code that repeats something itself, as
    /// [`delay`](Self::delay) is.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The delay before the `n`th retry, from 1, with its random part.
    pub fn delay(&self, n: u32) -> Duration {
        // The power, not as many steps: a factor close to 1 takes many to get to the longest delay.
        let factor = f64::from(if self.factor >= 1.0 { self.factor } else { 1.0 });
        let exponent = i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX);
        let nanos = self.min.as_nanos() as f64 * factor.powi(exponent);
        // A float that is too large becomes the largest integer.
        let delay = Duration::from_nanos(nanos as u64).min(self.max);
        if !self.jitter {
            return delay;
        }
        let mut jittered = ExponentialBuilder::default()
            .with_min_delay(delay)
            .with_max_delay(self.max)
            .with_jitter()
            .build();
        jittered.next().unwrap_or(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let retry = Retry::exponential(9)
            .max_delay(Duration::from_secs(1))
            .without_jitter();
        let delays: Vec<u128> = (1..=6).map(|n| retry.delay(n).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(retry.delay(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn f08_a_small_factor_reaches_the_longest_delay() {
        let retry = Retry::exponential(130)
            .min_delay(Duration::from_millis(1))
            .max_delay(Duration::from_millis(150))
            .factor(1.05)
            .without_jitter();
        assert!(retry.delay(64) < Duration::from_millis(22));
        assert!(retry.delay(100) > Duration::from_millis(100));
        assert_eq!(retry.delay(130), Duration::from_millis(150));
    }

    #[test]
    fn jitter_adds_at_most_as_much_again() {
        let retry = Retry::exponential(3);
        for _ in 0..100 {
            let delay = retry.delay(2);
            assert!(delay >= Duration::from_millis(200) && delay <= Duration::from_millis(400));
        }
    }

    #[test]
    fn a_constant_stays() {
        let retry = Retry::constant(5, Duration::from_millis(7));
        assert_eq!(retry.delay(1), retry.delay(5));
    }
}
