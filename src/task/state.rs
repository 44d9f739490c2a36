//! The life of a task: every legal transition, in one pure function.
//!
//! The live run, its tests and whatever stands behind the [`Ledger`](crate::ledger::Ledger) share it. It
//! knows no actor, no clock and no I/O.

use serde::{Deserialize, Serialize};

/// A stage's place in its pipeline, counted from 0.
pub type StageIx = u16;

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Waiting for a worker of this stage, be it in a queue, on its way there, or for its next attempt.
    Queued(StageIx),
    /// A worker of this stage is on it.
    Running(StageIx),
    /// An attempt failed and is to be repeated; the undos that it registered run first.
    Cleaning(StageIx),
    /// Its end is decided, but whoever holds it, a queue or a worker of this stage, has not let go of
    /// it yet.
    Stopping(StageIx),
    /// Nothing works on it any more; its undos run.
    RollingBack,
    /// It has its outcome.
    Ended,
}

/// An event in the life of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// A worker takes it up.
    Start(StageIx),
    /// The stage returned in time; the task goes on to the next stage.
    Finish(StageIx),
    /// The last stage returned in time: the task is done.
    Complete(StageIx),
    /// The stage failed and will try again, and there is nothing to clean up.
    Retry(StageIx),
    /// The stage failed and will try again once this attempt's undos have run.
    CleanUp(StageIx),
    /// The failed attempt's undos have run.
    Cleaned(StageIx),
    /// The stage failed for good, or cleaning up after it did.
    Fail(StageIx),
    /// Its deadline passed, or it was cancelled.
    Stop,
    /// Its holder has let go of it: nothing works on it, and nothing will.
    Stopped(StageIx),
    /// Every undo has run, or is known to be stuck.
    RolledBack,
}

/// An event that can't happen in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {state:?} can't take {event:?}")]
pub struct Illegal {
    /// The state of the task.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// The state that follows, or why there is none.
///
/// # Errors
/// [`Illegal`] where the event doesn't fit the state; the state is then unchanged. Of two events
/// that exclude each other (the deadline and the last stage's result, say) the first one taken
/// wins, because the second one finds a state it doesn't fit.
#[inline]
pub fn next(state: State, event: Event) -> Result<State, Illegal> {
    use Event as E;
    use State as S;
    Ok(match (state, event) {
        (S::Queued(k), E::Start(j)) if j == k => S::Running(k),
        (S::Running(k), E::Finish(j)) if j == k => S::Queued(k + 1),
        (S::Running(k), E::Complete(j)) if j == k => S::Ended,
        (S::Running(k), E::Retry(j)) if j == k => S::Queued(k),
        (S::Running(k), E::CleanUp(j)) if j == k => S::Cleaning(k),
        (S::Cleaning(k), E::Cleaned(j)) if j == k => S::Queued(k),
        // A queued task fails when its stage can't be built at all.
        (S::Running(k) | S::Cleaning(k) | S::Queued(k), E::Fail(j)) if j == k => S::RollingBack,
        (S::Queued(k) | S::Running(k) | S::Cleaning(k), E::Stop) => S::Stopping(k),
        (S::Stopping(k), E::Stopped(j)) if j == k => S::RollingBack,
        (S::RollingBack, E::RolledBack) => S::Ended,
        _ => return Err(Illegal { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::{Event as E, State as S, *};

    fn states() -> Vec<State> {
        let mut all = vec![S::RollingBack, S::Ended];
        for k in 0..3 {
            all.extend([S::Queued(k), S::Running(k), S::Cleaning(k), S::Stopping(k)]);
        }
        all
    }

    fn events() -> Vec<Event> {
        let mut all = vec![E::Stop, E::RolledBack];
        for k in 0..3 {
            all.extend([E::Start(k), E::Finish(k), E::Complete(k), E::Retry(k)]);
            all.extend([E::CleanUp(k), E::Cleaned(k), E::Fail(k), E::Stopped(k)]);
        }
        all
    }

    #[test]
    fn g01_ended_is_final() {
        for event in events() {
            assert_eq!(
                next(S::Ended, event),
                Err(Illegal {
                    state: S::Ended,
                    event
                })
            );
        }
    }

    #[test]
    fn g05_rollback_is_reached_only_once_nothing_runs() {
        for state in states() {
            for event in events() {
                if next(state, event) == Ok(S::RollingBack) {
                    let by_its_holder = matches!(event, E::Fail(_) | E::Stopped(_));
                    assert!(by_its_holder, "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn rollback_only_leads_to_the_end() {
        for event in events() {
            match next(S::RollingBack, event) {
                Ok(state) => assert_eq!((state, event), (S::Ended, E::RolledBack)),
                Err(illegal) => assert_eq!(illegal.state, S::RollingBack),
            }
        }
    }

    #[test]
    fn a_stage_speaks_only_for_itself() {
        for state in states() {
            for event in events() {
                let (at, by) = (stage_of_state(state), stage_of_event(event));
                if let (Some(at), Some(by)) = (at, by)
                    && at != by
                {
                    assert!(next(state, event).is_err(), "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_goes_backwards_but_a_retry() {
        for state in states() {
            for event in events() {
                let Ok(then) = next(state, event) else {
                    continue;
                };
                if let (Some(was), Some(is)) = (stage_of_state(state), stage_of_state(then)) {
                    assert!(is == was || is == was + 1 && matches!(event, E::Finish(_)));
                }
            }
        }
    }

    fn stage_of_state(state: State) -> Option<StageIx> {
        match state {
            S::Queued(k) | S::Running(k) | S::Cleaning(k) | S::Stopping(k) => Some(k),
            S::RollingBack | S::Ended => None,
        }
    }

    fn stage_of_event(event: Event) -> Option<StageIx> {
        match event {
            E::Start(k) | E::Finish(k) | E::Complete(k) | E::Retry(k) | E::CleanUp(k) => Some(k),
            E::Cleaned(k) | E::Fail(k) | E::Stopped(k) => Some(k),
            E::Stop | E::RolledBack => None,
        }
    }
}
