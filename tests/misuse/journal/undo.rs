//! A journal keeps the undos, so that they have to be `Serialize` and `Deserialize`.
use batrun::{journal::Journal, prelude::*};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
struct Refund(u32);

#[derive(Clone)]
struct Pay;
impl Stage for Pay {
    type Input = u32;
    type Output = u32;
    type Undo = Refund;
    async fn run(&mut self, n: u32, task: &TaskContext<'_, Refund>) -> Result<u32, Failure> {
        task.on_cancel(Refund(n)).await?;
        Ok(n)
    }
}

fn main() {
    let journal = Journal::open("orders.journal").unwrap();
    let _ = Pipeline::new("orders").journal(journal).stage(Pay);
}
