//! A kit for tests of your stages and pipelines. Its feature, `testing`, belongs among the
//! dev-dependencies:
//!
//! ```toml
//! [dev-dependencies]
//! batrun = { version = "0.1", features = ["testing"] }
//! ```
//!
//! | to see | use |
//! |---|---|
//! | what one stage does: done, rolled back, dropped midway | [`Harness`] |
//! | it in real time, or in a time that passes only while everybody waits | [`live`], or [`paused`] for stages that neither block nor do real I/O |
//! | that a pipeline undoes what it did, wherever it fails | [`Fault`] |
//! | that a run can be made again after its undos ran, and an undo run twice | [`Repeat`], [`assert_repeatable`] |
//! | what took place and what was undone, without a real world | [`Recorder`], [`scripted`] |
//! | what a stage left in a folder | [`tree`] |
//! | that a pipeline with a journal goes on after a crash, and copes with a disk that fails | `Disk` |
//! | what a producer makes | [`produced`] |
//!
//! # A stage alone
//!
//! ```
//! use std::{collections::BTreeSet, sync::{Arc, Mutex}, time::Duration};
//! use batrun::{state::Rollback, prelude::*, testing::{Harness, paused}};
//!
//! /// Takes a seat, then thinks about it for a second.
//! #[derive(Clone)]
//! struct TakeSeat { taken: Arc<Mutex<BTreeSet<u32>>> }
//!
//! impl Stage for TakeSeat {
//!     type Input = u32;
//!     type Output = u32;
//!     type Undo = u32;
//!
//!     async fn run(&mut self, seat: u32, task: &TaskContext<'_, u32>) -> Result<u32, Failure> {
//!         let undo = task.on_cancel(seat).await?;
//!         if !self.taken.lock().unwrap().insert(seat) {
//!             undo.withdraw().await?;         // someone else's
//!             return Err(Failure::permanent("taken"));
//!         }
//!         actix::clock::sleep(Duration::from_secs(1)).await;
//!         Ok(seat)
//!     }
//!
//!     async fn cancel(&mut self, seat: u32, _: &CancelContext<'_>) -> Result<(), Failure> {
//!         self.taken.lock().unwrap().remove(&seat);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() {
//! paused(async {
//!     let taken = Arc::new(Mutex::new(BTreeSet::new()));
//!     let stage = Harness::new(TakeSeat { taken: taken.clone() }).await;
//!
//!     // It works.
//!     assert_eq!(stage.run(7).await.output, Some(7));
//!     // Another one's seat is left alone.
//!     assert!(!stage.run(7).await.is_done());
//!     // A stage behind it fails, so its undo runs.
//!     assert_eq!(stage.take_back(8).await.rollback, Rollback::Complete { undos: 1 });
//!     // Its future is dropped amid its second.
//!     let outcome = stage.drop_after(Duration::from_millis(500), 9).await;
//!     assert!(matches!(outcome.end, End::TimedOut { .. }));
//!
//!     assert_eq!(*taken.lock().unwrap(), BTreeSet::from([7]));
//! });
//! # }
//! ```
//!
//! # Faults around a pipeline
//!
//! Write your pipeline as a function of its world, then let everything go wrong once:
//!
//! ```
//! use std::time::Duration;
//! use batrun::{prelude::*, testing::{Act, Fault, Recorder, assert_repeatable, paused, scripted}};
//!
//! fn stage(name: &str, world: &Recorder) -> Work<impl Stage<Input = u32, Output = u32>> {
//!     scripted(name, world, |_: &u32, _| Act::Pass)
//!         .retry(Retry::none())       // for `repeat`: its input can be copied
//!         .workers(2)                 // one that hangs doesn't hold up the others
//! }
//!
//! fn orders(world: &Recorder) -> Pipeline<u32> {
//!     Pipeline::new("orders")
//!         .producer(from_iter(1..=3).timeout(Duration::from_secs(1)))    // ends those that hang
//!         .stage(stage("reserve", world))
//!         .stage(stage("charge", world))
//!         .current_arbiter()
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Each stage fails, panics and hangs, before and after its effect, for the second task.
//! for fault in Fault::every(&["reserve", "charge"]) {
//!     let fault = fault.task(2);
//!     let world = Recorder::new();
//!     let report = paused(orders(&world).inject(fault.clone()).run())?;
//!     assert_eq!(fault.happened(), 1);
//!     assert_eq!(report.counts.done, 2, "{fault}");
//!     // Nothing of the second is left, all of the others is.
//!     assert_eq!(world.left().len(), 4, "{fault}: {:?}", world.left());
//! }
//!
//! // Every run is undone and made again, every undo runs twice: is the world the same?
//! paused(assert_repeatable(async |repeat| {
//!     let world = Recorder::new();
//!     let fault = Fault::fail_for_good("charge").after().every_attempt().task(2);
//!     orders(&world).repeat(repeat).inject(fault).run().await.unwrap();
//!     world.left()
//! }));
//! # Ok(()) }
//! ```
//!
//! # What this can't show
//!
//! - [`paused`] moves the clock on as soon as nobody has anything to do *on that thread*. Real I/O,
//!   threads and `.blocking()` stages don't hold it back: test those in [`live`] time.
//! - A fault falls before or after a stage's call, not between two of its lines: for that, put a
//!   deadline there with [`Harness::drop_after`], or return an error from what the stage uses.
//! - Injected panics print as any panic does; `RUST_BACKTRACE=0` keeps them short.
//! - With the feature on, every stage call looks whether a fault is due. Measure without it.

mod harness;
mod recorder;
mod repeatable;
mod scripted;
mod time;
mod tree;

pub use crate::faults::{Fault, Repeat};
#[cfg(feature = "journal")]
pub use crate::journal::{Disk, DiskFault};
pub use harness::{Harness, produced};
pub use recorder::{Recorder, What};
pub use repeatable::assert_repeatable;
pub use scripted::{Act, Scripted, scripted};
pub use time::{live, paused};
pub use tree::{Entry, tree};
