//! Each worker needs a value of its own, also of a stage with settings.
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
    let _ = Pipeline::new("not clone").stage(Connection.workers(3));
}
