//! Time: nanoseconds since the pipeline began, read as seldom as correctness allows.
//!
//! Two clocks stand side by side. The runtime's clock says what time it is ([`Nanos`]); a paused test
//! stops it. The processor's counter ([`Cycles`]) says how long something took: it costs a third as
//! much to read, and knows nothing of pauses.

use std::{
    ops::{Add, AddAssign, Div, Sub},
    time::Duration,
};

use tokio::time::Instant;

/// Nanoseconds since the pipeline began, or a duration in nanoseconds.
pub(crate) type Nanos = u64;

/// No deadline.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// The age at which a reading is taken again. Nothing is decided by an old one: a deadline that may
/// have passed since is held against a new one.
const FRESH_NS: Nanos = 50_000;

/// The same for the time that a task is accepted at: its deadline may be early by as much.
const SOON_NS: Nanos = 1_000;

/// A value of the processor's counter, or a difference of two. Converted to [`Nanos`] by
/// [`Clock::to_nanos`], and only where somebody wants nanoseconds: comparing and summing up needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cycles(pub(crate) u64);

impl Cycles {
    /// The time since an earlier reading. Zero where another core's counter lags behind.
    #[inline(always)]
    pub(crate) fn since(self, earlier: Cycles) -> Cycles {
        Cycles(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Cycles {
    type Output = Cycles;

    #[inline(always)]
    fn add(self, more: Cycles) -> Cycles {
        Cycles(self.0.wrapping_add(more.0))
    }
}

impl AddAssign for Cycles {
    #[inline(always)]
    fn add_assign(&mut self, more: Cycles) {
        *self = *self + more;
    }
}

impl Sub for Cycles {
    type Output = Cycles;

    #[inline(always)]
    fn sub(self, less: Cycles) -> Cycles {
        Cycles(self.0.wrapping_sub(less.0))
    }
}

impl Div<u64> for Cycles {
    type Output = Cycles;

    #[inline(always)]
    fn div(self, by: u64) -> Cycles {
        Cycles(self.0 / by)
    }
}

/// The runtime's clock beside the processor's counter.
#[derive(Clone)]
pub(crate) struct Clock {
    epoch: Instant,
    counter: quanta::Clock,
    /// Cycles in 2^20 ns.
    rate: u64,
    /// Cycles in `FRESH_NS`.
    fresh: Cycles,
    /// Cycles in `SOON_NS`.
    soon: Cycles,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let counter = quanta::Clock::new();
        let long = counter.delta_as_nanos(0, 1 << 40).max(1);
        let rate = (1 << 60) / long;
        let clock = Clock {
            epoch: Instant::now(),
            counter,
            rate,
            fresh: Cycles(0),
            soon: Cycles(0),
        };
        let fresh = clock.cycles_in(FRESH_NS);
        let soon = clock.cycles_in(SOON_NS);
        Clock {
            fresh,
            soon,
            ..clock
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.nanos(Instant::now())
    }

    pub(crate) fn nanos(&self, at: Instant) -> Nanos {
        nanos(at.saturating_duration_since(self.epoch))
    }

    pub(crate) fn instant(&self, at: Nanos) -> Instant {
        self.epoch + Duration::from_nanos(at)
    }

    /// The counter's value: for intervals only, and unlike the clock never paused.
    #[inline(always)]
    pub(crate) fn cycles(&self) -> Cycles {
        Cycles(self.counter.raw())
    }

    /// The number of cycles in that time.
    pub(crate) fn cycles_in(&self, nanos: Nanos) -> Cycles {
        Cycles(((u128::from(nanos) * u128::from(self.rate)) >> 20) as u64)
    }

    /// The time that so many cycles take.
    #[inline]
    pub(crate) fn to_nanos(&self, cycles: Cycles) -> Nanos {
        self.counter.delta_as_nanos(0, cycles.0)
    }
}

/// A reading of both clocks. The runtime's is read again only once the counter says that it has
/// grown old.
pub(crate) struct Reading {
    pub(crate) now: Nanos,
    pub(crate) cycles: Cycles,
    /// When `now` was read.
    taken: Cycles,
}

impl Reading {
    pub(crate) fn take(clock: &Clock) -> Self {
        let cycles = clock.cycles();
        Reading {
            now: clock.now(),
            cycles,
            taken: cycles,
        }
    }

    /// Reads the counter, and the clock where that is due. Right after an await, `take` anew:
    /// a paused clock jumps without the counter knowing.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, clock: &Clock) {
        self.cycles = clock.cycles();
        // Wrapping: a counter that went backwards reads as old, and the clock is read.
        if self.cycles - self.taken > clock.fresh {
            self.renew(clock);
        }
    }

    /// As [`refresh`](Self::refresh), for what a deadline is counted from.
    #[inline(always)]
    pub(crate) fn refresh_soon(&mut self, clock: &Clock) {
        self.cycles = clock.cycles();
        if self.cycles - self.taken > clock.soon {
            self.renew(clock);
        }
    }

    /// A deadline has passed. Costs a comparison, and a reading of the clock where it is close.
    #[inline(always)]
    pub(crate) fn has_passed(&mut self, deadline: Nanos, clock: &Clock) -> bool {
        // Twice, since the two clocks may not agree to the nanosecond.
        deadline <= self.now + 2 * FRESH_NS && self.has_surely_passed(deadline, clock)
    }

    #[cold]
    fn has_surely_passed(&mut self, deadline: Nanos, clock: &Clock) -> bool {
        *self = Reading::take(clock);
        deadline <= self.now
    }

    #[cold]
    fn renew(&mut self, clock: &Clock) {
        self.now = clock.now();
        self.taken = self.cycles;
    }
}

/// A duration in nanoseconds; [`NEVER`] where it is longer than can be counted.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
