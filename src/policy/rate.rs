//! A limit on the attempts that a stage starts in a time.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as GovernorClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos as GovernorNanos,
    state::{InMemoryState, NotKeyed},
};

use crate::clock::Clock;

/// A limit on the attempts that a stage starts in a time, evenly spread: ten a second is one each
/// 100 ms. Retries count, undos don't.
///
/// Set with [`rate_limit`](crate::IntoWork::rate_limit). It holds for the stage's pool, whatever the
/// number of its workers. A task that waits for its turn keeps its place in the queue, and its
/// deadline.
///
/// ```
/// use std::time::Duration;
/// use batrun::policy::RateLimit;
///
/// // 100 a minute; after a rest, 10 may start at once.
/// let rate = RateLimit::new(100, Duration::from_secs(60)).burst(10);
/// # let _ = rate;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    pub(crate) fn throttle(&self, clock: &Clock) -> Option<Throttle> {
        let quota = Quota::with_period(self.per.checked_div(self.count)?)?
            .allow_burst(NonZeroU32::new(self.burst)?);
        let clock = Ticks(clock.clone());
        Some(Throttle {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
        })
    }
}

/// A rate limit at work, on the pipeline's clock.
pub(crate) struct Throttle {
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Tick>>,
    clock: Ticks,
}

impl Throttle {
    /// Takes a permit, or says how long to wait for one.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|not_yet| not_yet.wait_time_from(self.clock.now()))
    }
}

#[derive(Clone)]
struct Ticks(Clock);

/// Nanoseconds since the pipeline began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl std::ops::Add<GovernorNanos> for Tick {
    type Output = Tick;

    fn add(self, nanos: GovernorNanos) -> Tick {
        Tick(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> GovernorNanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: GovernorNanos) -> Self {
        Tick(self.0.saturating_sub(duration.as_u64()))
    }
}

impl GovernorClock for Ticks {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(self.0.now())
    }
}
