//! The function of a stage takes the input and a reference to the task, is async, and fails with a `Failure`.
use std::io;

use batrun::prelude::*;

fn main() {
    let _ = stage_fn("no task", async |n: u32| Ok(n));
    let _ = stage_fn("not by reference", async |n: u32, _: TaskContext<()>| Ok(n));
    let _ = stage_fn("turned round", async |_: &TaskContext<()>, n: u32| Ok(n));
    let _ = stage_fn("not async", |n: u32, _: &TaskContext<()>| Ok(n));
    let _ = stage_fn("other error", async |n: u32, _: &TaskContext<()>| -> Result<u32, io::Error> { Ok(n) });
    let _ = stage_fn("other undo", async |n: u32, _: &TaskContext<u32>| Ok(n))
        .cancel_with(async |_: String, _: &CancelContext| Ok(()));
}
