//! A stage each of whose calls is in a span of its own.

use tracing::{Instrument, Span, field::Empty};

use super::{CancelContext, Stage, TaskContext};
use crate::{
    failure::Failure,
    shared::Shared,
    task::{EndReason, Names, TaskId, TaskRef, spans_are_wanted},
};

/// Another stage, whose calls it puts into spans if somebody wants those.
#[derive(Clone)]
pub(crate) struct Traced<S>(pub(crate) S);

impl<S: Stage> Stage for Traced<S> {
    type Input = S::Input;
    type Output = S::Output;
    type Undo = S::Undo;

    const BLOCKING: bool = S::BLOCKING;

    fn name(&self) -> String {
        self.0.name()
    }

    async fn run(
        &mut self,
        input: S::Input,
        task: &TaskContext<'_, S::Undo>,
    ) -> Result<S::Output, Failure> {
        if !spans_are_wanted() {
            return self.0.run(input, task).await;
        }
        let (shared, record) = (task.pipeline(), task.task());
        let facts = Facts {
            task: task.task_id(),
            stage: task.stage(),
            attempt: task.attempt(),
            undo: None,
        };
        let call = Call {
            span: facts.span(shared, &record.names()),
            shared,
            task: Some(record),
            ended: false,
        };
        let result = self.0.run(input, task).instrument(call.span.clone()).await;
        call.ended(result)
    }

    async fn cancel(&mut self, undo: S::Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        if !spans_are_wanted() {
            return self.0.cancel(undo, cancel).await;
        }
        let shared = cancel.shared;
        let names = shared.table.find(cancel.id).map(|task| task.names());
        let facts = Facts {
            task: cancel.task_id(),
            stage: cancel.stage(),
            attempt: cancel.attempt(),
            undo: Some(cancel.undo),
        };
        let call = Call {
            span: facts.span(shared, &names.unwrap_or_default()),
            shared,
            task: None,
            ended: false,
        };
        let result = self
            .0
            .cancel(undo, cancel)
            .instrument(call.span.clone())
            .await;
        call.ended(result)
    }
}

/// The facts that a call's span has.
struct Facts<'a> {
    task: TaskId,
    stage: &'a str,
    attempt: u32,
    /// The number of the undo that runs, if it isn't the stage.
    undo: Option<usize>,
}

impl Facts<'_> {
    fn span(&self, shared: &Shared, names: &Names) -> Span {
        // The macro takes a name that is known beforehand.
        macro_rules! span {
            ($name:literal, $($parent:tt)*) => {
                tracing::info_span!(
                    target: "batrun",
                    $($parent)*
                    $name,
                    otel.kind = "consumer",
                    otel.status_code = Empty,
                    error.r#type = Empty,
                    messaging.system = "batrun",
                    messaging.operation.name = $name,
                    messaging.operation.r#type = "process",
                    messaging.destination.name = &*shared.name,
                    messaging.message.id = self.task.0,
                    messaging.message.conversation_id = names.key.as_deref(),
                    batrun.stage = self.stage,
                    batrun.attempt = self.attempt,
                    batrun.undo = self.undo,
                )
            };
        }
        match (names.trace.span(), self.undo) {
            (Some(parent), Some(_)) => span!("cancel", parent: parent,),
            (Some(parent), None) => span!("process", parent: parent,),
            (None, Some(_)) => span!("cancel", parent: None,),
            (None, None) => span!("process", parent: None,),
        }
    }
}

/// A call in its span. Dropped before it has ended, it was stopped or has panicked.
struct Call<'a> {
    span: Span,
    shared: &'a Shared,
    /// The task that is worked on. An undo isn't stopped by its task's end.
    task: Option<&'a TaskRef>,
    ended: bool,
}

impl Call<'_> {
    fn ended<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        self.ended = true;
        if result.is_err() {
            self.failed("failed");
        }
        result
    }

    fn failed(&self, why: &str) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", why);
    }

    /// The reason why it was dropped.
    fn why(&self) -> &'static str {
        if std::thread::panicking() {
            return "panicked";
        }
        let details = self.task.map(|task| task.details());
        match details.as_ref().and_then(|details| details.end.as_deref()) {
            Some(EndReason::TimedOut(_)) => "timed_out",
            Some(EndReason::Cancelled(..)) => "cancelled",
            Some(_) => "stopped",
            None if self.shared.is_suspended() => "stopped",
            // The limit of an attempt.
            None => "timed_out",
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.failed(self.why());
        }
    }
}
