//! Errors of all kinds as failures of stages.

use std::{error, io};

use anyhow::Context;
use batrun::{error::FailureKind, prelude::*};

use crate::support::{DRAIN, still};

/// The end of the one task of a stage.
fn failure<U, S>(stage: S) -> Failure
where
    S: IntoWork,
    S::Stage: Stage<Input = (), Output = (), Undo = U>,
{
    still(async {
        let pipeline = Pipeline::new("p").stage(stage).current_arbiter();
        let pipeline = pipeline.start().await.unwrap();
        let outcome = pipeline.submit(()).await.unwrap().outcome().await.unwrap();
        pipeline.shutdown(DRAIN).await.unwrap();
        match outcome.end {
            End::Failed { failure, .. } => failure,
            end => panic!("{end}"),
        }
    })
}

fn save() -> anyhow::Result<()> {
    let disk: Result<(), _> = Err(io::Error::new(
        io::ErrorKind::StorageFull,
        "the disk is full",
    ));
    disk.context("can't write page 7").context("can't save")
}

#[test]
fn g01_an_error_of_anyhow_fails_its_task_with_its_whole_chain() {
    let failure = failure(stage_fn("save", async |(), _: &TaskContext<()>| {
        save().or_fail()?;
        Ok(())
    }));
    let text = "can't save: can't write page 7: the disk is full";
    assert_eq!(failure.to_string(), text);
    assert_eq!(failure.kind(), FailureKind::Error);
    let mut causes = std::iter::successors(failure.error().source(), |error| error.source());
    let disk = causes.find_map(|error| error.downcast_ref::<io::Error>());
    assert_eq!(disk.unwrap().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn g01_an_error_of_anyhow_can_be_permanent() {
    let failure = failure(stage_fn("save", async |(), _: &TaskContext<()>| {
        save().map_err(Failure::permanent)
    }));
    assert!(!failure.is_retryable());
    assert!(failure.to_string().ends_with("page 7: the disk is full"));
}

#[test]
fn g01_a_boxed_error_and_a_text_fail_their_tasks_too() {
    fn parse() -> Result<(), Box<dyn error::Error + Send + Sync>> {
        Ok("seven".parse::<u32>().map(drop)?)
    }
    let failure_of_box = failure(stage_fn("parse", async |(), _: &TaskContext<()>| {
        parse().or_fail()
    }));
    assert_eq!(failure_of_box.to_string(), "invalid digit found in string");
    let failure_of_text = failure(stage_fn("refuse", async |(), _: &TaskContext<()>| {
        Err("it is refused").or_fail()
    }));
    assert_eq!(failure_of_text.to_string(), "it is refused");
}
