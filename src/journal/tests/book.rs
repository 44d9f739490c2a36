//! What is in the store is what the writer knows: whatever happens to tasks, and however changes
//! fall into batches.

use proptest::prelude::*;

use super::*;
use crate::{
    journal::{book::Book, note::Note},
    task::StageIx,
};

const LAST: StageIx = 2;

/// Something that may happen to one of a few tasks next; what doesn't fit isn't done.
#[derive(Clone, Copy, Debug)]
enum What {
    Start,
    Undo,
    Withdraw(u8),
    Finish,
    FailAttempt,
    Stop,
    CancelStart(u8),
    CancelEnd(u8, bool),
    End(bool),
    Commit,
}

fn what() -> impl Strategy<Value = What> {
    use What as W;
    prop_oneof![
        3 => Just(W::Start),
        3 => Just(W::Undo),
        1 => (0..3u8).prop_map(W::Withdraw),
        3 => Just(W::Finish),
        1 => Just(W::FailAttempt),
        1 => Just(W::Stop),
        1 => (0..3u8).prop_map(W::CancelStart),
        2 => (0..3u8, any::<bool>()).prop_map(|(undo, ok)| W::CancelEnd(undo, ok)),
        2 => any::<bool>().prop_map(W::End),
        2 => Just(W::Commit),
    ]
}

/// A task as the engine would have it.
struct Tracked {
    live: Live,
    attempt: u32,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("BATRUN_CASES").map_or(200, |cases| cases.parse().unwrap()),
        ..ProptestConfig::default()
    })]
    #[test]
    fn j1_what_is_kept_is_what_happened(steps in prop::collection::vec((1..4u64, what()), 0..80)) {
        let disk = crate::journal::Disk::new();
        let mut store = disk.journal(crate::Durability::Power).unwrap().store;
        let mut book = Book::new(LAST, 0, 0, 0);
        let mut tracked = std::collections::BTreeMap::<u64, Tracked>::new();
        let mut ended = std::collections::BTreeSet::new();
        let mut now = 1_000;
        for (id, what) in steps {
            now += 1;
            if let What::Commit = what {
                commit(&mut book, &mut *store, now);
                check(&mut *store, &tracked);
                continue;
            }
            if ended.contains(&id) && !tracked.contains_key(&id) {
                continue;
            }
            let task = tracked.entry(id).or_insert_with(|| {
                let key: Option<Box<str>> = Some(format!("key {id}").into());
                let note = Note::Accepted {
                    key: key.clone(),
                    context: vec![id as u8],
                    left: Some(10),
                    work_timeout: None,
                };
                book.take(id, note, now).unwrap();
                let live = Live::accepted(key, Some(10), None, now);
                Tracked { live, attempt: 0 }
            });
            let Some(notes) = fitting(what, id, task) else { continue };
            let [first, second] = notes;
            let before = task.live.clone();
            if task.live.take(first, LAST, now).is_err() {
                task.live = before;
                continue;
            }
            let outcome = book.take(id, second, now).unwrap();
            if matches!(what, What::End(_)) {
                prop_assert_eq!(outcome.unwrap().key.into_string(), format!("key {id}"));
                if !task.live.is_stuck() {
                    tracked.remove(&id);
                }
                ended.insert(id);
            }
        }
        commit(&mut book, &mut *store, now);
        check(&mut *store, &tracked);
    }
}

/// The change twice, for the one who tracks and for the book; `None` where it can't happen.
fn fitting(what: What, id: u64, task: &mut Tracked) -> Option<[Note; 2]> {
    let both = |note: &dyn Fn() -> Note| Some([note(), note()]);
    let undos = task.live.undos.len();
    if task.live.is_stuck() {
        return None;
    }
    match (what, task.live.state) {
        (What::Start, State::Queued(stage) | State::Cleaning(stage)) => {
            task.attempt += 1;
            let attempt = task.attempt;
            both(&|| Note::Started {
                stage,
                attempt,
                left: None,
            })
        }
        (What::Undo, State::Running(stage)) => {
            let attempt = task.attempt;
            both(&|| Note::UndoRegistered {
                stage,
                attempt,
                undo: undos,
                value: vec![undos as u8; 3],
            })
        }
        (What::Withdraw(undo), State::Running(_)) if usize::from(undo) < undos => {
            both(&|| Note::UndoWithdrawn { undo: undo.into() })
        }
        (What::Finish, State::Running(stage)) if stage < LAST => {
            task.attempt = 0;
            both(&|| Note::Finished {
                stage,
                output: vec![id as u8, stage as u8],
            })
        }
        (What::FailAttempt, State::Running(stage)) => both(&|| Note::AttemptFailed { stage }),
        (What::Stop, State::Queued(_) | State::Running(_) | State::Cleaning(_)) => {
            both(&|| Note::Stopped {
                end: Box::new(outcome(id).end),
            })
        }
        (What::CancelStart(undo), State::RollingBack | State::Cleaning(_))
            if usize::from(undo) < undos =>
        {
            both(&|| Note::CancelStarted {
                undo: undo.into(),
                attempt: 1,
            })
        }
        (What::CancelEnd(undo, ok), State::RollingBack | State::Cleaning(_))
            if usize::from(undo) < undos =>
        {
            both(&|| Note::CancelEnded {
                undo: undo.into(),
                failure: (!ok).then(|| Box::new(Failure::new("no"))),
            })
        }
        (What::End(false), State::RollingBack) => both(&|| Note::Ended(Box::new(outcome(id)))),
        (What::End(true), State::RollingBack) => both(&|| {
            let stuck = crate::Stuck {
                task: TaskId(id),
                still_running: None,
                undos: Vec::new(),
            };
            Note::Ended(Box::new(Outcome {
                rollback: Rollback::Stuck(stuck),
                ..outcome(id)
            }))
        }),
        (What::End(_), State::Running(LAST)) => both(&|| Note::Done),
        _ => None,
    }
}

fn commit(book: &mut Book, store: &mut dyn Store, now: u64) {
    let mut ops = Vec::new();
    book.rows(now, &mut ops).unwrap();
    store.commit(&ops).unwrap();
}

/// The store has these tasks and no others, as they are.
fn check(store: &mut dyn Store, tracked: &std::collections::BTreeMap<u64, Tracked>) {
    let mut found = std::collections::BTreeMap::new();
    store
        .tasks(&mut |(row, context, undos)| {
            let id = row.id;
            let mut live = row.live().unwrap();
            context.context_of(id).unwrap();
            for (number, (row, value)) in undos.into_iter().enumerate() {
                assert_eq!(row.undo as usize, number);
                live.undos.push(row.mark().unwrap());
                value.undo_of(id, row.undo).unwrap();
            }
            found.insert(id, live);
        })
        .unwrap();
    let kept: Vec<_> = tracked.iter().map(|(id, task)| (*id, &task.live)).collect();
    let found: Vec<_> = found.iter().map(|(id, live)| (*id, live)).collect();
    assert_eq!(found, kept);
}
