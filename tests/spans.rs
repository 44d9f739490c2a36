//! Spans of a task, with the feature `tracing`: which there are, what each is in, and what they say.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use batrun::{Failure, Retry, prelude::*};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

/// Numbers of registries are used again.
static NTH: AtomicU64 = AtomicU64::new(0);

/// A span that has been closed.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    id: u64,
    nth: u64,
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
            nth: NTH.fetch_add(1, Ordering::SeqCst),
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
    /// Those of a pipeline, in the order in which they were opened.
    fn of(&self, pipeline: &str, name: &str) -> Vec<Seen> {
        let closed = self.closed.lock().unwrap();
        let own = |seen: &&Seen| {
            let of = seen.fields.get("messaging.destination.name");
            seen.name == name && of.is_none_or(|of| of == pipeline)
        };
        let mut spans: Vec<_> = closed.iter().filter(own).cloned().collect();
        spans.sort_by_key(|seen| seen.nth);
        spans
    }
}

/// Those of the whole process.
static SPANS: LazyLock<Spans> = LazyLock::new(|| {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    spans
});

/// Runs this, and returns the spans of the pipeline with this name and those around and inside of them.
fn seen<F: Future>(work: impl FnOnce() -> F) {
    LazyLock::force(&SPANS);
    actix::System::new().block_on(work());
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
    .retry(Retry::constant(1, Duration::from_millis(1)))
}

#[test]
fn spans_of_a_task_are_in_the_one_it_was_submitted_in() {
    seen(async || {
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
            .shutdown(Shutdown::Drain(Duration::MAX))
            .await
            .unwrap();
    });
    let [request] = &SPANS.of("trip", "request")[..] else {
        panic!()
    };
    let [submit] = &SPANS.of("trip", "submit")[..] else {
        panic!()
    };
    assert_eq!(submit.parent, Some(request.id));
    assert_eq!(submit.fields["messaging.destination.name"], "trip");
    assert_eq!(submit.fields["messaging.message.id"], "1");
    let process = SPANS.of("trip", "process");
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
    let [cancel] = &SPANS.of("trip", "cancel")[..] else {
        panic!()
    };
    assert_eq!(cancel.fields["batrun.stage"], "seat");
    assert_eq!(cancel.fields["batrun.undo"], "0");
    for seen in process.iter().chain([cancel]) {
        assert_eq!(seen.parent, Some(submit.id), "{seen:?}");
    }
    // The stage's own spans are in the one of its call.
    let [inside] = &SPANS.of("trip", "inside")[..] else {
        panic!()
    };
    assert_eq!(inside.parent, Some(process[0].id));
}

#[test]
fn spans_of_calls_that_panic_or_are_stopped_say_so() {
    seen(async || {
        let begun = Arc::new(tokio::sync::Notify::new());
        let begins = begun.clone();
        let hangs = stage_fn("hangs", async move |n: u32, _: &TaskContext<()>| {
            if n == 1 {
                panic!("on purpose");
            }
            begins.notify_one();
            std::future::pending::<Result<u32, Failure>>().await
        });
        let handle: PipelineHandle<u32, u32> =
            Pipeline::new("hung").stage(hangs).start().await.unwrap();
        let panics = handle.submit(1).await.unwrap();
        panics.outcome().await.unwrap();
        let stopped = handle.submit(2).await.unwrap();
        begun.notified().await;
        assert!(stopped.cancel());
        stopped.outcome().await.unwrap();
        handle
            .shutdown(Shutdown::Drain(Duration::MAX))
            .await
            .unwrap();
    });
    let ends: Vec<_> = SPANS
        .of("hung", "process")
        .iter()
        .map(|seen| seen.fields["error.type"].clone())
        .collect();
    assert_eq!(ends, ["panicked", "cancelled"]);
    // Nobody's span was around them.
    assert!(
        SPANS
            .of("hung", "submit")
            .iter()
            .all(|seen| seen.parent.is_none())
    );
}

#[test]
fn spans_of_calls_that_take_too_long_say_so() {
    let begun = Arc::new(AtomicU64::new(0));
    let hangs = || {
        let begun = begun.clone();
        stage_fn("hangs", async move |_: u32, _: &TaskContext<()>| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<u32, Failure>>().await
        })
    };
    let soon = Duration::from_millis(2);
    seen(async || {
        // The task's own limit, which may pass before it is begun, and that of an attempt.
        let late: PipelineHandle<u32, u32> =
            Pipeline::new("late").stage(hangs()).start().await.unwrap();
        while begun.load(Ordering::SeqCst) == 0 {
            let ticket = late.submit(1).timeout(soon).await.unwrap();
            let outcome = ticket.outcome().await.unwrap();
            assert!(matches!(outcome.end, End::TimedOut { .. }), "{outcome}");
        }
        let slow: PipelineHandle<u32, u32> = Pipeline::new("slow")
            .stage(hangs().timeout(soon))
            .start()
            .await
            .unwrap();
        let ticket = slow.submit(1).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert!(matches!(outcome.end, End::Failed { .. }), "{outcome}");
        for handle in [late, slow] {
            handle
                .shutdown(Shutdown::Drain(Duration::MAX))
                .await
                .unwrap();
        }
    });
    for pipeline in ["late", "slow"] {
        let ends = SPANS.of(pipeline, "process");
        let ends: Vec<_> = ends
            .iter()
            .map(|seen| &*seen.fields["error.type"])
            .collect();
        assert_eq!(ends, ["timed_out"], "{pipeline}");
    }
}
