//! The second stage takes a text, and the first one hands on a number.
use batrun::prelude::*;

#[derive(Clone)]
struct Count;
impl Stage for Count {
    type Input = String;
    type Output = usize;
    type Undo = ();
    async fn run(&mut self, text: String, _: &TaskContext<'_, ()>) -> Result<usize, Failure> {
        Ok(text.len())
    }
}

#[derive(Clone)]
struct Shout;
impl Stage for Shout {
    type Input = String;
    type Output = String;
    type Undo = ();
    async fn run(&mut self, text: String, _: &TaskContext<'_, ()>) -> Result<String, Failure> {
        Ok(text.to_uppercase())
    }
}

fn main() {
    let _ = Pipeline::new("mismatched").stage(Count).stage(Shout);
}
