//! steno in memory: each task is a saga of three actions, and a failure unwinds it.
//!
//! A saga runs its actions one after another; steno has no workers to count, so the sagas in flight
//! are bounded. An action's output for the next is JSON in the saga's log, and the coordinator
//! keeps every saga that it ever ran (about 17 KB each), so some runs have fewer tasks than others'.
//!
//! Two rules of steno differ from the others' `fail`: a saga unwinds from the last action to the
//! first, and the action that fails isn't undone (it has to leave nothing behind), so the last stage
//! takes its own effect back before it fails. Undos count as in order if they run in steno's order:
//! 3, 2, 1.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use steno::{
    ActionContext, ActionError, ActionFunc, ActionRegistry, Dag, DagBuilder, InMemorySecStore,
    Node, SagaDag, SagaId, SagaName, SagaType, SecClient,
};

use crate::work::{End, Envelope, Item, Job, Measure, Params, Tally, Workload, fails};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(on_tokio(params))
}

fn on_tokio(params: &Params) -> anyhow::Result<Measure> {
    // One thread: with two, all workloads took longer (hop 28 µs instead of 11, cpu 31 instead of
    // 21), for each saga talks to the one coordinator at every step.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(measure(params))
}

async fn measure(params: &Params) -> anyhow::Result<Measure> {
    let job = Job::new(params);
    let mut tally = Tally::new(Arc::clone(&job));
    let sagas = Sagas::new(job)?;
    let began = Instant::now();
    if params.workload == Workload::Alone {
        for id in 0..params.tasks {
            let submitted = Instant::now();
            let (task, end) = sagas.run(id).await?;
            tally.add(task, end);
            tally.latency(submitted.elapsed());
            if id % 100 == 99 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    } else {
        let in_flight = match params.workload {
            // With three times as many, late tasks ran out of time in the coordinator's queues.
            Workload::Io | Workload::Late | Workload::LateFull | Workload::LateMixed => {
                params.workers
            }
            _ => params.workers * params.stages,
        };
        let mut ended = stream::iter(0..params.tasks)
            .map(|id| sagas.run(id))
            .buffer_unordered(in_flight);
        while let Some(outcome) = ended.next().await {
            let (task, end) = outcome?;
            tally.add(task, end);
        }
    }
    let measure = tally.finish(began);
    sagas.coordinator.shutdown().await;
    Ok(measure)
}

#[derive(Debug)]
struct Work;

impl SagaType for Work {
    type ExecContextType = Context;
}

/// The part that the actions of a saga share, besides its data.
struct Context {
    job: Arc<Job>,
    deadline: Instant,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

struct Sagas {
    job: Arc<Job>,
    coordinator: SecClient,
    registry: Arc<ActionRegistry<Work>>,
    dag: Dag,
}

impl Sagas {
    fn new(job: Arc<Job>) -> anyhow::Result<Self> {
        let mut registry = ActionRegistry::new();
        let mut dag = DagBuilder::new(SagaName::new("stages"));
        for stage in 0..=job.last {
            let action = ActionFunc::new_action(
                output(stage),
                move |context| act(stage, context),
                move |context| undo(stage, context),
            );
            dag.append(Node::action(output(stage), output(stage), &*action));
            registry.register(action);
        }
        let log = slog::Logger::root(slog::Discard, slog::o!());
        Ok(Sagas {
            job,
            coordinator: steno::sec(log, Arc::new(InMemorySecStore::new())),
            registry: Arc::new(registry),
            dag: dag.build()?,
        })
    }

    async fn run(&self, id: u64) -> anyhow::Result<(Envelope, End)> {
        let mut task = self.job.envelope(id);
        let dag = SagaDag::new(self.dag.clone(), serde_json::to_value(&task.item)?);
        let context = Context {
            job: Arc::clone(&self.job),
            deadline: task.deadline,
        };
        let saga = SagaId::new_v4();
        let registry = Arc::clone(&self.registry);
        let ended = self
            .coordinator
            .saga_create(saga, Arc::new(context), Arc::new(dag), registry)
            .await?;
        self.coordinator.saga_start(saga).await?;
        let end = match ended.await.kind {
            Ok(saga) => {
                task.item = saga.saga_output()?;
                End::Done
            }
            Err(saga) => match saga.error_source.convert()? {
                Failure { late: true } => End::TimedOut,
                Failure { late: false } => End::Failed,
            },
        };
        Ok((task, end))
    }
}

/// An action and its output have the same name.
fn output(stage: usize) -> String {
    format!("stage-{stage}")
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    late: bool,
}

async fn act(stage: usize, context: ActionContext<Work>) -> Result<Item, ActionError> {
    let item: Item = match stage {
        0 => context.saga_params()?,
        _ => context.lookup(&output(stage - 1))?,
    };
    let Context { job, deadline } = context.user_data();
    if job.workload == Workload::Fail && stage == job.last && fails(item.id) {
        job.log.cancel(item.id, 0);
        return Err(ActionError::action_failed(Failure { late: false }));
    }
    let mut task = Envelope {
        item,
        deadline: *deadline,
        undos: Vec::new(),
    };
    match job.stage(stage, &mut task).await {
        Ok(()) => Ok(task.item),
        Err(end) => Err(ActionError::action_failed(Failure {
            late: end == End::TimedOut,
        })),
    }
}

async fn undo(stage: usize, context: ActionContext<Work>) -> anyhow::Result<()> {
    let job = &context.user_data().job;
    if job.workload == Workload::Fail {
        let item: Item = context.lookup(&output(stage))?;
        job.log.cancel(item.id, job.last - stage);
    }
    Ok(())
}
