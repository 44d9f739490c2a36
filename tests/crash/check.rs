//! The rules that a log of effects must keep, whenever a process was killed. Pure.
//!
//! Each rule names the promise that it checks: J1 one outcome and everything taken back or nothing,
//! J2 no undo is lost, J3 what had finished and was recorded never runs again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    log::{How, Line, Start, Told, Undo, Went},
    plan::{Plan, STAGES},
};

#[cfg(test)]
mod tests;

/// Everything in the log that breaks a promise.
pub(crate) fn check(log: &[Line], plan: impl Fn(u64) -> Plan) -> Vec<String> {
    let mut checker = Checker {
        plan,
        run: 0,
        rolls_back: false,
        starts: Vec::new(),
        tasks: BTreeMap::new(),
        numbers: HashMap::new(),
        stuck: BTreeSet::new(),
        complaints: Vec::new(),
    };
    for line in log {
        checker.number(line);
    }
    for line in log {
        checker.line(line);
    }
    checker.end(log);
    checker.complaints
}

struct Checker<P> {
    plan: P,
    /// The process that is at work.
    run: u32,
    /// It was started to roll back what it finds.
    rolls_back: bool,
    /// The processes, and whether they were. One that was killed too early is not among them.
    starts: Vec<(u32, bool)>,
    tasks: BTreeMap<u64, Task>,
    /// The number of each task id.
    numbers: HashMap<u64, u64>,
    stuck: BTreeSet<u64>,
    complaints: Vec<String>,
}

#[derive(Default)]
struct Task {
    id: Option<u64>,
    /// The process in which it was submitted first.
    asked: u32,
    /// The first process in which it was surely in the journal: those after it have recovered it.
    known: Option<u32>,
    attempt: Option<Attempt>,
    /// The attempt of each stage that has passed.
    passed: Vec<Attempt>,
    undos: Vec<Held>,
    /// An undo that the final rollback alone can have got to was.
    rolling: bool,
    /// This undo is running, in this process.
    cancelling: Option<(Undo, u32)>,
    /// The process in which its ticket's `cancel` took effect.
    stopped: Option<u32>,
    outcome: Option<Told>,
    kept: bool,
}

/// The last one that started.
#[derive(Clone, Copy)]
struct Attempt {
    start: Start,
    run: u32,
    passed: bool,
    /// It failed, and there may be another one.
    failed: bool,
    /// An undo of its stage has run since.
    undone: bool,
}

/// An undo, in the order of registration.
struct Held {
    undo: Undo,
    generation: u32,
    /// `on_cancel` has returned.
    sure: bool,
    did: bool,
    withdrawn: Withdrawn,
    /// The number of its last run, and the process of that.
    tried: Option<(u32, u32)>,
    /// Its end: `true` if the effect was taken back.
    back: Option<bool>,
    /// That was in the final rollback, as far as one can tell.
    finally: bool,
    /// Something followed from that, so it was recorded.
    settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Withdrawn {
    No,
    Perhaps,
    Yes,
}

impl Held {
    /// It must run, should the task not be done.
    fn must_back(&self) -> bool {
        self.sure && self.withdrawn == Withdrawn::No
    }

    fn is_undone(&self) -> bool {
        self.back == Some(true)
    }
}

impl Task {
    /// True if a process has found it in its journal.
    fn is_recovered(&self, run: u32) -> bool {
        self.known.is_some_and(|known| known < run)
    }

    fn held(&mut self, undo: Undo) -> Option<&mut Held> {
        self.undos.iter_mut().find(|held| held.undo == undo)
    }
}

impl<P: Fn(u64) -> Plan> Checker<P> {
    fn complain(&mut self, number: u64, text: impl std::fmt::Display) {
        self.complaints
            .push(format!("run {}, task {number}: {text}", self.run));
    }

    /// A number always goes with the same id.
    fn number(&mut self, line: &Line) {
        let (number, task) = match line {
            Line::Submitted { number, task } | Line::Kept { number, task, .. } => (*number, *task),
            Line::Start(start) => (start.number, start.task),
            Line::Back { undo, task, .. } => (undo.number, *task),
            _ => return,
        };
        if *self.numbers.entry(task).or_insert(number) != number {
            self.complain(number, format_args!("its id {task} is another one's, too"));
        }
        let known = self.tasks.entry(number).or_default();
        if *known.id.get_or_insert(task) != task {
            self.complain(number, format_args!("it has another id, {task}, too"));
        }
    }

