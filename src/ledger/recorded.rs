//! Waiting until a change is recorded.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "journal")]
use super::progress::Mark;
use super::{error::LedgerError, guarded_future::Guarded};

/// Ready once a change is recorded.
#[must_use = "what follows from a change waits until it is recorded"]
pub struct Recorded(Status);

enum Status {
    Ready(Option<LedgerError>),
    #[cfg(feature = "journal")]
    Mark(Mark),
    Later(Guarded<()>),
}

impl Recorded {
    /// Recorded already, or nothing is kept.
    pub fn now() -> Self {
        Recorded(Status::Ready(None))
    }

    /// It could not be recorded.
    pub fn failed(error: LedgerError) -> Self {
        Recorded(Status::Ready(Some(error)))
    }

    /// Recorded once this future is ready. If it panics, it could not be recorded.
    pub fn later(recorded: impl Future<Output = Result<(), LedgerError>> + Send + 'static) -> Self {
        Recorded(Status::Later(Guarded::new(Box::pin(recorded))))
    }

    /// Recorded once a ledger that writes in order has come so far.
    #[cfg(feature = "journal")]
    pub(crate) fn at(mark: Mark) -> Self {
        Recorded(Status::Mark(mark))
    }

    /// The result, if it is there already.
    pub(crate) fn ready(self) -> Result<Result<(), LedgerError>, Recorded> {
        match self.0 {
            Status::Ready(None) => Ok(Ok(())),
            Status::Ready(Some(error)) => Ok(Err(error)),
            #[cfg(feature = "journal")]
            Status::Mark(mark) => match mark.result() {
                Some(result) => Ok(result),
                None => Err(Recorded(Status::Mark(mark))),
            },
            later => Err(Recorded(later)),
        }
    }
}

/// The records that a batch waits for: all of them.
#[derive(Default)]
pub(crate) struct AllRecorded(Vec<Recorded>);

impl AllRecorded {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more that isn't ready.
    pub(crate) fn add(&mut self, recorded: Recorded) {
        #[cfg(feature = "journal")]
        if let (Some(Recorded(Status::Mark(last))), Status::Mark(next)) =
            (self.0.last_mut(), &recorded.0)
            && last.join(next)
        {
            return;
        }
        self.0.push(recorded);
    }

    pub(crate) async fn wait(self) -> Result<(), LedgerError> {
        for recorded in self.0 {
            recorded.await?;
        }
        Ok(())
    }
}

impl Future for Recorded {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Status::Ready(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            #[cfg(feature = "journal")]
            Status::Mark(mark) => Pin::new(mark).poll(cx),
            Status::Later(recorded) => Pin::new(recorded).poll(cx),
        }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Status::Ready(None) => "Recorded(now)",
            Status::Ready(Some(_)) => "Recorded(failed)",
            _ => "Recorded(later)",
        })
    }
}
