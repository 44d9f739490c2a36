//! Compares the world with the answers that the clients got. It knows nothing of batrun: it reads the
//! bank's ledger, the table of accounts and the folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use rusqlite::{Connection, OpenFlags};

use crate::{
    AnyError,
    bank::{self, Entry},
    client::{Answer, End, Plan},
};

/// The bank's ledger, added up.
#[derive(Default)]
pub(crate) struct Books {
    /// The charges that stand, by their sign-up.
    pub(crate) standing: BTreeMap<String, usize>,
    pub(crate) charges: usize,
    pub(crate) refunds: usize,
    wrong: Vec<String>,
}

impl Books {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut books = Books::default();
        let mut charged = BTreeMap::new();
        let mut void = BTreeSet::new();
        for entry in bank::read(&folder.join("bank/ledger"))? {
            match entry {
                Entry::Charge { key, reference, .. } => {
                    books.charges += 1;
                    if void.contains(&key) || charged.contains_key(&key) {
                        books.wrong.push(format!("{key} was charged again"));
                    }
                    charged.insert(key, reference);
                }
                Entry::Refund { key } => {
                    books.refunds += usize::from(charged.contains_key(&key));
                    if !void.insert(key.clone()) {
                        books.wrong.push(format!("{key} was refunded again"));
                    }
                }
            }
        }
        charged.retain(|key, _| !void.contains(key));
        for reference in charged.into_values() {
            *books.standing.entry(reference).or_default() += 1;
        }
        Ok(books)
    }
}

/// The world, as it is.
pub(crate) struct World {
    pub(crate) books: Books,
    /// State and name of each account, by its sign-up.
    rows: BTreeMap<String, (String, String)>,
    mailboxes: BTreeSet<String>,
    /// The letters, by file name.
    letters: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn look(folder: &Path) -> Result<Self, AnyError> {
        let path = folder.join("accounts.db");
        let accounts = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut rows = accounts.prepare("SELECT signup, state, name FROM accounts")?;
        let rows = rows.query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        let outbox = folder.join("outbox");
        let mut letters = BTreeMap::new();
        for name in names(&outbox)? {
            let text = fs::read_to_string(outbox.join(&name))?;
            letters.insert(name, text);
        }
        Ok(World {
            books: Books::read(folder)?,
            rows: rows.collect::<Result<_, _>>()?,
            mailboxes: names(&folder.join("mail"))?,
            letters,
        })
    }

    /// Everything that isn't as it should be, a line each.
    pub(crate) fn check(mut self, answers: &[Answer]) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.books.wrong);
        for Answer { plan, end, .. } in answers {
            let Plan { key, name, .. } = plan;
            let done = *end == End::Done;
            let found = Found {
                row: self.rows.remove(key),
                // That of a sign-up that isn't done may be another's with the same name.
                mailbox: done && self.mailboxes.remove(name),
                charges: self.books.standing.remove(key).unwrap_or_default(),
                letter: self.letters.remove(key),
            };
            let expected = match done {
                true => Found {
                    row: Some(("active".to_owned(), name.clone())),
                    mailbox: true,
                    charges: 1,
                    letter: Some(format!("Welcome, {name}!\n")),
                },
                false => Found::default(),
            };
            if found != expected {
                wrong.push(format!("{key}, {end}: {found:?} instead of {expected:?}"));
            }
        }
        // All that was right is gone from here by now.
        for name in self.rows.keys() {
            wrong.push(format!("a row of {name} that nobody was told of"));
        }
        for name in &self.mailboxes {
            wrong.push(format!("a mailbox {name} that nobody was told of"));
        }
        for name in self.books.standing.keys() {
            wrong.push(format!("a charge of {name} that nobody was told of"));
        }
        for name in self.letters.keys() {
            wrong.push(format!("a letter {name} that nobody was told of"));
        }
        wrong
    }
}

/// All that there is of a sign-up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// State and name.
    row: Option<(String, String)>,
    mailbox: bool,
    /// Number of charges that stand.
    charges: usize,
    letter: Option<String>,
}

/// The names in a folder, hidden ones too.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Changes the world behind everybody's back.
pub(crate) fn tamper(folder: &Path) -> Result<String, AnyError> {
    let name = names(&folder.join("mail"))?.pop_first();
    let name = name.ok_or("there is no mailbox to remove")?;
    fs::remove_dir(folder.join("mail").join(&name))?;
    Ok(name)
}
