//! The pipes of a program: its input, its outputs, and the end of standard error for failures.

use std::{
    collections::VecDeque,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
};

/// Bytes of the end of standard error that are kept for a failure.
const TAIL: usize = 1024;
/// Lines of those bytes that a failure shows.
const LINES: usize = 3;

/// Number of chunks that are read or written in one poll, so that a program that never stops
/// writing doesn't keep the thread from its other futures.
const TURN: usize = 16;

/// The output of a program that ended with exit code 0, for [`then`](super::Command::then).
///
/// Its `Debug` shows sizes, no contents, because outputs may hold secrets.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Output {
    /// The beginning of its standard output, up to [`largest`](super::Command::largest) bytes.
    pub stdout: Vec<u8>,
    /// `true` if standard output was longer than that.
    pub stdout_cut: bool,
    /// The beginning of its standard error, up to [`largest`](super::Command::largest) bytes.
    pub stderr: Vec<u8>,
    /// `true` if standard error was longer than that.
    pub stderr_cut: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |cut| if cut { ", cut" } else { "" };
        let (out, err) = (self.stdout.len(), self.stderr.len());
        let (out_cut, err_cut) = (cut(self.stdout_cut), cut(self.stderr_cut));
        write!(
            f,
            "Output(stdout {out} bytes{out_cut}; stderr {err} bytes{err_cut})"
        )
    }
}

/// The three pipes to a program.
pub(super) struct Pipes {
    stdin: Option<Input>,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

struct Input {
    pipe: ChildStdin,
    bytes: Arc<[u8]>,
    written: usize,
}

struct Stream<R> {
    /// `None` once its end was reached.
    pipe: Option<R>,
    largest: usize,
    kept: Vec<u8>,
    cut: bool,
    /// The last bytes, for a failure to show.
    tail: VecDeque<u8>,
}

impl Pipes {
    pub(super) fn take(child: &mut Child, input: Option<Arc<[u8]>>, largest: usize) -> Self {
        let stdin = child.stdin.take().zip(input);
        Pipes {
            stdin: stdin.map(|(pipe, bytes)| Input {
                pipe,
                bytes,
                written: 0,
            }),
            stdout: Stream::new(child.stdout.take(), largest),
            stderr: Stream::new(child.stderr.take(), largest),
        }
    }

    /// Reads and writes what can be without waiting. Ready once both outputs have ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(input) = &mut self.stdin
            && input.poll(cx).is_ready()
        {
            // Closing the pipe is the end of the input, for which many programs wait.
            self.stdin = None;
        }
        let (out, err) = (self.stdout.poll(cx), self.stderr.poll(cx));
        if out.is_ready() && err.is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The last lines of standard error.
    pub(super) fn last_words(&self) -> String {
        let bytes: Vec<u8> = self.stderr.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let words = lines[lines.len().saturating_sub(LINES)..].join("; ");
        // Control characters could make the terminal of a log's reader do things.
        words.chars().filter(|c| !c.is_control()).collect()
    }

    pub(super) fn take_output(&mut self) -> Output {
        Output {
            stdout: mem::take(&mut self.stdout.kept),
            stdout_cut: self.stdout.cut,
            stderr: mem::take(&mut self.stderr.kept),
            stderr_cut: self.stderr.cut,
        }
    }
}

impl Input {
    /// Ready once everything is written, or the program has closed its input.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN {
            let rest = &self.bytes[self.written..];
            if rest.is_empty() {
                return Poll::Ready(());
            }
            match Pin::new(&mut self.pipe).poll_write(cx, rest) {
                Poll::Ready(Ok(count)) if count > 0 => self.written += count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>, largest: usize) -> Self {
        Stream {
            pipe,
            largest,
            kept: Vec::new(),
            cut: false,
            tail: VecDeque::new(),
        }
    }

    /// Ready once the output has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = [0; 4096];
        for _ in 0..TURN {
            let Some(pipe) = &mut self.pipe else {
                return Poll::Ready(());
            };
            let mut buffer = ReadBuf::new(&mut chunk);
            match Pin::new(pipe).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.keep(buffer.filled()),
                Poll::Ready(_) => self.pipe = None,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.largest.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.cut |= bytes.len() > room;
        let last = &bytes[bytes.len().saturating_sub(TAIL)..];
        let old = (self.tail.len() + last.len()).saturating_sub(TAIL);
        self.tail.drain(..old);
        self.tail.extend(last);
    }
}
