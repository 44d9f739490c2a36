//! The events of a task, in order: as they are kept, and as one reads them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Cycles,
    task::{StageIx, StageName, TaskId},
};

/// The first events of a task that are kept, and the last ones.
const FIRST: usize = 64;
const LAST: usize = 192;

/// The most events that are kept of a task.
pub(crate) const MOST_EVENTS: usize = FIRST + LAST;

/// The events of a task, in order; made by [`Control::timeline`](crate::Control::timeline).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timeline {
    /// The task.
    pub task: TaskId,
    /// Its events: at most 256, the first 64 and the last 192.
    pub events: Vec<TimelineEvent>,
    /// The number of events between the first and the last ones that were left out.
    pub left_out: usize,
    /// The place in [`events`](Self::events) where those that were left out would be.
    pub gap: usize,
    /// `true` if a [recorder](crate::Pipeline::recorder) has seen all of it. Otherwise only its rollback is told of
    /// with times; before that come the undos that it had registered, in that order, without.
    pub recorded: bool,
}

/// An event of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelineEvent {
    /// The time since the pipeline's start, if it is known. Add it to
    /// [`started_at`](super::Snapshot::started_at) for the time on the wall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Duration>,
    /// The stage.
    pub stage: StageName,
    /// The kind of event.
    #[serde(flatten)]
    pub kind: TimelineKind,
}

/// A kind of event of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum TimelineKind {
    /// It was put into the stage's queue.
    Queued {
        /// The attempt that it waits for, from 1.
        attempt: u32,
    },
    /// A worker took it up.
    Started {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// The stage returned in time.
    Finished {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// The attempt failed, or was stopped.
    AttemptEnded {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// The stage registered an undo.
    Registered {
        /// Its place among the task's undos, from 0.
        undo: u32,
    },
    /// The task's end was decided, and nothing works on it any more: its rollback begins.
    RollbackBegan,
    /// An undo of this stage was started.
    UndoStarted {
        /// Its place among the task's undos, from 0.
        undo: u32,
    },
    /// It has run.
    Undone {
        /// Its place among the task's undos, from 0.
        undo: u32,
    },
    /// It failed; it may be tried again.
    UndoFailed {
        /// Its place among the task's undos, from 0.
        undo: u32,
    },
    /// The task has its outcome.
    Ended,
}

/// An event as it is kept: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The counter's value; zero where it isn't known.
    pub(crate) at: Cycles,
    pub(crate) number: u32,
    pub(crate) stage: StageIx,
    pub(crate) kind: EventKind,
}

const _: () = assert!(size_of::<Event>() == 16);

/// [`TimelineKind`] without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Queued,
    Started,
    Finished,
    AttemptEnded,
    Registered,
    RollbackBegan,
    UndoStarted,
    Undone,
    UndoFailed,
    Ended,
}

impl Event {
    pub(crate) fn new(at: Cycles, stage: StageIx, kind: EventKind, number: u32) -> Self {
        Event {
            at,
            number,
            stage,
            kind,
        }
    }

    fn shown(self) -> TimelineKind {
        let (attempt, undo) = (self.number, self.number);
        match self.kind {
            EventKind::Queued => TimelineKind::Queued { attempt },
            EventKind::Started => TimelineKind::Started { attempt },
            EventKind::Finished => TimelineKind::Finished { attempt },
            EventKind::AttemptEnded => TimelineKind::AttemptEnded { attempt },
            EventKind::Registered => TimelineKind::Registered { undo },
            EventKind::RollbackBegan => TimelineKind::RollbackBegan,
            EventKind::UndoStarted => TimelineKind::UndoStarted { undo },
            EventKind::Undone => TimelineKind::Undone { undo },
            EventKind::UndoFailed => TimelineKind::UndoFailed { undo },
            EventKind::Ended => TimelineKind::Ended,
        }
    }
}

/// The events of one task: the first ones, and the last ones in a ring.
#[derive(Debug, Default)]
pub(crate) struct Events {
    kept: Vec<Event>,
    /// Those that were added, overwritten ones included.
    count: usize,
    /// Those that found no room.
    lost: usize,
}

