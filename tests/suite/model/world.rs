//! The world in which a case is played: stages that follow their script and write down what
//! happened, when, and in which order.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use batrun::prelude::*;
use tokio::time::Instant;

use super::script::{CancelFailure, Case, Then, UndoScript};
use crate::support::{ms, sleep};

/// Something that happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Start {
        stage: usize,
        attempt: u32,
    },
    /// The task's undo with this number was registered.
    Undo {
        stage: usize,
        undo: usize,
    },
    Withdrawn {
        undo: usize,
    },
    End {
        stage: usize,
        how: How,
    },
    CancelStart {
        undo: usize,
    },
    CancelEnd {
        undo: usize,
        worked: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Returned(bool),
    Panicked,
    /// The future was dropped.
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub at_ms: f64,
    pub task: usize,
    pub event: Event,
}

pub struct World {
    pub case: Case,
    began: Instant,
    log: Mutex<Vec<Entry>>,
    /// For each task, the scripts of the undos it has registered, and how often each was tried.
    undos: Vec<Mutex<Vec<(UndoScript, u32)>>>,
    blocking: bool,
    /// Stage values of each stage at work right now, and the most there were.
    pub running: Vec<(AtomicUsize, AtomicUsize)>,
}

#[derive(Clone, Debug)]
pub struct Context(pub usize);

/// A task's undo.
#[derive(Clone, Debug)]
pub struct Mark {
    task: usize,
    undo: usize,
}

impl World {
    pub fn new(case: Case, blocking: bool) -> Arc<Self> {
        Arc::new(World {
            began: Instant::now(),
            log: Mutex::default(),
            undos: case.tasks.iter().map(|_| Mutex::default()).collect(),
            running: case.stages.iter().map(|_| Default::default()).collect(),
            blocking,
            case,
        })
    }

    pub fn now_ms(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1e3
    }

    fn note(&self, task: usize, event: Event) {
        let mut log = self.log.lock().unwrap();
        let at_ms = self.now_ms();
        log.push(Entry { at_ms, task, event });
    }

    pub fn log(&self) -> Vec<Entry> {
        self.log.lock().unwrap().clone()
    }

    async fn work(&self, work_ms: u64) {
        if self.blocking {
            std::thread::sleep(ms(work_ms.min(5)));
        } else if work_ms > 0 {
            sleep(work_ms).await;
        }
    }
}

pub struct Scripted {
    pub world: Arc<World>,
    pub stage: usize,
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        Scripted {
            world: self.world.clone(),
            stage: self.stage,
        }
    }
}

/// Writes down the end of a run that neither returned nor panicked.
struct Run<'a> {
    stage: &'a Scripted,
    task: usize,
    how: Option<How>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let how = match self.how {
            Some(how) => how,
            None if std::thread::panicking() => How::Panicked,
            None => How::Dropped,
        };
        let Scripted { world, stage } = self.stage;
        world.running[*stage].0.fetch_sub(1, Ordering::SeqCst);
        world.note(self.task, Event::End { stage: *stage, how });
    }
}

impl Stage for Scripted {
    type Input = Context;
    type Output = Context;
    type Undo = Mark;

    fn name(&self) -> String {
        format!("s{}", self.stage)
    }

    async fn run(
        &mut self,
        context: Context,
        to: &TaskContext<'_, Mark>,
    ) -> Result<Context, Failure> {
        let (world, stage, task) = (&self.world, self.stage, context.0);
        world.note(
            task,
            Event::Start {
                stage,
                attempt: to.attempt(),
            },
        );
        let (now, most) = &world.running[stage];
        let running = now.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(running, Ordering::SeqCst);
        let mut run = Run {
            stage: self,
            task,
            how: None,
        };
        let attempt = world.case.tasks[task].attempt(stage, to.attempt());
        for script in &attempt.undos {
            let undo = {
                let mut undos = world.undos[task].lock().unwrap();
                undos.push((*script, 0));
                undos.len() - 1
            };
            world.note(task, Event::Undo { stage, undo });
            match to.on_cancel(Mark { task, undo }).await {
                Ok(registered) if script.withdrawn => {
                    registered.withdraw().await?;
                    world.note(task, Event::Withdrawn { undo });
                }
                Ok(_) => {}
                Err(error) => {
                    run.how = Some(How::Returned(false));
                    return Err(error.into());
                }
            }
        }
        world.work(attempt.work_ms).await;
        let result = match attempt.then {
            Then::Ok => Ok(context),
            Then::Fail => Err(Failure::new("scripted")),
            Then::FailForGood => Err(Failure::permanent("scripted")),
            Then::Panic => panic!("scripted"),
            Then::Hang => std::future::pending().await,
        };
        run.how = Some(How::Returned(result.is_ok()));
        result
    }

    async fn cancel(&mut self, mark: Mark, _: &CancelContext<'_>) -> Result<(), Failure> {
        let Mark { task, undo } = mark;
        let world = &self.world;
        let (script, tried) = {
            let mut undos = world.undos[task].lock().unwrap();
            undos[undo].1 += 1;
            undos[undo]
        };
        world.note(task, Event::CancelStart { undo });
        struct Ended<'a>(&'a World, usize, usize, bool);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.note(
                    self.1,
                    Event::CancelEnd {
                        undo: self.2,
                        worked: self.3,
                    },
                );
            }
        }
        let mut ended = Ended(world, task, undo, false);
        world.work(script.work_ms).await;
        if tried > script.fails {
            ended.3 = true;
            return Ok(());
        }
        match script.how {
            CancelFailure::Error => Err(Failure::new("scripted")),
            CancelFailure::Permanent => Err(Failure::permanent("scripted")),
            CancelFailure::Panic => panic!("scripted"),
            CancelFailure::Hang => std::future::pending().await,
        }
    }
}
