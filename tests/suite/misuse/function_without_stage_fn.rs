//! A function becomes a stage, with a name, by `stage_fn`.
use batrun::prelude::*;

fn main() {
    let _ = Pipeline::new("bare").stage(async |n: u32, _: &TaskContext<()>| Ok(n));
}
