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
    /// Number of reasons to wake so far.
    calls: u64,
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
        self.call(|state| state.looked = Some(now));
    }

    /// There is something new to be looked at.
    pub(crate) fn wake(&self) {
        self.call(|_| ());
    }

    fn call(&self, change: impl FnOnce(&mut State)) {
        let wake = self.with(|state| {
            change(state);
            state.calls += 1;
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

    /// The calls so far, which a tick that begins now takes notice of.
    pub(crate) fn calls(&self) -> u64 {
        self.with(|state| state.calls)
    }

    /// Waits until then; one that rests, no longer than to the first call after these, and for ever without a time.
    /// `false` once the monitor is gone.
    pub(crate) fn wait(&self, until: Option<Instant>, resting_since: Option<u64>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting = resting_since.is_some();
        while !(state.ended || resting_since.is_some_and(|calls| state.calls != calls)) {
            state = match until {
                None => {
                    let woken = self.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.resting = false;
        !state.ended
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, sync::mpsc, thread};

    use super::*;

    #[test]
    fn one_that_sleeps_is_woken_by_a_look_and_by_the_end() {
        let signal = Arc::new(Signal::default());
        let sleeper = signal.clone();
        let (sender, woken) = mpsc::channel();
        let thread = thread::spawn(move || {
            let calls = sleeper.calls();
            sender.send(true).unwrap();
            // A call that came before it sleeps wakes it, too.
            sender.send(sleeper.wait(None, Some(calls))).unwrap();
            sender
                .send(sleeper.wait(None, Some(sleeper.calls())))
                .unwrap();
        });
        assert!(woken.recv().unwrap());
        signal.look(Instant::now());
        assert!(woken.recv().unwrap());
        signal.end();
        assert!(!woken.recv().unwrap());
        thread.join().unwrap();
    }
}
