//! A connection that still reads when it can't write any more.
//!
//! A server may answer before it has read the request's body, and close. The next write then fails,
//! and hyper drops the connection for that, with an answer in it that nobody has read. So a write
//! that failed waits here, for as long as there is something to read.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct Stream<T> {
    inner: T,
    /// `true` if it leads to a proxy that takes whole URLs.
    proxied: bool,
    failed: Option<io::Error>,
    brake: Brake,
}

/// The end of a connection that whoever waits for its answer has in hand.
#[derive(Clone, Default)]
pub(super) struct Brake(Arc<State>);

#[derive(Default)]
struct State {
    /// The last write couldn't go on, or failed.
    stuck: AtomicBool,
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Brake {
    /// `true` if a write waits.
    pub(super) fn is_stuck(&self) -> bool {
        self.0.stuck.load(Ordering::Relaxed)
    }

    /// Closes the connection.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.waker.register(cx.waker());
        if self.0.cut.load(Ordering::Acquire) {
            let text = "the answer came before the request was sent";
            return Err(io::Error::new(ErrorKind::ConnectionAborted, text));
        }
        Ok(())
    }
}

impl<T> Stream<T> {
    pub(super) fn new(inner: T, proxied: bool) -> Self {
        Stream {
            inner,
            proxied,
            failed: None,
            brake: Brake::default(),
        }
    }

    /// Turns the failure of a write into a wait. What is read then wakes the connection.
    fn written<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        self.brake.check(cx)?;
        if self.failed.is_some() {
            return Poll::Pending;
        }
        let result = match write(Pin::new(&mut self.inner), cx) {
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                // A read may have found nothing just before: look again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        };
        let stuck = result.is_pending();
        self.brake.0.stuck.store(stuck, Ordering::Relaxed);
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.brake.check(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let over = match &read {
            Poll::Ready(Ok(())) => buf.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        match self.failed.take() {
            // There was no answer, so the write's own error says most.
            Some(failed) if over => Poll::Ready(Err(failed)),
            failed => {
                self.failed = failed;
                read
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written(cx, |inner, cx| inner.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: Connection> Connection for Stream<T> {
    fn connected(&self) -> Connected {
        let connected = self.inner.connected().proxy(self.proxied);
        connected.extra(self.brake.clone())
    }
}
