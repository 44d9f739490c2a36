//! The sampler: a thread that looks at the pipelines once a second while somebody looks at the page or something
//! changes, and once a minute otherwise. Once all pipelines have ended, it sleeps until somebody looks.

use std::{
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    sample::{self, Sampled},
    shared::Inner,
    signal::Signal,
};

const TICK: Duration = Duration::from_secs(1);
/// Nobody looks, and nothing changes.
const REST: Duration = Duration::from_secs(60);
/// A sample that is no older than this is new enough.
const FRESH: Duration = Duration::from_millis(250);
/// Ticks without a change before it rests.
const QUIET: u32 = 3;

impl Inner {
    /// Starts the sampler, unless it runs.
    pub(crate) fn start_sampling(self: &Arc<Self>) {
        if !self.signal.start() {
            return;
        }
        let (inner, signal) = (Arc::downgrade(self), self.signal.clone());
        let thread = thread::Builder::new().name("batrun-monitor".to_owned());
        if let Err(error) = thread.spawn(move || run(&inner, &signal)) {
            log::error!("the monitor has no history and no streams, as it got no thread: {error}");
        }
    }

    /// A sample that is at most a quarter of a second old, however many ask.
    pub(crate) fn sampled(&self) -> Arc<Sampled> {
        let now = Instant::now();
        self.signal.look(now);
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sampled)) = &*fresh
            && now.saturating_duration_since(*at) < FRESH
        {
            return sampled.clone();
        }
        let sampled = Arc::new(self.sample());
        *fresh = Some((now, sampled.clone()));
        sampled
    }

    /// Something was changed: the next sample shows it.
    pub(crate) fn changed(&self) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn sample(&self) -> Sampled {
        let started = Instant::now();
        let (pipelines, texts) = (self.pipelines(), self.texts());
        let mut over = !pipelines.is_empty();
        let each = pipelines.iter().enumerate().map(|(place, watched)| {
            let snapshot = watched.control.snapshot();
            over &= snapshot.ended;
            let (rates, mut warnings) = watched.judge(&snapshot);
            for warning in &mut warnings {
                warning.text = texts.show(&warning.text);
            }
            sample::text(place, &watched.control, &snapshot, &rates, warnings, &texts)
        });
        let pipelines = each.collect();
        let cost = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.cost.fetch_add(cost, Ordering::Relaxed);
        Sampled {
            at: sample::now(),
            pipelines,
            over,
            closed: false,
        }
    }

    fn tick(&self, now: Instant) -> Seen {
        let at = sample::now();
        let pipelines = self.pipelines();
        let mut changed = false;
        for watched in &pipelines {
            changed |= watched.tick(now, at);
        }
        let over = pipelines.iter().all(|one| one.control.is_ended());
        if self.newest.receiver_count() > 0 && !self.newest.borrow().closed {
            let sampled = Arc::new(self.sample());
            *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((now, sampled.clone()));
            self.newest.send_replace(sampled);
        }
        Seen {
            changed,
            over,
            looked: self.streams.count() > 0 || self.signal.looked(now),
        }
    }
}

/// The finding of a tick.
#[derive(Clone, Copy, Debug)]
struct Seen {
    changed: bool,
    /// All pipelines have ended.
    over: bool,
    /// Somebody looks.
    looked: bool,
}

/// Says when the next tick is due.
#[derive(Debug)]
struct Pace {
    next: Instant,
    /// Ticks without a change.
    quiet: u32,
}

/// The time until the next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    At(Instant),
    /// Earlier if somebody looks.
    Rest(Instant),
    /// Not before somebody looks.
    Sleep,
}

impl Pace {
    fn after(&mut self, now: Instant, seen: Seen) -> Next {
        self.quiet = if seen.changed { 0 } else { self.quiet + 1 };
        if seen.looked || self.quiet < QUIET {
            // Not what a slow tick has missed.
            self.next = (self.next + TICK).max(now);
            return Next::At(self.next);
        }
        match seen.over {
            true => Next::Sleep,
            false => Next::Rest(now + REST),
        }
    }
}

fn run(inner: &Weak<Inner>, signal: &Signal) {
    let mut pace = Pace {
        next: Instant::now(),
        quiet: 0,
    };
    loop {
        let (now, calls) = (Instant::now(), signal.calls());
        let Some(inner) = inner.upgrade() else { return };
        let seen = inner.tick(now);
        drop(inner);
        let (until, resting) = match pace.after(now, seen) {
            Next::At(next) => (Some(next), None),
            Next::Rest(next) => (Some(next), Some(calls)),
            Next::Sleep => (None, Some(calls)),
        };
        if !signal.wait(until, resting) {
            return;
        }
        if resting.is_some() {
            pace.next = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Seen = Seen {
        changed: false,
        over: false,
        looked: false,
    };

    #[test]
    fn at_rest_there_is_no_tick_for_a_minute_and_after_the_end_none() {
        let start = Instant::now();
        let second = |n: u32| start + n * TICK;
        let mut pace = Pace {
            next: start,
            quiet: 0,
        };
        let changed = Seen {
            changed: true,
            ..NOTHING
        };
        assert_eq!(pace.after(start, changed), Next::At(second(1)));
        // Three ticks of which nothing is to be told.
        assert_eq!(pace.after(second(1), NOTHING), Next::At(second(2)));
        assert_eq!(pace.after(second(2), NOTHING), Next::At(second(3)));
        assert_eq!(pace.after(second(3), NOTHING), Next::Rest(second(63)));
        // Somebody looks, and goes again.
        pace.next = second(20);
        let looked = Seen {
            looked: true,
            ..NOTHING
        };
        assert_eq!(pace.after(second(20), looked), Next::At(second(21)));
        assert_eq!(pace.after(second(21), NOTHING), Next::Rest(second(81)));
        // Something has changed while nobody looked.
        pace.next = second(81);
        assert_eq!(pace.after(second(81), changed), Next::At(second(82)));
        // Slow ticks are not made up for.
        assert_eq!(pace.after(second(90), changed), Next::At(second(90)));
        let over = Seen {
            over: true,
            ..NOTHING
        };
        for n in 91..=92 {
            assert!(matches!(pace.after(second(n), over), Next::At(_)));
        }
        assert_eq!(pace.after(second(93), over), Next::Sleep);
    }
}
