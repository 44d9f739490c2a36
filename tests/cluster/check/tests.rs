//! The checker itself: a good world passes, and each kind of damage is complained about.

use super::*;
use crate::{
    database::Audit,
    log::Start,
    plan::{self, plain},
};

/// The number of the task that is done, on nodes 1 and 2; that of the one that failed; that of a stuck one.
const DONE: u64 = 1;
const FAILED: u64 = 2;
const STUCK: u64 = 3;

const SERIES: u64 = 1 << 36;

struct World {
    logs: Vec<(u32, Vec<Entry>)>,
    found: Found,
}

fn undo(number: u64, stage: u16, process: u32, attempt: u32) -> Undo {
    Undo {
        number,
        stage,
        process,
        attempt,
        nth: 0,
    }
}

fn plans(number: u64) -> [Step; 3] {
    let mut steps = [plain(); 3];
    if number != DONE {
        steps[1].act = Act::FailForGood;
    }
    steps
}

fn write(owner: i32, state: &str) -> What {
    What::Write {
        table: "task".to_owned(),
        id: SERIES as i64 + DONE as i64,
        owner,
        state: Some(state.to_owned()),
    }
}

fn records(undo: Undo, owner: i32, state: &str) -> What {
    What::Undo {
        undo: Some(undo),
        owner,
        state: Some(state.to_owned()),
    }
}

fn claim(from_state: &str, to_state: &str) -> What {
    What::Claim {
        task: SERIES as i64 + DONE as i64,
        from: 1,
        from_state: Some(from_state.to_owned()),
        to: 2,
        to_state: Some(to_state.to_owned()),
    }
}

fn state(node: i32, state: &str) -> What {
    let state = state.to_owned();
    What::State { node, state }
}

impl World {
    /// Process 1 is killed in the second stage of the task that is done; process 2 goes on, and ends in peace.
    fn good() -> Self {
        let mut world = World {
            logs: vec![(1, Vec::new()), (2, Vec::new())],
            found: Found::default(),
        };
        for number in [DONE, FAILED, STUCK] {
            let task = SERIES + number;
            world.add(1, Line::Ask { number });
            let known = false;
            world.add(
                1,
                Line::Submitted {
                    number,
                    task,
                    known,
                },
            );
            world.stage(1, number, 0, 1);
            world.stage(1, number, 1, 1);
            world.add(2, Line::Undone(undo(number, 1, 1, 1)));
            world.stage(2, number, 1, 2);
            let end = match number {
                DONE => {
                    world.stage(2, number, 2, 1);
                    "done"
                }
                _ => {
                    world.add(2, Line::Undone(undo(number, 1, 2, 2)));
                    "failed"
                }
            };
            if number == FAILED {
                world.add(2, Line::Undone(undo(number, 0, 1, 1)));
            }
            let left = undo(number, 0, 1, 1);
            let told = Told {
                task,
                is_done: number == DONE,
                text: format!("{task} {end}"),
                stuck: Vec::from_iter((number == STUCK).then(|| format!("{left:?}"))),
            };
            let text = told.text.clone();
            world.add(2, Line::Out { task, text });
            world.add(2, Line::Kept { number, told });
            let end = Some(end.to_owned());
            world.found.keys.push(Key { number, task, end });
        }
        world.add(2, Line::End);
        world.found.left.push((SERIES + STUCK, true));
        for what in [
            write(1, "live"),
            state(1, "dead"),
            claim("dead", "live"),
            write(2, "live"),
            state(2, "left"),
        ] {
            world.audit(what);
        }
        world
    }

    fn audit(&mut self, what: What) {
        let number = self.found.audits.len() as i64;
        self.found.audits.push(Audit { number, what });
    }

    /// Adds a line; each is later than those before, of any process.
    fn add(&mut self, process: u32, line: Line) {
        let at = self.logs.iter().map(|(_, log)| log.len() as u64).sum();
        self.logs[process as usize - 1].1.push(Entry { at, line });
    }

    fn stage(&mut self, process: u32, number: u64, stage: u16, attempt: u32) {
        let task = SERIES + number;
        let start = Start {
            number,
            task,
            stage,
            attempt,
        };
        let undo = undo(number, stage, process, attempt);
        self.add(process, Line::Start(start));
        self.add(process, Line::Wants(undo));
        self.add(process, Line::Did(undo));
        self.audit(records(undo, process as i32, "live"));
    }

