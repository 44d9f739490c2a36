//! The journal comes before the stages.
use batrun::{journal::Journal, prelude::*};

fn main() {
    let show = stage_fn("show", async |n: u32, _: &TaskContext<()>| Ok(n.to_string()));
    let journal = Journal::open("orders.journal").unwrap();
    let _ = Pipeline::new("orders").stage(show).journal(journal);
}
