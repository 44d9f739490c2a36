//! Faults and repeats that a test puts into a pipeline. Only there with the feature `testing`:
//! every stage is then wrapped, and looks before and after each call whether something is due.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Failure,
    error::BuildError,
    guard,
    stage::{CancelContext, Stage, TaskContext},
    task::TaskId,
    work::Settings,
};

/// A fault to be put into a pipeline with [`Pipeline::inject`](crate::Pipeline::inject): a stage's
/// call fails, panics or hangs, before it begins or once it has had its effects.
///
/// Unless told otherwise it befalls the first attempt of every task, before the call begins. Clones
/// share the [count](Self::happened) of how often it happened.
#[derive(Clone, Debug)]
pub struct Fault {
    stage: String,
    kind: Kind,
    call: Call,
    after: bool,
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
enum Call {
    Run,
    Cancel,
}

impl Fault {
    fn new(stage: impl Into<String>, kind: Kind) -> Self {
        Fault {
            stage: stage.into(),
            kind,
            call: Call::Run,
            after: false,
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
        self.after = true;
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

    /// How often it happened. A test whose fault never does shows nothing.
    pub fn happened(&self) -> u64 {
        self.happened.load(Ordering::SeqCst)
    }

    async fn befall(&self) -> Result<(), Failure> {
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
        let when = if self.after { "after" } else { "before" };
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

/// What a pipeline does twice, put into it with [`Pipeline::repeat`](crate::Pipeline::repeat).
///
/// Clones share what [`happened`](Self::happened).
#[derive(Clone, Debug, Default)]
pub struct Repeat {
    runs: bool,
    cancels: bool,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    runs: AtomicU64,
    cancels: AtomicU64,
    /// The first cancel that failed when it was called again.
    refused: Mutex<Option<String>>,
}

impl Repeat {
    /// Nothing is repeated.
    pub fn nothing() -> Self {
        Repeat::default()
    }

    /// Every first attempt that succeeds is taken back and made again, as after a crash that fell
    /// between its effect and the record of it: its result is thrown away, its undos are cancelled,
    /// and the stage runs once more. Attempts count on, and the delays between them are left out.
    ///
    /// Needs every stage to have [`retry`](crate::IntoWork::retry), be it with
    /// [`Retry::none`](crate::Retry::none), which says that its input can be copied.
    pub fn runs() -> Self {
        Repeat {
            runs: true,
            ..Repeat::default()
        }
    }

    /// Every cancel that succeeds is called again with the same undo.
    pub fn cancels() -> Self {
        Repeat {
            cancels: true,
            ..Repeat::default()
        }
    }

    /// Both runs and cancels.
    pub fn both() -> Self {
        Repeat {
            runs: true,
            cancels: true,
            ..Repeat::default()
        }
    }

    /// How many runs and cancels were repeated.
    pub fn happened(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (count(&self.seen.runs), count(&self.seen.cancels))
    }

    /// The first cancel that succeeded and then failed when it was called again, and why.
    pub fn refused(&self) -> Option<String> {
        guard::lock(&self.seen.refused).clone()
    }

    /// Whether what it repeats was repeated at least once.
    pub(crate) fn is_tried(&self) -> bool {
        let (runs, cancels) = self.happened();
        (!self.runs || runs > 0) && (!self.cancels || cancels > 0)
    }
}

impl fmt::Display for Repeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.runs, self.cancels) {
            (false, false) => "nothing repeated",
            (true, false) => "every run repeated",
            (false, true) => "every cancel repeated",
            (true, true) => "every run and cancel repeated",
        })
    }
}

/// What a test has put into a pipeline.
#[derive(Clone, Default)]
pub(crate) struct Injection {
    pub(crate) faults: Vec<Fault>,
    pub(crate) repeat: Repeat,
}

/// Which call it is.
struct Now<'a> {
    call: Call,
    stage: &'a str,
    attempt: u32,
    task: TaskId,
}

impl Injection {
    pub(crate) fn check(&self, stages: &[Settings]) -> Result<(), BuildError> {
        for fault in &self.faults {
            if !stages.iter().any(|stage| stage.name == fault.stage) {
                return Err(BuildError::FaultWithoutStage(fault.stage.clone()));
            }
        }
        match stages.iter().find(|stage| !stage.copies) {
            Some(stage) if self.repeat.runs => Err(BuildError::NotRepeatable(stage.name.clone())),
            _ => Ok(()),
        }
    }

    /// Gives each stage one attempt more, for the run that is thrown away.
    pub(crate) fn prepared(&self, mut stages: Vec<Settings>) -> Vec<Settings> {
        if self.repeat.runs {
            for stage in &mut stages {
                stage.retry = stage.retry.one_more_at_once();
            }
        }
        stages
    }

    async fn befall(&self, after: bool, now: &Now<'_>) -> Result<(), Failure> {
        for fault in &self.faults {
            let due = fault.after == after
                && fault.call == now.call
                && fault.stage == now.stage
                && fault.attempt.is_none_or(|attempt| attempt == now.attempt)
                && fault.task.is_none_or(|task| task == now.task.0);
            if due {
                fault.befall().await?;
            }
        }
        Ok(())
    }
}

/// A stage to which faults and repeats happen.
pub(crate) struct Injected<S>(pub(crate) S);

impl<S: Stage> Stage for Injected<S> {
    type Input = S::Input;
    type Output = S::Output;
    type Undo = S::Undo;

    const BLOCKING: bool = S::BLOCKING;

    async fn run(
        &mut self,
        input: S::Input,
        task: &TaskContext<'_, S::Undo>,
    ) -> Result<S::Output, Failure> {
        let injection = &task.parts().0.injection;
        let now = Now {
            call: Call::Run,
            stage: task.stage(),
            attempt: task.attempt(),
            task: task.task_id(),
        };
        injection.befall(false, &now).await?;
        let output = self.0.run(input, task).await?;
        injection.befall(true, &now).await?;
        if injection.repeat.runs && now.attempt == 1 {
            injection.repeat.seen.runs.fetch_add(1, Ordering::SeqCst);
            return Err(Failure::new("repeated by the test"));
        }
        Ok(output)
    }

    async fn cancel(&mut self, undo: S::Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        let injection = &cancel.core.injection;
        let now = Now {
            call: Call::Cancel,
            stage: cancel.stage(),
            attempt: cancel.attempt(),
            task: cancel.task_id(),
        };
        injection.befall(false, &now).await?;
        if injection.repeat.cancels {
            self.0.cancel(undo.clone(), cancel).await?;
            let seen = &injection.repeat.seen;
            seen.cancels.fetch_add(1, Ordering::SeqCst);
            let again = self.0.cancel(undo, cancel).await;
            if let Err(failure) = &again {
                let (task, stage) = (now.task, now.stage);
                guard::lock(&seen.refused)
                    .get_or_insert_with(|| format!("task {task} {stage}: {failure}"));
            }
            again?;
        } else {
            self.0.cancel(undo, cancel).await?;
        }
        injection.befall(true, &now).await
    }
}
