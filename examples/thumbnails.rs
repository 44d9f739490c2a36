//! Makes thumbnails of a folder of pictures on all cores, and stops cleanly when asked to.
//!
//! `cargo run --release -p batrun-examples-full --example thumbnails` makes 60 pictures itself, some of
//! them broken. Ctrl-C or SIGTERM drains: the pictures under way are finished, and no new ones are
//! taken. A second Ctrl-C cancels the tasks under way, and their thumbnails are removed. In each case
//! the output folder is checked, and the exit code is 0 only if it is as it should be.
//! With `-- --report out.html` it leaves the final report behind, as a page.
//!
//! Without `--release` it runs, but pictures take many times as long.
//!
//! Limits: PNG and JPEG only; a picture's EXIF orientation is ignored.

use std::{
    collections::HashSet,
    error::Error,
    ffi::OsString,
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use batrun::prelude::*;
use batrun_actors::WriteFile;
use batrun_monitor::ReportPage;
use clap::Parser;
use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Rgb, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A thumbnail is at most this wide and this high, in pixels.
const SIDE: u32 = 128;
/// Maximum time that a drain waits for the pictures under way before it cancels their tasks.
const GRACE: Duration = Duration::from_secs(60);
/// Time between two drawings of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Makes a PNG thumbnail, 128×128 pixels at most, of each picture. Ctrl-C finishes the pictures
/// under way and stops; a second Ctrl-C cancels those, too.
#[derive(Parser)]
#[command(name = "thumbnails")]
struct Args {
    /// Number of pictures to make in a scratch folder, three of ten of them broken
    #[arg(long, default_value_t = 60, conflicts_with = "folder")]
    pictures: usize,
    /// Take the files of this folder instead: PNG and JPEG, without its subfolders
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The folder for the thumbnails: a new or an empty one [default: a scratch folder that is
    /// removed at the end]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the final report to this file, as a page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone)]
struct Picture {
    path: PathBuf,
    expected: Expected,
}

/// The result that a picture should have; for the check only.
#[derive(Clone, Copy)]
enum Expected {
    Thumbnail(u32, u32),
    Failure,
    Anything,
}

struct Decoded {
    path: PathBuf,
    image: DynamicImage,
}

struct Thumbnail {
    name: OsString,
    /// Shared, because `WriteFile` needs content of its own.
    png: Arc<[u8]>,
}

/// The three stages. Each queue is short: decoded pictures wait in the second, and those are large.
async fn start(out: PathBuf) -> Result<PipelineHandle<PathBuf, Thumbnail>, batrun::Error> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let decode = stage_fn("decode", async |path: PathBuf, _: &TaskContext<()>| {
        decode(path)
    });
    let scale = stage_fn("scale", async |picture: Decoded, _: &TaskContext<()>| {
        scale(&picture)
    });
    // It writes to a temporary file first, so a thumbnail is complete or doesn't exist. If the task
    // is cancelled, the undo removes it.
    let write = WriteFile::new(
        move |thumbnail: &Thumbnail| out.join(&thumbnail.name),
        |thumbnail: &Thumbnail| thumbnail.png.clone(),
    );
    Pipeline::new("thumbnails")
        // Both compute and never await, so they need threads of their own to hold up nothing else.
        .stage(decode.workers(cores).capacity(cores).blocking())
        .stage(scale.workers(cores).capacity(cores).blocking())
        .stage(write.named("write").workers(2).capacity(cores))
        .start()
        .await
}

fn decode(path: PathBuf) -> Result<Decoded, Failure> {
    // Permanent, because a broken file stays broken.
    let image = open(&path)
        .map_err(ImageError::IoError)
        .and_then(ImageReader::decode)
        .map_err(|error| Failure::permanent(format!("{}: {error}", shown(&path))))?;
    Ok(Decoded { path, image })
}

fn scale(Decoded { path, image }: &Decoded) -> Result<Thumbnail, Failure> {
    let (width, height) = fit(image.width(), image.height());
    let small = image.thumbnail_exact(width, height);
    // PNG has no floating point pixels, and a thumbnail needs no 16 bits.
    let small = match small.color().has_alpha() {
        true => DynamicImage::from(small.into_rgba8()),
        false => DynamicImage::from(small.into_rgb8()),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".png");
    Ok(Thumbnail {
        name,
        png: encode(&small)?.into(),
    })
}

fn encode(image: &DynamicImage) -> Result<Vec<u8>, ImageError> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// Opens a picture. Its format is guessed from the content, not from the name.
fn open(path: &Path) -> io::Result<ImageReader<io::BufReader<fs::File>>> {
    ImageReader::open(path)?.with_guessed_format()
}

/// The size of a thumbnail: small pictures are not made larger.
fn fit(width: u32, height: u32) -> (u32, u32) {
    let longer = u64::from(width.max(height));
    if longer <= u64::from(SIDE) {
        return (width, height);
    }
    let scaled = |side: u32| (u64::from(side) * u64::from(SIDE) / longer).max(1) as u32;
    (scaled(width), scaled(height))
}

fn shown(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Ctrl-C, and the signal of service managers.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn run(args: Args) -> Result<bool, Box<dyn Error>> {
    // From here on a signal no longer kills the process: it waits until the loop below reads it.
    let mut signals = Signals::listen()?;
    let scratch = tempfile::tempdir()?;
    let pictures = match &args.folder {
        Some(folder) => list(folder).map_err(|error| format!("{}: {error}", folder.display()))?,
        None => make(&scratch.path().join("pictures"), args.pictures)?,
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| scratch.path().join("out"));
    fs::create_dir_all(&out)?;
    if fs::read_dir(&out)?.next().is_some() {
        return Err(format!(
            "{} is not empty: choose another folder with --out",
            out.display()
        )
        .into());
    }

    let handle = start(out.clone()).await?;
    let bar = bar(pictures.len())?;
    let ticks = actix_rt::spawn(draw(bar.clone(), handle.clone()));

    // A ticket of an intake doesn't keep the task's output, as one of the handle's would.
    let intake = handle.intake();
    let mut taken = Vec::new();
    let mut signalled = 0;
    let submit = async {
        for picture in &pictures {
            // It waits for room, so at most a few pictures are under way.
            let ticket = intake.submit(picture.path.clone()).await?;
            taken.push((picture.clone(), ticket));
        }
        Ok::<(), SubmitError<PathBuf>>(())
    };
    tokio::select! {
        submitted = submit => submitted?,
        () = signals.next() => signalled += 1,
    }

    // Without a signal it ends in the same way: take no new task, finish the accepted ones.
    let report = loop {
        if signalled > 0 {
            let under_way = handle.snapshot().in_flight;
            bar.suspend(|| match signalled {
                1 => eprintln!("stopping once the {under_way} pictures under way are finished"),
                _ => eprintln!("stopping at once: the {under_way} tasks under way are cancelled"),
            });
        }
        let how = match signalled {
            0 | 1 => Shutdown::Drain(GRACE),
            _ => Shutdown::Abort,
        };
        // A second call of `shutdown` can only make it faster.
        tokio::select! {
            report = handle.shutdown(how) => break report?,
            () = signals.next() => signalled += 1,
        }
    };
    ticks.abort();
    bar.finish_and_clear();
    println!("{report}");
    if let Some(file) = &args.report {
        fs::write(file, report.to_html())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }

    let mut wrong = Vec::new();
    let mut done = Vec::new();
    for (picture, ticket) in &taken {
        let outcome = ticket.outcome().await?;
        match (&outcome.end, picture.expected) {
            (End::Done, Expected::Failure) => {
                wrong.push(format!("{} should have failed", shown(&picture.path)));
            }
            (End::Failed { .. }, Expected::Thumbnail(..)) => {
                wrong.push(format!("{}: {outcome}", shown(&picture.path)));
            }
            _ => {}
        }
        if outcome.is_done() {
            done.push(picture);
        }
    }
    check(&out, &done, &mut wrong)?;
    println!(
        "{} pictures, {} taken up: {} thumbnails, {} failed, {} cancelled",
        pictures.len(),
        taken.len(),
        report.counts.done,
        report.counts.failed,
        report.counts.cancelled
    );
    if wrong.is_empty() {
        println!(
            "the output folder has these thumbnails, each of the right size, and nothing else"
        );
    }
    for problem in &wrong {
        println!("wrong: {problem}");
    }
    Ok(wrong.is_empty())
}

/// A progress bar, hidden if stderr isn't a terminal.
fn bar(pictures: usize) -> Result<ProgressBar, Box<dyn Error>> {
    let style = "{bar:30} {pos} of {len}, {msg}, {eta} left";
    Ok(ProgressBar::new(pictures as u64).with_style(ProgressStyle::with_template(style)?))
}

/// Draws the pipeline's own figures, until it is dropped.
async fn draw(bar: ProgressBar, handle: PipelineHandle<PathBuf, Thumbnail>) {
    if bar.is_hidden() {
        return;
    }
    loop {
        let now = handle.snapshot();
        bar.set_message(format!(
            "{} failed, {} under way",
            now.counts.failed, now.in_flight
        ));
        bar.set_position(now.counts.accepted - now.in_flight);
        actix_rt::time::sleep(TICK).await;
    }
}

/// Compares the folder with the files that should be in it. It asks the files, not the report.
fn check(out: &Path, done: &[&Picture], wrong: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir(out)? {
        found.insert(entry?.file_name());
    }
    for Picture { path, expected } in done {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".png");
        if !found.remove(&name) {
            wrong.push(format!("{} has no thumbnail", shown(path)));
            continue;
        }
        let size = match *expected {
            Expected::Thumbnail(width, height) => (width, height),
            _ => {
                let (width, height) = open(path)?.into_dimensions()?;
                fit(width, height)
            }
        };
        match open(&out.join(name))?.decode() {
            Ok(image) if (image.width(), image.height()) == size => {}
            Ok(image) => wrong.push(format!(
                "{}: {}×{} pixels, not {size:?}",
                shown(path),
                image.width(),
                image.height()
            )),
            Err(error) => wrong.push(format!("the thumbnail of {}: {error}", shown(path))),
        }
    }
    // Anything else: the thumbnail of a failed picture, a temporary file.
    for name in found {
        wrong.push(format!("{} should not be there", name.display()));
    }
    Ok(())
}

/// The files of a folder.
fn list(folder: &Path) -> io::Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let expected = Expected::Anything;
            pictures.push(Picture { path, expected });
        }
    }
    pictures.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pictures)
}

