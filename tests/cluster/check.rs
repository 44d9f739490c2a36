//! The rules that the logs of all nodes and the database must keep, whatever happened to the nodes. Pure.
//!
//! Each rule names the promise that it checks: C1 one owner, C2 a node that lost its tasks records nothing,
//! C3 tasks are taken over and end as J1 to J3 say, C4 a key stands for one task.
//!
//! Effects are looked at as a set, not in their order: a node that was stopped and wakes may still make an
//! effect whose undo has run elsewhere meanwhile. It had leave to begin, and C2 says so. Nodes that ended as
//! they were told to have no such excuse.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use crate::{
    database::{Found, Key, What},
    log::{Entry, Line, Told, Undo},
    plan::{Act, STAGES, Step},
};

#[cfg(test)]
mod tests;

/// Everything that breaks a promise, in the logs of all processes, each with its number, and in the database.
pub(crate) fn check(
    logs: &[(u32, Vec<Entry>)],
    found: &Found,
    plan: impl Fn(u64) -> [Step; STAGES as usize],
) -> Vec<String> {
    let mut checker = Checker {
        plan,
        keys: BTreeMap::new(),
        acknowledged: BTreeMap::new(),
        effects: BTreeMap::new(),
        shown: BTreeMap::new(),
        kept: BTreeMap::new(),
        complaints: Vec::new(),
    };
    checker.keys(&found.keys);
    // Undos run on any node, so what was to be done is read first.
    for entry in logs.iter().flat_map(|(_, log)| log) {
        checker.wants(entry);
    }
    for (process, log) in logs {
        log.iter().for_each(|entry| checker.line(*process, entry));
    }
    let at_peace: BTreeSet<u32> = logs
        .iter()
        .filter(|(_, log)| log.iter().any(|entry| entry.line == Line::End))
        .map(|(process, _)| *process)
        .collect();
    checker.acknowledged();
    checker.outcomes();
    checker.effects(&at_peace);
    checker.left(found);
    checker.audits(found);
    checker.undos(logs, found);
    checker.complaints
}

struct Checker<P> {
    plan: P,
    keys: BTreeMap<u64, Key>,
    /// The tasks that a `submit` with this number returned.
    acknowledged: BTreeMap<u64, BTreeSet<u64>>,
    /// The effects of each number.
    effects: BTreeMap<u64, BTreeMap<Undo, Effect>>,
    /// The outcomes of each task in the streams of outcomes.
    shown: BTreeMap<u64, BTreeSet<String>>,
    kept: BTreeMap<u64, Option<Told>>,
    complaints: Vec<String>,
}

/// An effect, and its undo.
#[derive(Clone, Copy, Default)]
struct Effect {
    /// The time when its undo had been recorded, and it was made.
    did: Option<u64>,
    /// The time of the last run of its undo.
    undone: Option<u64>,
    /// The process of the first such run in one that had run it before already.
    twice: Option<u32>,
    undone_in: Option<u32>,
}

impl Effect {
    fn stands(&self) -> bool {
        self.did.is_some() && self.undone.is_none()
    }
}

impl<P: Fn(u64) -> [Step; STAGES as usize]> Checker<P> {
    fn complain(&mut self, number: u64, text: impl Display) {
        self.complaints.push(format!("key {number}: {text}"));
    }

    fn keys(&mut self, keys: &[Key]) {
        for key in keys {
            if self.keys.insert(key.number, key.clone()).is_some() {
                self.complain(key.number, "C4: it is in the database twice");
            }
        }
    }

    fn wants(&mut self, entry: &Entry) {
        if let Line::Wants(undo) = &entry.line {
            let effects = self.effects.entry(undo.number).or_default();
            effects.insert(*undo, Effect::default());
        }
    }

    fn line(&mut self, process: u32, entry: &Entry) {
        match &entry.line {
            Line::Submitted { number, task, .. } => {
                self.acknowledged.entry(*number).or_default().insert(*task);
            }
            Line::Start(start) => {
                let owner = self.keys.get(&start.number).map(|key| key.task);
                if owner != Some(start.task) {
                    let task = start.task;
                    self.complain(
                        start.number,
                        format_args!("C4: task {task} runs, and the key is that of {owner:?}"),
                    );
                }
            }
            Line::Did(undo) => match self.effect(undo) {
                Some(effect) => effect.did = Some(entry.at),
                None => self.complain(undo.number, format_args!("nobody wanted {undo:?}")),
            },
            Line::Undone(undo) => match self.effect(undo) {
                Some(effect) => {
                    if effect.undone_in == Some(process) {
                        effect.twice = Some(process);
                    }
                    effect.undone = effect.undone.max(Some(entry.at));
                    effect.undone_in = Some(process);
                }
                None => self.complain(
                    undo.number,
                    format_args!("J2: an undo runs that nobody registered: {undo:?}"),
                ),
            },
            Line::Out { task, text } => {
                self.shown.entry(*task).or_default().insert(text.clone());
            }
            Line::Kept { number, told } => {
                self.kept.insert(*number, Some(told.clone()));
            }
            Line::Nothing { number } => {
                self.kept.insert(*number, None);
            }
            Line::Ask { .. } | Line::Wants(_) | Line::Refused(_) | Line::End => {}
            Line::Suspended(why) => {
                if !["lease", "taken", "tried again"]
                    .iter()
                    .any(|word| why.contains(word))
                {
                    self.complaints.push(format!(
                        "process {process}: C2: it has suspended itself while its tasks were its own: {why}"
                    ));
                }
            }
        }
    }

