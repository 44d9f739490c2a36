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
/// A line that isn't UTF-8, is too long, or that the closure refuses is skipped: it is logged as a
/// warning with its number, counted from 1, and the rest go on. At the end the producer then ends
/// with [`BadLines`], which the pipeline's report shows. A read error ends it as well, because what
/// comes after it can't be told.
///
/// Reading and parsing happen on a thread of their own, a few lines ahead of the pipeline, so
/// neither a slow disk nor a slow parser holds up the pipeline's arbiter. When the pipeline shuts
/// down, that thread ends at its next line; one that waits inside `read`, on a pipe or a terminal
/// that stays silent, ends only when that call returns.
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
    /// The lines of a reader. The closure makes a task's context of a line, without its line end.
    pub fn new<C, E>(reader: impl BufRead + Send + 'static, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::reader(reader), parse)
    }

    /// The lines of a file, which is opened once the producer runs.
    pub fn open<C, E>(path: impl Into<PathBuf>, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::file(path.into()), parse)
    }

    /// The lines of the program's standard input, until it ends. It is read ahead, so nothing else
    /// should read it.
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

    /// Each task has this long from its acceptance.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many bytes a line may have, its end not counted: 1 MiB unless told otherwise. A longer
    /// one is a bad line, and is skipped without being held in memory.
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

/// Reads to the end, or until nobody takes the contexts any more.
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
                bad.note(number, format!("can't be read, so reading ends: {error}"));
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

/// Reads a line into `line`, without its end. Of a line that is too long it keeps nothing.
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
        // One more for a carriage return, which belongs to the end.
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
