//! `batrun`: looks into the journals of pipelines, and tells them what a person has decided.
//!
//! Exits with 0 if it did what it was asked for, with 1 if it could not or found something corrupt, with 2
//! if it was asked for something else.

mod change;
mod export;
mod json;
mod show;
mod stuck;
mod text;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use batrun::JournalError;
use clap::{Args, Parser, Subcommand};

/// Looks after pipelines of the crate batrun.
#[derive(Parser)]
#[command(name = "batrun", version, arg_required_else_help = true)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What is in a pipeline's journal, and what becomes of its stuck tasks
    #[command(subcommand, arg_required_else_help = true)]
    Journal(Command),
}

#[derive(Subcommand)]
enum Command {
    /// Show what is in a journal, or everything about one task; also while a pipeline runs on it
    Show(Show),
    /// Show the tasks that wait for a person; also while a pipeline runs
    Stuck(Stuck),
    /// Write every task and every outcome that is kept as a line of JSON; also while a pipeline runs
    Export(Export),
    /// A person has dealt with these stuck tasks: they leave the journal, their outcomes stay
    Resolve(Resolve),
    /// Try these stuck tasks again at the pipeline's next start: the undos that are left are
    /// cancelled once more, and what was set aside goes on
    Retry(Retry),
}

#[derive(Args)]
struct Show {
    /// The journal
    file: PathBuf,
    /// The number of the one task to show
    id: Option<u64>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// How many tasks to list
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "id")]
    limit: usize,
    /// Read the whole file first, to see whether it is sound
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct Stuck {
    /// The journal
    file: PathBuf,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Export {
    /// The journal
    file: PathBuf,
}

#[derive(Args)]
struct Resolve {
    /// The journal
    file: PathBuf,
    /// The numbers of the tasks
    #[arg(required = true, value_name = "ID")]
    ids: Vec<u64>,
}

#[derive(Args)]
struct Retry {
    /// The journal
    file: PathBuf,
    /// The numbers of the tasks
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<u64>,
    /// All that are stuck
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Other(String),
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Failed::Io(error.into())
    }
}

/// What is wrong with a journal that could be shown all the same. Each is told of on standard error.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, error: &JournalError) {
        let error = text::clean(&error.to_string());
        eprintln!("batrun: {error}");
        self.0.push(error);
    }
}

fn run(options: Options, out: &mut impl Write) -> Result<Faults, Failed> {
    let What::Journal(command) = options.what;
    let faults = match command {
        Command::Show(show) => match show.id {
            Some(id) => show::one(&show, id, out),
            None => show::all(&show, out),
        },
        Command::Stuck(stuck) => stuck::list(&stuck, out),
        Command::Export(export) => export::lines(&export, out),
        Command::Resolve(resolve) => change::resolve(&resolve, out),
        Command::Retry(retry) => change::retry(&retry, out),
    }?;
    out.flush()?;
    Ok(faults)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    match run(options, &mut out) {
        Ok(faults) if faults.0.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Whoever read it has seen enough.
        Err(Failed::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {
            // Nor is there anything to be done about what is left of it.
            let _ = out.into_parts();
            ExitCode::SUCCESS
        }
        Err(error) => {
            out.flush().ok();
            eprintln!("batrun: {}", text::clean(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
