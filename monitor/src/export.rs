//! The finished tasks of a journal as a file of JSON lines, to take along.

use std::sync::TryLockError;

use batrun::report::{JournalReader, PastCursor, PastOutcome};
use serde_json::{Value, json};

use crate::{
    answer::{Refused, Reply},
    call::Call,
    journal::{cursor, find, past},
    journal_watch::unreadable,
};

/// The most tasks of a file.
const ROWS: usize = 10_000;
/// The same in bytes, for tasks with long texts.
const BYTES: usize = 16 << 20;
/// The tasks that are read at once. Others read in between.
const PAGE: usize = 1_000;

/// A line for each task as the view shows it, the newest first, and a last one that says if there are more.
pub(crate) fn export(call: &Call) -> Result<Reply, Refused> {
    let pipeline = call.pipeline()?;
    let (q, before) = (call.q()?, cursor(call)?);
    let rows = call.number("rows")?.map_or(ROWS, |rows| rows as usize);
    let mut file = Lines {
        text: Vec::new(),
        tasks: 0,
        most: rows.clamp(1, ROWS),
    };
    let next = match pipeline.control.journal() {
        None => None,
        Some(journal) if !q.is_empty() => {
            let found = find(call, journal, q)?;
            found.into_iter().for_each(|one| file.add(call, one));
            None
        }
        Some(journal) => {
            // One at a time, so that many who export take no more memory than one.
            let _turn = match call.inner.exporting.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    let error = "somebody else exports just now; ask again in a moment";
                    return Err(Refused::too_many(error));
                }
            };
            file.pages(call, journal, before)?
        }
    };
    let last = json!({
        "tasks": file.tasks,
        "next": next.map(|next| next.to_string()),
        "text": match next {
            None => "these are all".to_owned(),
            Some(next) => format!("there are more: ask again with before={next}"),
        },
    });
    file.line(&last);
    Ok(Reply {
        file: Some(format!("{}.jsonl", plain(pipeline.control.name()))),
        ..Reply::of("application/x-ndjson", file.text)
    })
}

struct Lines {
    text: Vec<u8>,
    tasks: usize,
    /// The most tasks.
    most: usize,
}

impl Lines {
    fn line(&mut self, value: &Value) {
        self.text.extend(value.to_string().bytes());
        self.text.push(b'\n');
    }

    fn add(&mut self, call: &Call, outcome: PastOutcome) {
        self.line(&past(call, outcome));
        self.tasks += 1;
    }

    /// Adds pages until there are no more, or until it is full. Returns the place from which another file goes on.
    fn pages(
        &mut self,
        call: &Call,
        journal: &JournalReader,
        mut before: Option<PastCursor>,
    ) -> Result<Option<PastCursor>, Refused> {
        loop {
            let turn = call.inner.readers.enter()?;
            let page = journal.outcomes(before, PAGE.min(self.most - self.tasks));
            drop(turn);
            let page = page.map_err(|error| unreadable(&error))?;
            for corrupt in &page.corrupt {
                self.line(&json!({ "corrupt": call.texts().show(corrupt) }));
            }
            for outcome in page.outcomes {
                self.add(call, outcome);
            }
            before = page.next;
            if before.is_none() || self.tasks >= self.most || self.text.len() >= BYTES {
                return Ok(before);
            }
        }
    }
}

/// The name in a file's name: nothing in it means anything to a header, a shell or a file system.
fn plain(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let letters = name.chars().take(60);
    let name = letters.map(|letter| if is_plain(letter) { letter } else { '-' });
    format!("finished-tasks-of-{}", name.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_plain() {
        for (name, plain_name) in [
            ("orders_2", "finished-tasks-of-orders_2"),
            ("../a \"b\r\n; ü", "finished-tasks-of----a--b-----"),
            (
                &"x".repeat(99),
                &format!("finished-tasks-of-{}", "x".repeat(60)),
            ),
        ] {
            assert_eq!(plain(name), plain_name);
        }
    }
}