    fn line(&mut self, line: &Line) {
        match line {
            Line::Boot { run, rolls_back } => {
                self.run = *run;
                self.rolls_back = *rolls_back;
                self.starts.push((*run, *rolls_back));
            }
            Line::Ask { number } => {
                let task = self.tasks.entry(*number).or_default();
                if task.asked == 0 {
                    task.asked = self.run;
                }
            }
            Line::Submitted { number, .. } => {
                let run = self.run;
                self.tasks
                    .entry(*number)
                    .or_default()
                    .known
                    .get_or_insert(run);
            }
            Line::Start(start) => self.start(*start),
            Line::Wants(undo) => self.wants(*undo),
            Line::Has(undo) => self.held(*undo, |held| held.sure = true),
            Line::Did(undo) => self.held(*undo, |held| held.did = true),
            Line::Leaves(undo) => self.held(*undo, |held| held.withdrawn = Withdrawn::Perhaps),
            Line::Left(undo) => self.held(*undo, |held| held.withdrawn = Withdrawn::Yes),
            Line::Passes { number } => self.returned(*number, true, false),
            Line::Fails { number, for_good } => self.returned(*number, false, !for_good),
            Line::Back {
                undo,
                attempt,
                generation,
                ..
            } => self.back(*undo, *attempt, *generation),
            Line::Undone(undo) => self.backed(*undo, true),
            Line::NotUndone(undo) => self.backed(*undo, false),
            Line::Stop { number, took } => {
                let run = self.run;
                if *took {
                    self.tasks.entry(*number).or_default().stopped = Some(run);
                }
            }
            Line::Out { task, told } => match self.numbers.get(task).copied() {
                Some(number) => self.out(number, told, false),
                None => self
                    .complaints
                    .push(format!("nobody has submitted task {task}")),
            },
            Line::Kept { number, told, .. } => self.out(*number, told, true),
            Line::Nothing { .. } | Line::End => {}
            Line::Stuck { task } => {
                self.stuck.insert(*task);
            }
        }
    }

    fn task(&mut self, number: u64) -> &mut Task {
        self.tasks.entry(number).or_default()
    }

    /// J3: nothing runs once the outcome was recorded.
    fn live(&mut self, number: u64, what: &str) {
        if self.task(number).outcome.is_some() {
            self.complain(number, format_args!("J3: {what} after its outcome"));
        }
    }

    fn held(&mut self, undo: Undo, change: impl FnOnce(&mut Held)) {
        self.live(undo.number, "a stage is at work");
        match self.task(undo.number).held(undo) {
            Some(held) => change(held),
            None => self.complain(undo.number, format_args!("nobody registered {undo:?}")),
        }
    }

    fn start(&mut self, start: Start) {
        let number = start.number;
        self.live(number, "a stage starts");
        let (run, rolls_back) = (self.run, self.rolls_back);
        let task = self.task(number);
        let mut wrong = Vec::new();
        if rolls_back && task.is_recovered(run) {
            wrong.push("J1: a stage starts, and the restart was to roll back");
        }
        if task.rolling {
            wrong.push("J1: a stage starts, and its rollback had begun");
        }
        task.known.get_or_insert(run);
        let generation = match task.attempt {
            None => {
                if start.stage > 0 {
                    wrong.push("J1: it begins in the middle");
                }
                0
            }
            Some(before) if start.stage > before.start.stage => {
                if start.stage > before.start.stage + 1 || !before.passed {
                    wrong.push("J1: a stage was left out");
                }
                task.passed.push(before);
                0
            }
            Some(before) if start.stage < before.start.stage => {
                wrong.push("J3: a stage starts that had finished");
                start.generation
            }
            Some(before) => {
                let registered = task
                    .undos
                    .iter()
                    .any(|held| held.sure && is_of(held.undo, &before));
                // A first start is recorded lazily: it may come again. The start of a task that was there
                // before its process, or that has an undo, is recorded before anything follows.
                let lazy = before.run < run
                    && !registered
                    && task.known.is_none_or(|known| known >= before.run);
                if start.attempt < before.start.attempt
                    || start.attempt == before.start.attempt && !lazy
                {
                    wrong.push("J3: the number of its attempts doesn't go up");
                }
                if before.run == run && !before.failed {
                    wrong.push("J3: an attempt follows on one that had not failed");
                }
                before.start.generation + u32::from(before.undone)
            }
        };
        if start.generation != generation {
            wrong.push("J3: its key has another generation than what it did says");
        }
        // G10, over a restart, too.
        let stands = |held: &Held| {
            let asked = held.must_back() || held.tried.is_some();
            held.undo.stage == start.stage && asked && !held.is_undone()
        };
        if task.undos.iter().any(stands) {
            wrong.push("J1: an attempt starts, and an undo of the one before stands");
        }
        for held in &mut task.undos {
            held.settled |= held.is_undone();
        }
        task.cancelling = None;
        task.attempt = Some(Attempt {
            start,
            run,
            passed: false,
            failed: false,
            undone: false,
        });
        for text in wrong {
            self.complain(number, format_args!("{text}: {start:?}"));
        }
    }

