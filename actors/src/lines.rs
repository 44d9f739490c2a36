//! A producer that makes a task of each line.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    thread,
    time::Duration,
};

use batrun::{Failure, Intake, Producer};
use tokio::sync::mpsc;

/// How many lines are read ahead of the pipeline: enough that the reader seldom waits for the
/// arbiter, few enough to be nothing beside the pipeline's own queues.
const AHEAD: usize = 64;
/// How many bad lines the error at the end names.
const NAMED: usize = 10;
/// How long a line may be, in bytes, unless told otherwise.
const LONGEST: usize = 1 << 20;

type Boxed = Box<dyn Error + Send + Sync>;
type Open = Box<dyn FnOnce() -> io::Result<Box<dyn BufRead + Send>> + Send>;

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
        Self::of(
            Box::new(move || Ok(Box::new(reader) as Box<dyn BufRead + Send>)),
            parse,
        )
    }

    /// The lines of a file, which is opened once the producer runs.
    pub fn open<C, E>(path: impl Into<PathBuf>, parse: P) -> Self
    where
        P: FnMut(&str) -> Result<C, E> + Send + 'static,
        E: Into<Boxed>,
    {
        let path = path.into();
        Self::of(
            Box::new(move || {
                let file = File::open(&path).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?;
                Ok(Box::new(BufReader::new(file)) as Box<dyn BufRead + Send>)
            }),
            parse,
        )
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
        let (sender, mut contexts) = mpsc::channel(AHEAD);
        let reader = thread::Builder::new()
            .name("batrun-lines".to_owned())
            .spawn(move || {
                let parse = |line: &str| parse(line).map_err(Into::into);
                read_all(open, parse, longest, |context| {
                    sender.blocking_send(context).is_ok()
                })
            })?;
        while let Some(context) = contexts.recv().await {
            let submit = tasks.submit(context);
            let submitted = match timeout {
                Some(timeout) => submit.timeout(timeout).await,
                None => submit.await,
            };
            if let Err(refused) = submitted {
                return Err(Failure::new(refused.to_string()));
            }
        }
        // The channel is closed, so the thread is at its end.
        match reader.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure),
            // The closure's panic: the pipeline reports it as the producer's.
            Err(panic) => std::panic::resume_unwind(panic),
        }
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
    match bad.count {
        0 => Ok(()),
        _ => Err(Failure::permanent(bad)),
    }
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

/// What was wrong with a reader's lines: how many were bad, and the first ten of them.
#[derive(Debug, Default)]
pub struct BadLines {
    count: u64,
    named: Vec<(u64, String)>,
}

