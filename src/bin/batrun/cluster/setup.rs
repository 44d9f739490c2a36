//! `batrun cluster init` and `migrate`

use std::io::Write;

use batrun::journal::{JournalDatabase, JournalRights};

use super::{
    look,
    options::{Init, Migrate},
};
use crate::{
    error::{CliError, Damage},
    text,
};

/// Makes the tables, and grants rights.
pub(crate) fn init(options: &Init, out: &mut impl Write) -> Result<Damage, CliError> {
    let (address, schema) = (options.place.address(), options.place.schema());
    let mut rights = JournalRights::none();
    if let Some(role) = &options.for_user {
        rights = rights.run(role);
    }
    if let Some(role) = &options.for_reader {
        rights = rights.look(role);
    }
    let made = JournalDatabase::init(&address, &schema, rights)?;
    let mut damage = Damage::default();
    let journal = look(&options.place, &mut damage)?;
    let schema = text::escaped(&format!("{:?}", journal.schema()));
    match made {
        true => writeln!(out, "the schema {schema} has a journal now")?,
        false => writeln!(out, "the schema {schema} had a journal already")?,
    }
    for (role, may) in [
        (&options.for_user, "run the pipeline"),
        (&options.for_reader, "look into it"),
    ] {
        if let Some(role) = role {
            writeln!(out, "the role {} may {may}", text::escaped(role))?;
        }
    }
    Ok(damage)
}

/// Brings the tables to this version's format.
pub(crate) fn migrate(options: &Migrate, out: &mut impl Write) -> Result<Damage, CliError> {
    let (address, schema) = (options.place.address(), options.place.schema());
    let before = JournalDatabase::migrate(&address, &schema)?;
    let mut damage = Damage::default();
    let format = look(&options.place, &mut damage)?.format();
    match before == format {
        true => writeln!(
            out,
            "the journal has format {format} already, this version's own"
        )?,
        false => writeln!(
            out,
            "the journal had format {before}, and has format {format} now"
        )?,
    }
    Ok(damage)
}
