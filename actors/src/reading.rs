//! The thread on which a producer reads, and its channel to the pipeline.

use std::{thread, time::Duration};

use batrun::{Failure, Intake};
use tokio::sync::mpsc;

use crate::{
    bad_lines::BadLines,
    input::{Input, Resume, Source},
    progress::{Position, Progress},
};

/// Number of contexts that are made ahead of the pipeline: enough that the thread seldom waits for
/// the arbiter, and few beside the pipeline's own queues.
const AHEAD: usize = 64;
/// Default of the maximum length of a line or row, in bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// A context that was made, and its place in the input if there are such.
pub(crate) struct Item<C> {
    context: C,
    at: Option<At>,
}

struct At {
    key: Option<String>,
    end: Position,
}

/// The thread's end of the channel, into which it puts the contexts it makes.
pub(crate) struct Ahead<C>(mpsc::Sender<Item<C>>);

impl<C> Ahead<C> {
    /// Sends a context, after a wait for room. `false` if nobody takes contexts any more, so that
    /// the thread can end.
    #[cfg(feature = "watch")]
    pub(crate) fn send(&self, context: C) -> bool {
        self.put(context, None)
    }

    fn put(&self, context: C, at: Option<At>) -> bool {
        self.0.blocking_send(Item { context, at }).is_ok()
    }

    /// `true` if nobody takes contexts any more.
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
/// its next item.
pub(crate) async fn submit_all<C: Send + 'static>(
    thread: &str,
    tasks: Intake<C>,
    timeout: Option<Duration>,
    progress: &Progress,
    read: impl FnOnce(&Ahead<C>) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (sender, mut items) = mpsc::channel(AHEAD);
    let reader = thread::Builder::new()
        .name(thread.to_owned())
        .spawn(move || read(&Ahead(sender)))?;
    while let Some(Item { context, at }) = items.recv().await {
        let mut submit = tasks.submit(context).timeout(timeout);
        let mut end = None;
        if let Some(at) = at {
            end = Some(at.end);
            if let Some(key) = at.key {
                submit = submit.key(key);
            }
        }
        let ticket = match submit.await {
            Ok(ticket) => ticket,
            Err(refused) => return Err(refused.into_failure()),
        };
        if let Some(end) = end {
            let mut state = progress.state();
            state.accepted = end;
            if ticket.is_known() {
                state.known += 1;
            } else {
                state.tasks += 1;
            }
        }
    }
    // The channel is closed, so the thread has ended and this join doesn't block the arbiter.
    match reader.join() {
        Ok(result) => result,
        // The panic of a closure: the pipeline reports it as the producer's.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The common part of [`Lines`](crate::Lines) and [`Csv`](crate::Csv).
pub(crate) struct Reading {
    pub(crate) source: Source,
    pub(crate) timeout: Option<Duration>,
    pub(crate) longest: usize,
    /// The first line that is looked at.
    first: u64,
    pub(crate) resume: Option<Resume>,
    pub(crate) progress: Progress,
}

impl Reading {
    pub(crate) fn of(source: Source) -> Self {
        Reading {
            source,
            timeout: None,
            longest: LONGEST,
            first: 1,
            resume: None,
            progress: Progress::default(),
        }
    }

    /// Begins with this line. Known at once, so that a handle tells it even if nothing is ever read.
    pub(crate) fn begin_at(&mut self, line: u64) {
        self.first = line.max(1);
        self.progress.state().accepted.line = self.first - 1;
    }

    /// Reads on a thread of its own, and submits the contexts that `read` makes of lines.
    pub(crate) async fn run<C: Send + 'static>(
        self,
        thread: &str,
        tasks: Intake<C>,
        read: impl FnOnce(Input<'_>, &mut Lined<'_, C>) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let Reading {
            source,
            timeout,
            first,
            resume,
            progress,
            ..
        } = self;
        let mut end = End {
            source: source.shown(),
            progress: progress.clone(),
            is_whole: false,
        };
        let reading = progress.clone();
        let read = move |ahead: &Ahead<C>| {
            let name = resume.map(|resume| source.name(&resume)).transpose()?;
            let is_closed = || ahead.is_closed();
            let input = Input::new(source.open()?, &is_closed)?;
            let mut lined = Lined {
                ahead,
                name,
                first,
                bad: BadLines::default(),
                progress: reading,
            };
            read(input, &mut lined)?;
            lined.finish()
        };
        let result = submit_all(thread, tasks, timeout, &progress, read).await;
        end.is_whole = match &result {
            Ok(()) => true,
            Err(failure) => failure.error().is::<BadLines>(),
        };
        if end.is_whole {
            // Bad lines may have come after the last task.
            let mut state = progress.state();
            state.accepted = state.read;
        }
        result
    }
}

/// Takes the lines that were read, and makes known how far that is.
pub(crate) struct Lined<'a, C> {
    ahead: &'a Ahead<C>,
    /// The first part of each task's key.
    name: Option<String>,
    first: u64,
    bad: BadLines,
    progress: Progress,
}

impl<C> Lined<'_, C> {
    /// Takes what was made of the line with this number, after which the input is at `end`. `false`
    /// if nobody needs any more.
    pub(crate) fn line<E: ToString>(
        &mut self,
        number: u64,
        end: Position,
        make: impl FnOnce() -> Result<C, E>,
    ) -> bool {
        if self.ahead.is_closed() {
            return false;
        }
        if number < self.first {
            let mut state = self.progress.state();
            (state.read, state.accepted) = (end, end);
            return true;
        }
        let made = make();
        self.progress.state().read = end;
        match made {
            Ok(context) => {
                let key = self.name.as_ref().map(|name| format!("{name}:{number}"));
                self.ahead.put(context, Some(At { key, end }))
            }
            Err(error) => {
                self.bad(number, &error.to_string());
                true
            }
        }
    }

    /// Notes that the reading ended here.
    pub(crate) fn broke(&mut self, number: u64, error: &std::io::Error) {
        self.bad(
            number,
            &format!("can't be read, and reading ended here: {error}"),
        );
    }

    fn bad(&mut self, number: u64, error: &str) {
        self.progress.state().bad += 1;
        self.bad.note(number, error);
    }

    fn finish(self) -> Result<(), Failure> {
        self.bad.into_result()
    }
}

/// Logs how far the reading has got, when it ends or is dropped by a shutdown.
struct End {
    source: String,
    progress: Progress,
    is_whole: bool,
}

impl End {
    fn told(&self) -> String {
        let state = *self.progress.state();
        let (source, tasks, bad) = (&self.source, state.tasks, state.bad);
        let known = match state.known {
            0 => String::new(),
            known => format!(", {known} known from an earlier run"),
        };
        if self.is_whole {
            return format!(
                "{source}: read up to {}, {tasks} tasks, {bad} bad{known}",
                state.read
            );
        }
        let more = match state.read.line.saturating_sub(state.accepted.line) {
            0 => "nothing was read ahead".to_owned(),
            more => format!("{more} lines more were read and are not accepted"),
        };
        let accepted = state.accepted;
        format!("{source}: stopped after {accepted}, {tasks} tasks, {bad} bad{known}; {more}")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        match self.is_whole {
            true => log::info!("{}", self.told()),
            false => log::warn!("{}", self.told()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
