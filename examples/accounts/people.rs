//! The people who get an account.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use batrun::prelude::*;
use batrun_actors::Csv;
use serde::Deserialize;

/// The rows that are read by default. Lines 6, 12 and 17 are bad.
const SAMPLE: &str = "\
name,full_name,welcome
ada,Ada Berg,ok
bela,\"Bela, the elder\",ok
cyra,Cyra Dahl,bounces
dario,Dario Eng,ok
not/me,Nobody,ok
emre,Emre Fell,hangs
fatou,Fatou Gay,ok
goran,Goran: colons are not allowed here,ok
hana,Hana Ito,bounces
iris,Iris Jung,ok
jon,Jon Kay
kim,Kim has a group already,ok
lea,Lea is a user already,ok
mona,Mona Nagy,hangs
nils,Nils Ohm,ok
olga,Olga Pohl,perhaps
pia,Pia Quist,bounces
ada,Ada once more,ok
rosa,Rosa Stern,ok
";
/// Names in [`SAMPLE`] that exist before the run: the group `kim-grp` and the user `lea`.
pub(crate) const STRANGERS: (&str, &str) = ("kim-grp", "lea");

/// The longest name for which `groupadd` accepts `<name>-grp`.
const LONGEST: usize = 28;

/// A row of the file.
#[derive(Deserialize)]
struct Row {
    name: String,
    full_name: String,
    welcome: Welcome,
}

/// The result of the mail at the end.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Welcome {
    Ok,
    Bounces,
    Hangs,
}

/// An account to be made. The name is also the name of the directory in `home`.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) full_name: String,
    pub(crate) welcome: Welcome,
}

impl Account {
    /// Another name than the user's: `userdel` may delete a group of the user's name along with it.
    pub(crate) fn group(&self) -> String {
        format!("{}-grp", self.name)
    }

    fn check(row: Row) -> Result<Self, String> {
        let Row {
            name,
            full_name,
            welcome,
        } = row;
        // It becomes part of a path and an argument of programs that run as root.
        let fine = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.len() <= LONGEST
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !fine {
            return Err(format!("{name:?} is not a valid account name"));
        }
        Ok(Account {
            name,
            full_name,
            welcome,
        })
    }
}

/// Makes a task of each row.
pub(crate) fn producer(csv: PathBuf, timeout: Duration) -> impl Producer<Account> {
    Csv::open(csv, Account::check).timeout(timeout)
}

pub(crate) fn write_sample(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("people.csv");
    fs::write(&path, SAMPLE)?;
    Ok(path)
}
