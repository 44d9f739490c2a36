//! The sampler: a thread that looks at the pipelines once a second while somebody looks at the page or something
//! changes, and once a minute otherwise.

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

    /// `true` if anything has changed.
    fn tick(&self, now: Instant) -> bool {
        let at = sample::now();
        let mut changed = false;
        for watched in self.pipelines() {
            changed |= watched.tick(now, at);
        }
        if self.newest.receiver_count() > 0 && !self.newest.borrow().closed {
            let sampled = Arc::new(self.sample());
            *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((now, sampled.clone()));
            self.newest.send_replace(sampled);
        }
        changed
    }
}

fn run(inner: &Weak<Inner>, signal: &Signal) {
    let mut quiet = 0;
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        let Some(inner) = inner.upgrade() else { return };
        let changed = inner.tick(now);
        let watched = inner.streams.count() > 0 || signal.looked(now);
        drop(inner);
        quiet = if changed { 0 } else { quiet + 1 };
        let resting = !watched && quiet >= QUIET;
        next = match resting {
            true => now + REST,
            // Not what a slow tick has missed.
            false => (next + TICK).max(now),
        };
        if !signal.wait(next, resting) {
            return;
        }
        if resting {
            next = Instant::now();
        }
    }
}
