//! Spans of a task, with the feature `tracing`: which there are, what each is in, and what they say.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use batrun::{Failure, Retry, prelude::*};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use crate::support::still;

/// A span that has been closed.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    id: u64,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

#[derive(Clone, Default)]
struct Spans {
    open: Arc<Mutex<BTreeMap<u64, Seen>>>,
    closed: Arc<Mutex<Vec<Seen>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = Seen {
            name: attributes.metadata().name(),
            parent: context
                .span(id)
                .and_then(|span| Some(span.parent()?.id().into_u64())),
            id: id.into_u64(),
            fields: BTreeMap::new(),
        };
        attributes.record(&mut seen);
        self.open.lock().unwrap().insert(seen.id, seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(seen) = self.open.lock().unwrap().get_mut(&id.into_u64()) {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let seen = self.open.lock().unwrap().remove(&id.into_u64());
        self.closed.lock().unwrap().extend(seen);
    }
}

impl Spans {
    fn named(&self, name: &str) -> Vec<Seen> {
        let closed = self.closed.lock().unwrap();
        closed
            .iter()
            .filter(|seen| seen.name == name)
            .cloned()
            .collect()
    }
}

/// Runs this on one thread, with spans seen.
fn seen<F: Future>(work: impl FnOnce() -> F) -> Spans {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::with_default(subscriber, || still(work()));
    spans
}

fn seat() -> impl IntoWork<Stage: Stage<Input = u32, Output = u32>> {
    stage_fn("seat", async |n: u32, task: &TaskContext<u32>| {
        tracing::info_span!("inside").in_scope(|| ());
        task.on_cancel(n).await?;
        Ok(n)
    })
    .cancel_with(async |_: u32, _: &CancelContext| Ok(()))
}

fn pay() -> impl IntoWork<Stage: Stage<Input = u32, Output = u32>> {
    stage_fn("pay", async |n: u32, _: &TaskContext<()>| match n {
        1 => Ok(n),
        _ => Err::<u32, _>(Failure::new("card refused")),
    })
    .retry(Retry::constant(1, std::time::Duration::from_millis(1)))
}

#[test]
fn spans_of_a_task_are_in_the_one_it_was_submitted_in() {
    let spans = seen(async || {
        let handle: PipelineHandle<u32, u32> = Pipeline::new("trip")
            .stage(seat())
            .stage(pay())
            .start()
            .await
            .unwrap();
        let request = tracing::info_span!("request");
        let ticket = request.in_scope(|| handle.submit(2)).await.unwrap();
        drop(request);
        assert!(!ticket.outcome().await.unwrap().is_done());
        handle
            .shutdown(Shutdown::Drain(std::time::Duration::MAX))
            .await
            .unwrap();
    });
    assert!(spans.open.lock().unwrap().is_empty(), "{:?}", spans.open);
    let [request] = &spans.named("request")[..] else {
        panic!()
    };
    let [submit] = &spans.named("submit")[..] else {
        panic!()
    };
    assert_eq!(submit.parent, Some(request.id));
    assert_eq!(submit.fields["messaging.destination.name"], "trip");
    assert_eq!(submit.fields["messaging.message.id"], "1");
    let process = spans.named("process");
    let stages: Vec<_> = process
        .iter()
        .map(|seen| {
            (
                &*seen.fields["batrun.stage"],
                &*seen.fields["batrun.attempt"],
                seen.fields.get("error.type").map(String::as_str),
            )
        })
        .collect();
    let expected = [
        ("seat", "1", None),
        ("pay", "1", Some("failed")),
        ("pay", "2", Some("failed")),
    ];
    assert_eq!(stages, expected);
    let [cancel] = &spans.named("cancel")[..] else {
        panic!()
    };
    assert_eq!(cancel.fields["batrun.stage"], "seat");
    for seen in process.iter().chain([cancel]) {
        assert_eq!(seen.parent, Some(submit.id), "{seen:?}");
    }
    // The stage's own spans are in the one of its call.
    let [inside] = &spans.named("inside")[..] else {
        panic!()
    };
    assert_eq!(inside.parent, Some(process[0].id));
}

#[test]
fn spans_of_calls_that_panic_or_are_stopped_say_so() {
    let spans = seen(async || {
        let hangs = stage_fn("hangs", async |n: u32, _: &TaskContext<()>| match n {
            1 => panic!("on purpose"),
            _ => std::future::pending::<Result<u32, Failure>>().await,
        });
        let handle: PipelineHandle<u32, u32> =
            Pipeline::new("trip").stage(hangs).start().await.unwrap();
        let panics = handle.submit(1).await.unwrap();
        let late = handle
            .submit(2)
            .timeout(std::time::Duration::from_secs(1))
            .await
            .unwrap();
        panics.outcome().await.unwrap();
        late.outcome().await.unwrap();
        handle
            .shutdown(Shutdown::Drain(std::time::Duration::MAX))
            .await
            .unwrap();
    });
    let mut ends: Vec<_> = spans
        .named("process")
        .iter()
        .map(|seen| seen.fields["error.type"].clone())
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, ["panicked", "stopped"]);
    // Nobody's span was around them.
    assert!(
        spans
            .named("submit")
            .iter()
            .all(|seen| seen.parent.is_none())
    );
}
