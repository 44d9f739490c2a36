//! Values that can be encoded and not decoded again, with a journal.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use batrun::{SubmitError, prelude::*, testing::Disk};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::support::{DRAIN, live, on_disk, still, summary};

/// A tag makes serde keep the number in between, where it has no room for so large a one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Huge { number: u128 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Inner {
    from: IpAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flattened {
    id: u32,
    #[serde(flatten)]
    inner: Inner,
}

/// Left out when it is empty, and missed when it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Skipped {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
}

/// Decoding it panics.
#[derive(Clone, Debug, Serialize)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("boom")
    }
}

trait AnyValue: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static> AnyValue for T {}

/// The texts of what is refused where this value is a context, an output and an undo.
fn refused<V: AnyValue>(value: V) -> Vec<String> {
    let mut texts = Vec::new();
    still(async {
        // A context.
        let handle = Pipeline::new("context")
            .journal(on_disk(&Disk::new()))
            .stage(stage_fn("s", async |_: V, _: &TaskContext<'_, ()>| Ok(())))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        match handle.submit(value.clone()).await {
            Err(SubmitError::Unrecorded(_, why)) => texts.push(why.to_string()),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was accepted"),
        }
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.accepted, report.suspended), (0, None));
        // An output and an undo; the tasks after them go on.
        let (output, undo) = (value.clone(), value);
        let handle = Pipeline::new("output")
            .journal(on_disk(&Disk::new()))
            .stage(
                stage_fn("s", async move |n: u32, task: &TaskContext<'_, V>| {
                    match n {
                        0 => task.on_cancel(undo.clone()).await.map(drop)?,
                        1 => return Ok(Some(output.clone())),
                        _ => {}
                    }
                    Ok(None)
                })
                .cancel_with(async |_: V, _: &CancelContext<'_>| Ok(())),
            )
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..3 {
            let ticket = handle.submit(n).await.unwrap();
            let outcome = ticket.outcome().await.unwrap();
            match n {
                2 => assert!(outcome.is_done()),
                _ => texts.push(summary(&outcome)),
            }
        }
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.done, report.suspended), (1, None));
    });
    texts
}

#[test]
fn j4_f10_a_value_that_does_not_decode_is_refused_as_soon_as_it_is_recorded() {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let flattened = Flattened {
        id: 1,
        inner: Inner { from: local },
    };
    let all = [
        refused(Tagged::Huge { number: u128::MAX }),
        refused(flattened),
        refused(Skipped { lines: Vec::new() }),
        refused(Panics),
    ];
    for texts in all {
        assert_eq!(texts.len(), 3);
        for text in texts {
            assert!(text.contains("not decoded again"), "{text}");
        }
    }
}

#[test]
fn j4_f10_a_variant_that_does_not_decode_is_refused_after_others_that_do() {
    still(async {
        let handle = Pipeline::new("variants")
            .journal(on_disk(&Disk::new()))
            .stage(stage_fn(
                "s",
                async |_: Skipped, _: &TaskContext<'_, ()>| Ok(()),
            ))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..10 {
            let lines = vec![String::from("a line"); n % 3];
            let accepted = handle.submit(Skipped { lines }).await.is_ok();
            assert_eq!(accepted, n % 3 > 0, "{n}");
        }
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

static DECODED: AtomicUsize = AtomicUsize::new(0);

/// Counts how often one is decoded.
#[derive(Clone, Debug, Serialize)]
struct Large(Vec<u8>);

impl<'de> Deserialize<'de> for Large {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        Ok(Large(Vec::deserialize(from)?))
    }
}

#[test]
fn j4_f10_no_more_than_one_large_value_is_decoded_and_forgotten() {
    live(async {
        let disk = Disk::new();
        let stage = stage_fn("s", async |large: Large, _: &TaskContext<'_, ()>| {
            Ok(large.0.len())
        });
        let pipeline = Pipeline::new("large").journal(on_disk(&disk));
        let handle = pipeline.stage(stage).start().await.unwrap();
        for _ in 0..20 {
            let ticket = handle.submit(Large(vec![1; 1 << 20])).await.unwrap();
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        assert_eq!(DECODED.load(Ordering::SeqCst), 1);
        handle.shutdown(DRAIN).await.unwrap();
    });
}
