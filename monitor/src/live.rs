//! A watched pipeline: its control, and what was seen of it in the last seconds.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use batrun::{Control, report::Snapshot};

use crate::{history::History, journal_watch::JournalWatch, warnings};

/// A pipeline that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) control: Control,
    pub(crate) journal: JournalWatch,
    live: Mutex<Live>,
}

/// Rates are those of the last seconds.
const WINDOW: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Live {
    /// The last snapshots, the oldest first.
    seen: VecDeque<(Instant, Snapshot)>,
    rates: Rates,
    history: History,
}

/// Events of a second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) accepted: f64,
    pub(crate) done: f64,
    pub(crate) failed: f64,
    /// Attempts that were started, and undos that ran, of each stage.
    pub(crate) stages: Vec<(f64, f64)>,
}

impl Watched {
    pub(crate) fn new(control: Control) -> Self {
        let live = Live {
            seen: VecDeque::new(),
            rates: Rates::default(),
            history: History::new(control.stages().len()),
        };
        Watched {
            control,
            journal: JournalWatch::default(),
            live: Mutex::new(live),
        }
    }

    /// Looks at the pipeline, for its rates and its history. `true` if anything has changed since the last time.
    pub(crate) fn tick(&self, now: Instant, at: u64) -> bool {
        let mut snapshot = self.control.snapshot();
        // At most a thousand texts, which nobody reads again.
        snapshot.progress = Vec::new();
        let times = self.control.times();
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = live
            .seen
            .back()
            .is_none_or(|(_, last)| differs(last, &snapshot));
        live.history.add(at, &snapshot, &times);
        live.seen.push_back((now, snapshot));
        while live
            .seen
            .get(1)
            .is_some_and(|(seen, _)| now - *seen >= WINDOW)
        {
            live.seen.pop_front();
        }
        live.rates = match (live.seen.front(), live.seen.back()) {
            (Some((since, before)), Some((until, after))) => rates(before, after, *until - *since),
            _ => Rates::default(),
        };
        changed
    }

    /// The rates, and the warnings about the pipeline as it is now.
    pub(crate) fn judge(&self, now: &Snapshot) -> (Rates, Vec<warnings::Warning>) {
        let journal = self.control.journal().filter(|_| !now.ended);
        let cluster = journal.and_then(|journal| self.journal.troubles(journal));
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let before = live.seen.front().map(|(_, before)| before);
        (
            live.rates.clone(),
            warnings::of(now, before, cluster.as_ref()),
        )
    }

    /// Reads the history.
    pub(crate) fn history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(
            &self
                .live
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .history,
        )
    }
}

fn differs(a: &Snapshot, b: &Snapshot) -> bool {
    let stages = || a.stages.iter().zip(&b.stages);
    a.counts != b.counts
        || (a.stuck, a.paused, a.draining, a.ended) != (b.stuck, b.paused, b.draining, b.ended)
        || a.refused != b.refused
        || stages().any(|(a, b)| {
            a.counts != b.counts
                || (a.queued, a.busy, a.workers, a.target)
                    != (b.queued, b.busy, b.workers, b.target)
                || a.health != b.health
        })
}

fn rates(before: &Snapshot, after: &Snapshot, time: Duration) -> Rates {
    if time.is_zero() {
        return Rates::default();
    }
    let per_second = |before: u64, after: u64| {
        let rate = after.saturating_sub(before) as f64 / time.as_secs_f64();
        (rate * 1_000.0).round() / 1_000.0
    };
    let (old, new) = (&before.counts, &after.counts);
    let stages = before.stages.iter().zip(&after.stages);
    Rates {
        accepted: per_second(old.accepted, new.accepted),
        done: per_second(old.done, new.done),
        failed: per_second(
            old.failed + old.timed_out + old.cancelled,
            new.failed + new.timed_out + new.cancelled,
        ),
        stages: stages
            .map(|(old, new)| {
                (
                    per_second(old.counts.started, new.counts.started),
                    per_second(old.counts.cancelled, new.counts.cancelled),
                )
            })
            .collect(),
    }
}
