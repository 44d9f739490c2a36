//! A worker tells the recorder of its calls, if there is one. Nothing of it is on the way of tasks where there is none.

use super::run_batch::BatchRun;
use crate::{
    report::{Event, EventKind},
    stage::Stage,
    task::TaskRef,
};

impl<S: Stage> BatchRun<'_, S> {
    /// A task was taken up.
    #[cold]
    pub(super) fn note_start(&self, task: &TaskRef, attempt: u32) {
        if let Some(recorder) = &self.env.shared.board.recorder {
            recorder.started(task, self.env.stage, attempt, self.reading.cycles);
        }
    }

    /// Its attempt has come to an end.
    #[cold]
    pub(super) fn note(&self, task: &TaskRef, kind: EventKind, attempt: u32) {
        if let Some(recorder) = &self.env.shared.board.recorder {
            let event = Event::new(self.reading.cycles, self.env.stage, kind, attempt);
            recorder.add_one(task, event);
        }
    }
}
