//! A factory that may fail is one for `Work::try_with`.
use std::io;

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

impl Connection {
    fn open() -> Result<Self, io::Error> {
        Ok(Connection)
    }
}

fn main() {
    let _ = Work::with("connect", Connection::open);
}
