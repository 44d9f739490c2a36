//! The world outside of the pipeline: where everything is, and how it should be in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Clone)]
pub(crate) struct World {
    folder: PathBuf,
    /// Orders whose directory somebody else made.
    intruded: BTreeSet<u64>,
    summary: String,
}

/// An order is about to be submitted.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) number: u64,
}

/// The outcome of an order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) is_done: bool,
    pub(crate) is_stuck: bool,
    /// `None` if it was never accepted.
    pub(crate) text: Option<String>,
}

/// A line that is written down in a file of its own kind.
pub(crate) trait Note: Serialize + DeserializeOwned {
    const FILE: &str;
}

impl Note for Asked {
    const FILE: &str = "asked";
}

impl Note for Ended {
    const FILE: &str = "ended";
}

impl World {
    pub(crate) fn new(folder: &Path) -> Self {
        for inner in ["orders", "prices", "made"] {
            fs::create_dir_all(folder.join(inner)).unwrap();
        }
        World {
            folder: folder.to_owned(),
            intruded: BTreeSet::new(),
            summary: String::new(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    pub(crate) fn errors(&self) -> PathBuf {
        self.folder.join("errors")
    }

    /// The directory of an order, in one of a directory that it may share with others.
    pub(crate) fn order(&self, number: u64) -> PathBuf {
        self.folder.join(format!("orders/{number}"))
    }

    pub(crate) fn receipt(&self, number: u64) -> PathBuf {
        self.order(number).join("receipt")
    }

    pub(crate) fn receipt_of(number: u64) -> String {
        format!("order {number}\n")
    }

    /// A file that is there before the order.
    pub(crate) fn price(&self, number: u64) -> PathBuf {
        self.folder.join(format!("prices/{number}"))
    }

    pub(crate) fn old_price(number: u64) -> String {
        format!("old {number}\n")
    }

    pub(crate) fn new_price(number: u64) -> String {
        format!("new {number}\n")
    }

    /// The directory that a program makes.
    pub(crate) fn made(&self, number: u64) -> PathBuf {
        self.folder.join(format!("made/{number}"))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("bookings.db")
    }

    /// Makes the database, in which nothing keeps an order from being booked twice.
    pub(crate) fn make_database(&self) {
        let database = Connection::open(self.database()).unwrap();
        let make = "PRAGMA journal_mode = WAL; CREATE TABLE bookings (number INTEGER NOT NULL)";
        database.execute_batch(make).unwrap();
    }

    /// The number of bookings of each order.
    fn bookings(&self) -> BTreeMap<u64, usize> {
        let database = Connection::open(self.database()).unwrap();
        let text = "SELECT number, count(*) FROM bookings GROUP BY number";
        let mut statement = database.prepare(text).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as usize))
        };
        let rows = statement.query_map((), row).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Writes a line down: once this has returned, no kill takes it back.
    pub(crate) fn note<N: Note>(&self, note: &N) {
        // A kill can cut a write short. The next line must not be taken for its rest.
        let text = format!("\n{}\n", serde_json::to_string(note).unwrap());
        let path = self.folder.join(N::FILE);
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.notes()
    }

    fn notes<N: Note>(&self) -> Vec<N> {
        let text = fs::read_to_string(self.folder.join(N::FILE)).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Makes the directories of some orders that have none, while no process runs: such an order may
    /// have registered its undo, and may have made its own directory under its hidden name.
    pub(crate) fn intrude(&mut self, wants: &mut dyn FnMut() -> bool) {
        let asked = self.asked();
        for Asked { number } in asked.iter().rev().take(24) {
            if wants() && fs::create_dir(self.order(*number)).is_ok() {
                self.intruded.insert(*number);
            }
        }
    }

    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }

    /// Everything that is not as the outcomes say.
    pub(crate) fn check(&mut self, charges: &BTreeMap<u64, usize>) -> Vec<String> {
        let ended: Vec<Ended> = self.notes();
        let mut complaints = Vec::new();
        if ended.len() != self.asked().len() {
            let (ended, asked) = (ended.len(), self.asked().len());
            complaints.push(format!("{asked} orders and {ended} outcomes"));
        }
        let mut ends = BTreeMap::<&str, usize>::new();
        let mut done = BTreeSet::new();
        for ended in &ended {
            let end = match ended {
                Ended { is_stuck: true, .. } => "stuck",
                Ended { is_done: true, .. } => "done",
                Ended { text: None, .. } => "never accepted",
                _ => "taken back",
            };
            *ends.entry(end).or_default() += 1;
            if ended.is_done {
                done.insert(ended.number);
            }
            let wrong = self.order_is(ended);
            if ended.is_stuck || !wrong.is_empty() {
                let (number, wrong) = (ended.number, wrong.join(", "));
                complaints.push(format!("order {number}, {end}: {wrong}: {:?}", ended.text));
            }
        }
        let charged: BTreeMap<u64, usize> = done.iter().map(|number| (*number, 1)).collect();
        for (what, found) in [("charges", charges), ("bookings", &self.bookings())] {
            for (number, count) in found
                .iter()
                .filter(|found| charged.get(found.0) != Some(found.1))
            {
                complaints.push(format!("{what}: {number} has {count}"));
            }
            for number in done.iter().filter(|number| !found.contains_key(number)) {
                complaints.push(format!("{what}: {number} has none"));
            }
        }
        let theirs = self.intruded.clone();
        let prices: BTreeSet<u64> = numbers(&self.folder.join("prices")).0;
        for (place, expected) in [
            ("orders", done.union(&theirs).copied().collect()),
            // One may be there whose order was not asked for any more.
            ("prices", prices),
            ("made", done),
        ] {
            let (found, strangers) = numbers(&self.folder.join(place));
            for stranger in strangers {
                complaints.push(format!("{place}: {stranger} was left"));
            }
            for number in found.symmetric_difference(&expected) {
                complaints.push(format!("{place}: {number} should be the other way round"));
            }
        }
        self.summary = format!(
            "{} orders, {ends:?}, {} directories of others",
            ended.len(),
            self.intruded.len()
        );
        complaints
    }

    /// Everything that is wrong with an order.
    fn order_is(&self, ended: &Ended) -> Vec<&'static str> {
        let number = ended.number;
        let mut wrong = Vec::new();
        let mut expect = |is: bool, what| {
            if !is {
                wrong.push(what);
            }
        };
        let price = match ended.is_done {
            true => Self::new_price(number),
            false => Self::old_price(number),
        };
        expect(content(&self.price(number)) == Some(price), "the price");
        let receipt = ended.is_done.then(|| Self::receipt_of(number));
        expect(content(&self.receipt(number)) == receipt, "the receipt");
        if ended.is_done {
            let files = |path: &Path| fs::read_dir(path).map_or(0, |files| files.count());
            expect(files(&self.order(number)) == 1, "more than the receipt");
            let is_whole = self.made(number).join("whole").is_file();
            expect(is_whole && files(&self.made(number)) == 1, "the program");
            expect(!self.intruded.contains(&number), "it took another's place");
            // Those that can't be done.
            expect(number % 4 != 1 && number % 9 != 5, "it should have failed");
        }
        if self.intruded.contains(&number) {
            expect(self.order(number).is_dir(), "another's directory is gone");
        }
        wrong
    }
}

fn content(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The names in a folder that are numbers, and the others.
fn numbers(folder: &Path) -> (BTreeSet<u64>, Vec<String>) {
    let (mut numbers, mut others) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        match name.parse() {
            Ok(number) => {
                numbers.insert(number);
            }
            Err(_) => others.push(name),
        }
    }
    (numbers, others)
}
