//! Stages that follow their script, and write down what happened, in which order, on which node.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use batrun::prelude::*;
use serde::{Deserialize, Serialize};

use super::script::{Case, Then};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Start {
        stage: usize,
        attempt: u32,
        fence: u64,
    },
    /// An undo is to be registered. Each has a number of its own within its task.
    Asks {
        stage: usize,
        undo: usize,
    },
    Registered {
        undo: usize,
    },
    End {
        stage: usize,
        how: How,
    },
    UndoStart {
        undo: usize,
    },
    UndoEnd {
        undo: usize,
        worked: bool,
    },
    /// The node's report is there, and it was suspended.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Passed,
    Failed,
    Panicked,
    /// An undo of its was not taken any more.
    Refused,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) node: u32,
    /// `usize::MAX` for one about the whole node.
    pub(super) task: usize,
    pub(super) event: Event,
}

pub(super) struct Log {
    pub(super) case: Case,
    entries: Mutex<Vec<Entry>>,
    /// For each task, the tries of each of its undos, and how many of them fail.
    undos: Mutex<Vec<Vec<(u32, u32)>>>,
}

impl Log {
    pub(super) fn new(case: Case) -> Arc<Self> {
        Arc::new(Log {
            entries: Mutex::default(),
            undos: Mutex::new(vec![Vec::new(); case.tasks.len()]),
            case,
        })
    }

    pub(super) fn note(&self, node: u32, task: usize, event: Event) {
        self.entries
            .lock()
            .unwrap()
            .push(Entry { node, task, event });
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
}

#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) log: Arc<Log>,
    pub(super) node: u32,
    pub(super) stage: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    task: usize,
    undo: usize,
}

/// Writes down an event when a call ends, whichever way.
struct AtEnd<'a, F: Fn() -> Event>(&'a Scripted, usize, F);

impl<F: Fn() -> Event> Drop for AtEnd<'_, F> {
    fn drop(&mut self) {
        self.0.log.note(self.0.node, self.1, (self.2)());
    }
}

impl Scripted {
    async fn attempt(
        &self,
        task: usize,
        to: &TaskContext<'_, Mark>,
        how: &std::cell::Cell<How>,
    ) -> Result<u32, Failure> {
        let Scripted { log, node, stage } = self;
        let script = log.case.attempt(task, *stage, to.attempt());
        for fails in &script.undos {
            let undo = {
                let undos = &mut log.undos.lock().unwrap()[task];
                undos.push((0, *fails));
                let undo = undos.len() - 1;
                // In the order of the numbers.
                log.note(
                    *node,
                    task,
                    Event::Asks {
                        stage: *stage,
                        undo,
                    },
                );
                undo
            };
            if let Err(why) = to.on_cancel(Mark { task, undo }).await {
                how.set(How::Refused);
                return Err(why.into());
            }
            log.note(*node, task, Event::Registered { undo });
        }
        if script.work_ms > 0 {
            actix_rt::time::sleep(Duration::from_millis(script.work_ms)).await;
        }
        match script.then {
            Then::Pass => {
                how.set(How::Passed);
                Ok(task as u32)
            }
            Then::Fail | Then::FailForGood => {
                how.set(How::Failed);
                Err(match script.then {
                    Then::Fail => Failure::new("scripted"),
                    _ => Failure::permanent("scripted"),
                })
            }
            Then::Panic => {
                how.set(How::Panicked);
                panic!("scripted")
            }
            Then::Hang => std::future::pending().await,
        }
    }
}

impl Stage for Scripted {
    type Input = u32;
    type Output = u32;
    type Undo = Mark;

    fn name(&self) -> String {
        format!("s{}", self.stage)
    }

    async fn run(&mut self, task: u32, to: &TaskContext<'_, Mark>) -> Result<u32, Failure> {
        let (task, stage) = (task as usize, self.stage);
        let (attempt, fence) = (to.attempt(), to.fence());
        let start = Event::Start {
            stage,
            attempt,
            fence,
        };
        self.log.note(self.node, task, start);
        let how = std::cell::Cell::new(How::Dropped);
        let end = || Event::End {
            stage,
            how: how.get(),
        };
        let _end = AtEnd(self, task, end);
        self.attempt(task, to, &how).await
    }

    async fn cancel(&mut self, mark: Mark, _: &CancelContext<'_>) -> Result<(), Failure> {
        let Mark { task, undo } = mark;
        self.log.note(self.node, task, Event::UndoStart { undo });
        let worked = std::cell::Cell::new(false);
        let _end = AtEnd(self, task, || Event::UndoEnd {
            undo,
            worked: worked.get(),
        });
        let (tried, fails) = {
            let undos = &mut self.log.undos.lock().unwrap()[task];
            undos[undo].0 += 1;
            undos[undo]
        };
        actix_rt::time::sleep(Duration::from_millis(3)).await;
        if tried <= fails {
            return Err(Failure::new("scripted"));
        }
        worked.set(true);
        Ok(())
    }
}
