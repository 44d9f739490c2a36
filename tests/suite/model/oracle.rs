//! The model: what must happen to one task, step by step, and what may end it from outside.

use batrun::{
    Outcome,
    state::{End, Rollback, StopCause},
};

use super::{
    script::{CancelFailure, Case, StageScript, TaskScript, Then, UndoScript},
    world::{Event, How},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Registered,
    Withdrawn,
    Cancelled,
    Failed,
}

#[derive(Clone, Debug)]
struct Undo {
    stage: usize,
    script: UndoScript,
    status: Status,
    tried: u32,
}

/// A task as the model sees it.
#[derive(Clone)]
struct Model<'a> {
    case: &'a Case,
    task: &'a TaskScript,
    undos: Vec<Undo>,
    trace: Vec<Event>,
    /// After each event, whether the task could be ended there, and the undos as they then were.
    cuts: Vec<(usize, Vec<Undo>, MidRun)>,
}

/// The stage that is at work, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MidRun {
    No,
    Yes { stage: usize },
}

/// The end of the forward part if nothing interferes.
#[derive(Debug, PartialEq, Eq)]
enum Forward {
    Done,
    Failed(usize),
    /// It hangs for ever.
    Hangs,
}

/// The facts about a task that are known from outside.
pub struct Facts<'a> {
    pub events: &'a [(f64, Event)],
    pub outcome: &'a Outcome,
    /// Those that it had when it was stuck, and tried again.
    pub again: &'a [Outcome],
    /// The time by which it has to be done.
    pub deadline_ms: Option<f64>,
    /// True if times mean anything, because the clock stood still.
    pub timed: bool,
}

impl<'a> Model<'a> {
    fn stage(&self, stage: usize) -> &'a StageScript {
        &self.case.stages[stage]
    }

    fn push(&mut self, event: Event) {
        self.trace.push(event);
    }

    fn cut(&mut self, mid_run: MidRun) {
        self.cuts
            .push((self.trace.len(), self.undos.clone(), mid_run));
    }

    /// Runs one undo as its stage's policy says; true if it worked in the end.
    fn cancel(&mut self, undo: usize, retries: u32, cuts: bool) -> bool {
        let script = self.undos[undo].script;
        for n in 0..=retries {
            self.undos[undo].tried += 1;
            self.push(Event::CancelStart { undo });
            let worked = self.undos[undo].tried > script.fails;
            self.push(Event::CancelEnd { undo, worked });
            if worked {
                self.undos[undo].status = Status::Cancelled;
                return true;
            }
            if script.how == CancelFailure::Permanent || n == retries {
                self.undos[undo].status = Status::Failed;
            } else {
                if cuts {
                    self.cut(MidRun::No);
                }
                continue;
            }
            return false;
        }
        false
    }

    fn ordered(&self, which: impl Fn(&Undo) -> bool) -> Vec<usize> {
        let mut undos: Vec<usize> = (0..self.undos.len())
            .filter(|n| which(&self.undos[*n]))
            .collect();
        if self.case.lifo {
            undos.reverse();
        }
        undos
    }

    /// The final rollback: its outcome.
    fn roll_back(&mut self) -> (usize, Vec<usize>) {
        let halts = |model: &Self, undo: usize| model.stage(model.undos[undo].stage).halt;
        let mut halted =
            (0..self.undos.len()).any(|n| self.undos[n].status == Status::Failed && halts(self, n));
        let mut cancelled = 0;
        for undo in self.ordered(|undo| undo.status == Status::Registered) {
            if halted {
                break;
            }
            let retries = self.stage(self.undos[undo].stage).cancel_retries;
            if self.cancel(undo, retries, false) {
                cancelled += 1;
            } else {
                halted = halts(self, undo);
            }
        }
        if !halted {
            for undo in self.ordered(|undo| undo.status == Status::Failed) {
                cancelled += usize::from(self.cancel(undo, 0, false));
            }
        }
        let left = self.ordered(|undo| matches!(undo.status, Status::Registered | Status::Failed));
        (cancelled, left)
    }

    /// The final rollback, and each time that what it left was tried again. The outcomes have to say so.
    fn ends(&mut self, rolls_back: bool, facts: &Facts<'_>) -> Result<(), String> {
        let (mut cancelled, mut left) = match rolls_back {
            true => self.roll_back(),
            false => (0, vec![]),
        };
        rollback_is(self, (cancelled, &left), facts.outcome)?;
        for again in facts.again {
            if left.is_empty() {
                return Err("tried again, and it was not stuck".to_owned());
            }
            if format!("{:?}", again.end) != format!("{:?}", facts.outcome.end) {
                return Err(format!("its end has become {:?}", again.end));
            }
            for undo in left {
                self.undos[undo].status = Status::Registered;
            }
            let more;
            (more, left) = self.roll_back();
            cancelled += more;
            rollback_is(self, (cancelled, &left), again)?;
        }
        Ok(())
    }

    /// Plays the task as it goes if nobody interferes. `gives_up` says whether the backoff after
    /// the failure that is this event would pass the deadline.
    fn forward(&mut self, gives_up: &dyn Fn(usize, &StageScript) -> bool) -> Forward {
        self.cut(MidRun::No);
        for stage in 0..self.case.stages.len() {
            let policy = self.stage(stage);
            let mut attempt = 1;
            loop {
                let first = self.undos.len();
                self.push(Event::Start { stage, attempt });
                let here = MidRun::Yes { stage };
                self.cut(here);
                let script = self.task.attempt(stage, attempt);
                for undo in &script.undos {
                    let number = self.undos.len();
                    let status = Status::Registered;
                    self.undos.push(Undo {
                        stage,
                        script: *undo,
                        status,
                        tried: 0,
                    });
                    self.push(Event::Undo {
                        stage,
                        undo: number,
                    });
                    self.cut(here);
                    if undo.withdrawn {
                        self.undos[number].status = Status::Withdrawn;
                        self.push(Event::Withdrawn { undo: number });
                        self.cut(here);
                    }
                }
                let overruns = policy
                    .timeout_ms
                    .is_some_and(|most| script.work_ms >= most || script.then == Then::Hang);
                let (how, again) = match script.then {
                    _ if overruns => (How::Dropped, true),
                    Then::Ok => (How::Returned(true), false),
                    Then::Fail => (How::Returned(false), true),
                    Then::FailForGood => (How::Returned(false), false),
                    Then::Panic => (How::Panicked, false),
                    Then::Hang => return Forward::Hangs,
                };
                self.push(Event::End { stage, how });
                let failed_at = self.trace.len() - 1;
                if how == How::Returned(true) {
                    // The last stage's result ends the task.
                    if stage + 1 < self.case.stages.len() {
                        self.cut(MidRun::No);
                    }
                    break;
                }
                if !again || attempt > policy.retries || gives_up(failed_at, policy) {
                    return Forward::Failed(stage);
                }
                self.cut(MidRun::No);
                let of_attempt = self.ordered(|undo| undo.status == Status::Registered);
                for undo in of_attempt.into_iter().filter(|undo| *undo >= first) {
                    if !self.cancel(undo, policy.cancel_retries, true) {
                        // An end from outside may still come in before this one is noticed.
                        self.cut(MidRun::No);
                        return Forward::Failed(stage);
                    }
                    self.cut(MidRun::No);
                }
                attempt += 1;
            }
        }
        Forward::Done
    }
}

