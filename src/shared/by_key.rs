//! Decisions about the task with a key, with a journal: forgotten, or taken back.

use std::{future::Future, sync::Arc};

use tokio::sync::oneshot;

use super::{Shared, messages::ToReporter};
use crate::{
    error::KeyError,
    journal::{Found, JournalLedger},
    ledger::{LedgerError, Recorded},
    panic_guard,
    task::{EndKind, Names, NotReopened, Refusal, Task, TaskId, TaskRef, Undo},
};

/// The task with a key that is to be taken back.
enum ToTakeBack {
    /// It is done, and has these undos.
    Done(TaskId, Names, Vec<Undo>),
    /// It is being taken back, or was.
    Known(TaskId),
}

impl Shared {
    /// Gives the key of a task that has ended back.
    pub(crate) fn forget(
        self: &Arc<Self>,
        key: &str,
    ) -> impl Future<Output = Result<bool, KeyError>> + Send + use<> {
        let (shared, key) = (self.clone(), Box::<str>::from(key));
        async move {
            let Some(journal) = &shared.journal else {
                return Ok(false);
            };
            let found = journal.forget(&key).await;
            match found.map_err(|error| shared.broken(&error))? {
                Found::Unknown => Ok(false),
                Found::Ended { .. } => Ok(true),
                Found::InFlight(task) | Found::BeingTakenBack(task) => {
                    Err(KeyError::InFlight { key, task })
                }
                Found::Stuck(task) => Err(KeyError::Stuck { key, task }),
            }
        }
    }

    /// Takes back what the task with this key did, which is done. Returns the hold for a ticket. It goes on
    /// when the future is dropped.
    pub(crate) fn take_back(
        self: &Arc<Self>,
        key: &str,
    ) -> impl Future<Output = Result<TaskRef, KeyError>> + Send + use<> {
        let (to, from) = oneshot::channel();
        let (shared, key) = (self.clone(), Box::<str>::from(key));
        let taken_back = async move {
            let result = shared.take_back_now(&key).await;
            to.send(result).ok();
        };
        self.tell_reporter(ToReporter::RunDetached(Box::pin(taken_back)));
        async move { from.await.unwrap_or(Err(KeyError::Closed)) }
    }

    async fn take_back_now(self: &Arc<Self>, key: &str) -> Result<TaskRef, KeyError> {
        let Some(journal) = self.journal.clone() else {
            return Err(KeyError::Unknown(key.into()));
        };
        loop {
            let found = journal.find(key).await;
            let (task, names, undos) = match self.to_take_back(key, found)? {
                ToTakeBack::Done(task, names, undos) => (task, names, undos),
                ToTakeBack::Known(task) => return Ok(self.known(task, key)),
            };
            if self
                .begin_taking_back(&journal, key, task, names, undos)
                .await?
            {
                return Ok(self.known(task, key));
            }
            // Somebody was quicker: see what there is now.
        }
    }

    /// A hold that stands for the task with this key, wherever it is.
    fn known(self: &Arc<Self>, task: TaskId, key: &str) -> TaskRef {
        Arc::new(Task::in_ledger(task, self.as_owner(), key.into()))
    }

    /// The task to take back.
    fn to_take_back(
        &self,
        key: &str,
        found: Result<Found, LedgerError>,
    ) -> Result<ToTakeBack, KeyError> {
        let key = Box::<str>::from(key);
        Err(match found.map_err(|error| self.broken(&error))? {
            Found::BeingTakenBack(task)
            | Found::Ended {
                task,
                end: EndKind::TakenBack,
                ..
            } => return Ok(ToTakeBack::Known(task)),
            Found::Ended {
                task,
                end: EndKind::Done,
                label,
                undos: Some(Ok(undos)),
            } => {
                let key = Some(key.into());
                return Ok(ToTakeBack::Done(
                    task,
                    Names {
                        key,
                        label,
                        ..Names::default()
                    },
                    undos,
                ));
            }
            Found::Ended {
                task,
                end: EndKind::Done,
                undos: Some(Err(why)),
                ..
            } => KeyError::Undecodable { key, task, why },
            Found::Ended {
                task,
                end: EndKind::Done,
                undos: None,
                ..
            } => KeyError::NotKept { key, task },
            Found::Ended { task, end, .. } => KeyError::NotDone { key, task, end },
            Found::Unknown => KeyError::Unknown(key),
            Found::InFlight(task) => KeyError::InFlight { key, task },
            Found::Stuck(task) => KeyError::Stuck { key, task },
        })
    }

    /// Makes it a task in flight, and has that recorded; `false` if it isn't done any more.
    async fn begin_taking_back(
        &self,
        journal: &JournalLedger,
        key: &str,
        task: TaskId,
        names: Names,
        undos: Vec<Undo>,
    ) -> Result<bool, KeyError> {
        let (now, cycles) = (self.clock.now(), self.clock.cycles());
        let reopened = self.table.take_back(task, names, undos, now, cycles);
        let reopened = reopened.map_err(|why| match why {
            NotReopened::Refused(Refusal::Suspended) => KeyError::Suspended,
            _ => KeyError::Closed,
        })?;
        match journal.take_back(key, task).await {
            Ok(Ok(())) => {
                // Only now: until then another task may have the key.
                self.keyed.insert(key.into(), &reopened.task);
                self.tell_reporter(ToReporter::Reopened(reopened, Recorded::now()));
                Ok(true)
            }
            Ok(Err(_)) => {
                let mut scrap = Vec::new();
                reopened.task.clear_undos(&mut scrap);
                scrap.into_iter().for_each(panic_guard::drop_quietly);
                self.table.revoke(reopened.task);
                self.tell_reporter(ToReporter::Revoked);
                Ok(false)
            }
            Err(error) => {
                // Its task is in flight, so even an ending pipeline has not closed the journal.
                self.suspend(&error);
                Err(KeyError::Suspended)
            }
        }
    }

    pub(super) fn broken(&self, error: &LedgerError) -> KeyError {
        // A journal that is closed has not failed.
        if self.table.refused() == Some(Refusal::Closed) {
            return KeyError::Closed;
        }
        self.suspend(error);
        KeyError::Suspended
    }
}
