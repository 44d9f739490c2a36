//! The rules that a log of effects must keep, whenever a process was killed. Pure.
//!
//! Each rule names the promise that it checks: J1 one outcome and everything taken back or nothing,
//! J2 no undo is lost, J3 what had finished and was recorded never runs again.
//!
//! A task that is taken back, or whose undos are tried again, is *reopened*: from the moment that it may be,
//! until the log shows if it is. Then it has another outcome, and until then none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    log::{How, Line, Reopen, Start, Told, Undo, Went},
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
        retries: false,
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
    /// It tries stuck tasks again by itself.
    retries: bool,
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
    /// The process in which a `cancel` of it took effect.
    stopped: Option<u32>,
    /// It may have been cancelled by its key.
    may_be_stopped: bool,
    outcome: Option<Told>,
    kept: bool,
    /// It is in flight again, or may be.
    reopened: Option<Reopened>,
    /// The number of times that it was.
    round: u32,
    /// The outcomes that it had before.
    past: Vec<String>,
    /// It was done once, and is to end taken back.
    taken_back: bool,
    forgotten: Forgotten,
}

/// A task that had ended may be in flight again.
struct Reopened {
    how: Reopen,
    /// The outcome that it had.
    from: Told,
    /// That is recorded.
    sure: bool,
    /// An undo has run since.
    ran: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Forgotten {
    #[default]
    No,
    Perhaps,
    Yes,
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
    /// The task's round of that run.
    round: u32,
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

    fn stands(&self) -> bool {
        self.must_back() && !self.is_undone()
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

    /// From now on it may be in flight again.
    fn reopen(&mut self, how: Reopen) {
        let Some(from) = self.outcome.take() else {
            return;
        };
        self.past.push(from.text.clone());
        self.reopened = Some(Reopened {
            how,
            from,
            sure: false,
            ran: false,
        });
        // Nothing but undos runs from now on.
        (self.rolling, self.kept) = (true, false);
        self.round += 1;
    }

    /// It is not, after all.
    fn close(&mut self) {
        if let Some(reopened) = self.reopened.take() {
            self.outcome = Some(reopened.from);
        }
    }

    fn is_stuck(&self) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_some_and(|told| matches!(told.went, Went::Stuck(_)))
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
            Line::Submitted { number, task }
            | Line::Reopened { number, task, .. }
            | Line::Now { number, task, .. }
            | Line::Kept { number, task, .. } => (*number, *task),
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
            Line::Boot {
                run,
                rolls_back,
                retries,
            } => {
                if self.retries {
                    // That may have been recorded at the kill.
                    let stuck = self.tasks.values_mut().filter(|task| task.is_stuck());
                    stuck.for_each(|task| task.reopen(Reopen::Retry));
                }
                self.run = *run;
                self.retries = *retries;
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
                    self.task(*number).stopped = Some(run);
                }
            }
            Line::Stops { number } => self.task(*number).may_be_stopped = true,
            Line::Reopens { number, how } => {
                let task = self.task(*number);
                if *how == Reopen::Retry || !task.taken_back {
                    task.reopen(*how);
                }
            }
            Line::Reopened { number, how, .. } => self.reopened(*number, *how),
            Line::Stays { number, how } => self.stays(*number, *how),
            Line::Forgets { number } => self.task(*number).forgotten = Forgotten::Perhaps,
            Line::Forgot { number } => self.forgot(*number),
            Line::Keeps { number } => self.task(*number).forgotten = Forgotten::No,
            Line::Nothing { number } => self.nothing(*number),
            Line::Out { task, told } => match self.numbers.get(task).copied() {
                Some(number) => self.told(number, told),
                None => self
                    .complaints
                    .push(format!("nobody has submitted task {task}")),
            },
            Line::Now { number, told, .. } => self.now(*number, told),
            Line::Kept { number, told, .. } => {
                self.now(*number, told);
                self.task(*number).kept = true;
            }
            Line::End => {}
            Line::Stuck { task } => {
                self.stuck.insert(*task);
            }
        }
    }

    fn task(&mut self, number: u64) -> &mut Task {
        self.tasks.entry(number).or_default()
    }

    /// J3: no stage runs once the outcome was recorded.
    fn live(&mut self, number: u64, what: &str) {
        let task = self.task(number);
        if task.outcome.is_some() || task.reopened.is_some() {
            self.complain(number, format_args!("J3: {what} after its outcome"));
        }
    }

    /// J3: nor does an undo, unless the task was reopened. If it may have been, it was.
    fn live_undo(&mut self, number: u64, what: &str) {
        let retries = self.retries;
        let task = self.task(number);
        if retries && task.is_stuck() {
            task.reopen(Reopen::Retry);
        }
        if let Some(reopened) = &mut task.reopened {
            (reopened.sure, reopened.ran) = (true, true);
            task.taken_back |= reopened.how == Reopen::TakeBack;
        }
        let forgotten = task.forgotten == Forgotten::Yes;
        if task.outcome.is_some() || forgotten {
            self.complain(number, format_args!("J3: {what} after its outcome"));
        }
    }

    /// It was said to be recorded that the task goes on.
    fn reopened(&mut self, number: u64, how: Reopen) {
        let retries = self.retries;
        let task = self.task(number);
        match (&mut task.reopened, &task.outcome) {
            (Some(reopened), _) if reopened.how == how => {
                reopened.sure = true;
                task.taken_back |= how == Reopen::TakeBack;
            }
            // It has got stuck, which is not the end of it in a pipeline that tries again by itself.
            (Some(reopened), _) if retries && reopened.ran && how == Reopen::Retry => {}
            // It was before, or is through by now.
            (_, Some(_)) if task.taken_back || how == Reopen::Retry => {}
            // Somebody forgot it first, once it was through.
            (_, None) if task.forgotten != Forgotten::No => {}
            _ => self.complain(number, format_args!("J1: {how:?} is said to be recorded")),
        }
    }

    fn stays(&mut self, number: u64, how: Reopen) {
        let task = self.task(number);
        let Some(reopened) = &task.reopened else {
            return;
        };
        // Somebody else may have had it tried again, or taken back, at the same time.
        if reopened.how == how && !reopened.sure {
            task.close();
        }
    }

    fn forgot(&mut self, number: u64) {
        let task = self.task(number);
        task.forgotten = Forgotten::Yes;
        self.over(number);
    }

    /// `outcome_of` knows of no task with its key.
    fn nothing(&mut self, number: u64) {
        let task = self.task(number);
        let known = task.known.is_some();
        match task.forgotten {
            Forgotten::No if known => {
                self.complain(number, "J1: it was accepted, and is unknown");
            }
            Forgotten::No => {}
            Forgotten::Perhaps | Forgotten::Yes => self.forgot(number),
        }
    }

    /// Its key is forgotten: if it was taken back, nothing of it is left.
    fn over(&mut self, number: u64) {
        let task = self.task(number);
        let standing = task.undos.iter().filter(|held| held.stands()).count();
        let ended = match &task.reopened {
            Some(reopened) if reopened.sure => standing == 0,
            _ => !task.is_stuck(),
        };
        if !ended {
            self.complain(number, "J2: it was forgotten before its undos had run");
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
            round: 0,
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
        self.live_undo(number, "an undo starts");
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
        // Since it was reopened, if it was.
        let round = task.round;
        let is_new = |held: &Held| match round {
            0 => held.tried.is_none(),
            _ => held.round < round && !held.is_undone(),
        };
        let first = is_new(&task.undos[at]);
        let left_out =
            |held: &Held| held.must_back() && is_new(held) && (!cleans_up || of_last(held.undo));
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
        held.round = round;
        held.back = None;
        for text in wrong {
            self.complain(number, format_args!("{text}: {undo:?}, attempt {attempt}"));
        }
    }

    fn backed(&mut self, undo: Undo, undone: bool) {
        self.live_undo(undo.number, "an undo returns");
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

    /// An outcome that somebody was told, perhaps some time ago.
    fn told(&mut self, number: u64, told: &Told) {
        let retries = self.retries;
        let task = self.task(number);
        // It may have been tried again since.
        let is_late = retries && matches!(told.went, Went::Stuck(_));
        if !is_late && !task.past.contains(&told.text) {
            self.out(number, told);
        }
    }

    /// The outcome that the task has now.
    fn now(&mut self, number: u64, told: &Told) {
        let retries = self.retries;
        let task = self.task(number);
        if task.forgotten == Forgotten::Yes {
            self.complain(number, format_args!("J1: it was forgotten: {}", told.text));
            return;
        }
        let task = self.task(number);
        match &task.reopened {
            // Nobody has recorded it.
            Some(reopened) if told.text == reopened.from.text && !reopened.sure => task.close(),
            // It has got stuck like before.
            Some(reopened) if told.text == reopened.from.text && !reopened.ran => {
                self.complain(
                    number,
                    format_args!("J1: it goes on no more: {}", told.text),
                );
            }
            // The pipeline has tried it again by itself meanwhile.
            Some(reopened) if retries && reopened.ran && matches!(told.went, Went::Stuck(_)) => {}
            Some(_) => self.out(number, told),
            None => {
                let other = task
                    .outcome
                    .as_ref()
                    .is_some_and(|was| was.text != told.text);
                if retries && task.is_stuck() && other {
                    task.reopen(Reopen::Retry);
                }
                self.out(number, told);
            }
        }
    }

    fn out(&mut self, number: u64, told: &Told) {
        let (run, starts) = (self.run, self.starts.clone());
        let plan = (self.plan)(number);
        let task = self.task(number);
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
        let allowed = plan.allows(told, since().count() as u32, rolled_back as u32)
            || told.end == How::User && task.may_be_stopped;
        let reopened = task.reopened.take();
        let takes_back = reopened.as_ref().map(|reopened| reopened.how) == Some(Reopen::TakeBack);
        task.taken_back |= takes_back && told.end == How::TakenBack;
        let allowed = match told.end {
            How::TakenBack => task.taken_back,
            How::Quarantined => allowed,
            _ => allowed && !task.taken_back,
        };
        if !allowed {
            wrong.push("J1: it can't have ended like this".to_owned());
        }
        wrong.extend(reopened.and_then(|reopened| reopened.leads_to(told)));
        if task.stopped == Some(run) && task.round == 0 && told.end != How::User {
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
            let known = task.known.is_some() && task.forgotten != Forgotten::Yes;
            if known && task.outcome.is_none() {
                wrong.push((*number, "J1: it was accepted, and has no outcome"));
            } else if known && !task.kept {
                wrong.push((*number, "J1: its outcome is not kept"));
            }
            let stuck = task.is_stuck();
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

impl Reopened {
    /// The reason why this outcome can't have followed, if it can't.
    fn leads_to(&self, told: &Told) -> Option<String> {
        let fits = match (self.how, told.end, self.from.end) {
            // Undos may be at work at three kills, and then the end that there was before is shown.
            (_, How::Quarantined, _) | (Reopen::Retry, _, How::Quarantined) => true,
            (Reopen::TakeBack, end, _) => end == How::TakenBack,
            (Reopen::Retry, end, before) => end == before,
        };
        let how = self.how;
        (!fits).then(|| format!("J1: its end is another one by now ({how:?})"))
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
    let standing: Vec<&Held> = task.undos.iter().filter(|held| held.stands()).collect();
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
