//! A task that is stuck, with what it takes to try its undos again.

use super::{
    details::EndReason,
    outcome::Stuck,
    undo::{Undo, UndoStatus},
};
use crate::panic_guard;

/// A task that is stuck.
pub(crate) struct StuckTask {
    pub(crate) listed: Stuck,
    /// The rest of its rollback; or the reason why this process can't try it again.
    pub(crate) rest: Result<RestOfRollback, String>,
}

/// The part of a rollback that could not be completed.
pub(crate) struct RestOfRollback {
    pub(crate) end: EndReason,
    /// All of the task's undos, those that have run among them.
    pub(crate) undos: Vec<Undo>,
    /// Number of undos that the rollback has run.
    pub(crate) undone: usize,
}

impl Drop for RestOfRollback {
    fn drop(&mut self) {
        // The user's values.
        self.undos.drain(..).for_each(panic_guard::drop_quietly);
    }
}

impl StuckTask {
    /// A task that just got stuck. `undos` are all that it has registered.
    pub(crate) fn new(
        listed: Stuck,
        end: Option<EndReason>,
        undos: Vec<Undo>,
        undone: usize,
    ) -> Self {
        let in_use = undos.iter().any(|undo| {
            let left = matches!(undo.status, UndoStatus::Registered | UndoStatus::Failed(_));
            left && undo.value.is_none()
        });
        // Made in any case, so that the undos are dropped as they have to be.
        let rest = end.map(|end| RestOfRollback { end, undos, undone });
        let rest = match rest {
            _ if listed.still_running.is_some() || in_use => {
                Err("a call of it has not returned".to_owned())
            }
            Some(rest) => Ok(rest),
            None => Err("it has no end".to_owned()),
        };
        StuckTask { listed, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskId;

    fn stuck(still_running: Option<&str>) -> Stuck {
        Stuck {
            task: TaskId(1),
            key: None,
            label: None,
            still_running: still_running.map(Into::into),
            undos: Vec::new(),
        }
    }

    fn undo(value: bool) -> Undo {
        Undo {
            stage: 0,
            attempt: 1,
            generation: 0,
            value: value.then(|| Box::new(7u32) as _),
            status: UndoStatus::Registered,
            tries: 1,
        }
    }

    #[test]
    fn d03_only_what_nothing_works_on_can_be_tried_again() {
        let end = || Some(EndReason::TimedOut(0));
        let new = |listed, undos| StuckTask::new(listed, end(), undos, 0).rest.is_ok();
        assert!(new(stuck(None), vec![undo(true)]));
        assert!(!new(stuck(Some("pay")), vec![undo(true)]));
        assert!(!new(stuck(None), vec![undo(false)]));
    }
}
