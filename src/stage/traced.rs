//! A stage each of whose calls is in a span of its own.

use tracing::{Instrument, Span, field::Empty};

use super::{CancelContext, Stage, TaskContext};
use crate::{
    failure::Failure,
    shared::Shared,
    task::{Names, TaskId, spans_are_wanted},
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
        let (id, stage, attempt) = (task.task_id(), task.stage(), task.attempt());
        let call = Call::new(
            "process",
            task.pipeline(),
            &task.names(),
            id,
            stage,
            attempt,
        );
        let result = self.0.run(input, task).instrument(call.span.clone()).await;
        call.ended(result)
    }

    async fn cancel(&mut self, undo: S::Undo, cancel: &CancelContext<'_>) -> Result<(), Failure> {
        if !spans_are_wanted() {
            return self.0.cancel(undo, cancel).await;
        }
        let (id, stage, attempt) = (cancel.task_id(), cancel.stage(), cancel.attempt());
        let names = cancel.shared.table.find(id).map(|task| task.names());
        let names = names.unwrap_or_default();
        let call = Call::new("cancel", cancel.shared, &names, id, stage, attempt);
        let result = self
            .0
            .cancel(undo, cancel)
            .instrument(call.span.clone())
            .await;
        call.ended(result)
    }
}

/// A call's span. Dropped before it has ended, it was stopped or has panicked.
struct Call {
    span: Span,
    ended: bool,
}

impl Call {
    fn new(
        what: &'static str,
        shared: &Shared,
        names: &Names,
        task: TaskId,
        stage: &str,
        attempt: u32,
    ) -> Self {
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
                    messaging.message.id = task.0,
                    messaging.message.conversation_id = names.key.as_deref(),
                    batrun.stage = stage,
                    batrun.attempt = attempt,
                )
            };
        }
        let span = match (names.trace.span(), what) {
            (Some(parent), "cancel") => span!("cancel", parent: parent,),
            (Some(parent), _) => span!("process", parent: parent,),
            (None, "cancel") => span!("cancel", parent: None,),
            (None, _) => span!("process", parent: None,),
        };
        Call { span, ended: false }
    }

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
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.failed(if std::thread::panicking() {
                "panicked"
            } else {
                "stopped"
            });
        }
    }
}
