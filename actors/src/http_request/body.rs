//! The body of a request while it is sent.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use batrun::Failure;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    fs::File,
    io::{AsyncRead, ReadBuf},
};

use super::message::Body;

/// Number of bytes that are handed over at a time: the memory that a body from a file takes.
const PIECE: usize = 64 << 10;

/// A body with a known length.
pub(super) struct Outgoing {
    source: Source,
    left: u64,
    /// Set when all of it was handed over.
    ended: Arc<AtomicBool>,
}

enum Source {
    Bytes(Bytes),
    File(Box<Reading>),
}

struct Reading {
    file: File,
    path: PathBuf,
    piece: [u8; PIECE],
}

impl Outgoing {
    /// Opens the file that the body is in.
    pub(super) async fn open(body: &Body) -> Result<Self, Failure> {
        let (source, left) = match body {
            Body::None => (Source::Bytes(Bytes::new()), 0),
            Body::Bytes(bytes) => (Source::Bytes(bytes.clone()), bytes.len() as u64),
            Body::File(path) => {
                let (file, length) = open(path).await.map_err(|error| unusable(path, &error))?;
                let reading = Reading {
                    file,
                    path: path.clone(),
                    piece: [0; PIECE],
                };
                (Source::File(Box::new(reading)), length)
            }
        };
        let ended = Arc::new(AtomicBool::new(left == 0));
        Ok(Outgoing {
            source,
            left,
            ended,
        })
    }

    /// Number of bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        self.ended.clone()
    }

    fn handed(&mut self, piece: Bytes) -> Frame<Bytes> {
        self.left -= piece.len() as u64;
        if self.left == 0 {
            self.ended.store(true, Ordering::Relaxed);
        }
        Frame::data(piece)
    }
}

async fn open(path: &Path) -> io::Result<(File, u64)> {
    // A pipe has to be told by its name: its opening would wait for a writer, perhaps for ever.
    let not_a_file = || io::Error::new(ErrorKind::InvalidInput, "it is not a file");
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    Ok((file, metadata.len()))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("the body's file {}: {error}", path.display());
    let hopeless = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::NotADirectory,
        ErrorKind::InvalidInput,
    ];
    if hopeless.contains(&error.kind()) {
        Failure::permanent(text)
    } else {
        Failure::new(text)
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let this = &mut *self;
        let piece = match &mut this.source {
            Source::Bytes(bytes) => bytes.split_to(most),
            Source::File(reading) => match ready!(reading.poll(cx, most)) {
                Ok(piece) => piece,
                Err(error) => {
                    let path = reading.path.display();
                    let text = format!("the body's file {path}: {error}");
                    return Poll::Ready(Some(Err(io::Error::new(error.kind(), text))));
                }
            },
        };
        Poll::Ready(Some(Ok(self.handed(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Bytes>> {
        let mut piece = ReadBuf::new(&mut self.piece[..most]);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            let text = "it became shorter while it was sent";
            return Poll::Ready(Err(io::Error::new(ErrorKind::UnexpectedEof, text)));
        }
        Poll::Ready(Ok(Bytes::copy_from_slice(piece.filled())))
    }
}
