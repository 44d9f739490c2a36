//! The body of a response while it arrives: within a limit, unpacked if need be.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Gathers a body.
pub(super) enum Gathering {
    Plain(Limited),
    Gzip(Box<MultiGzDecoder<Limited>>),
}

/// The reason for which a body can't be gathered.
pub(super) enum Unfit {
    TooLarge,
    Damaged(io::Error),
}

impl Gathering {
    pub(super) fn new(gzip: bool, largest: usize) -> Self {
        let limited = Limited {
            bytes: Vec::new(),
            largest,
            over: false,
        };
        if gzip {
            Gathering::Gzip(Box::new(MultiGzDecoder::new(limited)))
        } else {
            Gathering::Plain(limited)
        }
    }

    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), Unfit> {
        let (done, limited) = match self {
            Gathering::Plain(limited) => (limited.write_all(piece), &*limited),
            Gathering::Gzip(decoder) => (decoder.write_all(piece), decoder.get_ref()),
        };
        done.map_err(|error| limited.unfit(error))
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, Unfit> {
        match self {
            Gathering::Plain(limited) => Ok(limited.bytes),
            Gathering::Gzip(mut decoder) => match decoder.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes)),
                Err(error) => Err(decoder.get_ref().unfit(error)),
            },
        }
    }
}

/// Bytes that don't become more than so many.
pub(super) struct Limited {
    bytes: Vec<u8>,
    largest: usize,
    over: bool,
}

impl Limited {
    fn unfit(&self, error: io::Error) -> Unfit {
        if self.over {
            Unfit::TooLarge
        } else {
            Unfit::Damaged(error)
        }
    }
}

impl Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.largest - self.bytes.len() {
            self.over = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
