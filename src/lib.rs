//! Task pipelines on [actix](https://docs.rs/actix) that take back what they did.
//!
//! A *task* goes through a chain of *stages*, each a supervised pool of worker actors. A stage
//! registers an *undo* before it has an effect. If the task fails, panics, runs late or is cancelled,
//! its undos run one at a time, in the order in which they were registered.
//!
//! ```
//! use batrun::prelude::*;
//!
//! #[actix::main]
//! async fn main() -> Result<(), batrun::Error> {
//!     let seat = stage_fn("seat", async |who: &'static str, task: &TaskContext<&'static str>| {
//!         task.on_cancel(who).await?; // intent first, then the effect
//!         Ok(who)
//!     })
//!     .cancel_with(async |who: &str, _: &CancelContext| Ok(println!("{who}'s seat is free again")));
//!     let pay = stage_fn("pay", async |who: &'static str, _: &TaskContext<()>| match who {
//!         "Bob" => Err(Failure::permanent("card refused")),
//!         who => Ok(println!("{who} flies")),
//!     });
//!     let report = Pipeline::new("trip").producer(from_iter(["Ada", "Bob"])).stage(seat).stage(pay).run().await?;
//!     println!("{}", report.last_failures[0]);
//! #   assert_eq!((report.counts.done, report.counts.failed), (1, 1));
//!     Ok(())
//! }
//! ```
//!
//! ```text
//! Ada flies
//! Bob's seat is free again
//! task 2 failed in pay: card refused; 1 undo taken back
//! ```
//!
//! # Five ideas
//!
//! - **A stage** ([`Stage`], [`stage_fn`]) turns an input into an output, and says how an effect is
//!   undone. Each worker owns a stage value (`&mut self`), so a connection or a buffer lives in it.
//! - **An undo is data**: a value that the stage registers with
//!   [`task.on_cancel(..)`](TaskContext::on_cancel) before it acts, and that its `cancel` takes. It
//!   survives the attempt, the worker and, in a journal, the process.
//! - **One outcome** ([`Outcome`]): every accepted task is done, failed, timed out or cancelled, and says
//!   how its rollback went. A rollback that can't be completed is *stuck*, and waits for a person.
//! - **Bounded**: [`submit`](Intake::submit) waits for room, a slow stage slows the producers down, and
//!   every limit has a default.
//! - **A journal** ([`journal::Journal`]) makes a pipeline outlive its process: one line, and a restart
//!   goes on with every task.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds | what it compiles besides |
//! |---|---|---|
//! | `journal` | pipelines that outlive their process: [`journal`] | SQLite's C code, with rusqlite 0.32 to 0.43 |
//! | `postgres` | the same in a PostgreSQL database, for several processes at once | the above, tokio-postgres and rustls |
//! | `tracing` | spans `submit`, `process` and `cancel`, with what the stages log inside of them | tracing |
//! | `testing` | a kit for tests of your stages: [`testing`] | tokio's clock that stands still |
//! | `cli` | the program `batrun`, which looks into journals; with `postgres`, into databases, too | that of `journal`, clap and a table printer |
//!
//! # Where to go on
//!
//! - [`Pipeline`] is where a program begins; [`prelude`] has the names that most programs need.
//! - [`guide`] is the tour: stages and undos, limits and retries, the journal, tests.
//! - [`Stage`] is the contract, with wrong code beside right.
//! - The crate `batrun-actors` has ready-made stages and producers: commands, HTTP requests, SQL, files.
//! - `GUARANTEES.md` has each promise with its limits and its tests, `ARCHITECTURE.md` is the map of
//!   the code.

// Bottom first: a module imports only from those above it. tests/suite/architecture sees to that.
mod panic_guard;
mod text;
mod logging;
mod clock;
mod failure;
pub mod policy;
mod task;
pub mod ledger;
#[cfg(feature = "journal")]
pub mod journal;
pub mod report;
pub mod error;
mod shared;
pub mod stage;
#[cfg(feature = "testing")]
mod faults;
pub mod submit;
mod engine;
mod pipeline;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod guide;

pub use error::{Error, Failure};
pub use failure::OrFail;
pub use pipeline::{Control, Pipeline, PipelineHandle};
pub use policy::{Retry, Shutdown};
pub use stage::{CancelContext, IntoWork, Stage, TaskContext, Work, stage_fn};
pub use submit::{Intake, Producer, SubmitError, Ticket, TrySubmitError};
pub use task::Outcome;

pub mod actor {
    //! Stages that are plain actix actors of yours, and the messages that they handle.
    //!
    //! Such an actor handles [`TaskMsg<In, Reply<Out, Undo>>`](TaskMsg) and [`Cancel<Undo>`](Cancel). It is
    //! put into a pipeline with [`Pipeline::actor`](crate::Pipeline::actor) or
    //! [`Work::actor`](crate::Work::actor).

    pub use crate::{
        shared::hop::{Onward, TaskMsg},
        stage::{ActorStage, Cancel, CancelReply, Reply},
    };
}

pub mod state {
    //! The life of a task: its states, its end, its rollback.
    //!
    //! [`next`] has every legal transition, in one pure function.

    pub use crate::task::{
        End, EndKind, Event, Illegal, Key, Rollback, StageIx, StageName, StageProgress, State,
        StopCause, Stuck, StuckUndo, TaskId, TaskStatus, next,
    };
}

pub mod prelude {
    //! The names that most programs need.

    pub use crate::{
        actor::{Cancel, Reply, TaskMsg},
        error::Failure,
        failure::OrFail,
        pipeline::{Pipeline, PipelineHandle},
        policy::{OnStuck, Order, RateLimit, Restart, Retry, Shutdown},
        report::Report,
        stage::{CancelContext, IntoWork, Stage, TaskContext, Work, stage_fn},
        state::{End, Rollback},
        submit::{Intake, Producer, SubmitError, Ticket, TrySubmitError, from_iter, from_stream},
        task::Outcome,
    };
}