    fn wants(&mut self, undo: Undo) {
        self.live(undo.number, "an undo is registered");
        let task = self.task(undo.number);
        let generation = task.attempt.map_or(0, |attempt| attempt.start.generation);
        task.undos.push(Held {
            undo,
            generation,
            sure: false,
            did: false,
            withdrawn: Withdrawn::No,
            tried: None,
            back: None,
            finally: false,
            settled: false,
        });
    }

    fn returned(&mut self, number: u64, passed: bool, failed: bool) {
        self.live(number, "a stage returns");
        if let Some(attempt) = &mut self.task(number).attempt {
            (attempt.passed, attempt.failed) = (passed, failed);
        }
    }

    fn back(&mut self, undo: Undo, attempt: u32, generation: u32) {
        let number = undo.number;
        self.live(number, "an undo starts");
        let (run, rolls_back) = (self.run, self.rolls_back);
        let task = self.task(number);
        let recovered = task.is_recovered(run);
        let mut wrong = Vec::new();
        let Some(at) = task.undos.iter().position(|held| held.undo == undo) else {
            return self.complain(number, format_args!("nobody registered {undo:?}"));
        };
        if task.cancelling.is_some_and(|(_, in_run)| in_run == run) {
            wrong.push("G3: two undos at once");
        }
        task.cancelling = Some((undo, run));
        let of_last = |undo| task.attempt.is_some_and(|attempt| is_of(undo, &attempt));
        // Between two attempts the undos of the last one run, and no others.
        let cleans_up = !task.rolling
            && of_last(undo)
            && task.attempt.is_some_and(|attempt| {
                attempt.run == run && attempt.failed || recovered && !rolls_back
            });
        let first = task.undos[at].tried.is_none();
        let left_out = |held: &Held| {
            held.must_back() && held.tried.is_none() && (!cleans_up || of_last(held.undo))
        };
        if first && task.undos[..at].iter().any(left_out) {
            wrong.push("G3: an undo runs before one that was registered earlier");
        }
        let rolling = !of_last(undo);
        let held = &task.undos[at];
        if held.withdrawn == Withdrawn::Yes {
            wrong.push("J2: an undo runs that was withdrawn");
        }
        if held.settled {
            wrong.push("J3: an undo runs that had run, as recorded");
        }
        if held.generation != generation {
            wrong.push("J3: the key is not the one that it was registered with");
        }
        if let Some((before, in_run)) = held.tried {
            if held.is_undone() && in_run == run {
                wrong.push("J3: an undo runs twice in one process");
            }
            let lazy = in_run < run && !task.is_recovered(in_run);
            if attempt < before || attempt == before && !lazy {
                wrong.push("J3: the number of its undo's attempts doesn't go up");
            }
        }
        task.rolling |= rolling;
        // It went on from those, in this process or past them in the next one, so they were recorded.
        for (n, held) in task.undos.iter_mut().enumerate() {
            let before = n < at || held.tried.is_some_and(|(_, in_run)| in_run == run);
            held.settled |= n != at && before && held.is_undone();
        }
        let held = &mut task.undos[at];
        held.tried = Some((attempt, run));
        held.back = None;
        for text in wrong {
            self.complain(number, format_args!("{text}: {undo:?}, attempt {attempt}"));
        }
    }

    fn backed(&mut self, undo: Undo, undone: bool) {
        self.live(undo.number, "an undo returns");
        let task = self.task(undo.number);
        task.cancelling = None;
        if undone
            && let Some(attempt) = &mut task.attempt
            && attempt.start.stage == undo.stage
        {
            attempt.undone = true;
        }
        let rolling = task.rolling;
        if let Some(held) = task.held(undo) {
            held.back = Some(undone);
            held.finally = rolling;
        }
    }

    fn out(&mut self, number: u64, told: &Told, kept: bool) {
        let (run, starts) = (self.run, self.starts.clone());
        let plan = (self.plan)(number);
        let task = self.task(number);
        task.kept |= kept;
        if let Some(before) = &task.outcome {
            let before = before.text.clone();
            if before != told.text {
                let text = &told.text;
                self.complain(number, format_args!("J1: two outcomes: {before} / {text}"));
            }
            return;
        }
        task.outcome = Some(told.clone());
        let mut wrong = Vec::new();
        let asked = task.asked;
        let since = || starts.iter().filter(|(run, _)| *run > asked);
        let rolled_back = since().filter(|(_, rolls_back)| *rolls_back).count();
        if !plan.allows(told, since().count() as u32, rolled_back as u32) {
            wrong.push("J1: it can't have ended like this".to_owned());
        }
        if task.stopped == Some(run) && told.end != How::User {
            wrong.push("G1: it was cancelled first".to_owned());
        }
        match told.end {
            How::Done => done(task, &plan, &mut wrong),
            _ => rolled(task, told, &mut wrong),
        }
        for text in wrong {
            let told = &told.text;
            self.complain(number, format_args!("{text}: {told}"));
        }
    }

