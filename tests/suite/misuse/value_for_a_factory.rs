//! `Work::with` takes a function that makes the values, since each worker needs one.
use batrun::prelude::*;

struct Connection;
impl Stage for Connection {
    type Input = u32;
    type Output = u32;
    type Undo = ();
    async fn run(&mut self, n: u32, _: &TaskContext<'_, ()>) -> Result<u32, Failure> {
        Ok(n)
    }
}

fn main() {
    let _ = Pipeline::new("value").stage(Work::with("connect", Connection));
}
