//! Where a task is and whether its end is decided: the state machine's state, kept in two words so
//! that the way of nearly every task costs no locked instruction.
//!
//! - The *place* (a queue, a worker, a clean-up, and of which stage) is written by the task's holder
//!   alone: whoever has its context. Plain stores do.
//! - The *fate* (open, stopping, rolling back, ended) may be decided by anyone. The first to exchange
//!   `Open` for something else has decided it.
//!
//! Who decides from outside that a task is to stop can't know whether its holder is just about to go
//! on. So it only decides, and the holder lets go: it looks before it starts a stage, when a stage
//! has returned, and, behind a [`fence`], whenever the task has come to it in a message or a call has
//! to wait. The stopper reads the place behind a fence too, and tells whoever that names. Of the two
//! at least one sees what the other wrote (Dekker), so a decided end is never overlooked: either the
//! holder sees the fate, or the stopper sees the place where the task has come to meanwhile.
//!
//! `tests/loom` takes this file and tries every interleaving.

// The parent says whose atomics: std's or loom's.
use super::{
    Event, Illegal, State,
    atomic::{self, AtomicU32, Ordering},
    next,
};

/// Orders what the holder has written before what it reads now; once for each message, not for each
/// task in it.
#[inline]
pub(crate) fn fence() {
    atomic::fence(Ordering::SeqCst);
}

pub(crate) struct Standing {
    place: AtomicU32,
    fate: AtomicU32,
}

const OPEN: u32 = 0;
const STOPPING: u32 = 1;
const ROLLING_BACK: u32 = 2;
const ENDED: u32 = 3;

const QUEUED: u32 = 0;
const RUNNING: u32 = 1 << 16;
const CLEANING: u32 = 2 << 16;

impl Standing {
    pub(crate) fn new() -> Self {
        Standing {
            place: AtomicU32::new(QUEUED),
            fate: AtomicU32::new(ENDED),
        }
    }

    /// For a record that nobody else looks at: the next task begins, queued for the first stage.
    #[inline]
    pub(crate) fn begin(&self) {
        self.place.store(QUEUED, Ordering::Relaxed);
        // Whoever sees it open sees whose it is.
        self.fate.store(OPEN, Ordering::Release);
    }

    /// For a record that nobody else looks at: a task that was somewhere before.
    #[cfg(feature = "journal")]
    pub(crate) fn restore(&self, state: State) {
        self.place.store(place_of(state), Ordering::Relaxed);
        self.fate.store(fate_of(state), Ordering::Release);
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        compose(
            self.fate.load(Ordering::Acquire),
            self.place.load(Ordering::Acquire),
        )
    }

    /// Whether its end is decided.
    #[inline]
    pub(crate) fn is_decided(&self) -> bool {
        self.fate.load(Ordering::Acquire) != OPEN
    }

    /// Takes the event, if it is a legal one.
    #[inline(always)]
    pub(crate) fn apply(&self, event: Event) -> Result<State, Illegal> {
        use Event as E;
        match event {
            E::Start(_) | E::Finish(_) | E::Retry(_) | E::CleanUp(_) | E::Cleaned(_) => {
                self.go_on(event)
            }
            E::Complete(_) | E::Fail(_) | E::Stop | E::Stopped(_) | E::RolledBack => {
                self.decide(event)
            }
        }
    }

    /// The holder's events, which change the place of a task whose end is open.
    #[inline(always)]
    fn go_on(&self, event: Event) -> Result<State, Illegal> {
        let state = next(self.state(), event)?;
        self.place.store(place_of(state), Ordering::Release);
        Ok(state)
    }

    /// Everybody's events, which change the fate. An event that gives way to another one meanwhile
    /// is illegal, as it would be had it come later.
    #[inline]
    fn decide(&self, event: Event) -> Result<State, Illegal> {
        let mut fate = self.fate.load(Ordering::Acquire);
        loop {
            let state = next(compose(fate, self.place.load(Ordering::Acquire)), event)?;
            let decided = fate_of(state);
            match self.fate.compare_exchange_weak(
                fate,
                decided,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(state),
                Err(other) => fate = other,
            }
        }
    }

    /// Decides from outside that it is to end, and says where it was then, as the state it would
    /// have if it were open: that is whom to tell. `None` when its end was decided before.
    pub(crate) fn stop(&self) -> Option<State> {
        self.apply(Event::Stop).ok()?;
        fence();
        Some(compose(OPEN, self.place.load(Ordering::Acquire)))
    }

    /// Whether it waits for a worker, whatever its fate.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(
            compose(OPEN, self.place.load(Ordering::Acquire)),
            State::Queued(_)
        )
    }
}

#[inline(always)]
fn compose(fate: u32, place: u32) -> State {
    let stage = place as u16;
    match (fate, place & !0xffff) {
        (OPEN, QUEUED) => State::Queued(stage),
        (OPEN, RUNNING) => State::Running(stage),
        (OPEN, _) => State::Cleaning(stage),
        (STOPPING, _) => State::Stopping(stage),
        (ROLLING_BACK, _) => State::RollingBack,
        _ => State::Ended,
    }
}

#[inline(always)]
fn place_of(state: State) -> u32 {
    match state {
        State::Running(stage) => RUNNING | u32::from(stage),
        State::Cleaning(stage) => CLEANING | u32::from(stage),
        State::Queued(stage) | State::Stopping(stage) => QUEUED | u32::from(stage),
        // No event of a holder leads there.
        State::RollingBack | State::Ended => QUEUED,
    }
}

fn fate_of(state: State) -> u32 {
    match state {
        State::Queued(_) | State::Running(_) | State::Cleaning(_) => OPEN,
        State::Stopping(_) => STOPPING,
        State::RollingBack => ROLLING_BACK,
        State::Ended => ENDED,
    }
}