impl BadLines {
    fn note(&mut self, number: u64, error: String) {
        log::warn!("line {number} is skipped: it is bad");
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((number, error));
        }
    }

    /// How many lines were bad.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first ten of them, each with its number, counted from 1, and what is wrong with it.
    pub fn named(&self) -> &[(u64, String)] {
        &self.named
    }
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} bad line{plural}", self.count)?;
        for (n, (number, error)) in self.named.iter().enumerate() {
            let before = if n == 0 { ": " } else { "; " };
            write!(f, "{before}line {number}: {error}")?;
        }
        match self.count - self.named.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Error for BadLines {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        io::{Cursor, Read as _, Write as _},
        sync::{Arc, Mutex},
    };

    use batrun::{Report, prelude::*};

    use super::*;

    fn run<P, C>(lines: Lines<P>) -> (Report, Vec<C>)
    where
        Lines<P>: Producer<C>,
        C: Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let report = actix_rt::System::new()
            .block_on(
                Pipeline::new("lines")
                    .producer(lines)
                    .stage(stage_fn(
                        "keep",
                        async move |c: C, _: &TaskContext<'_, ()>| {
                            keep.lock().unwrap().push(c);
                            Ok(())
                        },
                    ))
                    .current_arbiter()
                    .run(),
            )
            .unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        (report, seen)
    }

    fn text(line: &str) -> Result<String, std::convert::Infallible> {
        Ok(line.to_owned())
    }

    #[test]
    fn every_line_is_a_task_in_order() {
        let (report, seen) = run(Lines::new(Cursor::new("a\r\nb\n\nlast"), text));
        assert_eq!(seen, ["a", "b", "", "last"]);
        assert!(report.producer_errors.is_empty());
    }

    #[test]
    fn an_empty_reader_makes_no_task() {
        let (report, seen) = run(Lines::new(Cursor::new(""), text));
        assert!(seen.is_empty());
        assert!(report.producer_errors.is_empty());
    }

    #[test]
    fn bad_lines_are_named_and_the_rest_go_on() {
        let input = Cursor::new(b"one\n\xff\xfe\nthree\n".to_vec());
        let (report, seen) = run(Lines::new(input, text));
        assert_eq!(seen, ["one", "three"]);
        let error = report.producer_errors[0].failure.to_string();
        assert!(
            error.starts_with("1 bad line: line 2: invalid utf-8"),
            "{error}"
        );
    }

    #[test]
    fn the_list_of_bad_lines_is_bounded() {
        let input = Cursor::new("x\n".repeat(1_000) + "7\n");
        let (report, seen) = run(Lines::new(input, |line| line.parse::<u32>()));
        assert_eq!(seen, [7]);
        let failure = &report.producer_errors[0].failure;
        let bad = failure.error().downcast_ref::<BadLines>().unwrap();
        assert_eq!((bad.count(), bad.named().len()), (1_000, NAMED));
        assert!(bad.to_string().ends_with("; and 990 more"), "{bad}");
    }

    #[test]
    fn a_line_that_is_too_long_is_bad() {
        let input = BufReader::with_capacity(4, Cursor::new("12345678\r\n123456789\nok"));
        let (report, seen) = run(Lines::new(input, text).longest(8));
        assert_eq!(seen, ["12345678", "ok"]);
        assert_eq!(
            report.producer_errors[0].failure.to_string(),
            "1 bad line: line 2: longer than 8 bytes"
        );
    }

    #[test]
    fn a_read_error_is_named_and_ends_the_reading() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let input = BufReader::new(Cursor::new("a\nb").chain(Broken));
        let (report, seen) = run(Lines::new(input, text));
        assert_eq!(seen, ["a"]);
        assert_eq!(
            report.producer_errors[0].failure.to_string(),
            "1 bad line: line 2: can't be read, so reading ends: the disk is gone"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent");
        let (report, seen) = run(Lines::open(&path, text));
        assert!(seen.is_empty());
        let error = report.producer_errors[0].failure.to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }

    #[test]
    fn a_file_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for n in 0..1_000 {
            writeln!(file, "{n}").unwrap();
        }
        let (report, seen) = run(Lines::open(file.path(), |line| line.parse::<u32>()));
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
        assert_eq!(report.counts.done, 1_000);
    }

    #[test]
    fn a_panic_of_the_closure_is_the_producers() {
        let parse = |line: &str| -> Result<u32, std::num::ParseIntError> {
            assert_ne!(line, "13", "unlucky");
            line.parse()
        };
        let (report, seen) = run(Lines::new(Cursor::new("12\n13\n14\n"), parse));
        assert_eq!(seen, [12]);
        let failure = &report.producer_errors[0].failure;
        assert_eq!(failure.kind(), batrun::FailureKind::Panic);
    }

    #[test]
    fn a_reader_that_blocks_leaves_the_arbiter_free() {
        // Its second line comes only once the first one went through a stage on the same arbiter.
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let tell = std::sync::Arc::new(std::sync::Mutex::new(Some(tell)));
        struct Waits(std::sync::mpsc::Receiver<()>);
        impl io::Read for Waits {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                match self.0.recv_timeout(Duration::from_secs(10)) {
                    Ok(()) => (&b"second\n"[..]).read(to),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Ok(0),
                    Err(error) => Err(io::Error::other(error)),
                }
            }
        }
        let input = BufReader::new(Cursor::new("first\n").chain(Waits(told)));
        let report = actix_rt::System::new()
            .block_on(
                Pipeline::new("blocks")
                    .producer(Lines::new(input, text))
                    .stage(stage_fn(
                        "tell",
                        async move |_: String, _: &TaskContext<'_, ()>| {
                            // Once: then it is dropped, and the input ends.
                            if let Some(tell) = tell.lock().unwrap().take() {
                                tell.send(()).unwrap();
                            }
                            Ok(())
                        },
                    ))
                    .current_arbiter()
                    .run(),
            )
            .unwrap();
        assert_eq!(report.counts.done, 2);
        assert!(report.producer_errors.is_empty(), "{report}");
    }

    #[test]
    fn a_shutdown_ends_an_endless_reader() {
        struct Endless {
            _alive: Arc<()>,
        }
        impl io::Read for Endless {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                to.fill(b'\n');
                Ok(to.len())
            }
        }
        let alive = Arc::new(());
        let input = BufReader::new(Endless {
            _alive: alive.clone(),
        });
        let report = actix_rt::System::new().block_on(async {
            let pipeline = Pipeline::new("endless")
                .producer(Lines::new(input, text))
                .stage(stage_fn(
                    "drop",
                    async |_: String, _: &TaskContext<'_, ()>| Ok(()),
                ));
            let handle = pipeline.start().await.unwrap();
            while handle.snapshot().counts.done == 0 {
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
            let grace = Duration::from_secs(10);
            handle.shutdown(Shutdown::Drain(grace)).await.unwrap()
        });
        assert_eq!(report.counts.accepted, report.counts.done);
        // The reader is dropped with its thread, which ends at its next line.
        let began = std::time::Instant::now();
        while Arc::strong_count(&alive) > 1 {
            assert!(began.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
    }
}