/// Checks one task: the sequence of what its stages did and its outcome against the model.
pub fn check(case: &Case, task: &TaskScript, facts: &Facts<'_>) -> Result<(), String> {
    let by_the_look = check_as(case, task, facts, true);
    if facts.timed || facts.deadline_ms.is_none() {
        return by_the_look;
    }
    // Without a clock to go by, a task whose next attempt would have come too late looks like one
    // whose clean-up failed for good: both fail, and no other attempt follows.
    by_the_look.or_else(|why| check_as(case, task, facts, false).map_err(|_| why))
}

/// `may_give_up`: whether a backoff may have been one that would pass the deadline.
fn check_as(
    case: &Case,
    task: &TaskScript,
    facts: &Facts<'_>,
    may_give_up: bool,
) -> Result<(), String> {
    let events: Vec<Event> = facts.events.iter().map(|(_, event)| *event).collect();
    let gives_up = |failed_at: usize, stage: &StageScript| match facts.deadline_ms {
        Some(deadline) if facts.timed => facts
            .events
            .get(failed_at)
            .is_some_and(|(at, _)| at + stage.backoff_ms as f64 >= deadline - 1e-6),
        // Without a clock to go by: if it ended by itself, it did where no other attempt follows.
        Some(_) => {
            let after = &events[(failed_at + 1).min(events.len())..];
            let goes_on = after
                .iter()
                .any(|event| matches!(event, Event::Start { .. }));
            may_give_up && matches!(facts.outcome.end, End::Failed { .. }) && !goes_on
        }
        None => false,
    };
    let mut model = Model {
        case,
        task,
        undos: Vec::new(),
        trace: Vec::new(),
        cuts: Vec::new(),
    };
    let forward = model.forward(&gives_up);
    let describe = || {
        format!(
            "\n  saw   {events:?}\n  model {:?}\n  {:?}, then {:?}",
            model.trace, facts.outcome, facts.again
        )
    };
    let by_itself = match &facts.outcome.end {
        End::Done => Some(forward == Forward::Done),
        End::Failed { stage, .. } => {
            Some(matches!(forward, Forward::Failed(at) if **stage == format!("s{at}")))
        }
        _ => None,
    };
    match by_itself {
        Some(false) => {
            return Err(format!(
                "the end is not the script's, {forward:?}{}",
                describe()
            ));
        }
        Some(true) => {
            let mut end = model.clone();
            let ended = end.ends(forward != Forward::Done, facts);
            if end.trace != events {
                return Err(format!(
                    "not the script's sequence, {:?}{}",
                    end.trace,
                    describe()
                ));
            }
            return ended.map_err(|e| e + &describe());
        }
        None => {}
    }
    // Ended from outside: somewhere along the way, and then its rollback.
    for (at, undos, mid_run) in &model.cuts {
        if events.len() < *at || events[..*at] != model.trace[..*at] {
            continue;
        }
        let mut cut = Model {
            undos: undos.clone(),
            trace: events[..*at].to_vec(),
            ..model.clone()
        };
        if let MidRun::Yes { stage } = *mid_run
            && !stops(&mut cut, &events, stage, task)
        {
            continue;
        }
        if cut.ends(true, facts).is_ok() && cut.trace == events {
            return Ok(());
        }
    }
    Err(format!(
        "ended from outside, but nowhere along the way{}",
        describe()
    ))
}

