//! The signal that wakes the thread that takes samples.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// One who has asked looks for so long.
const LOOK: Duration = Duration::from_secs(15);

/// Wakes the sampler.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    ended: bool,
    resting: bool,
    looked: Option<Instant>,
}

impl Signal {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `true` for the first one who calls.
    pub(crate) fn start(&self) -> bool {
        !self.with(|state| std::mem::replace(&mut state.started, true))
    }

    pub(crate) fn end(&self) {
        self.with(|state| state.ended = true);
        self.changed.notify_all();
    }

    /// Somebody looks.
    pub(crate) fn look(&self, now: Instant) {
        let wake = self.with(|state| {
            state.looked = Some(now);
            state.resting
        });
        if wake {
            self.changed.notify_all();
        }
    }

    pub(crate) fn looked(&self, now: Instant) -> bool {
        let looked = self.with(|state| state.looked);
        looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK)
    }

    /// Waits; `false` once the monitor is gone.
    pub(crate) fn wait(&self, until: Instant, resting: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let began = state.looked;
        state.resting = resting;
        while !(state.ended || resting && state.looked != began) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.resting = false;
        !state.ended
    }
}
