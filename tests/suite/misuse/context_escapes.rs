//! A task's context can't outlive the call it was given to.
use batrun::prelude::*;

#[derive(Clone)]
struct Leaks;
impl Stage for Leaks {
    type Input = u32;
    type Output = u32;
    type Undo = u32;
    async fn run(&mut self, n: u32, task: &TaskContext<'_, u32>) -> Result<u32, Failure> {
        actix_rt::spawn(async move { task.on_cancel(n).await.is_ok() });
        Ok(n)
    }
}

fn main() {
    let _ = Pipeline::new("leaks").stage(Leaks);
}