    fn end(&mut self, log: &[Line]) {
        if log.last() != Some(&Line::End) {
            self.complaints
                .push("J1: the last process did not end well".to_owned());
        }
        let mut wrong = Vec::new();
        for (number, task) in &self.tasks {
            let known = task.known.is_some();
            if known && task.outcome.is_none() {
                wrong.push((*number, "J1: it was accepted, and has no outcome"));
            } else if known && !task.kept {
                wrong.push((*number, "J1: its outcome is not kept"));
            }
            let stuck = matches!(
                &task.outcome,
                Some(Told {
                    went: Went::Stuck(_),
                    ..
                })
            );
            if stuck != task.id.is_some_and(|id| self.stuck.contains(&id)) {
                wrong.push((
                    *number,
                    "G9: it is stuck, and not in the list, or the other way",
                ));
            }
        }
        for (number, text) in wrong {
            self.complain(number, text);
        }
    }
}

fn is_of(undo: Undo, attempt: &Attempt) -> bool {
    let start = &attempt.start;
    (undo.stage, undo.attempt, undo.run) == (start.stage, start.attempt, attempt.run)
}

/// Each stage's effects are there, and those of its other attempts are not.
fn done(task: &Task, plan: &Plan, wrong: &mut Vec<String>) {
    let last = task.attempt.filter(|last| last.passed);
    let passed: Vec<&Attempt> = task.passed.iter().chain(&last).collect();
    if passed.len() != STAGES as usize {
        wrong.push(format!("J1: {} stages passed", passed.len()));
    }
    for attempt in passed {
        let own = || task.undos.iter().filter(|held| is_of(held.undo, attempt));
        let stage = attempt.start.stage;
        let wanted = plan.steps[stage as usize].undos as usize;
        if own().filter(|held| held.did).count() != wanted {
            wrong.push(format!("J1: an effect of stage {stage} is missing"));
        }
        if own().any(|held| held.tried.is_some()) {
            wrong.push(format!("J1: an effect of stage {stage} was taken back"));
        }
    }
}

/// Everything is taken back but what is left to a person.
fn rolled(task: &Task, told: &Told, wrong: &mut Vec<String>) {
    let stands = |held: &&Held| held.must_back() && !held.is_undone();
    let standing: Vec<&Held> = task.undos.iter().filter(stands).collect();
    match &told.went {
        Went::Back(undos) => {
            for held in &standing {
                wrong.push(format!("J2: it is not taken back: {:?}", held.undo));
            }
            if task.undos.iter().any(|held| held.back == Some(false)) {
                wrong.push("G9: an undo failed for good, and it is not stuck".to_owned());
            }
            // The effects of its last attempt may have been taken back before its end was decided.
            let undone = || task.undos.iter().filter(|held| held.is_undone());
            let last = |held: &&Held| task.attempt.is_some_and(|last| is_of(held.undo, &last));
            let least = undone().filter(|held| held.finally).count();
            let unclear = |held: &&Held| !held.finally && last(held);
            let most = least + undone().filter(unclear).count();
            if !(least..=most).contains(undos) {
                wrong.push(format!(
                    "G1: it says {undos} undos, and it was {least} to {most}"
                ));
            }
        }
        Went::Stuck(left) if told.end == How::Quarantined => {
            // As the journal has them. Nobody knows about those that were being registered or running
            // at a kill.
            let may_stand = |held: &&Held| !held.settled && held.withdrawn != Withdrawn::Yes;
            let most = task.undos.iter().filter(may_stand).count();
            if !(standing.len()..=most).contains(&left.len()) {
                wrong.push(format!("G9: {} to {most} undos are left", standing.len()));
            }
        }
        Went::Stuck(left) => {
            let shown = |held: &Held| format!("{:?}", held.undo);
            for held in &standing {
                if !left.contains(&shown(held)) {
                    wrong.push(format!("G9: it is left, and not listed: {:?}", held.undo));
                }
            }
            for text in left {
                let held = task.undos.iter().find(|held| shown(held) == *text);
                if held.is_none_or(|held| held.back != Some(false)) {
                    wrong.push(format!("G9: it is listed, and no run of it failed: {text}"));
                }
            }
        }
    }
}