/// Plays the rest of the stage after the end was taken: it may have registered undos (and been told
/// not to go on), and it stopped.
fn stops(cut: &mut Model<'_>, events: &[Event], stage: usize, task: &TaskScript) -> bool {
    let attempt = cut.trace.iter().rev().find_map(|event| match event {
        Event::Start { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let Some(attempt) = attempt else { return false };
    let in_run = |event: &&Event| !matches!(event, Event::Start { .. });
    let mut registered = cut
        .trace
        .iter()
        .rev()
        .take_while(in_run)
        .filter(|event| matches!(event, Event::Undo { .. }))
        .count();
    for event in &events[cut.trace.len()..] {
        cut.trace.push(*event);
        match event {
            Event::Undo { .. } => {
                let undos = &task.attempt(stage, attempt).undos;
                let Some(script) = undos.get(registered) else {
                    return false;
                };
                registered += 1;
                let status = Status::Registered;
                cut.undos.push(Undo {
                    stage,
                    script: *script,
                    status,
                    tried: 0,
                });
            }
            Event::Withdrawn { undo } => cut.undos[*undo].status = Status::Withdrawn,
            Event::End { .. } => return true,
            _ => return false,
        }
    }
    false
}

fn rollback_is(
    model: &Model<'_>,
    (cancelled, left): (usize, &[usize]),
    outcome: &Outcome,
) -> Result<(), String> {
    let stages = |undos: &[usize]| -> Vec<String> {
        undos
            .iter()
            .map(|undo| format!("s{}", model.undos[*undo].stage))
            .collect()
    };
    let fits = match &outcome.rollback {
        Rollback::None => cancelled == 0 && left.is_empty(),
        Rollback::Complete { undos } => *undos == cancelled && cancelled > 0 && left.is_empty(),
        Rollback::Stuck(stuck) => {
            let named: Vec<String> = stuck.undos.iter().map(|u| u.stage.to_string()).collect();
            !left.is_empty() && named == stages(left) && stuck.still_running.is_none()
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "rollback should have {cancelled} cancelled, left {left:?}"
        ))
    }
}

/// Checks who ended a task against what was asked of it.
pub fn end_is_due(
    facts: &Facts<'_>,
    cancel_took: Option<bool>,
    shut_down: bool,
) -> Result<(), String> {
    let end = &facts.outcome.end;
    let by_user = matches!(
        end,
        End::Cancelled {
            cause: StopCause::User,
            ..
        }
    );
    if by_user != (cancel_took == Some(true)) {
        return Err(format!(
            "cancel() said {cancel_took:?}, but the end is {end:?}"
        ));
    }
    if matches!(end, End::TimedOut { .. }) && facts.deadline_ms.is_none() {
        return Err("timed out without a deadline".to_owned());
    }
    if matches!(
        end,
        End::Cancelled {
            cause: StopCause::Shutdown,
            ..
        }
    ) && !shut_down
    {
        return Err("cancelled by a shutdown that wasn't".to_owned());
    }
    let Some(deadline) = facts.deadline_ms.filter(|_| facts.timed) else {
        return Ok(());
    };
    for (at, event) in facts.events {
        if matches!(event, Event::Start { .. }) && *at >= deadline {
            return Err(format!(
                "started at {at} ms, after its deadline at {deadline} ms"
            ));
        }
    }
    let by_itself = matches!(end, End::Done | End::Failed { .. });
    let last_end = facts
        .events
        .iter()
        .rev()
        .find(|(_, event)| matches!(event, Event::End { .. }));
    if let (true, Some((at, _))) = (by_itself, last_end)
        && *at >= deadline
    {
        return Err(format!(
            "{end:?} at {at} ms, after its deadline at {deadline} ms"
        ));
    }
    // G8: what runs at the deadline is dropped there, give or take the timer's step.
    for (at, event) in facts.events {
        if matches!(event, Event::End { .. }) && *at > deadline + 2.5 {
            return Err(format!(
                "still ran at {at} ms, its deadline was at {deadline} ms"
            ));
        }
    }
    Ok(())
}