/// Makes pictures of 640×480 and 480×640 pixels, and three sorts of broken ones.
fn make(folder: &Path, count: usize) -> Result<Vec<Picture>, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let wide = encode(&gradient(640, 480))?;
    let tall = encode(&gradient(480, 640))?;
    let mut pictures = Vec::new();
    for n in 0..count {
        let (name, content, expected): (_, &[u8], _) = match n % 10 {
            3 => ("truncated", &wide[..wide.len() / 2], Expected::Failure),
            6 => ("empty", &[], Expected::Failure),
            9 => ("text", b"This is not a picture.\n", Expected::Failure),
            n if n % 2 == 0 => ("wide", &wide, Expected::Thumbnail(128, 96)),
            _ => ("tall", &tall, Expected::Thumbnail(96, 128)),
        };
        let path = folder.join(format!("{n:04}-{name}.png"));
        fs::write(&path, content)?;
        pictures.push(Picture { path, expected });
    }
    Ok(pictures)
}

/// Gradients with some noise, so that the picture doesn't compress to nothing.
fn gradient(width: u32, height: u32) -> DynamicImage {
    let mut noise = 0x9e37_79b9_u32;
    RgbImage::from_fn(width, height, |x, y| {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let colour = |at: u32, of: u32, bits: u32| (at * 240 / of + (bits & 15)) as u8;
        Rgb([
            colour(x, width, noise),
            colour(y, height, noise >> 8),
            colour(x + y, width + height, noise >> 16),
        ])
    })
    .into()
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
