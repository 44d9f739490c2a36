//! The second function takes a text, and the first one hands on a number.
use batrun::prelude::*;

fn main() {
    let count = stage_fn("count", async |text: String, _: &TaskContext<()>| Ok(text.len()));
    let shout = stage_fn("shout", async |text: String, _: &TaskContext<()>| Ok(text.to_uppercase()));
    let _ = Pipeline::new("mismatched").stage(count).stage(shout.workers(2));
}
