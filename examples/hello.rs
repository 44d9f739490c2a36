//! README's first program, with a world to compare: Ada and Bob each take a seat and pay. Bob's card is
//! refused, so the undo of his seat runs.
//!
//! `cargo run --example hello`: exits with 0 if one seat is taken in the end.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use batrun::prelude::*;

/// The world outside the pipeline: the stages change it, and the check reads it.
static TAKEN: AtomicU32 = AtomicU32::new(0);

#[actix::main]
async fn main() -> Result<ExitCode, batrun::Error> {
    let seat = stage_fn(
        "seat",
        async |who: &'static str, task: &TaskContext<&'static str>| {
            // Intent first, then the effect: even if the task is stopped between the two, the undo runs.
            task.on_cancel(who).await?;
            TAKEN.fetch_add(1, Relaxed);
            Ok(who)
        },
    )
    .cancel_with(async |who: &str, _: &CancelContext| {
        TAKEN.fetch_sub(1, Relaxed);
        println!("{who}'s seat is free again");
        Ok(())
    });

    // This stage changes nothing, so it has no undo.
    let pay = stage_fn("pay", async |who: &'static str, _: &TaskContext<()>| {
        match who {
            "Bob" => return Err(Failure::permanent("card refused")),
            who => println!("{who} flies"),
        }
        Ok(())
    });

    let report = Pipeline::new("trip")
        .producer(from_iter(["Ada", "Bob"]))
        .stage(seat)
        .stage(pay)
        .run()
        .await?;
    println!("{}", report.last_failures[0]);

    let taken = TAKEN.load(Relaxed);
    println!("{taken} seat is taken, which should be 1");
    Ok(ExitCode::from(u8::from(taken != 1)))
}
