//! A producer that makes a task of each line.

use std::{
    error::Error,
    io::{self, BufRead},
    path::PathBuf,
    time::Duration,
};

use batrun::{Failure, Intake, Producer};

use crate::{
    input::{Input, Resume, Source},
    progress::{Position, Progress},
    reading::{Lined, Reading},
};

type Boxed = Box<dyn Error + Send + Sync>;

/// A producer that makes a task of each line of a file or reader.
///
/// Lines end with `\n` or `\r\n` (a `\r` alone is a part of its line); a byte order mark before the
/// first one is skipped. Reading and parsing happen on a thread of their own, up to 64
/// lines ahead of the pipeline, so neither a slow disk nor a slow parser holds up the pipeline's
/// arbiter.
///
/// # Errors
/// A line is skipped if it isn't UTF-8, is [too long](Self::longest), or if the closure refuses it.
/// The first ten are logged as warnings with their numbers, counted from 1, and reading goes on; at
/// its end the producer fails with [`BadLines`](crate::BadLines), which the pipeline's report shows.
/// A read error ends the reading, because nobody can tell what comes after it.
///
/// # Going on after a stop
/// [`progress`](Self::progress) says up to which line and byte the input was read, and up to which
/// line each one was accepted; the same is logged when the producer ends. Go on with
/// [`from_line`](Self::from_line), or let the journal sort it out with [`resume`](Self::resume).
///
/// ```
/// use std::{convert::Infallible, fs};
/// use batrun::{journal::Journal, prelude::*};
/// use batrun_actors::{Lines, inspect};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("orders.txt");
/// fs::write(&path, "lamp\nchair\n")?;
/// // However often the program is started, each line is done once.
/// for new in [2, 0] {
///     let orders = Lines::open(&path, |line| Ok::<_, Infallible>(line.to_owned())).resume();
///     let progress = orders.progress();
///     let report = actix_rt::System::new().block_on(
///         Pipeline::new("orders")
///             .producer(orders)
///             .journal(Journal::open(folder.path().join("orders.journal"))?)
///             .stage(inspect("ship", |order: &String| println!("{order}")))
///             .run(),
///     )?;
///     assert_eq!(report.counts.accepted, new);
///     assert_eq!(progress.accepted().line, 2);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cancel safety
/// When the pipeline shuts down, lines that were read ahead and not submitted yet are dropped, 64 at
/// most: on a pipe or a terminal they are lost, and the log and [`progress`](Self::progress) say
/// which. The thread ends at the next bytes that it reads; if it waits inside `read`, on a pipe or a
/// terminal that stays silent, it ends only when that call returns.
///
/// ```
/// use std::io::Cursor;
/// use batrun::prelude::*;
/// use batrun_actors::Lines;
///
/// let ages = Cursor::new("31\nthirty\n29\n");
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("ages")
///         .producer(Lines::new(ages, |line| line.parse::<u32>()))
///         .stage(stage_fn("greet", async |age: u32, _: &TaskContext<()>| Ok(age + 1)))
///         .run(),
/// )?;
/// assert_eq!(report.counts.done, 2);
/// assert_eq!(
///     report.producer_errors[0].failure.to_string(),
///     "1 bad line: line 2: invalid digit found in string",
/// );
/// # Ok::<(), batrun::Error>(())
/// ```
pub struct Lines<P> {
    reading: Reading,
    parse: P,
}

impl<P> Lines<P> {
    /// Reads the lines of a reader. The closure gets a line without its end and makes a task's
    /// context from it, or refuses it with an error, which makes it a bad line.
    pub fn new<C, E>(reader: impl BufRead + Send + 'static, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::Reader(Box::new(reader)), parse)
    }