    fn effect(&mut self, undo: &Undo) -> Option<&mut Effect> {
        self.effects.get_mut(&undo.number)?.get_mut(undo)
    }

    /// C3, C4: what was acknowledged has one task, and an outcome.
    fn acknowledged(&mut self) {
        for (number, tasks) in self.acknowledged.clone() {
            if tasks.len() > 1 {
                self.complain(
                    number,
                    format_args!("C4: it stands for several tasks: {tasks:?}"),
                );
            }
            match self.keys.get(&number).cloned() {
                None => self.complain(number, "J1: it was acknowledged, and is unknown"),
                Some(key) if !tasks.contains(&key.task) => {
                    let task = key.task;
                    self.complain(
                        number,
                        format_args!("C4: it was {tasks:?}, and the database says {task}"),
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// Each task has one outcome, wherever one looks.
    fn outcomes(&mut self) {
        let keys: Vec<Key> = self.keys.values().cloned().collect();
        for key in &keys {
            let number = key.number;
            if key.end.is_none() {
                let task = key.task;
                self.complain(number, format_args!("J1: task {task} has no outcome"));
            }
            match self.kept.get(&number).cloned() {
                Some(Some(told)) => {
                    if told.task != key.task || Some(told.is_done) != done(key) {
                        self.complain(
                            number,
                            format_args!("J1: the database says {key:?}, and the node {told:?}"),
                        );
                    }
                    let mut shown = self.shown.get(&key.task).cloned().unwrap_or_default();
                    shown.insert(told.text);
                    if shown.len() > 1 {
                        self.complain(number, format_args!("J1: it has two outcomes: {shown:?}"));
                    }
                }
                Some(None) => self.complain(number, "J1: the last node knows no outcome of it"),
                None => self.complain(number, "the last node was not asked for its outcome"),
            }
            let never = (self.plan)(number)
                .iter()
                .any(|step| step.act == Act::FailForGood);
            if never && done(key) == Some(true) {
                self.complain(number, "J1: it is done, and was to fail");
            }
        }
        let known: BTreeSet<u64> = keys.iter().map(|key| key.task).collect();
        for task in self.shown.keys().copied().collect::<Vec<_>>() {
            if !known.contains(&task) {
                self.complaints
                    .push(format!("task {task}: J1: it had an outcome, and no key"));
            }
        }
    }

    /// Effects stand if the task is done, and only then.
    fn effects(&mut self, at_peace: &BTreeSet<u32>) {
        // Done tasks that made none are looked at, too.
        for number in self.keys.keys() {
            self.effects.entry(*number).or_default();
        }
        for (number, effects) in std::mem::take(&mut self.effects) {
            let is_done = self.keys.get(&number).and_then(done);
            let told = self.kept.get(&number).cloned().flatten();
            let stuck = told.map(|told| told.stuck).unwrap_or_default();
            for (undo, effect) in &effects {
                // A run whose process was buried before that was recorded is followed by another one elsewhere.
                if let Some(process) = effect.twice
                    && at_peace.contains(&process)
                {
                    self.complain(number, format_args!("J3: an undo ran twice: {undo:?}"));
                }
                let late = effect.did.zip(effect.undone);
                if late.is_some_and(|(did, undone)| did > undone)
                    && at_peace.contains(&undo.process)
                {
                    self.complain(
                        number,
                        format_args!("G5: an effect was made after its undo: {undo:?}"),
                    );
                }
                // An undo without its effect is fine: it had been recorded, and the node was killed before it
                // learnt that, or before it made the effect. Undos run for what may have happened.
                if is_done != Some(true) && effect.stands() {
                    let shown = format!("{undo:?}");
                    if !stuck.contains(&shown) {
                        self.complain(number, format_args!("J2: not done, and it stands: {shown}"));
                    }
                }
            }
            if is_done == Some(true) {
                self.done_effects(number, &effects);
            }
        }
    }

    /// Of each stage exactly the effects of one attempt stand.
    fn done_effects(&mut self, number: u64, effects: &BTreeMap<Undo, Effect>) {
        let steps = (self.plan)(number);
        for (stage, step) in (0..).zip(steps) {
            let standing = effects
                .iter()
                .filter(|(undo, effect)| undo.stage == stage && effect.stands());
            let standing: Vec<Undo> = standing.map(|(undo, _)| *undo).collect();
            let attempts: BTreeSet<(u32, u32)> = standing
                .iter()
                .map(|undo| (undo.process, undo.attempt))
                .collect();
            if attempts.len() > 1 {
                self.complain(
                    number,
                    format_args!("J1: effects of two attempts stand: {standing:?}"),
                );
            } else if standing.len() != step.effects as usize {
                let wanted = step.effects;
                self.complain(
                    number,
                    format_args!(
                        "J1: done, and of {wanted} effects of stage {stage} stand {standing:?}"
                    ),
                );
            }
        }
    }

    /// A task that is left in the table is stuck, and its outcome says so.
    fn left(&mut self, found: &Found) {
        let by_task: HashMap<u64, u64> = self
            .keys
            .values()
            .map(|key| (key.task, key.number))
            .collect();
        for (task, stuck) in &found.left {
            let number = by_task.get(task).copied().unwrap_or_default();
            if !stuck {
                self.complain(number, format_args!("C3: task {task} is left unfinished"));
                continue;
            }
            let told = self.kept.get(&number).cloned().flatten();
            if told.is_none_or(|told| told.stuck.is_empty()) {
                self.complain(
                    number,
                    format_args!("J2: task {task} is stuck, and its outcome is another one"),
                );
            }
        }
        if found.orphans > 0 {
            let orphans = found.orphans;
            self.complaints.push(format!(
                "J2: {orphans} undos of tasks that are gone are left"
            ));
        }
    }

    /// C1, C2: nothing was written for a node that does not live, nor taken from one that does.
    fn audits(&mut self, found: &Found) {
        let mut gone = HashMap::new();
        for audit in &found.audits {
            let number = audit.number;
            let mut wrong = |promise, node: i32| {
                let what = &audit.what;
                let gone = gone.get(&node);
                self.complaints.push(format!(
                    "audit {number}: {promise}: {what:?}, and node {node} went at {gone:?}"
                ));
            };
            match &audit.what {
                What::State { node, state } if state == "live" => wrong("C2", *node),
                What::State { node, .. } => {
                    if gone.contains_key(node) {
                        wrong("C2", *node);
                    }
                    gone.insert(*node, number);
                }
                What::Write { owner, state, .. } | What::Undo { owner, state, .. } => {
                    if state.as_deref() != Some("live") || gone.contains_key(owner) {
                        wrong("C2", *owner);
                    }
                }
                // A node has given it back, for whoever has room.
                What::Claim {
                    from,
                    from_state,
                    to: 0,
                    ..
                } => {
                    if from_state.as_deref() != Some("live") || gone.contains_key(from) {
                        wrong("C2", *from);
                    }
                }
                What::Claim {
                    from,
                    from_state,
                    to,
                    to_state,
                    ..
                } => {
                    if !matches!(from_state.as_deref(), Some("left" | "dead")) {
                        wrong("C1", *from);
                    }
                    if to_state.as_deref() != Some("live") || gone.contains_key(to) {
                        wrong("C2", *to);
                    }
                }
            }
        }
    }

    /// C2: an `on_cancel` that has returned was recorded, by the node that called it.
    fn undos(&mut self, logs: &[(u32, Vec<Entry>)], found: &Found) {
        let recorded: BTreeMap<Undo, i32> = found
            .audits
            .iter()
            .filter_map(|audit| match &audit.what {
                What::Undo { undo, owner, .. } => Some(((*undo)?, *owner)),
                _ => None,
            })
            .collect();
        for (process, log) in logs {
            // A node's tasks have its number in theirs.
            let node = log.iter().find_map(|entry| match entry.line {
                Line::Submitted { task, known, .. } if !known => Some((task >> 36) as i32),
                _ => None,
            });
            for entry in log {
                let Line::Did(undo) = &entry.line else {
                    continue;
                };
                match recorded.get(undo) {
                    None => self.complain(
                        undo.number,
                        format_args!("C2: its `on_cancel` has returned, and is not recorded: {undo:?}"),
                    ),
                    Some(owner) if node.is_some_and(|node| node != *owner) => self.complain(
                        undo.number,
                        format_args!(
                            "C1: process {process} is node {node:?}, and {undo:?} was recorded for {owner}"
                        ),
                    ),
                    Some(_) => {}
                }
            }
        }
    }
}

/// True if the task is done; `None` if it has no outcome.
fn done(key: &Key) -> Option<bool> {
    key.end.as_deref().map(|end| end == "done")
}