    fn remove(&mut self, line: impl Fn(&Line) -> bool) {
        let mut removed = 0;
        for (_, log) in &mut self.logs {
            let before = log.len();
            log.retain(|entry| !line(&entry.line));
            removed += before - log.len();
        }
        assert!(removed > 0, "there is such a line");
    }

    fn told(&mut self, number: u64) -> &mut Told {
        let lines = self.logs.iter_mut().flat_map(|(_, log)| log);
        let told = lines.filter_map(|entry| match &mut entry.line {
            Line::Kept { number: its, told } if *its == number => Some(told),
            _ => None,
        });
        { told }.next().unwrap()
    }

    fn complaints(&self) -> Vec<String> {
        check(&self.logs, &self.found, plans)
    }
}

/// The damage is complained about, in these words.
fn complains(words: &str, damage: impl FnOnce(&mut World)) {
    let mut world = World::good();
    damage(&mut world);
    let complaints = world.complaints();
    let found = complaints.iter().any(|complaint| complaint.contains(words));
    assert!(found, "{words}: {complaints:#?}");
}

fn passes(change: impl FnOnce(&mut World)) {
    let mut world = World::good();
    change(&mut world);
    assert_eq!(world.complaints(), Vec::<String>::new());
}

#[test]
fn a_good_world_passes() {
    passes(|_| {});
}

#[test]
fn what_nodes_may_do_passes() {
    // It was recorded, and the node was killed before it learnt that.
    passes(|world| {
        let undo = undo(FAILED, 2, 1, 1);
        world.add(1, Line::Wants(undo));
        world.add(2, Line::Undone(undo));
    });
    // A zombie makes an effect whose undo has run.
    passes(|world| {
        world.add(1, Line::Did(undo(DONE, 1, 1, 1)));
    });
    // A process is killed before it could record that an undo has run.
    passes(|world| {
        world.add(1, Line::Undone(undo(DONE, 1, 1, 1)));
    });
    // A second submit with the same key is told the same task.
    passes(|world| {
        let (number, task, known) = (DONE, SERIES + DONE, true);
        world.add(
            2,
            Line::Submitted {
                number,
                task,
                known,
            },
        );
    });
    // A `submit` that was never answered came to nothing.
    passes(|world| {
        world.add(1, Line::Ask { number: 9 });
        world.add(2, Line::Nothing { number: 9 });
    });
}

#[test]
fn c4_a_key_with_two_tasks() {
    complains("C4: it stands for several tasks", |world| {
        let (number, task, known) = (DONE, 2 * SERIES, false);
        world.add(
            2,
            Line::Submitted {
                number,
                task,
                known,
            },
        );
    });
    complains("C4: task 1 runs, and the key is that of", |world| {
        let (stage, attempt) = (0, 1);
        world.add(
            2,
            Line::Start(Start {
                number: DONE,
                task: 1,
                stage,
                attempt,
            }),
        );
    });
    complains("C4: it is in the database twice", |world| {
        let key = world.found.keys[0].clone();
        world.found.keys.push(key);
    });
    complains("C4: it was", |world| world.found.keys[0].task += 7);
}

#[test]
fn a_task_without_exactly_one_outcome() {
    complains("it was acknowledged, and is unknown", |world| {
        world.found.keys.retain(|key| key.number != DONE);
    });
    complains("has no outcome", |world| world.found.keys[0].end = None);
    complains("the last node knows no outcome of it", |world| {
        world.remove(|line| matches!(line, Line::Kept { number: DONE, .. }));
        world.add(2, Line::Nothing { number: DONE });
    });
    complains("the last node was not asked for its outcome", |world| {
        world.remove(|line| matches!(line, Line::Kept { number: DONE, .. }));
    });
    complains("the database says", |world| {
        world.told(DONE).is_done = false
    });
    complains("it has two outcomes", |world| {
        let (task, text) = (SERIES + DONE, "another one".to_owned());
        world.add(1, Line::Out { task, text });
    });
    complains("it had an outcome, and no key", |world| {
        let (task, text) = (5 * SERIES, "done".to_owned());
        world.add(1, Line::Out { task, text });
    });
    complains("it is done, and was to fail", |world| {
        world.found.keys[1].end = Some("done".to_owned());
    });
}

