//! The state of a task in two atomics, so that a task passes through its stages without a locked
//! instruction. Only its end takes one.
//!
//! - The *place* (a queue, a worker, a clean-up, and of which stage) is written only by the task's
//!   holder, which has its context. Plain stores do.
//! - The *ending* (open, stopping, rolling back, ended) may be written by anyone. The first to
//!   exchange `OPEN` for something else has decided how the task ends.
//!
//! A thread that stops a task from outside can't know whether the holder is just about to go on. So
//! it only decides, and the holder lets go: the holder looks before it starts a stage, when a stage
//! has returned, and, behind a [`fence`], whenever the task has come to it in a message or a call has
//! to wait. The stopper reads the place behind a fence too, and tells the holder that it names. At
//! least one of the two sees what the other wrote (Dekker's algorithm), so a decided end is never
//! overlooked: either the holder sees the ending, or the stopper sees the place to which the task has
//! gone meanwhile.
//!
//! `tests/loom` includes this file and tries every interleaving.

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

pub(crate) struct AtomicState {
    place: AtomicU32,
    ending: AtomicU32,
}

const OPEN: u32 = 0;
const STOPPING: u32 = 1;
const ROLLING_BACK: u32 = 2;
const ENDED: u32 = 3;

const QUEUED: u32 = 0;
const RUNNING: u32 = 1 << 16;
const CLEANING: u32 = 2 << 16;

impl AtomicState {
    pub(crate) fn new() -> Self {
        AtomicState {
            place: AtomicU32::new(QUEUED),
            ending: AtomicU32::new(ENDED),
        }
    }

    /// For a record that nobody else looks at: the next task begins, queued for the first stage.
    #[inline]
    pub(crate) fn begin(&self) {
        self.place.store(QUEUED, Ordering::Relaxed);
        // A thread that sees it open also sees the new task's fields.
        self.ending.store(OPEN, Ordering::Release);
    }

    /// For a record that nobody else looks at: a task that was somewhere before.
    pub(crate) fn restore(&self, state: State) {
        self.place.store(place_of(state), Ordering::Relaxed);
        self.ending.store(ending_of(state), Ordering::Release);
    }

    #[inline]
    pub(crate) fn load(&self) -> State {
        // The ending first: if it is open, the place is this task's, not that of the task before.
        compose(
            self.ending.load(Ordering::Acquire),
            self.place.load(Ordering::Acquire),
        )
    }

    /// Its end is decided, though perhaps not reached.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) != OPEN
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
        let state = next(self.load(), event)?;
        self.place.store(place_of(state), Ordering::Release);
        Ok(state)
    }

    /// Events that change the ending, from any thread. One that loses to another meanwhile is illegal,
    /// as it would be had it come later.
    #[inline]
    fn decide(&self, event: Event) -> Result<State, Illegal> {
        let mut ending = self.ending.load(Ordering::Acquire);
        loop {
            let state = next(compose(ending, self.place.load(Ordering::Acquire)), event)?;
            let decided = ending_of(state);
            match self.ending.compare_exchange_weak(
                ending,
                decided,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(state),
                Err(other) => ending = other,
            }
        }
    }

    /// Decides from outside that it is to end. Returns where it was then, as the state it would have
    /// if it were open, which says whom to tell. `None` when its end was decided before.
    pub(crate) fn stop(&self) -> Option<State> {
        self.apply(Event::Stop).ok()?;
        fence();
        Some(compose(OPEN, self.place.load(Ordering::Acquire)))
    }

    /// It waits for a worker, whatever its ending.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.if_open(), State::Queued(_))
    }

    /// The state that it would have if its end were open.
    pub(crate) fn if_open(&self) -> State {
        compose(OPEN, self.place.load(Ordering::Acquire))
    }
}

#[inline(always)]
fn compose(ending: u32, place: u32) -> State {
    let stage = place as u16;
    match (ending, place & !0xffff) {
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

fn ending_of(state: State) -> u32 {
    match state {
        State::Queued(_) | State::Running(_) | State::Cleaning(_) => OPEN,
        State::Stopping(_) => STOPPING,
        State::RollingBack => ROLLING_BACK,
        State::Ended => ENDED,
    }
}
