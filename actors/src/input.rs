//! The input of a producer that reads: a file, a reader or stdin, and the bytes of it.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read},
    path::PathBuf,
};

use batrun::Failure;

use crate::bad_lines::plain;

/// The byte order mark with which some programs begin a file.
const MARK: [u8; 3] = *b"\xef\xbb\xbf";

/// Bytes of a key that are left to a file's name, beside the number of the line.
const LONGEST_NAME: usize = 1_000;

pub(crate) enum Source {
    Reader(Box<dyn BufRead + Send>),
    File(PathBuf),
    Stdin,
}

/// The first part of the keys of a resumed producer's tasks.
pub(crate) enum Resume {
    /// The path of the file.
    ByFile,
    As(String),
}

impl Source {
    /// For logs.
    pub(crate) fn shown(&self) -> String {
        match self {
            Source::Reader(_) => "a reader".to_owned(),
            Source::File(path) => plain(&path.to_string_lossy()),
            Source::Stdin => "stdin".to_owned(),
        }
    }

    /// Opens it, on the thread that reads it: opening a file may block as well.
    pub(crate) fn open(self) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(match self {
            Source::Reader(reader) => reader,
            Source::File(path) => {
                let file = File::open(&path).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?;
                Box::new(BufReader::new(file))
            }
            // A locked stdin isn't `Send`, so this wraps the unlocked one in a buffer of its own.
            Source::Stdin => Box::new(BufReader::new(io::stdin())),
        })
    }

    /// The first part of the keys.
    ///
    /// # Errors
    /// A permanent failure if there is no name that stands for this input alone.
    pub(crate) fn name(&self, resume: &Resume) -> Result<String, Failure> {
        let say = "give it a name with resume_as";
        let name = match (resume, self) {
            (Resume::As(name), _) => name.clone(),
            (Resume::ByFile, Source::File(path)) => {
                let shown = self.shown();
                let whole = fs::canonicalize(path)
                    .map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))?;
                let Some(name) = whole.to_str() else {
                    let why =
                        format!("the path of {shown} is no text, so it can't be in keys: {say}");
                    return Err(Failure::permanent(why));
                };
                name.to_owned()
            }
            (Resume::ByFile, _) => {
                let why = format!("{} has no path that could be in keys: {say}", self.shown());
                return Err(Failure::permanent(why));
            }
        };
        if name.len() > LONGEST_NAME {
            let why = format!(
                "the keys of {} would begin with {} bytes, more than {LONGEST_NAME}: {say}",
                self.shown(),
                name.len()
            );
            return Err(Failure::permanent(why));
        }
        Ok(name)
    }
}

/// The bytes of an input, counted. It ends when nobody needs them any more.
pub(crate) struct Input<'a> {
    reader: Box<dyn BufRead + Send>,
    is_closed: &'a dyn Fn() -> bool,
    byte: u64,
}

impl<'a> Input<'a> {
    /// Skips the byte order mark, however small the pieces are in which the reader gives it.
    pub(crate) fn new(
        mut reader: Box<dyn BufRead + Send>,
        is_closed: &'a dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let mut matched = 0;
        // Not a byte further than it matches: a terminal may be waiting for an answer to the first
        // ones.
        while matched < MARK.len() {
            let buffer = fill(&mut reader)?;
            match buffer.first() {
                Some(byte) if *byte == MARK[matched] => matched += 1,
                _ => break,
            }
            reader.consume(1);
        }
        let byte = match matched {
            0 => 0,
            3 => 3,
            part => {
                let part = Cursor::new(&MARK[..part]);
                reader = Box::new(part.chain(reader));
                0
            }
        };
        Ok(Input {
            reader,
            is_closed,
            byte,
        })
    }

    /// The next bytes; none at the end, or if nobody needs them.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if (self.is_closed)() {
            return Ok(&[]);
        }
        fill(&mut self.reader)
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.byte += bytes as u64;
    }

    /// Number of bytes that were consumed.
    pub(crate) fn byte(&self) -> u64 {
        self.byte
    }
}

fn fill(reader: &mut Box<dyn BufRead + Send>) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // Asked again, because the borrow can't leave the loop. It costs nothing: it is there.
            Ok(_) => return reader.fill_buf(),
        }
    }
}
