//! Files that are cut off or damaged open with an error, or as of a whole commit. None is misread.
//!
//! `BATRUN_FLIPS=100000` flips more bytes than usual.

use std::{fs, path::Path};

use super::support::{all_of, insert_task, put_keyed_outcome, put_outcomes, put_undo, update_task};
use crate::{
    journal::{
        durability::Durability,
        error::JournalError,
        rows::stage::StageRow,
        sqlite::database::Sqlite,
        store::{RowOp, Store},
    },
    task::State,
};

/// Bytes of a log's header, and of each of its frames.
const LOG_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;
const PAGE: usize = 4096;

/// A journal's files, and what was in it after each commit.
struct Sample {
    file: Vec<u8>,
    log: Vec<u8>,
    /// The first one is of the empty journal.
    after: Vec<Vec<String>>,
}

/// The same numbers each time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Makes a journal in this many commits. The log is copied into the file at `checkpoint`.
fn sample(commits: u64, checkpoint: Option<u64>) -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let mut store = Sqlite::open(&path, Durability::Power).unwrap();
    let mut after = vec![all_of(&mut store).unwrap()];
    for n in 1..=commits {
        let mut ops = vec![
            RowOp::SetMeta("last task", n.to_string()),
            insert_task(
                n,
                Some(&format!("key {n}")),
                State::Queued(0),
                &[n as u8; 300],
            ),
            put_undo(n, 0, &[n as u8; 90]),
            put_outcomes(n, n, &[1_000 + n], &[(&format!("old {n}"), 1_000 + n)]),
            put_keyed_outcome(&format!("old {n}"), 1_000 + n, 5, Some(&[n as u8; 50])),
        ];
        if n == 1 {
            ops.push(RowOp::ReplaceStages(vec![StageRow::new(0, "first", 1)]));
        }
        if n > 3 {
            ops.push(RowOp::DeleteTask {
                task: n - 3,
                has_undos: true,
            });
            let key = format!("key {}", n - 1);
            ops.push(update_task(n - 1, Some(&key), State::Running(0), None));
        }
        store.commit(&ops).unwrap();
        after.push(all_of(&mut store).unwrap());
        if checkpoint == Some(n) {
            store.checkpoint();
        }
    }
    // Not closed: that would copy the log into the file.
    let file = fs::read(&path).unwrap();
    let log = fs::read(folder.path().join("x.journal-wal")).unwrap();
    Sample { file, log, after }
}

/// The contents of these files, or the reason why they are refused.
fn read(folder: &Path, file: &[u8], log: &[u8]) -> Result<Vec<String>, String> {
    let path = folder.join("y.journal");
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(folder.join(format!("y.journal{suffix}"))).ok();
    }
    fs::write(&path, file).unwrap();
    if !log.is_empty() {
        fs::write(folder.join("y.journal-wal"), log).unwrap();
    }
    let mut store = Sqlite::open(&path, Durability::Process).map_err(|error| error.to_string())?;
    all_of(&mut store).map_err(|error| error.to_string())
}

#[test]
fn j4_a_log_cut_anywhere_is_read_up_to_a_whole_commit() {
    for checkpoint in [None, Some(5)] {
        let sample = sample(8, checkpoint);
        let folder = tempfile::tempdir().unwrap();
        let frames = (sample.log.len() - LOG_HEADER) / FRAME;
        let ends = (0..=frames).map(|n| LOG_HEADER + n * FRAME);
        let mut last = 0;
        let (mut whole, mut seen) = (0, Vec::new());
        for end in ends.chain([0, 1, LOG_HEADER - 1]) {
            for end in [end, end + 1, end + 24, end + 2_000] {
                let cut = &sample.log[..end.min(sample.log.len())];
                let all = read(folder.path(), &sample.file, cut).unwrap();
                let at = sample.after.iter().position(|after| *after == all);
                let at = at.unwrap_or_else(|| panic!("cut at {end}: {all:?}"));
                if end >= last {
                    assert!(at >= whole, "cut at {end}: commit {at} after {whole}");
                    (last, whole) = (end, at);
                }
                seen.push(at);
            }
        }
        assert_eq!(whole, 8, "the whole log has every commit");
        seen.sort_unstable();
        seen.dedup();
        // Each commit is found somewhere.
        let first = checkpoint.unwrap_or(0) as usize;
        assert_eq!(seen, (first..=8).collect::<Vec<_>>());
    }
}

#[test]
fn j4_a_file_cut_at_any_page_is_refused_or_whole() {
    for checkpoint in [None, Some(8), Some(5)] {
        let sample = sample(8, checkpoint);
        let folder = tempfile::tempdir().unwrap();
        let mut refused = 0;
        for page in 0..=sample.file.len() / PAGE {
            for end in [page * PAGE, page * PAGE + 1, page * PAGE + 1_234] {
                let cut = &sample.file[..end.min(sample.file.len())];
                // With its log, whose pages may make up for those that are missing; and without.
                for log in [&sample.log[..], &[]] {
                    if cut.is_empty() && log.is_empty() {
                        continue;
                    }
                    match read(folder.path(), cut, log) {
                        Ok(all) => assert!(sample.after.contains(&all), "cut at {end}: {all:?}"),
                        Err(_) => refused += 1,
                    }
                }
            }
        }
        assert!(refused > 0);
    }
}

#[test]
fn j4_a_flipped_byte_is_never_read() {
    let flips = std::env::var("BATRUN_FLIPS").map_or(1_000, |flips| flips.parse().unwrap());
    let samples = [sample(8, Some(8)), sample(8, Some(5))];
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let (mut refused, mut whole) = (0, 0);
    for n in 0..flips {
        let sample = &samples[n % 2];
        let (mut file, mut log) = (sample.file.clone(), sample.log.clone());
        let at = random.below(file.len() + log.len());
        let by = 1 + random.below(255) as u8;
        match at.checked_sub(file.len()) {
            None => file[at] ^= by,
            Some(at) => log[at] ^= by,
        }
        match read(folder.path(), &file, &log) {
            Ok(all) => {
                whole += 1;
                assert!(sample.after.contains(&all), "flip at {at} by {by}: {all:?}");
            }
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {whole} read as they were written");
    assert!(refused > 0 && whole > 0);
}

#[test]
fn j4_what_is_no_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(
        &path,
        "a text of some length, which is no database at all".repeat(100),
    )
    .unwrap();
    let error = Sqlite::open(&path, Durability::Power)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");

    let path = folder.path().join("y");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    let error = Sqlite::open(&path, Durability::Power)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, JournalError::NotAJournal { .. }), "{error}");

    let path = folder.path().join("z");
    drop(Sqlite::open(&path, Durability::Power).unwrap());
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 3).unwrap();
    drop(later);
    let error = Sqlite::open(&path, Durability::Power)
        .map(drop)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has format 3, and this version of batrun reads format 2"),
        "{error}"
    );
}
