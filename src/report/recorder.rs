//! The recorder: the events of tasks in flight, each with its time, within a bound of bytes.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use super::timeline::{Event, EventKind, Events, MOST_EVENTS};
use crate::{
    clock::Cycles,
    panic_guard,
    task::{StageIx, Task, TaskId},
};

/// Records what happens to each task, with times, for [`Control::timeline`](crate::Control::timeline). Set by
/// [`Pipeline::recorder`](crate::Pipeline::recorder). Default: none.
///
/// The events of a task are kept if it is not done, if one of its attempts was repeated, or if it is among those
/// that [`one_in`](Self::one_in) chooses. Those of all others are thrown away once they are done.
///
/// It costs each task some 200 ns a stage: see `cargo bench -p batrun-benches --bench watching`. A pipeline without one
/// pays nothing.
///
/// ```
/// use batrun::{prelude::*, report::Recorder};
///
/// # let pipeline: Pipeline<u32> = Pipeline::new("orders");
/// // At most 4 MiB, and of the tasks that went well each thousandth.
/// let pipeline = pipeline.recorder(Recorder::bytes(4 << 20).one_in(1_000));
/// # let _ = pipeline;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorder {
    bytes: usize,
    one_in: u64,
}

/// Below this a recorder would be of no use, in bytes.
const LEAST: usize = 1 << 16;

impl Recorder {
    /// At most that many bytes of events, 16 for each: one half for tasks in flight, the other for those that have
    /// ended. At least 65,536. Where tasks in flight need more, the events that find no room are left out, and
    /// counted; where ended ones do, the oldest give way. Each place for a task in flight takes some 80 bytes besides.
    pub fn bytes(bytes: usize) -> Self {
        Recorder {
            bytes: bytes.max(LEAST),
            one_in: 0,
        }
    }

    /// Keeps the events of every `n`th done task (its number is divisible by `n`). Default: 0, none.
    pub fn one_in(mut self, n: u64) -> Self {
        self.one_in = n;
        self
    }

    pub(crate) fn ended_bytes(self) -> usize {
        self.bytes / 2
    }
}

/// The records of one chunk, and the most chunks: tasks in slots beyond them are not recorded.
const CHUNK: usize = 1_024;
const CHUNKS: usize = 4_096;

/// Events are given memory in pieces of so many.
const PIECE: usize = 16;

/// The events of tasks in flight, by their slots.
pub(crate) struct LiveEvents {
    one_in: u64,
    most_bytes: usize,
    bytes: AtomicUsize,
    chunks: Vec<OnceLock<Vec<Mutex<Track>>>>,
}

/// The events of the task in a slot.
#[derive(Default)]
struct Track {
    /// The events are those of this one.
    task: u64,
    /// One of its attempts was repeated.
    retried: bool,
    events: Events,
}

impl LiveEvents {
    pub(crate) fn new(recorder: Recorder) -> Self {
        LiveEvents {
            one_in: recorder.one_in,
            most_bytes: recorder.bytes - recorder.ended_bytes(),
            bytes: AtomicUsize::new(0),
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
        }
    }

    fn track(&self, slot: u32) -> Option<&Mutex<Track>> {
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let tracks = || (0..CHUNK).map(|_| Mutex::default()).collect();
        self.chunks.get(chunk)?.get_or_init(tracks).get(at)
    }

    /// An attempt begins, which was put into its queue before.
    pub(crate) fn started(&self, task: &Task, stage: StageIx, attempt: u32, now: Cycles) {
        let queued = Event::new(task.queued_at(), stage, EventKind::Queued, attempt);
        let started = Event::new(now, stage, EventKind::Started, attempt);
        self.add(task.slot, task.id(), attempt > 1, &[queued, started]);
    }

    pub(crate) fn add_one(&self, task: &Task, event: Event) {
        self.add(task.slot, task.id(), false, &[event]);
    }

    fn add(&self, slot: u32, id: TaskId, retried: bool, events: &[Event]) {
        let Some(track) = self.track(slot) else {
            return;
        };
        let mut track = panic_guard::lock(track);
        if track.task != id.0 {
            // Those of the task before, which nobody has taken.
            track.task = id.0;
            track.retried = false;
            track.events.clear();
        }
        track.retried |= retried;
        for event in events {
            if track.events.is_full() && !self.make_room(&mut track.events) {
                track.events.leave_out(1);
            } else {
                track.events.push(*event);
            }
        }
    }

