//! A journal keeps the contexts, so that they have to be `Serialize` and `Deserialize`.
use batrun::{journal::Journal, prelude::*};

struct Order {
    number: u32,
}

fn main() {
    let pay = stage_fn("pay", async |order: Order, _: &TaskContext<()>| Ok(order.number));
    let journal = Journal::open("orders.journal").unwrap();
    let _ = Pipeline::new("orders").journal(journal).stage(pay);
}
