//! A producer that makes a task of each row of a CSV file.

use std::{error::Error, io::BufRead, marker::PhantomData, path::PathBuf, time::Duration};

use ::csv::StringRecord;
use batrun::{Failure, Intake, Producer};
use serde::de::DeserializeOwned;

use crate::{
    bad_lines::plain,
    input::{Input, Resume, Source},
    progress::{Position, Progress},
    reading::{Lined, Reading},
};

mod rows;
use rows::{Row, Rows};

type Boxed = Box<dyn Error + Send + Sync>;

/// A producer that makes a task of each row of a CSV file or reader.
///
/// The first row names the columns. Each other row becomes a value of `R`, whose fields are found
/// by those names, and the closure makes a task's context from that value.
///
/// Fields may be in double quotes, and then contain delimiters, line ends and (doubled) quotes.
/// Lines end with `\n`, `\r\n` or `\r`; empty ones are skipped, and so is a byte order mark. A quote that is never closed takes everything after it into its
/// row, because text in quotes is never taken for rows: that row is bad and the rest of the input
/// is lost. It needs no memory beyond [`longest`](Self::longest).
///
/// # Errors
/// A row is skipped if it has another number of fields than the first one, a field that `R` doesn't
/// accept, bytes that aren't UTF-8, or [too many bytes](Self::longest), or if the closure refuses it.
/// The first ten are logged as warnings with the number of the line they begin on, counted from 1,
/// and reading goes on; at its end the producer fails with [`BadLines`](crate::BadLines), which the
/// pipeline's report shows. A read error ends the reading, and so does a bad first row.
///
/// # Going on after a stop
/// As with [`Lines`](crate::Lines): [`progress`](Self::progress) says how far it got, and
/// [`from_line`](Self::from_line) or [`resume`](Self::resume) go on.
///
/// # Cancel safety
/// It reads on a thread of its own, as [`Lines`](crate::Lines) does.
///
/// ```
/// use std::io::Cursor;
/// use batrun::prelude::*;
/// use batrun_actors::{Csv, inspect};
///
/// #[derive(serde::Deserialize)]
/// struct Person { name: String, age: u32 }
///
/// let people = Cursor::new("name,age\nAda,36\nEve,old\n\"Bela, the 2nd\",29\n");
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("people")
///         .producer(Csv::new(people, |person: Person| match person.age {
///             0..150 => Ok(person),
///             _ => Err("too old"),
///         }))
///         .stage(inspect("greet", |person: &Person| println!("Hello {}", person.name)))
///         .run(),
/// )?;
/// assert_eq!(report.counts.done, 2);
/// let error = report.producer_errors[0].failure.to_string();
/// assert!(error.starts_with("1 bad line: line 3: "), "{error}");
/// # Ok::<(), batrun::Error>(())
/// ```
pub struct Csv<R, P> {
    reading: Reading,
    make: P,
    delimiter: u8,
    row: PhantomData<fn(R)>,
}

