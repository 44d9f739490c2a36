//! The producer makes texts, and the pipeline takes numbers.
use batrun::prelude::*;

fn main() {
    let _ = Pipeline::<u32>::new("wrong").producer(from_iter(vec![String::new()]));
}
