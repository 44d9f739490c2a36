//! The stuck tasks: listed for a person, with what it takes to try their undos again. And tasks that had
//! ended, and are in flight again.

use std::sync::Arc;

use super::{
    super::{
        details::EndReason,
        id::TaskId,
        limits::Limits,
        names::Names,
        outcome::Stuck,
        record::TaskRef,
        state::State,
        stuck_task::StuckTask,
        undo::{Undo, UndoStatus},
    },
    Refusal, Table,
    past::Restored,
};
use crate::{
    clock::{Cycles, Nanos},
    panic_guard,
};

/// A stuck task goes on, or one that is done.
pub(crate) struct Reopened {
    pub(crate) task: TaskRef,
    /// Number of undos that its rollback has run before.
    pub(crate) undone: usize,
}

/// The reason why a task's undos can't be tried again now.
#[derive(Debug)]
pub(crate) enum NotReopened {
    /// The pipeline takes nothing up any more.
    Refused(Refusal),
    /// No task of this number is stuck.
    NotStuck,
    /// Only another process can.
    Unable(String),
}

impl Table {
    /// Remembers a stuck task until a person resolves it or has it tried again.
    pub(crate) fn keep_stuck(&self, stuck: StuckTask) {
        panic_guard::lock(&self.inner).stuck.push(stuck);
    }

    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        let inner = panic_guard::lock(&self.inner);
        inner
            .stuck
            .iter()
            .map(|stuck| stuck.listed.clone())
            .collect()
    }

    pub(crate) fn count_stuck(&self) -> usize {
        panic_guard::lock(&self.inner).stuck.len()
    }

    /// A person has dealt with it.
    pub(crate) fn resolve(&self, id: TaskId) -> Option<StuckTask> {
        let mut inner = panic_guard::lock(&self.inner);
        let at = inner
            .stuck
            .iter()
            .position(|stuck| stuck.listed.task == id)?;
        Some(inner.stuck.remove(at))
    }

    /// Makes a stuck task one in flight again, whose rollback begins anew with the undos that are left.
    /// Nobody holds one of the `places` for it. `enter` puts it among those with keys.
    pub(crate) fn reopen_stuck(
        &self,
        id: TaskId,
        now: Nanos,
        cycles: Cycles,
        enter: impl FnOnce(Arc<str>, &TaskRef),
    ) -> Result<Reopened, NotReopened> {
        let (mut inner, blank) = self.blank();
        let at = inner.stuck.iter().position(|stuck| stuck.listed.task == id);
        let refused = match (inner.refused, at) {
            (Some(refused), _) => Some(NotReopened::Refused(refused)),
            (None, None) => Some(NotReopened::NotStuck),
            (None, Some(at)) => match &inner.stuck[at].rest {
                Ok(_) => None,
                Err(why) => Some(NotReopened::Unable(why.clone())),
            },
        };
        if let Some(refused) = refused {
            inner.put_back(blank);
            return Err(refused);
        }
        let Some(StuckTask {
            rest: Ok(mut rest),
            listed,
        }) = at.map(|at| inner.stuck.remove(at))
        else {
            unreachable!("it was there a line before")
        };
        let undone = rest.undone;
        let mut failures = Vec::new();
        for undo in &mut rest.undos {
            if matches!(undo.status, UndoStatus::Failed(_)) {
                failures.push(std::mem::replace(&mut undo.status, UndoStatus::Registered));
            }
        }
        let key = listed.key.clone();
        let names = Names {
            key: listed.key,
            label: listed.label,
            ..Names::default()
        };
        let past = rolling_back(rest.end.clone(), std::mem::take(&mut rest.undos), names);
        let task = inner.enter_with_past(blank, id, &Limits::none(false), now, cycles, past);
        // Under the lock: by its key it is always found, stuck or in flight.
        if let Some(key) = key {
            enter(key, &task);
        }
        drop(inner);
        failures.into_iter().for_each(panic_guard::drop_quietly);
        panic_guard::drop_quietly(rest);
        Ok(Reopened { task, undone })
    }

    /// Makes a task that is done one in flight again, which is rolled back. Nobody holds one of the
    /// `places` for it.
    #[cfg(feature = "journal")]
    pub(crate) fn take_back(
        &self,
        id: TaskId,
        names: Names,
        undos: Vec<Undo>,
        now: Nanos,
        cycles: Cycles,
    ) -> Result<Reopened, NotReopened> {
        let (mut inner, blank) = self.blank();
        if let Some(refused) = inner.refused {
            inner.put_back(blank);
            drop(inner);
            undos.into_iter().for_each(panic_guard::drop_quietly);
            return Err(NotReopened::Refused(refused));
        }
        let past = rolling_back(EndReason::TakenBack, undos, names);
        let task = inner.enter_with_past(blank, id, &Limits::none(false), now, cycles, past);
        Ok(Reopened { task, undone: 0 })
    }

    /// The stuck task that has this key.
    pub(crate) fn stuck_with_key(&self, key: &str) -> Option<TaskId> {
        let inner = panic_guard::lock(&self.inner);
        let found = |stuck: &&StuckTask| stuck.listed.key.as_deref() == Some(key);
        inner
            .stuck
            .iter()
            .find(found)
            .map(|stuck| stuck.listed.task)
    }
}

/// The past of a task whose rollback begins now.
fn rolling_back(end: EndReason, undos: Vec<Undo>, names: Names) -> Restored {
    Restored {
        state: State::RollingBack,
        attempt: 1,
        generation: 0,
        spared: (0, 0),
        owners: 0,
        undos,
        end: Some(end),
        names: names.boxed(),
    }
}