impl<R, P> Csv<R, P> {
    /// Reads the rows of a reader. The closure makes a task's context from a row, or refuses it
    /// with an error, which makes it a bad row.
    pub fn new<C, E>(reader: impl BufRead + Send + 'static, make: P) -> Self
    where
        P: FnMut(R) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::Reader(Box::new(reader)), make)
    }

    /// Reads the rows of a file, which is opened once the producer runs. The producer fails if the
    /// file can't be opened.
    pub fn open<C, E>(path: impl Into<PathBuf>, make: P) -> Self
    where
        P: FnMut(R) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::File(path.into()), make)
    }

    /// Reads the rows of the program's standard input, until it ends. It is read ahead of the
    /// tasks, so nothing else should read it.
    pub fn stdin<C, E>(make: P) -> Self
    where
        P: FnMut(R) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(Source::Stdin, make)
    }

    fn of(source: Source, make: P) -> Self {
        Csv {
            reading: Reading::of(source),
            make,
            delimiter: b',',
            row: PhantomData,
        }
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.reading.timeout = Some(timeout);
        self
    }

    /// Maximum length of a row in bytes, without its line end. A longer one is a bad row, and is
    /// skipped without being held in memory. Default: 1 MiB.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.reading.longest = bytes;
        self
    }

    /// Sets the byte between two fields, such as `b';'` or `b'\t'`. Default: a comma.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Begins with this line, counted from 1: rows that begin before it are read and
    /// dropped, except for the first row, which names the columns. Default: all rows.
    /// [`Progress::accepted`] says where to go on.
    pub fn from_line(mut self, line: u64) -> Self {
        self.reading.begin_at(line);
        self
    }

    /// Submits each row with a [key](batrun::submit::Submit::key), `FILE:NUMBER`, so that a second
    /// run over the same file does nothing twice: rows that an earlier run has submitted are skipped.
    /// For pipelines with a journal, and for files; see [`resume_as`](Self::resume_as) for other
    /// inputs. Default: no keys.
    ///
    /// `FILE` is the file's path, absolute and with all symbolic links followed, and `NUMBER` that of
    /// the line that the row begins on. So a file that was renamed is another file. One with new
    /// content under an old name is the old file, and its rows are taken for known: give it another
    /// name, or a name of its own with `resume_as`. The same holds for a row that was changed, and
    /// for all rows after one that was inserted or removed.
    ///
    /// A journal forgets keys with their outcomes: after seven days, or a million outcomes. Raise
    /// `Journal::keep_for` and `keep_most` for larger files and longer breaks, or begin with
    /// [`from_line`](Self::from_line).
    ///
    /// # Errors
    /// The producer fails if the input is no file, or its path isn't UTF-8 or has more than 1,000
    /// bytes; and at its first row, if the pipeline has no journal.
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

impl<C, R, E, P> Producer<C> for Csv<R, P>
where
    C: Send + 'static,
    R: DeserializeOwned + 'static,
    E: Into<Boxed>,
    P: FnMut(R) -> Result<C, E> + Send + 'static,
{
    async fn produce(self, tasks: Intake<C>) -> Result<(), Failure> {
        let Csv {
            reading,
            mut make,
            delimiter,
            ..
        } = self;
        let longest = reading.longest;
        let read = move |input: Input<'_>, lined: &mut Lined<'_, C>| {
            let rows = Rows::new(input, delimiter, longest);
            read_all(rows, |row| make(row).map_err(Into::into), lined)
        };
        reading.run("batrun-csv", tasks, read).await
    }
}

/// Reads to the end, or until the producer is gone and nobody takes the contexts.
fn read_all<C, R: DeserializeOwned>(
    mut rows: Rows<'_>,
    mut make: impl FnMut(R) -> Result<C, Boxed>,
    lined: &mut Lined<'_, C>,
) -> Result<(), Failure> {
    let Some(header) = rows.next()? else {
        return Ok(());
    };
    let header = text(header).map_err(|error| {
        let error = plain(&error.to_string());
        let why =
            format!("the first row, which names the columns, is bad, so none is read: {error}");
        Failure::permanent(why)
    })?;
    loop {
        let row = rows.next();
        let number = rows.line();
        let row = match row {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                lined.broke(number, &error);
                break;
            }
        };
        let end = rows.position();
        let goes_on = lined.line(number, end, || {
            text(row).and_then(|row| make(parse(&row, &header)?))
        });
        if !goes_on {
            break;
        }
    }
    Ok(())
}

fn text(row: Row) -> Result<StringRecord, Boxed> {
    match row {
        Row::Fields(fields) => {
            Ok(StringRecord::from_byte_record(fields)
                .map_err(|error| error.utf8_error().clone())?)
        }
        Row::Bad(why) => Err(why),
    }
}

fn parse<R: DeserializeOwned>(row: &StringRecord, header: &StringRecord) -> Result<R, Boxed> {
    if row.len() != header.len() {
        let (has, wants) = (row.len(), header.len());
        return Err(format!("{has} fields instead of {wants}").into());
    }
    Ok(row.deserialize(Some(header))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
