//! Fetches pages into a SQLite database. Busy servers are asked again, and the undo of a page that
//! the review rejects deletes its row.
//!
//! `cargo run -p batrun-examples-full --example fetch` fetches from a small server of its own, whose
//! pages fail in every way; `-- --urls FILE` fetches the URLs in a file, `-- --urls -` those on
//! standard input, one a line. Only `http://` is spoken.
//!
//! Afterwards the database is compared with the outcomes: a row for each page that is done, with
//! its size, and none for the others. With its own server, each page's size and the number of
//! requests for it are compared as well. Exits with 0 only if all of that is as it should be, and
//! no line was skipped because it isn't a URL.

mod check;
mod notes;
mod server;
mod store;

use std::{
    error::Error,
    io::{self, BufReader, Cursor},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use actix_web::http::Uri;
use batrun::prelude::*;
use batrun_actors::{HttpRequest, Lines, Request, Response, Sql};
use clap::Parser;
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

use crate::{notes::Notes, server::Site};

/// Maximum size of a page, in bytes.
const LARGEST: usize = 64 * 1024;
/// Maximum number of requests for a page.
const ATTEMPTS: u32 = 5;
/// Maximum number of tasks in flight.
const IN_FLIGHT: usize = 8;
/// A task's time from its acceptance to its end, without the wait for the rate limit.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Fetches pages into a SQLite database, and checks the stored rows.
#[derive(Parser)]
struct Options {
    /// Read the URLs from this file, one a line; `-` is standard input [default: the pages of a
    /// server of its own]
    #[arg(long, value_name = "FILE")]
    urls: Option<PathBuf>,
    /// The database, made if it doesn't exist [default: one that is removed at the end]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Maximum number of requests that start in a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// A page to fetch. The task's number is part of the row's key.
#[derive(Clone)]
struct Job {
    task: u64,
    url: String,
}

/// A page as the server sent it.
struct Fetched {
    job: Job,
    status: u16,
    body: Vec<u8>,
}

/// A page as it is stored.
#[derive(Clone)]
struct Page {
    task: u64,
    url: String,
    status: u16,
    bytes: u64,
    words: u64,
    title: Option<String>,
}

impl Fetched {
    fn measure(self) -> Page {
        let text = String::from_utf8_lossy(&self.body);
        Page {
            task: self.job.task,
            url: self.job.url,
            status: self.status,
            bytes: self.body.len() as u64,
            words: text.split_whitespace().count() as u64,
            title: title(&text),
        }
    }
}

/// The text of the first `<title ..>`, if there is any.
fn title(html: &str) -> Option<String> {
    // The same length as `html`: only ASCII letters change.
    let lower = html.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let start = tag + lower[tag..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = html[start..end].trim();
    (!title.is_empty()).then(|| title.to_owned())
}

type Parse = fn(&str) -> Result<String, String>;

fn parse(line: &str) -> Result<String, String> {
    let url = line.trim();
    let uri: Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(url.to_owned()),
        _ => Err(format!("{url:?} is not a http:// URL")),
    }
}

fn lines(urls: Option<&Path>, site: Option<&Site>) -> Lines<Parse> {
    match (urls, site) {
        (Some(path), _) if path == Path::new("-") => {
            Lines::new(BufReader::new(io::stdin()), parse as Parse)
        }
        (Some(path), _) => Lines::open(path, parse as Parse),
        (None, site) => {
            let urls = site.map(Site::urls).unwrap_or_default();
            Lines::new(Cursor::new(urls.join("\n")), parse as Parse)
        }
    }
}

/// Fetches everything. Returns the report and how many outcomes were missed.
async fn fetch(
    lines: Lines<Parse>,
    rate: u32,
    db: &Path,
    run: store::Run,
    notes: &Notes,
) -> Result<(Report, u64), batrun::Error> {
    // At a slow rate the attempts of the tasks in flight wait for one another.
    let waiting = Duration::from_secs(1) * (IN_FLIGHT as u32 * ATTEMPTS) / rate;
    let timeout = TIMEOUT + waiting;
    let lines = lines.timeout(timeout);

    // No URL is read before the outcomes have a listener, and the listener is told of the end.
    let (listening, listened) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let urls = move |tasks: Intake<String>| async move {
        listened.await.ok();
        let read = lines.produce(tasks).await;
        drop(end);
        read
    };

    let seen = notes.clone();
    let number = stage_fn(
        "number",
        async move |url: String, task: &TaskContext<'_, ()>| {
            seen.begin(task.task_id(), &url);
            let task = task.task_id().0;
            Ok(Job { task, url })
        },
    );
    let fetch = HttpRequest::new(|job: &Job| Request::get(job.url.as_str()))
        .largest(LARGEST)
        // It ends after the task's deadline, which began earlier: one request without an answer is
        // enough for a timeout.
        .limit(timeout)
        .then(|job: Job, response: Response| {
            Ok(Fetched {
                job,
                status: response.status(),
                body: response.into_body(),
            })
        });
    let measure = stage_fn(
        "measure",
        async |fetched: Fetched, _: &TaskContext<'_, ()>| Ok(fetched.measure()),
    );
    let store = Sql::sqlite(db, move |page: &Page| store::insert(run, page))
        .cancel_with(move |page: &Page| store::delete(run, page));
    let seen = notes.clone();
    let review = stage_fn(
        "review",
        async move |page: Page, task: &TaskContext<'_, ()>| {
            seen.measured(task.task_id(), page.bytes);
            match page.title {
                Some(_) => Ok(()),
                None => Err(Failure::permanent("the page has no title")),
            }
        },
    );

    let pipeline = Pipeline::new("fetch")
        .producer(urls)
        .stage(number)
        .stage(
            fetch
                .named("fetch")
                .workers(IN_FLIGHT)
                .rate_limit(RateLimit::per_second(rate))
                .retry(Retry::exponential(ATTEMPTS - 1).min_delay(Duration::from_millis(50))),
        )
        .stage(measure)
        .stage(store.named("store").workers(2).retry(Retry::exponential(3)))
        .stage(review)
        .max_in_flight(IN_FLIGHT)
        .start()
        .await?;
    let outcomes = pipeline.outcomes();
    listening.send(()).ok();
    let finish = async {
        // An error: the other end is dropped, so all lines are read.
        ended.await.ok();
        pipeline.shutdown(Shutdown::Drain(timeout * 2)).await
    };
    let (missed, report) = futures::join!(listen(outcomes, notes), finish);
    Ok((report?, missed))
}

/// Records every outcome. Returns the number of missed ones.
async fn listen(
    mut outcomes: impl Stream<Item = Result<Outcome, batrun::report::Lagged>> + Unpin,
    notes: &Notes,
) -> u64 {
    let mut missed = 0;
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(outcome) => notes.end(&outcome),
            Err(batrun::report::Lagged(count)) => missed += count,
        }
    }
    missed
}

async fn run(options: Options) -> Result<bool, Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let db = options.db.unwrap_or(scratch.path().join("pages.db"));
    let run = store::begin(&db)?;
    let site = match options.urls {
        Some(_) => None,
        None => Some(Site::start()?),
    };
    let lines = lines(options.urls.as_deref(), site.as_ref());
    let notes = Notes::default();

    let fetched = fetch(lines, options.rate, &db, run, &notes).await;
    if let Some(site) = &site {
        site.stop().await;
    }
    let (report, missed) = fetched?;
    println!("\n{report}");

    let mut wrong = check::check(&report, &notes, &db, run, site.as_ref())?;
    if missed > 0 {
        wrong.push(format!("{missed} outcomes were missed"));
    }
    for line in &wrong {
        println!("WRONG: {line}");
    }
    Ok(wrong.is_empty())
}

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::init();
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
