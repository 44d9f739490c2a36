//! A fault that a test puts into a pipeline, as data.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{failure::Failure, task::TaskId};

/// A fault to be put into a pipeline with [`Pipeline::inject`](crate::Pipeline::inject): a stage's
/// call fails, panics or hangs, before it begins or once it has had its effects.
///
/// Default: it befalls the first attempt of every task, before the call begins. Clones
/// share the [count](Self::happened) of how often it happened.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) stage: String,
    kind: Kind,
    call: Call,
    when: When,
    attempt: Option<u32>,
    task: Option<u64>,
    happened: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fail,
    FailForGood,
    Panic,
    Hang,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Run,
    Cancel,
}

/// A fault falls before the call or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// The call that is being made.
pub(super) struct CurrentCall<'a> {
    pub(super) call: Call,
    pub(super) stage: &'a str,
    pub(super) attempt: u32,
    pub(super) task: TaskId,
}

impl Fault {
    fn new(stage: impl Into<String>, kind: Kind) -> Self {
        Fault {
            stage: stage.into(),
            kind,
            call: Call::Run,
            when: When::Before,
            attempt: Some(1),
            task: None,
            happened: Arc::default(),
        }
    }

    /// The stage's call fails with a failure that may be tried again.
    pub fn fail(stage: impl Into<String>) -> Self {
        Self::new(stage, Kind::Fail)
    }

    /// The stage's call fails with a [permanent](Failure::permanent) failure.
    pub fn fail_for_good(stage: impl Into<String>) -> Self {
        Self::new(stage, Kind::FailForGood)
    }

    /// The stage's call panics.
    pub fn panic(stage: impl Into<String>) -> Self {
        Self::new(stage, Kind::Panic)
    }

    /// The stage's call never returns: a deadline, a timeout or a cancel ends it.
    pub fn hang(stage: impl Into<String>) -> Self {
        Self::new(stage, Kind::Hang)
    }

    /// Every fault of these stages' runs: each of them fails for good, panics and hangs, before its
    /// call and after it, 6 faults a stage. Tasks need a deadline, or the hanging ones never end.
    pub fn every<N: AsRef<str>>(stages: &[N]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for stage in stages {
            for kind in [Kind::FailForGood, Kind::Panic, Kind::Hang] {
                let fault = Fault::new(stage.as_ref(), kind);
                faults.push(fault.clone().after().uncounted());
                faults.push(fault);
            }
        }
        faults
    }

    /// A count of its own.
    fn uncounted(mut self) -> Self {
        self.happened = Arc::default();
        self
    }

    /// After the call returned successfully, so with its effects in the world, instead of before
    /// it.
    pub fn after(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// In this attempt, from 1, instead of the first one.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// In every attempt.
    pub fn every_attempt(mut self) -> Self {
        self.attempt = None;
        self
    }

    /// Only for the task with this number, from 1 in the order of acceptance.
    pub fn task(mut self, number: u64) -> Self {
        self.task = Some(number);
        self
    }

    /// Befalls the stage's cancels instead of its runs.
    pub fn in_cancel(mut self) -> Self {
        self.call = Call::Cancel;
        self
    }

    /// The number of times that it happened. A test whose fault never does shows nothing.
    pub fn happened(&self) -> u64 {
        self.happened.load(Ordering::SeqCst)
    }

    /// Happens if it is meant for this call.
    pub(super) async fn befall(&self, when: When, now: &CurrentCall<'_>) -> Result<(), Failure> {
        let due = self.when == when
            && self.call == now.call
            && self.stage == now.stage
            && self.attempt.is_none_or(|attempt| attempt == now.attempt)
            && self.task.is_none_or(|task| task == now.task.0);
        if !due {
            return Ok(());
        }
        self.happened.fetch_add(1, Ordering::SeqCst);
        match self.kind {
            Kind::Fail => Err(Failure::new(self.to_string())),
            Kind::FailForGood => Err(Failure::permanent(self.to_string())),
            Kind::Panic => panic!("{self}"),
            Kind::Hang => pending().await,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Fail => "failure",
            Kind::FailForGood => "permanent failure",
            Kind::Panic => "panic",
            Kind::Hang => "hang",
        };
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
        };
        let call = match self.call {
            Call::Run => "run",
            Call::Cancel => "cancel",
        };
        write!(f, "injected {kind} {when} the {call} of {}", self.stage)?;
        match self.attempt {
            Some(1) => {}
            Some(attempt) => write!(f, ", attempt {attempt}")?,
            None => f.write_str(", every attempt")?,
        }
        match self.task {
            Some(task) => write!(f, ", task {task}"),
            None => Ok(()),
        }
    }
}
