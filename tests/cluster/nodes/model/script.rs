//! Random pipelines, what each stage does to each task, and how a second node takes over.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) stages: Vec<StageScript>,
    pub(super) lifo: bool,
    pub(super) tasks: Vec<TaskScript>,
    pub(super) handover: Handover,
    /// The time at which it happens.
    pub(super) at_ms: u64,
}

/// The end of the first node's work, if it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// It is taken for dead, beside a second one or before there is one.
    Bury {
        is_alone: bool,
    },
    Suspend {
        is_alone: bool,
    },
    /// Told to drain while the second one has room.
    Drain,
    /// It goes on, and what waits goes to the second one.
    Beside,
}

#[derive(Clone, Debug)]
pub(super) struct StageScript {
    pub(super) workers: usize,
    pub(super) retries: u32,
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct TaskScript {
    pub(super) timeout_ms: Option<u64>,
    /// The time at which it is cancelled from the second node, counted from that one's start.
    pub(super) cancel_ms: Option<u64>,
    /// For each stage, its attempts; the last one stands for all that follow.
    pub(super) stages: Vec<Vec<Attempt>>,
}

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// For each of its undos, the number of times that it fails first.
    pub(super) undos: Vec<u32>,
    pub(super) work_ms: u64,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Pass,
    Fail,
    FailForGood,
    Panic,
    Hang,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let then = prop_oneof![
        24 => Just(Then::Pass),
        5 => Just(Then::Fail),
        1 => Just(Then::FailForGood),
        1 => Just(Then::Panic),
        1 => Just(Then::Hang),
    ];
    let fails = prop_oneof![5 => Just(0), 1 => Just(1u32)];
    let undos = proptest::collection::vec(fails, 0..3);
    let work = prop_oneof![1 => Just(0), 2 => 1..60u64];
    (undos, work, then).prop_map(|(undos, work_ms, then)| Attempt {
        undos,
        work_ms,
        then,
    })
}

fn stage() -> impl Strategy<Value = StageScript> {
    let timeout = prop_oneof![4 => Just(None), 1 => (40..200u64).prop_map(Some)];
    (1..4usize, 0..3u32, timeout).prop_map(|(workers, retries, timeout_ms)| StageScript {
        workers,
        retries,
        timeout_ms,
    })
}

fn task(stages: usize) -> impl Strategy<Value = TaskScript> {
    let attempts = proptest::collection::vec(attempt(), 1..4);
    let some_ms = |most: u64| prop_oneof![4 => Just(None), 1 => (0..most).prop_map(Some)];
    let stages = proptest::collection::vec(attempts, stages);
    (some_ms(1_500), some_ms(500), stages).prop_map(|(timeout_ms, cancel_ms, stages)| {
        let mut task = TaskScript {
            timeout_ms,
            cancel_ms,
            stages,
        };
        // Something has to end it.
        let mut attempts = task.stages.iter().flatten();
        if attempts.any(|attempt| attempt.then == Then::Hang) && task.timeout_ms.is_none() {
            task.cancel_ms.get_or_insert(1_500);
        }
        task
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let handover = prop_oneof![
        3 => any::<bool>().prop_map(|is_alone| Handover::Bury { is_alone }),
        3 => any::<bool>().prop_map(|is_alone| Handover::Suspend { is_alone }),
        1 => Just(Handover::Drain),
        1 => Just(Handover::Beside),
    ];
    (1..5usize, handover).prop_flat_map(|(stages, handover)| {
        (
            proptest::collection::vec(stage(), stages),
            any::<bool>(),
            proptest::collection::vec(task(stages), 1..30),
            Just(handover),
            0..400u64,
        )
            .prop_map(|(stages, lifo, tasks, handover, at_ms)| Case {
                stages,
                lifo,
                tasks,
                handover,
                at_ms,
            })
    })
}

impl Case {
    /// The same for the same seed. Runs on a server are never the same, so none is made smaller.
    pub(super) fn of_seed(seed: u64) -> Case {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        cases().new_tree(&mut runner).unwrap().current()
    }

    /// The work of a stage in an attempt on a task.
    pub(super) fn attempt(&self, task: usize, stage: usize, attempt: u32) -> &Attempt {
        let attempts = &self.tasks[task].stages[stage];
        &attempts[(attempt as usize - 1).min(attempts.len() - 1)]
    }
}
