//! Each attempt gets the input as it arrived, so it has to be copied.
use batrun::prelude::*;

struct Order;

#[derive(Clone)]
struct Pay;
impl Stage for Pay {
    type Input = Order;
    type Output = ();
    type Undo = ();
    async fn run(&mut self, _: Order, _: &TaskContext<'_, ()>) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {
    let _ = Pipeline::new("retry").stage(Pay.retry(Retry::exponential(3)));
}
