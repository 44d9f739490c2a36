//! The rules that the log of two nodes keeps, whatever the moment at which the second one took over.
//!
//! A node that was buried may still begin what it had leave to, until it learns of it (C2). What it does to a task
//! after the other one has it is left out, except that no undo of its may be lost.

use batrun::{
    Outcome,
    report::Report,
    state::{End, StopCause},
};

use super::{
    script::{Case, Then},
    world::{Entry, Event, How},
};

/// The end of a task, as it was told.
pub(super) struct Fate {
    /// By the last node.
    pub(super) outcome: Option<Outcome<u32>>,
    /// By the ticket, if that had an answer.
    pub(super) told: Option<Outcome<u32>>,
    /// The answer of `cancel_anywhere`, if that was asked.
    pub(super) cancelled: Option<bool>,
}

type Checked = Result<(), String>;

pub(super) fn check(
    case: &Case,
    log: &[Entry],
    fates: &[Fate],
    reports: [&Report; 2],
    is_killed: bool,
) -> Checked {
    for (task, fate) in fates.iter().enumerate() {
        let events: Vec<(u32, Event)> = log
            .iter()
            .filter(|entry| entry.task == task)
            .map(|entry| (entry.node, entry.event))
            .collect();
        let outcome = fate.outcome.as_ref();
        let outcome = outcome.ok_or_else(|| format!("task {task} is unknown"))?;
        let looks = Task {
            case,
            task,
            events: &events,
            outcome,
            is_killed,
        };
        told(fate, outcome)
            .and_then(|()| looks.check())
            .map_err(|why| {
                let script = &case.tasks[task];
                let stages = &case.stages;
                format!(
                    "task {task}: {why}\n  {outcome:?}\n  {events:?}\n  {script:?}\n  {stages:?}"
                )
            })?;
    }
    let suspended = log.iter().position(|entry| entry.event == Event::Suspended);
    if let Some(at) = suspended
        && let Some(late) = log[at + 1..].iter().find(|entry| entry.node == 1)
    {
        return Err(format!("C2: after its report, the first node did {late:?}"));
    }
    counts(fates, reports)
}

/// One outcome, wherever one looks (C1, J1), which a cancel that was carried out decides (C5).
fn told(fate: &Fate, outcome: &Outcome<u32>) -> Checked {
    let text = outcome.to_string();
    if let Some(told) = fate.told.as_ref().map(ToString::to_string)
        && told != text
    {
        return Err(format!("J1: its ticket said: {told}"));
    }
    let is_cancelled = matches!(
        outcome.end,
        End::Cancelled {
            cause: StopCause::User,
            ..
        }
    );
    match (&outcome.end, fate.cancelled) {
        (_, Some(true)) if !is_cancelled => Err("C5: it was cancelled".to_owned()),
        (End::Cancelled { .. }, None) => Err("J1: nobody cancelled it".to_owned()),
        (End::Cancelled { .. }, _) if !is_cancelled => Err("J1: no shutdown cancels".to_owned()),
        _ if outcome.rollback.is_stuck() => Err("J2: its undos all work".to_owned()),
        _ => Ok(()),
    }
}

/// Each node has counted each of its tasks once, and both together each outcome once.
fn counts(fates: &[Fate], reports: [&Report; 2]) -> Checked {
    let [first, second] = reports.map(|report| report.counts);
    for counts in [first, second] {
        let ended = counts.done + counts.failed + counts.timed_out + counts.cancelled;
        if counts.accepted != ended + counts.suspended + counts.released {
            return Err(format!("G1: a count is missing: {counts:?}"));
        }
    }
    let count = |is: fn(&End) -> bool| {
        let outcomes = fates.iter().flat_map(|fate| &fate.outcome);
        outcomes.filter(|outcome| is(&outcome.end)).count() as u64
    };
    let told = [
        count(|end| matches!(end, End::Done)),
        count(|end| matches!(end, End::Failed { .. })),
        count(|end| matches!(end, End::TimedOut { .. })),
        count(|end| matches!(end, End::Cancelled { .. })),
    ];
    let counted = [
        first.done + second.done,
        first.failed + second.failed,
        first.timed_out + second.timed_out,
        first.cancelled + second.cancelled,
    ];
    // One whose outcome was being recorded when its node was suspended is counted as suspended.
    let may_lack = first.suspended > 0;
    let fits = |(told, counted): (&u64, &u64)| told == counted || (may_lack && counted < told);
    if !told.iter().zip(&counted).all(fits) {
        return Err(format!("C1: outcomes {told:?}: {first:?}, {second:?}"));
    }
    let lacking = told.iter().sum::<u64>() - counted.iter().sum::<u64>();
    let went_on = second.accepted - second.released;
    let ended = fates.len() as u64;
    if first.accepted + went_on != ended + first.released + first.suspended - lacking {
        return Err(format!("C1: {ended} tasks: {first:?}, {second:?}"));
    }
    Ok(())
}

