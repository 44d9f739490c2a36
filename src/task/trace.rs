//! The span in which a task was submitted, which those of its stages are in. Without the feature `tracing` it is
//! nothing.

#[cfg(feature = "tracing")]
use tracing::{Level, Span, field::Empty};

/// The span `submit` of a task. It is open until the task has its outcome: a span can be in an open one only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    #[cfg(feature = "tracing")]
    span: Option<Span>,
}

/// Spans don't make names differ.
impl PartialEq for Trace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trace {}

impl Trace {
    pub(crate) fn is_some(&self) -> bool {
        #[cfg(feature = "tracing")]
        return self.span.is_some();
        #[cfg(not(feature = "tracing"))]
        false
    }
}

#[cfg(feature = "tracing")]
impl Trace {
    /// The span of a submit, in the caller's. `None` if nobody wants it.
    pub(crate) fn of_submit(pipeline: &str) -> Option<Self> {
        if !is_wanted() {
            return None;
        }
        let span = tracing::info_span!(
            target: "batrun",
            "submit",
            otel.kind = "producer",
            messaging.system = "batrun",
            messaging.operation.name = "submit",
            messaging.operation.r#type = "send",
            messaging.destination.name = pipeline,
            messaging.message.id = Empty,
            messaging.message.conversation_id = Empty,
        );
        (!span.is_disabled()).then_some(Trace { span: Some(span) })
    }

    /// The span that it was submitted in.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }
}

/// Somebody may want spans of ours. A load of one word where nobody does.
#[cfg(feature = "tracing")]
pub(crate) fn is_wanted() -> bool {
    tracing::enabled!(target: "batrun", Level::INFO)
}
