//! `batrun cluster`: pipelines that several processes run on one database.

pub(crate) mod options;

mod decide;
mod export;
mod json;
mod nodes;
mod setup;
mod show;
mod show_task;
mod stuck;

use std::io::Write;

use batrun::journal::JournalDatabase;

use self::options::{Command, Place};
use crate::{
    error::{CliError, Damage},
    text,
};

pub(crate) fn run(command: &Command, out: &mut impl Write) -> Result<Damage, CliError> {
    match command {
        Command::Show(show) => match (show.id, &show.key) {
            (None, None) => show::show(show, out),
            _ => show_task::show(show, out),
        },
        Command::Nodes(list) => nodes::list(list, out),
        Command::Stuck(list) => stuck::list(list, out),
        Command::Export(export) => export::export(export, out),
        Command::Resolve(resolve) => decide::resolve(resolve, out),
        Command::Retry(retry) => decide::retry(retry, out),
        Command::Cancel(cancel) => decide::cancel(cancel, out),
        Command::Init(init) => setup::init(init, out),
        Command::Migrate(migrate) => setup::migrate(migrate, out),
    }
}

/// Looks into the journal at this place.
fn look(place: &Place, damage: &mut Damage) -> Result<JournalDatabase, CliError> {
    let journal = JournalDatabase::look(&place.address(), &place.schema())?;
    for corrupt in journal.corrupt() {
        damage.add(&corrupt);
    }
    Ok(journal)
}

/// The option that says which journal this is, for a command line.
fn option(journal: &JournalDatabase) -> String {
    format!("--schema {}", text::escaped(&quoted(journal.schema())))
}

/// A word of a command line for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
