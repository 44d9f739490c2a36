//! A producer that makes a task of each row of a CSV file.

use std::{error::Error, io::BufRead, marker::PhantomData, path::PathBuf, time::Duration};

use ::csv::StringRecord;
use batrun::{Failure, Intake, Producer};
use serde::de::DeserializeOwned;

use crate::{
    bad_lines::BadLines,
    reading::{self, Ahead, LONGEST, Open},
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
/// Lines end with `\n` or `\r\n`; empty ones are skipped. A byte order mark is skipped, unless the
/// first name after it is quoted. A quote that is never closed takes everything after it into its
/// row, because text in quotes is never taken for rows: that row is bad and the rest of the input
/// is lost. It needs no memory beyond [`longest`](Self::longest).
///
/// # Errors
/// A row is skipped if it has another number of fields than the first one, a field that `R` doesn't
/// accept, bytes that aren't UTF-8, or too many bytes, or if the closure refuses it. It is logged
/// as a warning with the number of the line it begins on, counted from 1, and reading goes on; at
/// its end the producer fails with [`BadLines`](crate::BadLines), which the pipeline's report
/// shows. A read error ends the reading, and so does a bad first row.
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
    open: Open,
    make: P,
    timeout: Option<Duration>,
    longest: usize,
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
        Self::of(reading::reader(reader), make)
    }

    /// Reads the rows of a file, which is opened once the producer runs. The producer fails if the
    /// file can't be opened.
    pub fn open<C, E>(path: impl Into<PathBuf>, make: P) -> Self
    where
        P: FnMut(R) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::file(path.into()), make)
    }

    /// Reads the rows of the program's standard input, until it ends. It is read ahead of the
    /// tasks, so nothing else should read it.
    pub fn stdin<C, E>(make: P) -> Self
    where
        P: FnMut(R) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        Self::of(reading::stdin(), make)
    }

    fn of(open: Open, make: P) -> Self {
        Csv {
            open,
            make,
            timeout: None,
            longest: LONGEST,
            delimiter: b',',
            row: PhantomData,
        }
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Maximum length of a row in bytes, without its line end. A longer one is a bad row, and is
    /// skipped without being held in memory. Default: 1 MiB.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Sets the byte between two fields, such as `b';'` or `b'\t'`. Default: a comma.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
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
            open,
            mut make,
            timeout,
            longest,
            delimiter,
            ..
        } = self;
        reading::submit_all("batrun-csv", tasks, timeout, move |ahead| {
            let rows = Rows::new(open()?, delimiter, longest);
            read_all(rows, |row| make(row).map_err(Into::into), ahead)
        })
        .await
    }
}

/// Reads to the end, or until the producer is gone and nobody takes the contexts.
fn read_all<C, R: DeserializeOwned>(
    mut rows: Rows<impl BufRead>,
    mut make: impl FnMut(R) -> Result<C, Boxed>,
    ahead: &Ahead<C>,
) -> Result<(), Failure> {
    rows.skip_mark()?;
    let Some(header) = rows.next()? else {
        return Ok(());
    };
    let header = text(header).map_err(|error| {
        let why =
            format!("the first row, which names the columns, is bad, so none is read: {error}");
        Failure::permanent(why)
    })?;
    let mut bad = BadLines::default();
    loop {
        let row = rows.next();
        let number = rows.line();
        let row = match row {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                bad.note(
                    number,
                    format!("can't be read, and reading ended here: {error}"),
                );
                break;
            }
        };
        match text(row).and_then(|row| make(parse(&row, &header)?)) {
            Ok(context) => {
                if !ahead.send(context) {
                    break;
                }
            }
            Err(error) => bad.note(number, error.to_string()),
        }
    }
    bad.into_result()
}

fn text(row: Row) -> Result<StringRecord, Boxed> {
    match row {
        Row::Fields(fields) => {
            Ok(StringRecord::from_byte_record(fields)
                .map_err(|error| error.utf8_error().clone())?)
        }
        Row::Bad(why) => Err(why.into()),
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
