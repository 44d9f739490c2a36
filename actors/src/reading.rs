//! The thread on which a producer reads, and its channel to the pipeline.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    thread,
    time::Duration,
};

use batrun::{Failure, Intake};
use tokio::sync::mpsc;

/// Number of contexts that are made ahead of the pipeline: enough that the thread seldom waits for
/// the arbiter, and few beside the pipeline's own queues.
const AHEAD: usize = 64;
/// Default of the maximum length of a line or row, in bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// Opens the input, on the thread that reads it: opening a file may block as well.
pub(crate) type Open = Box<dyn FnOnce() -> io::Result<Box<dyn BufRead + Send>> + Send>;

pub(crate) fn reader(reader: impl BufRead + Send + 'static) -> Open {
    Box::new(move || Ok(Box::new(reader)))
}

pub(crate) fn file(path: PathBuf) -> Open {
    Box::new(move || {
        let file = File::open(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Box::new(BufReader::new(file)))
    })
}

pub(crate) fn stdin() -> Open {
    // A locked stdin isn't `Send`, so this wraps the unlocked one in a buffer of its own.
    Box::new(|| Ok(Box::new(BufReader::new(io::stdin()))))
}

/// The thread's end of the channel, into which it puts the contexts it makes.
pub(crate) struct Ahead<C>(mpsc::Sender<C>);

impl<C> Ahead<C> {
    /// Sends a context, after a wait for room. `false` if nobody takes contexts any more, so that
    /// the thread can end.
    pub(crate) fn send(&self, context: C) -> bool {
        self.0.blocking_send(context).is_ok()
    }

    /// `true` if nobody takes contexts any more.
    #[cfg(feature = "watch")]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Runs `read` on a thread of its own and submits the contexts it makes.
///
/// # Errors
/// The error of `read`, or the refusal of a task, which ends the reading. A panic of `read` is
/// resumed here, so that the pipeline reports it as the producer's.
///
/// # Cancel safety
/// If the future is dropped, the contexts in the channel are dropped too, and the thread ends at
/// its next [`Ahead::send`].
pub(crate) async fn submit_all<C: Send + 'static>(
    thread: &str,
    tasks: Intake<C>,
    timeout: Option<Duration>,
    read: impl FnOnce(&Ahead<C>) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (sender, mut contexts) = mpsc::channel(AHEAD);
    let reader = thread::Builder::new()
        .name(thread.to_owned())
        .spawn(move || read(&Ahead(sender)))?;
    while let Some(context) = contexts.recv().await {
        let submitted = tasks.submit(context).timeout(timeout).await;
        if let Err(refused) = submitted {
            return Err(refused.into_failure());
        }
    }
    // The channel is closed, so the thread has ended and this join doesn't block the arbiter.
    match reader.join() {
        Ok(result) => result,
        // The panic of a closure: the pipeline reports it as the producer's.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