impl Events {
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.count = 0;
        self.lost = 0;
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.kept.len() < MOST_EVENTS {
            self.kept.push(event);
        } else {
            let at = FIRST + (self.count - FIRST) % LAST;
            self.kept[at] = event;
        }
        self.count += 1;
    }

    /// One that found no room.
    pub(crate) fn leave_out(&mut self, events: usize) {
        self.lost += events;
    }

    /// Adds those of another task's, or of another part of this one's.
    pub(crate) fn append(&mut self, others: &Events) {
        others.in_order().for_each(|event| self.push(event));
        self.leave_out(others.left_out());
    }

    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() == self.kept.capacity() && self.kept.len() < MOST_EVENTS
    }

    pub(crate) fn reserve(&mut self, events: usize) {
        self.kept.reserve_exact(events);
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn left_out(&self) -> usize {
        self.count - self.kept.len() + self.lost
    }

    /// In their order, the ring unrolled.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = Event> {
        let first = self.kept.len().min(FIRST);
        // The oldest of the ring.
        let turn = match self.kept.len() {
            MOST_EVENTS => FIRST + (self.count - FIRST) % LAST,
            _ => first,
        };
        let parts = [
            &self.kept[..first],
            &self.kept[turn..],
            &self.kept[first..turn],
        ];
        parts.into_iter().flatten().copied()
    }
}

impl Timeline {
    /// `time` converts the counter's values.
    pub(crate) fn new(
        task: TaskId,
        events: impl Iterator<Item = Event>,
        left_out: usize,
        recorded: bool,
        stages: &[StageName],
        time: impl Fn(Cycles) -> Duration,
    ) -> Self {
        let events: Vec<TimelineEvent> = events
            .filter_map(|event| {
                Some(TimelineEvent {
                    at: (event.at != Cycles(0)).then(|| time(event.at)),
                    stage: stages.get(event.stage as usize)?.clone(),
                    kind: event.shown(),
                })
            })
            .collect();
        let gap = if left_out > 0 {
            FIRST.min(events.len())
        } else {
            events.len()
        };
        Timeline {
            task,
            events,
            left_out,
            gap,
            recorded,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// So many of them, with numbers from 0.
    pub(in crate::report) fn events(count: u32) -> Events {
        let mut events = Events::default();
        for number in 0..count {
            events.push(Event::new(Cycles(1), 0, EventKind::Registered, number));
        }
        events
    }

    #[test]
    fn d1_a_timeline_keeps_the_first_64_events_and_the_last_192() {
        for count in [0, 1, 63, 64, 65, 255, 256, 257, 300, 448, 449, 1_000] {
            let events = events(count);
            let numbers: Vec<u32> = events.in_order().map(|event| event.number).collect();
            let expected: Vec<u32> = match count {
                0..=256 => (0..count).collect(),
                _ => (0..64).chain(count - 192..count).collect(),
            };
            assert_eq!(numbers, expected, "{count}");
            assert_eq!(events.left_out(), count.saturating_sub(256) as usize);
        }
    }

    #[test]
    fn d1_a_timeline_says_where_events_are_missing() {
        let events = events(300);
        let time = |cycles: Cycles| Duration::from_nanos(cycles.0);
        let stages = ["a".into()];
        let (task, left_out) = (TaskId(7), events.left_out());
        let timeline = Timeline::new(task, events.in_order(), left_out, true, &stages, time);
        assert_eq!((timeline.left_out, timeline.gap), (44, 64));
        assert_eq!(
            timeline.events[63].kind,
            TimelineKind::Registered { undo: 63 }
        );
        assert_eq!(
            timeline.events[64].kind,
            TimelineKind::Registered { undo: 108 }
        );
        let json = serde_json::to_value(&timeline.events[0]).unwrap();
        let expected = serde_json::json!({
            "at": {"secs": 0, "nanos": 1}, "stage": "a", "event": "registered", "undo": 0,
        });
        assert_eq!(json, expected);
    }
}
