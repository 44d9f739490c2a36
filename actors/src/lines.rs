//! A producer that makes a task of each line.

use std::{
    error::Error,
    io::{self, BufRead},
    path::PathBuf,
    time::Duration,
};

use batrun::{Failure, Intake, Producer};

use crate::{
    bad_lines::BadLines,
    reading::{self, LONGEST, Open},
};

type Boxed = Box<dyn Error + Send + Sync>;

/// A producer that makes a task of each line of a file or reader.
///
/// Lines end with `\n` or `\r\n`. Reading and parsing happen on a thread of their own, up to 64
/// lines ahead of the pipeline, so neither a slow disk nor a slow parser holds up the pipeline's
/// arbiter.
///
/// # Errors
/// A line is skipped if it isn't UTF-8, is too long, or if the closure refuses it. It is logged as
/// a warning with its number, counted from 1, and reading goes on; at its end the producer fails
/// with [`BadLines`], which the pipeline's report shows. A read error ends the reading, because
/// nobody can tell what comes after it.
///
/// # Cancel safety
/// When the pipeline shuts down, lines that were read ahead and not submitted yet are dropped. The
/// thread ends at its next line; if it waits inside `read`, on a pipe or a terminal that stays
/// silent, it ends only when that call returns.
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
    open: Open,
    parse: P,
    timeout: Option<Duration>,
    longest: usize,
}

impl<P> Lines<P> {
    /// Reads the lines of a reader. The closure gets a line without its end and makes a task's
    /// context from it, or refuses it with an error, which makes it a bad line.
    pub fn new<C, E>(reader: impl BufRead + Send + 'static, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::reader(reader), parse)
    }

    /// Reads the lines of a file, which is opened once the producer runs. The producer fails if the
    /// file can't be opened.
    pub fn open<C, E>(path: impl Into<PathBuf>, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::file(path.into()), parse)
    }

    /// Reads the lines of the program's standard input, until it ends. It is read ahead of the
    /// tasks, so nothing else should read it.
    pub fn stdin<C, E>(parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::stdin(), parse)
    }

    fn of(open: Open, parse: P) -> Self {
        Lines {
            open,
            parse,
            timeout: None,
            longest: LONGEST,
        }
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Maximum length of a line in bytes, without its end. A longer one is a bad line, and is
    /// skipped without being held in memory. Default: 1 MiB.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }
}

impl<C, E, P> Producer<C> for Lines<P>
where
    C: Send + 'static,
    E: Into<Boxed>,
    P: FnMut(&str) -> Result<C, E> + Send + 'static,
{
    async fn produce(self, tasks: Intake<C>) -> Result<(), Failure> {
        let Lines {
            open,
            mut parse,
            timeout,
            longest,
        } = self;
        reading::submit_all("batrun-lines", tasks, timeout, move |ahead| {
            let parse = |line: &str| parse(line).map_err(Into::into);
            read_all(open, parse, longest, |context| ahead.send(context))
        })
        .await
    }
}

/// Reads to the end, or until the producer is gone and nobody takes the contexts.
fn read_all<C>(
    open: Open,
    mut parse: impl FnMut(&str) -> Result<C, Boxed>,
    longest: usize,
    mut send: impl FnMut(C) -> bool,
) -> Result<(), Failure> {
    let mut reader = open()?;
    let mut bad = BadLines::default();
    let mut line = Vec::new();
    for number in 1.. {
        let parsed = match read_line(&mut reader, &mut line, longest) {
            Ok(Read::End) => break,
            Ok(Read::TooLong) => Err(format!("longer than {longest} bytes").into()),
            Ok(Read::Line) => match std::str::from_utf8(&line) {
                Ok(text) => parse(text),
                Err(error) => Err(error.into()),
            },
            Err(error) => {
                bad.note(
                    number,
                    format!("can't be read, and reading ended here: {error}"),
                );
                break;
            }
        };
        match parsed {
            Ok(context) => {
                if !send(context) {
                    break;
                }
            }
            Err(error) => bad.note(number, error.to_string()),
        }
    }
    bad.into_result()
}

enum Read {
    Line,
    TooLong,
    End,
}

/// Reads a line into `line`, without its end. A line that is too long is read and dropped, so that
/// it takes no memory.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<Read> {
    line.clear();
    let mut too_long = false;
    let mut any = false;
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
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
        reader.consume(used);
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
