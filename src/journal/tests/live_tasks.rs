//! A store holds what the writer knows, whatever happens to tasks and however changes fall into
//! batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::support::outcome;
use crate::{
    failure::Failure,
    journal::{
        durability::Durability,
        entry::Entry,
        live_tasks::LiveTasks,
        memory::disk::Disk,
        rows::keyed_outcome::KeyedOutcome,
        store::{RowOp, Store},
        task_state::TaskState,
        undo_state::UndoState,
    },
    task::{Outcome, Rollback, StageIx, State, Stuck, TaskId},
};

const LAST: StageIx = 2;

/// Something to do with one of a few tasks next. A step that doesn't fit the task is left out.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    RegisterUndo,
    WithdrawUndo(u8),
    Finish,
    FailAttempt,
    StartRollback,
    StartUndo(u8),
    EndUndo {
        undo: u8,
        undone: bool,
    },
    End {
        stuck: bool,
    },
    /// Retries a stuck task.
    Retry,
    /// Takes back a task that is done.
    TakeBack,
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    use Step as S;
    prop_oneof![
        3 => Just(S::Start),
        3 => Just(S::RegisterUndo),
        1 => (0..3u8).prop_map(S::WithdrawUndo),
        3 => Just(S::Finish),
        1 => Just(S::FailAttempt),
        1 => Just(S::StartRollback),
        1 => (0..3u8).prop_map(S::StartUndo),
        2 => (0..3u8, any::<bool>()).prop_map(|(undo, undone)| S::EndUndo { undo, undone }),
        2 => any::<bool>().prop_map(|stuck| S::End { stuck }),
        1 => Just(S::Retry),
        1 => Just(S::TakeBack),
        2 => Just(S::Commit),
    ]
}

/// A task as the engine would have it.
struct Tracked {
    state: TaskState,
    attempt: u32,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("BATRUN_CASES").map_or(200, |cases| cases.parse().unwrap()),
        ..ProptestConfig::default()
    })]
    #[test]
    fn j1_what_is_kept_is_what_happened(steps in prop::collection::vec((1..4u64, step()), 0..80)) {
        let disk = Disk::new();
        let mut store = disk.journal(Durability::Power).unwrap().store;
        let mut tasks = LiveTasks::new(LAST, 0, 0, 0);
        tasks.keep_undos = true;
        let mut tracked = BTreeMap::<u64, Tracked>::new();
        let mut ended = BTreeSet::new();
        let mut done = BTreeMap::<u64, Vec<UndoState>>::new();
        let mut now = 1_000;
        for (id, step) in steps {
            now += 1;
            if let Step::Commit = step {
                commit(&mut tasks, &mut *store, now);
                check(&mut *store, &tracked);
                continue;
            }
            if let (Step::TakeBack, Some(undos)) = (step, done.get(&id).cloned()) {
                commit(&mut tasks, &mut *store, now);
                let kept: Vec<_> = store.kept_undos(id).unwrap();
                let kept: Vec<_> = kept.iter().map(|(row, _)| row.state().unwrap()).collect();
                prop_assert_eq!(&kept, &undos);
                done.remove(&id);
                let key: Box<str> = format!("key {id}").into();
                let label: Option<Arc<str>> = Some(format!("label {id}").into());
                tasks.take_back(id, (key.clone(), label.clone()), None, kept, false);
                let state = TaskState::taken_back(key, label, None, undos);
                tracked.insert(id, Tracked { state, attempt: 1 });
                continue;
            }
            if ended.contains(&id) && !tracked.contains_key(&id) {
                continue;
            }
            let task = tracked.entry(id).or_insert_with(|| {
                let key: Option<Box<str>> = Some(format!("key {id}").into());
                let accepted = Entry::Accepted {
                    key: key.clone(),
                    digest: None,
                    label: Some(format!("label {id}").into()),
                    context: vec![id as u8],
                    deadline_left: Some(10),
                    work_timeout: None,
                };
                tasks.apply(id, accepted, now).unwrap();
                let state = TaskState::accepted(key, Some(format!("label {id}").into()), Some(10), None, now);
                Tracked { state, attempt: 0 }
            });
            let was_stuck = task.state.is_stuck();
            let Some([mut first, second]) = fitting(step, id, task) else { continue };
            if let Entry::Ended(outcome) = &mut first {
                task.state.details.name(outcome);
            }
            let before = task.state.clone();
            if task.state.apply(first, LAST, now).is_err() {
                task.state = before;
                continue;
            }
            let outcome = tasks.apply(id, second, now).unwrap();
            if matches!(step, Step::Retry) {
                prop_assert!(was_stuck && !task.state.is_stuck());
            }
            if matches!(step, Step::End { .. }) {
                if task.state.position != State::RollingBack {
                    done.insert(id, task.state.undos.clone());
                }
                let KeyedOutcome { key, outcome, .. } = outcome.unwrap();
                prop_assert_eq!(key.to_string(), format!("key {id}"));
                prop_assert_eq!(outcome.key.as_deref(), Some(&*key));
                let label = format!("label {id}");
                prop_assert_eq!(outcome.label.as_deref(), Some(label.as_str()));
                if !task.state.is_stuck() {
                    tracked.remove(&id);
                }
                ended.insert(id);
            }
        }
        commit(&mut tasks, &mut *store, now);
        check(&mut *store, &tracked);
    }
}