    /// Reads the lines of a file, which is opened once the producer runs. The producer fails if the
    /// file can't be opened.
    pub fn open<C, E>(path: impl Into<PathBuf>, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::File(path.into()), parse)
    }

    /// Reads the lines of the program's standard input, until it ends. It is read ahead of the
    /// tasks, so nothing else should read it.
    pub fn stdin<C, E>(parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::Stdin, parse)
    }

    fn of(source: Source, parse: P) -> Self {
        Lines {
            reading: Reading::of(source),
            parse,
        }
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.reading.timeout = Some(timeout);
        self
    }

    /// Maximum length of a line in bytes, without its end. A longer one is a bad line, and is
    /// skipped without being held in memory. Default: 1 MiB.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.reading.longest = bytes;
        self
    }

    /// Begins with this line, counted from 1: those before it are read and dropped. Default:
    /// the first one. [`Progress::accepted`] says where to go on.
    pub fn from_line(mut self, line: u64) -> Self {
        self.reading.begin_at(line);
        self
    }

    /// Submits each line with a [key](batrun::submit::Submit::key), `FILE:NUMBER`, so that a second
    /// run over the same file does nothing twice: lines that an earlier run has submitted are skipped.
    /// For pipelines with a journal, and for files; see [`resume_as`](Self::resume_as) for other
    /// inputs. Default: no keys.
    ///
    /// `FILE` is the file's path, absolute and with all symbolic links followed, and `NUMBER` that of
    /// the line. So a file that was renamed is another file. One with new content under an old
    /// name is the old file, and its lines are taken for known: give it another name, or a name of
    /// its own with `resume_as`. The same holds for a line that was changed, and for all lines after
    /// one that was inserted or removed.
    ///
    /// A journal forgets keys with their outcomes: after seven days, or a million outcomes. Raise
    /// `Journal::keep_for` and `keep_most` for larger files and longer breaks, or begin with
    /// [`from_line`](Self::from_line).
    ///
    /// # Errors
    /// The producer fails if the input is no file, or its path isn't UTF-8 or has more than 1,000
    /// bytes; and at its first line, if the pipeline has no journal.
    pub fn resume(mut self) -> Self {
        self.reading.resume = Some(Resume::ByFile);
        self
    }

    /// As [`resume`](Self::resume), with a name that stands for the input in keys, of at most 1,000
    /// bytes. For readers and stdin, and for files whose path says too little.
    pub fn resume_as(mut self, name: impl Into<String>) -> Self {
        self.reading.resume = Some(Resume::As(name.into()));
        self
    }

    /// A handle that says how far the reading has got, for as long as anybody keeps it.
    pub fn progress(&self) -> Progress {
        self.reading.progress.clone()
    }
}

impl<C, E, P> Producer<C> for Lines<P>
where
    C: Send + 'static,
    E: Into<Boxed>,
    P: FnMut(&str) -> Result<C, E> + Send + 'static,
{
    async fn produce(self, tasks: Intake<C>) -> Result<(), Failure> {
        let Lines { reading, mut parse } = self;
        let longest = reading.longest;
        let read = move |input: Input<'_>, lined: &mut Lined<'_, C>| {
            let parse = |line: &str| parse(line).map_err(Into::into);
            read_all(input, parse, longest, lined);
            Ok(())
        };
        reading.run("batrun-lines", tasks, read).await
    }
}

/// Reads to the end, or until the producer is gone and nobody takes the contexts.
fn read_all<C>(
    mut input: Input<'_>,
    mut parse: impl FnMut(&str) -> Result<C, Boxed>,
    longest: usize,
    lined: &mut Lined<'_, C>,
) {
    let mut line = Vec::new();
    for number in 1.. {
        let read = match read_line(&mut input, &mut line, longest) {
            Ok(Read::End) => break,
            Ok(read) => read,
            Err(error) => {
                lined.broke(number, &error);
                break;
            }
        };
        let end = Position {
            line: number,
            byte: input.byte(),
        };
        let goes_on = lined.line(number, end, || match (read, std::str::from_utf8(&line)) {
            (Read::Line, Ok(text)) => parse(text),
            (Read::Line, Err(error)) => Err(error.into()),
            _ => Err(too_long(longest)),
        });
        if !goes_on {
            break;
        }
    }
}

/// The error of a line or row that is too long.
pub(crate) fn too_long(longest: usize) -> Boxed {
    format!("longer than {longest} bytes, which is the limit that `longest` sets").into()
}

enum Read {
    Line,
    TooLong,
    End,
}

/// Reads a line into `line`, without its end. A line that is too long is read and dropped, so that
/// it takes no memory.
fn read_line(input: &mut Input<'_>, line: &mut Vec<u8>, longest: usize) -> io::Result<Read> {
    line.clear();
    let mut too_long = false;
    let mut any = false;
    loop {
        let buffer = input.fill()?;
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..newline.unwrap_or(buffer.len())];
        any |= !buffer.is_empty();
        let at_end = buffer.is_empty() || newline.is_some();
        // One byte more: a carriage return belongs to the line's end and doesn't count.
        too_long |= line.len() + part.len() > longest.saturating_add(1);
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(newline.is_some());
        input.consume(used);
        if at_end {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(match (any, too_long || line.len() > longest) {
        (false, _) => Read::End,
        (true, true) => Read::TooLong,
        (true, false) => Read::Line,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