#[test]
fn an_effect_that_stands_or_is_missing() {
    complains("not done, and it stands", |world| {
        world.remove(|line| *line == Line::Undone(undo(FAILED, 0, 1, 1)));
    });
    complains("not done, and it stands", |world| {
        world.told(STUCK).stuck = vec!["another one".to_owned()];
    });
    complains("effects of two attempts stand", |world| {
        world.remove(|line| *line == Line::Undone(undo(DONE, 1, 1, 1)));
    });
    complains("of 1 effects of stage 2 stand []", |world| {
        world.remove(|line| *line == Line::Did(undo(DONE, 2, 2, 1)));
    });
    complains("of 1 effects of stage 0 stand []", |world| {
        world.add(2, Line::Undone(undo(DONE, 0, 1, 1)));
    });
    complains("of 1 effects of stage 0 stand []", |world| {
        let (number, task) = (9, 9 * SERIES);
        let end = Some("done".to_owned());
        world.found.keys.push(Key { number, task, end });
    });
    complains("nobody wanted", |world| {
        world.add(2, Line::Did(undo(DONE, 2, 2, 7)));
    });
    complains("an undo runs that nobody registered", |world| {
        world.add(2, Line::Undone(undo(DONE, 2, 2, 7)));
    });
    complains("an undo ran twice", |world| {
        world.add(2, Line::Undone(undo(FAILED, 0, 1, 1)));
    });
    complains("an effect was made after its undo", |world| {
        world.add(2, Line::Did(undo(FAILED, 1, 2, 2)));
    });
}

#[test]
fn a_task_that_is_left() {
    complains("is left unfinished", |world| world.found.left[0].1 = false);
    complains("is stuck, and its outcome is another one", |world| {
        world.found.left.push((SERIES + DONE, true));
    });
    complains("undos of tasks that are gone", |world| {
        world.found.orphans = 1
    });
}

#[test]
fn c1_c2_a_node_that_is_gone_writes() {
    complains("C2: Write", |world| world.audit(write(1, "dead")));
    // Its state was read in a snapshot from before.
    complains("C2: Write", |world| world.audit(write(1, "live")));
    complains("C2: Write", |world| world.audit(write(2, "live")));
    complains("C1: Claim", |world| {
        world.found.audits.truncate(2);
        world.audit(claim("live", "live"));
    });
    complains("C2: Claim", |world| world.audit(claim("dead", "live")));
    complains("C2: State", |world| world.audit(state(1, "live")));
    complains("C2: State", |world| world.audit(state(1, "left")));
}

#[test]
fn c1_c2_an_undo_that_was_recorded_for_another_node_or_not_at_all() {
    complains("has returned, and is not recorded", |world| {
        let undo = undo(DONE, 1, 1, 9);
        world.add(1, Line::Wants(undo));
        world.add(1, Line::Did(undo));
        world.add(2, Line::Undone(undo));
    });
    complains("C2: Undo", |world| {
        world.audit(records(undo(DONE, 0, 1, 1), 1, "dead"));
    });
    complains("C2: Undo", |world| {
        world.audit(records(undo(DONE, 0, 1, 1), 1, "live"));
    });
    complains("C1: process 1 is node", |world| {
        for audit in &mut world.found.audits {
            if let What::Undo { owner, .. } = &mut audit.what {
                *owner = 2;
            }
        }
    });
}

#[test]
fn c2_a_node_that_suspends_itself_without_need() {
    passes(|world| world.add(1, Line::Suspended("its lease is over".to_owned())));
    complains("while its tasks were its own", |world| {
        world.add(1, Line::Suspended("somebody has deleted rows".to_owned()));
    });
}

#[test]
fn plans_are_of_every_kind() {
    let all: Vec<_> = (0..1_000)
        .flat_map(|number| plan::plan(7, number))
        .collect();
    for act in [Act::Pass, Act::FailFirst, Act::FailForGood] {
        assert!(all.iter().any(|step| step.act == act));
    }
}
