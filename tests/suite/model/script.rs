//! Random pipelines and random scripts: what each stage will do to each task.

use proptest::prelude::*;

/// A pipeline and everything that will happen to it.
#[derive(Clone, Debug)]
pub struct Case {
    pub stages: Vec<StageScript>,
    pub lifo: bool,
    pub tasks: Vec<TaskScript>,
    pub ending: EndScript,
    /// A limit of tasks in flight below what fits, if any.
    pub max_in_flight: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct StageScript {
    pub workers: usize,
    pub capacity: usize,
    pub retries: u32,
    pub backoff_ms: u64,
    pub timeout_ms: Option<u64>,
    pub cancel_retries: u32,
    pub halt: bool,
}

#[derive(Clone, Debug)]
pub struct TaskScript {
    /// The time of its submit, counted from the task before it.
    pub after_ms: u64,
    pub timeout_ms: Option<u64>,
    /// The time at which the user cancels it, counted from its acceptance.
    pub cancel_ms: Option<u64>,
    /// The rest of its rollback is tried again as often as this, each time so long after it has got stuck.
    pub retries_ms: Vec<u64>,
    /// For each stage, its attempts; the last one stands for all that follow.
    pub stages: Vec<Vec<Attempt>>,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub undos: Vec<UndoScript>,
    pub work_ms: u64,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Ok,
    Fail,
    FailForGood,
    Panic,
    Hang,
}

/// An undo: it fails so often, and then it works.
#[derive(Clone, Copy, Debug)]
pub struct UndoScript {
    pub fails: u32,
    pub how: CancelFailure,
    pub work_ms: u64,
    /// The effect turns out not to have happened.
    pub withdrawn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelFailure {
    Error,
    Permanent,
    Panic,
    Hang,
}

#[derive(Clone, Copy, Debug)]
pub enum EndScript {
    /// The end comes when all is done; tasks that hang are cut off long after.
    Late,
    Abort {
        at_ms: u64,
    },
    Drain {
        at_ms: u64,
        grace_ms: u64,
    },
}

/// The time that an undo may take.
pub const CANCEL_TIMEOUT_MS: u64 = 40;
pub const CANCEL_BACKOFF_MS: u64 = 15;
/// After this, nothing but what hangs is left.
pub const LATE_MS: u64 = 1_000_000;

fn undo() -> impl Strategy<Value = UndoScript> {
    let fails = prop_oneof![6 => Just(0), 2 => 1..4u32, 1 => Just(99)];
    let how = prop_oneof![
        4 => Just(CancelFailure::Error),
        1 => Just(CancelFailure::Permanent),
        1 => Just(CancelFailure::Panic),
        1 => Just(CancelFailure::Hang),
    ];
    let withdrawn = prop_oneof![9 => Just(false), 1 => Just(true)];
    (
        fails,
        how,
        prop_oneof![3 => Just(0), 1 => 1..20u64],
        withdrawn,
    )
        .prop_map(|(fails, how, work_ms, withdrawn)| UndoScript {
            fails,
            how,
            work_ms,
            withdrawn,
        })
}

fn attempt(hangs: bool) -> impl Strategy<Value = Attempt> {
    let then = prop_oneof![
        16 => Just(Then::Ok),
        4 => Just(Then::Fail),
        1 => Just(Then::FailForGood),
        1 => Just(Then::Panic),
        1 => Just(if hangs { Then::Hang } else { Then::Ok }),
    ];
    let work = prop_oneof![3 => Just(0), 2 => 1..40u64];
    (proptest::collection::vec(undo(), 0..3), work, then).prop_map(|(undos, work_ms, then)| {
        Attempt {
            undos,
            work_ms,
            then,
        }
    })
}

fn stage(timeouts: bool) -> impl Strategy<Value = StageScript> {
    let timeout = prop_oneof![4 => Just(None), 1 => (10..60u64).prop_map(Some)];
    let timeout = timeout.prop_map(move |timeout| timeout.filter(|_| timeouts));
    let halt = prop_oneof![4 => Just(false), 1 => Just(true)];
    (
        1..5usize,
        1..6usize,
        0..3u32,
        0..40u64,
        timeout,
        0..3u32,
        halt,
    )
        .prop_map(
            |(workers, capacity, retries, backoff_ms, timeout_ms, cancel_retries, halt)| {
                StageScript {
                    workers,
                    capacity,
                    retries,
                    backoff_ms,
                    timeout_ms,
                    cancel_retries,
                    halt,
                }
            },
        )
}

fn task(stages: usize, hangs: bool) -> impl Strategy<Value = TaskScript> {
    let attempts = proptest::collection::vec(attempt(hangs), 1..4);
    let some_ms = |most: u64| prop_oneof![2 => Just(None), 1 => (0..most).prop_map(Some)];
    let after = prop_oneof![3 => Just(0), 1 => 0..30u64];
    (
        after,
        some_ms(150),
        some_ms(120),
        proptest::collection::vec(0..40u64, 0..4),
        proptest::collection::vec(attempts, stages),
    )
        .prop_map(
            |(after_ms, timeout_ms, cancel_ms, retries_ms, stages)| TaskScript {
                after_ms,
                timeout_ms,
                cancel_ms,
                retries_ms,
                stages,
            },
        )
}

fn ending() -> impl Strategy<Value = EndScript> {
    prop_oneof![
        4 => Just(EndScript::Late),
        1 => (0..200u64).prop_map(|at_ms| EndScript::Abort { at_ms }),
        1 => (0..200u64, 0..100u64)
            .prop_map(|(at_ms, grace_ms)| EndScript::Drain { at_ms, grace_ms }),
    ]
}

/// Cases; where nothing can be dropped (blocking stages), nothing hangs or has a timeout of its own.
pub fn cases(hangs: bool) -> impl Strategy<Value = Case> {
    (1..6usize)
        .prop_flat_map(move |stages| {
            (
                proptest::collection::vec(stage(hangs), stages),
                any::<bool>(),
                proptest::collection::vec(task(stages, hangs), 1..14),
                ending(),
                prop_oneof![3 => Just(None), 1 => (1..6usize).prop_map(Some)],
            )
        })
        .prop_map(|(stages, lifo, tasks, ending, max_in_flight)| Case {
            stages,
            lifo,
            tasks,
            ending,
            max_in_flight,
        })
}

impl TaskScript {
    pub fn attempt(&self, stage: usize, attempt: u32) -> &Attempt {
        let attempts = &self.stages[stage];
        &attempts[(attempt as usize - 1).min(attempts.len() - 1)]
    }
}
