//! The time for which a process may act on its tasks, where others would take them over: a lease that it
//! renews.

// Only a store that several processes use has one.
#![cfg_attr(not(feature = "postgres"), allow(dead_code))]

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::time::wall_clock;
use crate::ledger::LedgerError;

/// The process's own view of its lease. It is on the safe side: time counts from before a renewal was sent.
pub(super) struct Lease {
    length: Duration,
    /// The time of the last renewal, in milliseconds of [`now`].
    renewed: AtomicU64,
    is_doubtful: AtomicBool,
    is_over: AtomicBool,
    /// The milliseconds by which the clock that all processes share is ahead of this machine's.
    ahead: AtomicI64,
    /// Learns that the lease is over.
    listener: OnceLock<Listener>,
}

pub(super) type Listener = Box<dyn Fn(&LedgerError) + Send + Sync>;

impl Lease {
    pub(super) fn new(length: Duration, renewed: u64) -> Self {
        Lease {
            length,
            renewed: AtomicU64::new(renewed),
            is_doubtful: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            ahead: AtomicI64::new(0),
            listener: OnceLock::new(),
        }
    }

    /// A renewal that was sent at this time has succeeded.
    pub(super) fn renew(&self, sent: u64) {
        self.renewed.fetch_max(sent, Ordering::Relaxed);
        self.look(now());
    }

    /// Looks at the clock. Returns the time until the next look.
    pub(super) fn look(&self, now: u64) -> Duration {
        let passed = now.saturating_sub(self.renewed.load(Ordering::Relaxed));
        let length = self.length.as_millis() as u64;
        let doubt = length * 7 / 10;
        self.is_doubtful.store(passed >= doubt, Ordering::Relaxed);
        if passed >= length {
            let length = self.length;
            self.end(&LedgerError::new(format_args!(
                "the lease of {length:?} could not be renewed in time, so another process may have taken \
                 the tasks over"
            )));
        }
        let next = if passed < doubt { doubt } else { length };
        Duration::from_millis(next.saturating_sub(passed).max(1))
    }

    /// The time until it runs out, unless it is renewed.
    pub(super) fn left(&self, now: u64) -> Duration {
        let passed = now.saturating_sub(self.renewed.load(Ordering::Relaxed));
        match self.is_over() {
            true => Duration::ZERO,
            false => self.length.saturating_sub(Duration::from_millis(passed)),
        }
    }

    /// Another process has taken over, or may have: nothing more is begun here.
    pub(super) fn end(&self, why: &LedgerError) {
        if !self.is_over.swap(true, Ordering::SeqCst)
            && let Some(listener) = self.listener.get()
        {
            listener(why);
        }
    }

    /// Nothing may begin before a commit has shown that the lease still holds.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Calls this once the lease is over.
    pub(super) fn listen(&self, listener: Listener) {
        if self.listener.set(listener).is_ok()
            && self.is_over()
            && let Some(listener) = self.listener.get()
        {
            listener(&LedgerError::new(
                "the lease ran out while the pipeline was starting",
            ));
        }
    }

    /// The shared clock showed this time, between these two times of this machine's clock.
    pub(super) fn set_clock(&self, shared: i64, before: u64, after: u64) {
        let own = before + after.saturating_sub(before) / 2;
        self.ahead
            .store(shared.saturating_sub_unsigned(own), Ordering::Relaxed);
    }

    /// The time of the shared clock, in milliseconds since 1970.
    pub(super) fn wall_clock(&self) -> u64 {
        wall_clock().saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }
}

/// Milliseconds of a clock that goes on while the machine sleeps.
#[cfg(all(feature = "postgres", target_os = "linux"))]
pub(super) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (now.tv_sec as u64).saturating_mul(1_000) + now.tv_nsec as u64 / 1_000_000
}

/// Milliseconds of a clock that only goes forward.
#[cfg(not(all(feature = "postgres", target_os = "linux")))]
pub(super) fn now() -> u64 {
    use std::{sync::LazyLock, time::Instant};
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn heard(lease: &Lease) -> Arc<Mutex<Vec<String>>> {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let listener = heard.clone();
        lease.listen(Box::new(move |why| {
            if let Ok(mut heard) = listener.lock() {
                heard.push(why.to_string());
            }
        }));
        heard
    }

    #[test]
    fn c2_a_lease_is_doubtful_after_seven_tenths_and_over_at_its_end() {
        let lease = Lease::new(Duration::from_secs(10), 1_000);
        let heard = heard(&lease);
        assert_eq!(lease.look(2_000), Duration::from_secs(6));
        assert!(!lease.is_doubtful());
        assert_eq!(lease.look(8_000), Duration::from_secs(3));
        assert_eq!(lease.left(8_000), Duration::from_secs(3));
        assert!(lease.is_doubtful() && !lease.is_over());
        lease.renewed.store(7_999, Ordering::Relaxed);
        lease.look(8_000);
        assert!(!lease.is_doubtful());
        lease.look(17_999);
        assert!(lease.is_over());
        assert_eq!(lease.left(8_000), Duration::ZERO);
        lease.look(18_000);
        let heard = heard.lock().map(|heard| heard.clone()).unwrap_or_default();
        assert_eq!(heard.len(), 1, "it is told once");
        assert!(heard[0].contains("10s"), "{heard:?}");
    }

    #[test]
    fn the_shared_clock_is_read_in_the_middle() {
        let lease = Lease::new(Duration::from_secs(10), 0);
        lease.set_clock(5_000, 1_000, 2_000);
        assert_eq!(lease.ahead.load(Ordering::Relaxed), 3_500);
        lease.set_clock(500, 1_000, 1_000);
        assert_eq!(lease.ahead.load(Ordering::Relaxed), -500);
    }
}
