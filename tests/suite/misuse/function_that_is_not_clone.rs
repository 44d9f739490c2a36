//! Each worker needs a function of its own, with all that it captures.
use std::fs::File;

use batrun::prelude::*;

fn main() {
    let file = File::open("numbers").unwrap();
    let length = stage_fn("length", async move |_: (), _: &TaskContext<()>| Ok(file.metadata()?.len()));
    let _ = Pipeline::new("not clone").stage(length);
}
