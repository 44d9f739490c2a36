//! The program `batrun`: shows the journals of pipelines, and records what a person has decided about
//! stuck tasks.
//!
//! Its exit code is 0 if it did what it was asked for, 1 if it could not or if it found damage, and
//! 2 if its arguments make no sense.

mod options;

// Journals in a database.
#[cfg(feature = "postgres")]
mod cluster;

// The commands.
mod decide;
mod export;
mod show;
mod show_task;
mod stuck;

// Output and errors.
mod error;
mod json;
mod text;

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    process::ExitCode,
};

use clap::Parser;

use self::{
    error::{CliError, Damage},
    options::{Command, Options, Topic},
    show_task::Wanted,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    match run(options, &mut out) {
        Ok(damage) if damage.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // The reader of the pipe has seen enough, `head` for example.
        Err(CliError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {
            // Dropping the writer would try to write the rest.
            let _ = out.into_parts();
            ExitCode::SUCCESS
        }
        Err(error) => {
            out.flush().ok();
            eprintln!("batrun: {}", text::escaped(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options, out: &mut impl Write) -> Result<Damage, CliError> {
    let damage = match options.topic {
        Topic::Journal(command) => journal(command, out),
        #[cfg(feature = "postgres")]
        Topic::Cluster(command) => cluster::run(&command, out),
    }?;
    out.flush()?;
    Ok(damage)
}

fn journal(command: Command, out: &mut impl Write) -> Result<Damage, CliError> {
    match command {
        Command::Show(show) => match (show.id, &show.key) {
            (Some(id), _) => show_task::show(&show, &Wanted::Number(id), out),
            (None, Some(key)) => show_task::show(&show, &Wanted::Key(key), out),
            (None, None) => show::show(&show, out),
        },
        Command::Stuck(stuck) => stuck::list(&stuck, out),
        Command::Export(export) => export::export(&export, out),
        Command::Resolve(resolve) => decide::resolve(&resolve, out),
        Command::Retry(retry) => decide::retry(&retry, out),
        Command::Cancel(keys) => decide::cancel(&keys, out),
        Command::TakeBack(keys) => decide::take_back(&keys, out),
        Command::Forget(keys) => decide::forget(&keys, out),
    }
}