    fn make_room(&self, events: &mut Events) -> bool {
        let more = PIECE
            .max(events.capacity())
            .min(MOST_EVENTS - events.capacity());
        let bytes = size_of::<Event>() * more;
        let grow = |used: usize| (used + bytes <= self.most_bytes).then_some(used + bytes);
        let order = Ordering::Relaxed;
        if self.bytes.fetch_update(order, order, grow).is_err() {
            return false;
        }
        let before = events.capacity();
        events.reserve(more);
        // An allocator gives this on top.
        let extra = (events.capacity() - before).saturating_sub(more);
        self.bytes.fetch_add(size_of::<Event>() * extra, order);
        true
    }

    /// The task in this slot is done: its events, if they are to be kept.
    pub(crate) fn done(&self, task: &Task, then: impl FnOnce(&Events)) {
        let id = task.id();
        let Some(track) = self.track(task.slot) else {
            return;
        };
        let mut track = panic_guard::lock(track);
        if track.task == id.0 {
            let chosen = id.0.checked_rem(self.one_in) == Some(0);
            if track.retried || chosen {
                then(&track.events);
            }
            self.clear(&mut track);
        }
    }

    /// The task in this slot has ended other than done: its events.
    pub(crate) fn take(&self, task: &Task, then: impl FnOnce(&Events)) {
        let Some(track) = self.track(task.slot) else {
            return;
        };
        let mut track = panic_guard::lock(track);
        if track.task == task.id().0 {
            then(&track.events);
            self.clear(&mut track);
        }
    }

    /// Keeps as much memory as most tasks need.
    fn clear(&self, track: &mut Track) {
        track.task = 0;
        track.events.clear();
        if track.events.capacity() > 2 * PIECE {
            let bytes = size_of::<Event>() * track.events.capacity();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            track.events = Events::default();
        }
    }

    /// A look at a task that goes on.
    pub(crate) fn look(&self, task: &Task) -> Option<(Vec<Event>, usize)> {
        let track = panic_guard::lock(self.track(task.slot)?);
        let events = (track.task == task.id().0).then_some(&track.events)?;
        Some((events.in_order().collect(), events.left_out()))
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::task::{Limits, TaskOwner, TaskRef};

    struct Nobody;

    impl TaskOwner for Nobody {
        fn task_lost(&self, _: TaskRef) {}
    }

    fn task(slot: u32, id: u64) -> Task {
        let owner: Weak<Nobody> = Weak::new();
        let task = Task::new(slot, owner);
        task.renew(TaskId(id), &Limits::none(false), 0, Cycles(1));
        task
    }

    fn kept(live: &LiveEvents, task: &Task) -> Option<usize> {
        let mut kept = None;
        live.done(task, |events| kept = Some(events.len()));
        kept
    }

    #[test]
    fn d1_events_of_done_tasks_are_kept_if_they_were_retried_or_chosen() {
        let live = LiveEvents::new(Recorder::bytes(0).one_in(10));
        let (plain, retried, chosen) = (task(0, 1), task(1, 2), task(2, 20));
        for task in [&plain, &retried, &chosen] {
            live.started(task, 0, 1, Cycles(2));
        }
        live.started(&retried, 0, 2, Cycles(3));
        assert_eq!(live.look(&plain).map(|(events, _)| events.len()), Some(2));
        assert_eq!(kept(&live, &plain), None);
        assert_eq!(kept(&live, &retried), Some(4));
        assert_eq!(kept(&live, &chosen), Some(2));
        // Once.
        assert_eq!(kept(&live, &chosen), None);
        assert_eq!(live.look(&retried), None);
        // The next task in a slot has none of them.
        let next = task(1, 30);
        live.started(&next, 0, 1, Cycles(4));
        assert_eq!(kept(&live, &next), Some(2));
    }

    #[test]
    fn d1_events_of_tasks_in_flight_are_bounded_in_bytes_and_counted_beyond() {
        let live = LiveEvents::new(Recorder::bytes(0));
        let tasks: Vec<Task> = (0..200).map(|n| task(n, u64::from(n) + 1)).collect();
        for task in &tasks {
            for _ in 0..20 {
                live.started(task, 0, 1, Cycles(2));
            }
            assert!(live.used() <= LEAST / 2, "{}", live.used());
        }
        let (events, left_out) = live.look(&tasks[0]).unwrap();
        assert_eq!((events.len(), left_out), (40, 0));
        let (events, left_out) = live.look(&tasks[199]).unwrap();
        assert_eq!((events.len(), left_out), (0, 40));
        for task in &tasks {
            live.take(task, |_| {});
        }
        // Memory that small tasks need stays for the next ones.
        assert!(live.used() <= 200 * 2 * PIECE * size_of::<Event>());
        // A slot beyond all chunks is none of its business.
        live.started(&task(u32::MAX, 9), 0, 1, Cycles(2));
    }
}
