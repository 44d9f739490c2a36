//! The smallest program on batrun: three parties reserve seats and pay for them. One card is
//! declined, so the undo of that reservation runs.
//!
//! `cargo run --example hello`: exits with 0 if the free seats are as they should be.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use batrun::prelude::*;

/// The world outside the pipeline: the stages change it, and the check reads it.
static FREE: AtomicU32 = AtomicU32::new(20);

#[actix::main]
async fn main() -> Result<ExitCode, batrun::Error> {
    // The undo is registered before the effect. Even if the task is stopped in between, it runs.
    let reserve = stage_fn("reserve", async |seats: u32, task: &TaskContext<u32>| {
        task.on_cancel(seats).await?;
        println!("{seats} seats are reserved");
        FREE.fetch_sub(seats, Relaxed);
        Ok(seats)
    })
    .cancel_with(async |seats: u32, _: &CancelContext| {
        println!("{seats} seats are free again");
        FREE.fetch_add(seats, Relaxed);
        Ok(())
    });

    // This stage changes nothing, so it has no undo.
    let pay = stage_fn("pay", async |seats: u32, _: &TaskContext<()>| {
        if seats > 4 {
            println!("{seats} seats cost too much: the card is declined");
            return Err(Failure::permanent("card declined"));
        }
        println!("{seats} seats are paid");
        Ok(())
    });

    let report = Pipeline::new("theatre")
        .producer(from_iter([2, 5, 3]))
        .stage(reserve)
        .stage(pay)
        .run()
        .await?;
    println!("\n{report}");

    // 2 and 3 seats are sold, and the 5 are free again.
    let free = FREE.load(Relaxed);
    println!("{free} of 20 seats are free, which should be 15");
    Ok(ExitCode::from(u8::from(free != 15)))
}