/// The entry twice, for the tracked task and for the writer's; `None` if it doesn't fit the task.
fn fitting(step: Step, id: u64, task: &mut Tracked) -> Option<[Entry; 2]> {
    let twice = |entry: &dyn Fn() -> Entry| Some([entry(), entry()]);
    let undos = task.state.undos.len();
    if task.state.is_stuck() {
        return match step {
            Step::Retry => twice(&|| Entry::Retried),
            _ => None,
        };
    }
    match (step, task.state.position) {
        (Step::Start, State::Queued(stage) | State::Cleaning(stage)) => {
            task.attempt += 1;
            let attempt = task.attempt;
            twice(&|| Entry::Started {
                stage,
                attempt,
                deadline_left: None,
            })
        }
        (Step::RegisterUndo, State::Running(stage)) => {
            let attempt = task.attempt;
            twice(&|| Entry::UndoRegistered {
                stage,
                attempt,
                undo: undos,
                value: vec![undos as u8; 3],
            })
        }
        (Step::WithdrawUndo(undo), State::Running(_)) if usize::from(undo) < undos => {
            twice(&|| Entry::UndoWithdrawn { undo: undo.into() })
        }
        (Step::Finish, State::Running(stage)) if stage < LAST => {
            task.attempt = 0;
            twice(&|| Entry::Finished {
                stage,
                output: vec![id as u8, stage as u8],
            })
        }
        (Step::FailAttempt, State::Running(stage)) => twice(&|| Entry::AttemptFailed { stage }),
        (Step::StartRollback, State::Queued(_) | State::Running(_) | State::Cleaning(_)) => {
            twice(&|| Entry::RollbackStarted {
                end: Box::new(outcome(id).end),
            })
        }
        (Step::StartUndo(undo), State::RollingBack | State::Cleaning(_))
            if usize::from(undo) < undos =>
        {
            twice(&|| Entry::UndoStarted {
                undo: undo.into(),
                attempt: 1,
            })
        }
        (Step::EndUndo { undo, undone }, State::RollingBack | State::Cleaning(_))
            if usize::from(undo) < undos =>
        {
            twice(&|| Entry::UndoEnded {
                undo: undo.into(),
                failure: (!undone).then(|| Box::new(Failure::new("no"))),
            })
        }
        (Step::End { stuck: false }, State::RollingBack) => {
            twice(&|| Entry::Ended(Box::new(outcome(id))))
        }
        (Step::End { stuck: true }, State::RollingBack) => twice(&|| {
            let stuck = Stuck {
                task: TaskId(id),
                key: None,
                label: None,
                still_running: None,
                undos: Vec::new(),
            };
            Entry::Ended(Box::new(Outcome {
                rollback: Rollback::Stuck(stuck),
                ..outcome(id)
            }))
        }),
        (Step::End { .. }, State::Running(LAST)) => twice(&|| Entry::Done),
        _ => None,
    }
}

fn commit(tasks: &mut LiveTasks, store: &mut dyn Store, now: u64) {
    let mut ops = Vec::new();
    tasks.drain(now, &mut ops).unwrap();
    store.commit(&ops).unwrap();
}

/// The store has these tasks and no others, as they are.
fn check(store: &mut dyn Store, tracked: &BTreeMap<u64, Tracked>) {
    let mut found = BTreeMap::new();
    store
        .tasks(&mut |(row, context, undos)| {
            let id = row.id;
            let mut task = row.into_state().unwrap();
            context.into_context(id).unwrap();
            for (number, (row, value)) in undos.into_iter().enumerate() {
                assert_eq!(row.undo as usize, number);
                task.undos.push(row.state().unwrap());
                value.into_undo(id, row.undo).unwrap();
            }
            found.insert(id, task);
        })
        .unwrap();
    let tracked: Vec<_> = tracked
        .iter()
        .map(|(id, task)| (*id, &task.state))
        .collect();
    let found: Vec<_> = found.iter().map(|(id, task)| (*id, task)).collect();
    assert_eq!(found, tracked);
}

#[test]
fn c1_a_task_is_released_with_everything_that_was_recorded_of_it() {
    let mut tasks = LiveTasks::new(LAST, 0, 0, 0);
    let entries = [
        Entry::Accepted {
            key: Some("key".into()),
            digest: None,
            label: None,
            context: b"context".to_vec(),
            deadline_left: None,
            work_timeout: None,
        },
        // It had just begun when it was to go.
        Entry::Started {
            stage: 0,
            attempt: 1,
            deadline_left: None,
        },
        Entry::UndoRegistered {
            stage: 0,
            attempt: 1,
            undo: 0,
            value: b"value".to_vec(),
        },
        Entry::Released,
    ];
    for entry in entries {
        assert!(tasks.apply(1, entry, 5).unwrap().is_none());
    }
    assert!(tasks.with_key("key").is_some());
    let mut ops = Vec::new();
    tasks.drain(5, &mut ops).unwrap();
    let kinds: Vec<_> = ops
        .iter()
        .map(|op| match op {
            RowOp::TakeKey { .. } => "key",
            RowOp::InsertTask(row, _) if &*row.state == "running" => "task",
            RowOp::PutUndo(..) => "undo",
            RowOp::Release { task: 1 } => "released",
            _ => "something else",
        })
        .collect();
    assert_eq!(kinds, ["key", "task", "undo", "released"]);
    // It is another one's from now on.
    assert!(tasks.with_key("key").is_none());
    assert!(tasks.apply(1, Entry::Done, 6).unwrap().is_none());
    let mut ops = Vec::new();
    tasks.drain(6, &mut ops).unwrap();
    assert!(ops.is_empty(), "{ops:?}");
}
