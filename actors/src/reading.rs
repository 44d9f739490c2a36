//! Reading on a thread of its own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    thread,
    time::Duration,
};

use batrun::{Failure, Intake};
use tokio::sync::mpsc;

/// How many contexts are made ahead of the pipeline: enough that the thread seldom waits for the
/// arbiter, few enough to be nothing beside the pipeline's own queues.
const AHEAD: usize = 64;
/// How long a line or row may be, in bytes, unless told otherwise.
pub(crate) const LONGEST: usize = 1 << 20;

/// Opens what is read, on the thread that reads it.
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
    // Its lock can't change threads, so that it is behind a buffer of its own.
    Box::new(|| Ok(Box::new(BufReader::new(io::stdin()))))
}

/// Where the thread puts the contexts it makes.
pub(crate) struct Ahead<C>(mpsc::Sender<C>);

impl<C> Ahead<C> {
    /// Waits for room. Says whether anybody still takes the contexts.
    pub(crate) fn send(&self, context: C) -> bool {
        self.0.blocking_send(context).is_ok()
    }

    /// Whether nobody takes the contexts any more.
    #[cfg(feature = "watch")]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Runs `read` on a thread of its own and submits the contexts it makes. A panic of it goes on
/// here.
///
/// # Cancel safety
/// Dropped, nobody takes the contexts any more; the thread ends once it sees that.
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
    // The channel is closed, so the thread is at its end.
    match reader.join() {
        Ok(result) => result,
        // The closure's panic: the pipeline reports it as the producer's.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