struct Task<'a> {
    case: &'a Case,
    task: usize,
    events: &'a [(u32, Event)],
    outcome: &'a Outcome<u32>,
    is_killed: bool,
}

/// An attempt, and the undos that it registered.
#[derive(Debug)]
struct Attempt {
    at: usize,
    node: u32,
    stage: usize,
    number: u32,
    fence: u64,
    end: Option<How>,
    undos: Vec<usize>,
}

impl Task<'_> {
    fn check(&self) -> Checked {
        let takeover = self.events.iter().position(|(node, _)| *node == 2);
        let is_late = |at: usize| self.events[at].0 == 1 && takeover.is_some_and(|from| at > from);
        if !self.is_killed && (0..self.events.len()).any(is_late) {
            return Err("C1: both nodes had it at once".to_owned());
        }
        let undone = self.undone()?;
        let attempts = self.attempts(&is_late, &undone)?;
        self.one_at_a_time()?;
        for pair in attempts.windows(2) {
            self.follows(&pair[0], &pair[1], &undone)?;
        }
        self.end(&attempts, &undone)
    }

    /// The undos in the order in which they were through, each with the place of that.
    fn undone(&self) -> Result<Vec<(usize, usize)>, String> {
        let by = |node: u32| -> Vec<(usize, usize)> {
            let events = self.events.iter().enumerate();
            events
                .filter_map(|(at, (by, event))| match event {
                    Event::UndoEnd { undo, worked: true } if *by == node => Some((*undo, at)),
                    _ => None,
                })
                .collect()
        };
        let (mut first, second) = (by(1), by(2));
        // One that had run may lack its record, and runs again.
        if let (Some((last, _)), Some((next, _))) = (first.last(), second.first())
            && last == next
        {
            first.pop();
        }
        first.extend(second);
        let mut undos: Vec<usize> = first.iter().map(|(undo, _)| *undo).collect();
        undos.sort_unstable();
        if undos.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("J3: an undo ran twice".to_owned());
        }
        Ok(first)
    }

    /// The attempts before another node had it, and that node's. Undos count if they were registered or ran.
    fn attempts(
        &self,
        is_late: &impl Fn(usize) -> bool,
        undone: &[(usize, usize)],
    ) -> Result<Vec<Attempt>, String> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let counts = |undo: usize| {
            let is_kept = |(_, event): &(u32, Event)| *event == Event::Registered { undo };
            self.events.iter().any(is_kept) || undone.iter().any(|(ran, _)| *ran == undo)
        };
        for (at, (node, event)) in self.events.iter().enumerate() {
            let last = attempts.iter_mut().rev().find(|last| last.node == *node);
            match *event {
                Event::Start {
                    stage,
                    attempt,
                    fence,
                } if !is_late(at) => attempts.push(Attempt {
                    at,
                    node: *node,
                    stage,
                    number: attempt,
                    fence,
                    end: None,
                    undos: Vec::new(),
                }),
                Event::Start { .. } => {}
                Event::Asks { undo, .. } if counts(undo) => match last {
                    Some(last) => last.undos.push(undo),
                    None => return Err("J2: an undo without an attempt".to_owned()),
                },
                Event::End { how, .. } => {
                    if let Some(last) = last.filter(|last| last.end.is_none()) {
                        last.end = Some(how);
                    }
                }
                _ => {}
            }
        }
        Ok(attempts)
    }

    /// G5: on each node, one call at a time.
    fn one_at_a_time(&self) -> Checked {
        for node in [1, 2] {
            let mut open = 0;
            for (_, event) in self.events.iter().filter(|(by, _)| *by == node) {
                match event {
                    Event::Start { .. } | Event::UndoStart { .. } => open += 1,
                    Event::End { .. } | Event::UndoEnd { .. } => open -= 1,
                    _ => {}
                }
                if open > 1 {
                    return Err("G5: two of its calls at once".to_owned());
                }
            }
        }
        Ok(())
    }

    fn follows(&self, one: &Attempt, next: &Attempt, undone: &[(usize, usize)]) -> Checked {
        let wrong = |why: &str| Err(format!("{why}: {one:?}, then {next:?}"));
        let fences = one.fence.cmp(&next.fence);
        if fences != one.node.cmp(&next.node) {
            return wrong("C2: the fence");
        }
        if one.stage != next.stage {
            let passed = one.end == Some(How::Passed) && next.stage == one.stage + 1;
            return match passed && next.number == 1 {
                true => Ok(()),
                false => wrong("J3: the next stage"),
            };
        }
        // An attempt counts once its beginning is written, which is before its first undo.
        let may_repeat = self.is_killed && one.node != next.node && one.undos.is_empty();
        if next.number < one.number || (next.number == one.number && !may_repeat) {
            return wrong("J3: the attempt's number");
        }
        let cleaned = |undo: &usize| undone.iter().any(|(ran, at)| ran == undo && *at < next.at);
        match one.undos.iter().all(cleaned) {
            true => Ok(()),
            false => wrong("G10: not cleaned up"),
        }
    }

    /// The end, and which undos have run after the last attempt.
    fn end(&self, attempts: &[Attempt], undone: &[(usize, usize)]) -> Checked {
        let last = attempts.last();
        let from = last.map_or(0, |last| last.at);
        let script = &self.case.tasks[self.task];
        match &self.outcome.end {
            End::Done => {
                let stages = self.case.stages.len();
                if last.is_none_or(|last| last.stage + 1 < stages || last.end != Some(How::Passed))
                {
                    return Err("J1: done, and its last stage has not passed".to_owned());
                }
                if self.outcome.output != Some(self.task as u32) {
                    return Err("J1: another output".to_owned());
                }
                let kept = |n: usize| {
                    let next = attempts.get(n + 1);
                    next.is_none_or(|next| next.stage > attempts[n].stage)
                };
                for (n, attempt) in attempts.iter().enumerate().filter(|(n, _)| kept(*n)) {
                    let ran = |undo: &usize| undone.iter().any(|(ran, _)| ran == undo);
                    if attempt.undos.iter().any(ran) {
                        return Err(format!("J1: done, and attempt {n} was undone"));
                    }
                }
                return Ok(());
            }
            End::Failed { stage, .. } => {
                let Some(last) = last.filter(|last| **stage == format!("s{}", last.stage)) else {
                    return Err("J1: failed in a stage that was not the last".to_owned());
                };
                self.failed(last, attempts)?;
            }
            End::TimedOut { .. } if script.timeout_ms.is_none() => {
                return Err("G8: it had no deadline".to_owned());
            }
            _ => {}
        }
        let is_before = |undo: &usize| undone.iter().any(|(ran, at)| ran == undo && *at < from);
        let undos = attempts.iter().flat_map(|attempt| &attempt.undos);
        let standing: Vec<usize> = undos.copied().filter(|undo| !is_before(undo)).collect();
        let ran: Vec<usize> = undone
            .iter()
            .filter(|(_, at)| *at > from)
            .map(|(undo, _)| *undo)
            .collect();
        // The last attempt may have been cleaned up in part when the end came.
        let of_last = last.map_or(&[][..], |last| &last.undos);
        let cleaned = self.ordered(of_last.to_vec());
        let fits = (0..=cleaned.len()).any(|n| {
            let rest = standing.iter().filter(|undo| !cleaned[..n].contains(undo));
            let wanted = [&cleaned[..n], &self.ordered(rest.copied().collect())].concat();
            wanted == ran
        });
        match fits {
            true => Ok(()),
            false => Err(format!("G3, J2: {standing:?} stood, and {ran:?} ran")),
        }
    }

    /// A task fails where no try is left. An interrupted one uses up none.
    fn failed(&self, last: &Attempt, attempts: &[Attempt]) -> Checked {
        let stage = &self.case.stages[last.stage];
        let then = self.case.attempt(self.task, last.stage, last.number).then;
        let here: Vec<&Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.stage == last.stage)
            .collect();
        // One that returned once its time was up has failed, too.
        let failed = matches!(last.end, Some(How::Failed | How::Panicked | How::Refused));
        if !failed && stage.timeout_ms.is_none() {
            return Err("J1: it failed, and its last attempt did not".to_owned());
        }
        let tries = stage.retries as usize + 1;
        let is_cut_short = matches!(then, Then::FailForGood | Then::Panic)
            || self.case.tasks[self.task].timeout_ms.is_some();
        let interrupted = usize::from(here.iter().any(|one| one.node != last.node));
        if here.len() > tries + interrupted || (here.len() < tries && !is_cut_short) {
            let had = here.len();
            return Err(format!("J3: it had {had} attempts, and {tries} tries"));
        }
        Ok(())
    }

    fn ordered(&self, mut undos: Vec<usize>) -> Vec<usize> {
        undos.sort_unstable();
        if self.case.lifo {
            undos.reverse();
        }
        undos
    }
}
