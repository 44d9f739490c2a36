//! Time: nanoseconds since the pipeline began, read as seldom as correctness allows.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds since the pipeline began.
pub(crate) type Nanos = u64;

/// No deadline.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// How old a reading may be before it is taken again. What may start late by G2's clock, and what
/// a result may be late by and still count.
const FRESH_NS: u64 = 50_000;

/// The runtime's clock, which stands still where a test pauses it, beside the processor's counter.
#[derive(Clone)]
pub(crate) struct Clock {
    epoch: Instant,
    counter: quanta::Clock,
    /// What the counter counts in 2^20 ns.
    rate: u64,
    /// What it counts in `FRESH_NS`.
    fresh: u64,
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
            fresh: 0,
        };
        let fresh = clock.counts_in(FRESH_NS);
        Clock { fresh, ..clock }
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
    pub(crate) fn count(&self) -> u64 {
        self.counter.raw()
    }

    /// What the counter counts in that time: dearer units are compared and summed up in counts.
    pub(crate) fn counts_in(&self, nanos: Nanos) -> u64 {
        ((u128::from(nanos) * u128::from(self.rate)) >> 20) as u64
    }

    #[inline]
    pub(crate) fn between(&self, from: u64, to: u64) -> Nanos {
        self.counter.delta_as_nanos(from, to)
    }
}

/// A reading of the clock that is taken again when the counter says it has grown old.
pub(crate) struct Reading {
    pub(crate) now: Nanos,
    taken: u64,
    pub(crate) count: u64,
}

impl Reading {
    pub(crate) fn take(clock: &Clock) -> Self {
        let count = clock.count();
        Reading {
            now: clock.now(),
            taken: count,
            count,
        }
    }

    /// Reads the counter, and the clock where that is due. Right after an await, `take` anew:
    /// a paused clock jumps without the counter knowing.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, clock: &Clock) {
        self.count = clock.count();
        if self.count.wrapping_sub(self.taken) > clock.fresh {
            self.renew(clock);
        }
    }

    #[cold]
    fn renew(&mut self, clock: &Clock) {
        self.now = clock.now();
        self.taken = self.count;
    }
}

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
