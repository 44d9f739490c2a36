//! Logs made by hand: good ones, and each complaint once.

use super::*;
use crate::plan::{Act, Back, Step};

const NUMBER: u64 = 7;
const TASK: u64 = 1;

fn undo(stage: u16, run: u32, attempt: u32) -> Undo {
    Undo {
        number: NUMBER,
        stage,
        run,
        attempt,
        nth: 0,
    }
}

fn boot(run: u32) -> Vec<Line> {
    vec![Line::Boot {
        run,
        rolls_back: false,
        retries: false,
    }]
}

/// The first process, and a task.
fn submitted() -> Vec<Line> {
    let (number, task) = (NUMBER, TASK);
    let more = [Line::Ask { number }, Line::Submitted { number, task }];
    [boot(1), more.into()].concat()
}

fn start(stage: u16, attempt: u32, generation: u32) -> Vec<Line> {
    vec![Line::Start(Start {
        number: NUMBER,
        task: TASK,
        stage,
        attempt,
        generation,
    })]
}

fn effect(undo: Undo) -> Vec<Line> {
    vec![Line::Wants(undo), Line::Has(undo), Line::Did(undo)]
}

fn passes() -> Vec<Line> {
    vec![Line::Passes { number: NUMBER }]
}

fn fails(for_good: bool) -> Vec<Line> {
    let number = NUMBER;
    vec![Line::Fails { number, for_good }]
}

/// A stage that passes in its first attempt.
fn stage(stage: u16, run: u32) -> Vec<Line> {
    let effect = effect(undo(stage, run, 1));
    [start(stage, 1, 0), effect, passes()].concat()
}

fn calls(undo: Undo, attempt: u32, generation: u32) -> Line {
    Line::Back {
        undo,
        task: TASK,
        attempt,
        generation,
    }
}

fn back(undo: Undo) -> Vec<Line> {
    vec![calls(undo, 1, 0), Line::Undone(undo)]
}

fn told(end: How, went: Went) -> Told {
    let text = format!("{end:?}, {went:?}");
    Told { end, went, text }
}

fn kept(end: How, went: Went) -> Vec<Line> {
    let told = told(end, went);
    let (number, task) = (NUMBER, TASK);
    vec![Line::Kept { number, task, told }, Line::End]
}

fn done() -> Vec<Line> {
    kept(How::Done, Went::Back(0))
}

fn failed(undos: usize) -> Vec<Line> {
    kept(How::Permanent, Went::Back(undos))
}

fn plan(change: impl Fn(&mut [Step; 3])) -> Plan {
    let mut plan = Plan::plain();
    change(&mut plan.steps);
    plan
}

/// It fails for good in the second stage.
fn failing() -> Plan {
    plan(|steps| steps[1].act = Act::FailForGood)
}

/// Up to that.
fn failing_log() -> Vec<Line> {
    let effect = effect(undo(1, 1, 1));
    let second = [start(1, 1, 0), effect, fails(true)].concat();
    [submitted(), stage(0, 1), second].concat()
}

/// The second stage is killed after its effect.
fn killed() -> Vec<Line> {
    let effect = effect(undo(1, 1, 1));
    [submitted(), stage(0, 1), start(1, 1, 0), effect, boot(2)].concat()
}

/// And started again.
fn resumed() -> Vec<Line> {
    let effect = effect(undo(1, 2, 2));
    [start(1, 2, 1), effect, passes(), stage(2, 2)].concat()
}

fn complaints(plan: &Plan, parts: &[Vec<Line>]) -> Vec<String> {
    check(&parts.concat(), |_| plan.clone())
}

fn good(plan: &Plan, parts: &[Vec<Line>]) {
    assert_eq!(complaints(plan, parts), Vec::<String>::new());
}

/// One of the complaints has this in it.
#[track_caller]
fn bad(text: &str, plan: &Plan, parts: &[Vec<Line>]) {
    let complaints = complaints(plan, parts);
    let said = complaints.iter().any(|complaint| complaint.contains(text));
    assert!(said, "{text:?} is not among {complaints:#?}");
}

#[test]
fn a_log_that_keeps_every_promise_is_good() {
    let plain = Plan::plain();
    good(
        &plain,
        &[submitted(), stage(0, 1), stage(1, 1), stage(2, 1), done()],
    );
    good(&plain, &[killed(), back(undo(1, 1, 1)), resumed(), done()]);
    let rolled = [back(undo(0, 1, 1)), back(undo(1, 1, 1))].concat();
    good(&failing(), &[failing_log(), rolled, failed(2)]);
}

#[test]
fn a_kill_may_repeat_what_was_not_recorded() {
    let plain = Plan::plain();
    // The first start, which nothing follows from.
    let again = [start(0, 1, 0), boot(2), stage(0, 2)].concat();
    good(
        &plain,
        &[submitted(), again, stage(1, 2), stage(2, 2), done()],
    );
    // A stage that had returned.
    let first = [start(0, 2, 1), effect(undo(0, 2, 2)), passes()].concat();
    let rest = [back(undo(0, 1, 1)), first, stage(1, 2), stage(2, 2)].concat();
    good(&plain, &[submitted(), stage(0, 1), boot(2), rest, done()]);
    // The undo that ran at the kill.
    let again = [calls(undo(0, 1, 1), 2, 0), Line::Undone(undo(0, 1, 1))].to_vec();
    let rolled = [back(undo(0, 1, 1)), boot(2), again, back(undo(1, 1, 1))].concat();
    good(&failing(), &[failing_log(), rolled, failed(2)]);
}

#[test]
fn an_accepted_task_is_not_lost() {
    let lost = [Line::Nothing { number: NUMBER }, Line::End].to_vec();
    bad("has no outcome", &Plan::plain(), &[submitted(), lost]);
    let (task, told) = (TASK, told(How::TimedOut, Went::Back(0)));
    let forgotten = [Line::Out { task, told }, Line::End].to_vec();
    bad("is not kept", &Plan::plain(), &[submitted(), forgotten]);
    bad("did not end well", &Plan::plain(), &[submitted()]);
    // A task that was never accepted may be lost.
    let asked = [boot(1), vec![Line::Ask { number: NUMBER }, Line::End]];
    good(&Plan::plain(), &asked);
}

#[test]
fn a_task_has_one_outcome_and_nothing_after_it() {
    let all = [submitted(), stage(0, 1), stage(1, 1), stage(2, 1)].concat();
    let (task, told) = (TASK, told(How::TimedOut, Went::Back(0)));
    let other = vec![Line::Out { task, told }];
    bad(
        "two outcomes",
        &Plan::plain(),
        &[all.clone(), other, done()],
    );
    let after = [boot(2), back(undo(0, 1, 1)), vec![Line::End]].concat();
    bad(
        "after its outcome",
        &Plan::plain(),
        &[all.clone(), done(), after],
    );
    let after = [boot(2), start(2, 2, 0), vec![Line::End]].concat();
    bad("after its outcome", &Plan::plain(), &[all, done(), after]);
    let nobody = vec![Line::Out {
        task: 99,
        told: self::told(How::Done, Went::Back(0)),
    }];
    bad(
        "nobody has submitted",
        &Plan::plain(),
        &[submitted(), nobody],
    );
}

#[test]
fn an_id_belongs_to_one_task() {
    let (number, task) = (NUMBER, 2);
    let other = vec![Line::Submitted { number, task }];
    bad("another id", &Plan::plain(), &[submitted(), other]);
    let (number, task) = (8, TASK);
    let other = vec![Line::Submitted { number, task }];
    bad("another one's", &Plan::plain(), &[submitted(), other]);
}

#[test]
fn a_task_ends_as_its_plan_says() {
    let all = [submitted(), stage(0, 1), stage(1, 1), stage(2, 1)].concat();
    bad("can't have ended", &failing(), &[all, done()]);
    bad(
        "can't have ended",
        &Plan::plain(),
        &[failing_log(), failed(2)],
    );
    // Nothing was killed, and no restart rolled back.
    let interrupted = kept(How::Interrupted, Went::Back(0));
    bad(
        "can't have ended",
        &Plan::plain(),
        &[submitted(), interrupted],
    );
    let recovery = kept(How::Recovery, Went::Back(0));
    bad(
        "can't have ended",
        &Plan::plain(),
        &[submitted(), boot(2), recovery],
    );
    let (number, took) = (NUMBER, true);
    let stopped = vec![Line::Stop { number, took }];
    bad(
        "cancelled first",
        &failing(),
        &[failing_log(), stopped, failed(2)],
    );
}

#[test]
fn a_done_task_has_all_its_effects() {
    let plain = Plan::plain();
    bad(
        "2 stages passed",
        &plain,
        &[submitted(), stage(0, 1), stage(1, 1), done()],
    );
    let last = [start(2, 1, 0), passes()].concat();
    let all = [submitted(), stage(0, 1), stage(1, 1)].concat();
    bad("is missing", &plain, &[all.clone(), last, done()]);
    let last = [stage(2, 1), back(undo(0, 1, 1))].concat();
    bad("was taken back", &plain, &[all.clone(), last, done()]);
    let out = start(2, 1, 0);
    bad("left out", &plain, &[submitted(), stage(0, 1), out]);
    bad("in the middle", &plain, &[submitted(), stage(1, 1)]);
}

#[test]
fn a_task_that_is_not_done_is_rolled_back() {
    let first = back(undo(0, 1, 1));
    // An undo was lost with the process.
    bad(
        "is not taken back",
        &failing(),
        &[failing_log(), first.clone(), failed(1)],
    );
    let rolled = [first, back(undo(1, 1, 1))].concat();
    bad(
        "it says 1 undos",
        &failing(),
        &[failing_log(), rolled.clone(), failed(1)],
    );
    good(&failing(), &[failing_log(), rolled, failed(2)]);
    let wrong_way = [back(undo(1, 1, 1)), back(undo(0, 1, 1))].concat();
    bad(
        "registered earlier",
        &failing(),
        &[failing_log(), wrong_way, failed(2)],
    );
    let at_once = vec![calls(undo(0, 1, 1), 1, 0), calls(undo(1, 1, 1), 1, 0)];
    bad("two undos at once", &failing(), &[failing_log(), at_once]);
    bad(
        "nobody registered",
        &failing(),
        &[failing_log(), back(undo(2, 1, 1))],
    );
}

#[test]
fn a_withdrawn_undo_does_not_run() {
    let gone = undo(1, 1, 1);
    let withdrawn = vec![
        Line::Wants(gone),
        Line::Has(gone),
        Line::Leaves(gone),
        Line::Left(gone),
    ];
    let plan = plan(|steps| (steps[1].undos, steps[1].act) = (0, Act::FailForGood));
    let log = [
        submitted(),
        stage(0, 1),
        start(1, 1, 0),
        withdrawn,
        fails(true),
    ]
    .concat();
    let first = back(undo(0, 1, 1));
    good(&plan, &[log.clone(), first.clone(), failed(1)]);
    bad("was withdrawn", &plan, &[log, first, back(gone), failed(2)]);
}

#[test]
fn an_attempt_starts_clean_and_counts_on() {
    let plain = Plan::plain();
    let clean = back(undo(1, 1, 1));
    bad(
        "of the one before stands",
        &plain,
        &[killed(), start(1, 2, 0)],
    );
    bad(
        "generation",
        &plain,
        &[killed(), clean.clone(), start(1, 2, 0)],
    );
    // It had registered an undo, so its start was recorded.
    bad(
        "doesn't go up",
        &plain,
        &[killed(), clean.clone(), start(1, 1, 1)],
    );
    let early = [
        submitted(),
        boot(2),
        start(0, 1, 0),
        boot(3),
        start(0, 1, 0),
    ];
    bad("doesn't go up", &plain, &early);
    let cleaned = [killed(), clean.clone()].concat();
    bad(
        "that had finished",
        &plain,
        &[cleaned.clone(), start(0, 2, 0)],
    );
    let twice = [submitted(), start(0, 1, 0), start(0, 2, 0)];
    bad("had not failed", &plain, &twice);
    bad(
        "rollback had begun",
        &plain,
        &[cleaned, back(undo(0, 1, 1)), start(1, 2, 1)],
    );
}

#[test]
fn an_undo_recorded_as_run_does_not_run_again() {
    let (first, second) = (undo(0, 1, 1), undo(1, 1, 1));
    let again = [calls(first, 2, 0), Line::Undone(first)].to_vec();
    let twice = [back(first), again.clone()].concat();
    bad("twice in one process", &failing(), &[failing_log(), twice]);
    // The second one follows on the record of the first.
    let recorded = [back(first), vec![calls(second, 1, 0)], boot(2), again].concat();
    bad("as recorded", &failing(), &[failing_log(), recorded]);
    let lower = [
        boot(2),
        vec![calls(first, 1, 0)],
        boot(3),
        vec![calls(first, 1, 0)],
    ]
    .concat();
    bad("undo's attempts", &failing(), &[failing_log(), lower]);
    let key = vec![calls(first, 1, 1)];
    bad("registered with", &failing(), &[failing_log(), key]);
}

#[test]
fn a_restart_to_roll_back_starts_nothing() {
    let boot = vec![Line::Boot {
        run: 2,
        rolls_back: true,
        retries: false,
    }];
    let clean = back(undo(1, 1, 1));
    let killed = killed();
    let killed = killed[..killed.len() - 1].to_vec();
    let parts = [killed.clone(), boot.clone(), clean.clone(), start(1, 2, 1)];
    bad("was to roll back", &Plan::plain(), &parts);
    // Nor does it clean up first.
    bad(
        "registered earlier",
        &Plan::plain(),
        &[killed.clone(), boot.clone(), clean.clone()],
    );
    let end = kept(How::Recovery, Went::Back(2));
    let first = back(undo(0, 1, 1));
    good(&Plan::plain(), &[killed, boot, first, clean, end]);
}

#[test]
fn undos_that_are_left_are_listed() {
    let (first, second) = (undo(0, 1, 1), undo(1, 1, 1));
    let plan = plan(|steps| {
        steps[0].back = Back::FailsAlways;
        steps[1].act = Act::FailForGood;
    });
    let fails = [calls(first, 1, 0), Line::NotUndone(first)].to_vec();
    let rolled = [fails, back(second)].concat();
    let stuck = |undos: &[Undo]| {
        let left = undos.iter().map(|undo| format!("{undo:?}")).collect();
        kept(How::Permanent, Went::Stuck(left))
    };
    let listed = vec![Line::Stuck { task: TASK }];
    good(
        &plan,
        &[
            failing_log(),
            rolled.clone(),
            listed.clone(),
            stuck(&[first]),
        ],
    );
    bad(
        "not in the list",
        &plan,
        &[failing_log(), rolled.clone(), stuck(&[first])],
    );
    bad(
        "not listed",
        &plan,
        &[failing_log(), rolled.clone(), listed.clone(), stuck(&[])],
    );
    let both = stuck(&[first, second]);
    bad(
        "no run of it failed",
        &plan,
        &[failing_log(), rolled.clone(), listed, both],
    );
    bad(
        "and it is not stuck",
        &plan,
        &[failing_log(), rolled, failed(1)],
    );
}

#[test]
fn a_task_set_aside_lists_the_undos_that_stand() {
    let cancel = |run| [boot(run), vec![calls(undo(0, 1, 1), run, 0)]].concat();
    let log = [failing_log(), cancel(2), cancel(3), cancel(4), boot(5)].concat();
    let listed = vec![Line::Stuck { task: TASK }];
    let left = |undos: usize| {
        let left = vec!["undo, as the journal has it".to_owned(); undos];
        kept(How::Quarantined, Went::Stuck(left))
    };
    good(&failing(), &[log.clone(), listed.clone(), left(2)]);
    bad("undos are left", &failing(), &[log, listed, left(1)]);
}

#[test]
fn a_line_that_was_cut_short_is_ignored() {
    let whole = serde_json::to_string(&Line::End).unwrap();
    let text = format!("\n{whole}\n\n{{\"Ask\":{{\"num\n{whole}\n");
    assert_eq!(crate::log::lines(&text), [Line::End, Line::End]);
}

fn reopens(how: Reopen) -> Vec<Line> {
    let number = NUMBER;
    vec![Line::Reopens { number, how }]
}

fn reopened(how: Reopen) -> Vec<Line> {
    let (number, task) = (NUMBER, TASK);
    [reopens(how), vec![Line::Reopened { number, task, how }]].concat()
}

fn now(end: How, went: Went) -> Vec<Line> {
    let (number, task, told) = (NUMBER, TASK, told(end, went));
    vec![Line::Now { number, task, told }]
}

/// It is done, as the log says.
fn done_log() -> Vec<Line> {
    let done = now(How::Done, Went::Back(0));
    [submitted(), stage(0, 1), stage(1, 1), stage(2, 1), done].concat()
}

fn taken_back(undos: usize) -> Vec<Line> {
    kept(How::TakenBack, Went::Back(undos))
}

#[test]
fn a_task_that_is_taken_back_has_every_undo_run() {
    let plain = Plan::plain();
    let all: Vec<Line> = (0..3).flat_map(|stage| back(undo(stage, 1, 1))).collect();
    let begun = [done_log(), reopened(Reopen::TakeBack)].concat();
    good(&plain, &[begun.clone(), all.clone(), taken_back(3)]);
    // In the next process, and as somebody else's.
    let rest = [back(undo(1, 1, 1)), back(undo(2, 1, 1))].concat();
    let parts = [begun.clone(), back(undo(0, 1, 1)), boot(2), rest.clone()];
    let again = reopened(Reopen::TakeBack);
    good(&plain, &[parts.concat(), taken_back(3)]);
    let twice = [begun.clone(), again, all.clone(), taken_back(3)];
    good(&plain, &twice);

    let nobody = [done_log(), all.clone(), taken_back(3)];
    bad("an undo starts after its outcome", &plain, &nobody);
    let wrong_way = [rest, back(undo(0, 1, 1))].concat();
    let parts = [begun.clone(), wrong_way, taken_back(3)];
    bad("registered earlier", &plain, &parts);
    let parts = [begun.clone(), all[..4].to_vec(), taken_back(2)];
    bad("is not taken back", &plain, &parts);
    let parts = [begun.clone(), boot(2), start(2, 2, 0)];
    bad("a stage starts after its outcome", &plain, &parts);
    let parts = [begun, all, kept(How::User, Went::Back(3))];
    bad("is another one by now", &plain, &parts);
    let said = [done_log(), taken_back(3)];
    bad("two outcomes", &plain, &said);
}

#[test]
fn a_take_back_that_was_acknowledged_is_not_lost() {
    let plain = Plan::plain();
    let lost = [done_log(), reopened(Reopen::TakeBack), boot(2), done()];
    bad("goes on no more", &plain, &lost);
    // It may have been under way at a kill, or refused.
    let killed = [done_log(), reopens(Reopen::TakeBack), boot(2), done()];
    good(&plain, &killed);
    let (number, how) = (NUMBER, Reopen::TakeBack);
    let stays = vec![Line::Stays { number, how }];
    good(&plain, &[done_log(), reopens(how), stays, done()]);
    // An undo ran, so it was recorded.
    let parts = [done_log(), reopens(how), back(undo(0, 1, 1)), boot(2)];
    let parts = [parts.concat(), done()];
    bad("is another one by now", &plain, &parts);
}

/// Its first undo can't be taken back at first.
fn stuck_log() -> (Plan, Vec<Line>, Went) {
    let plan = plan(|steps| {
        steps[0].back = Back::FailsLong;
        steps[1].act = Act::FailForGood;
    });
    let first = undo(0, 1, 1);
    let fails = [calls(first, 1, 0), Line::NotUndone(first)].to_vec();
    let left = Went::Stuck(vec![format!("{first:?}")]);
    let stuck = now(How::Permanent, left.clone());
    let second = back(undo(1, 1, 1));
    (plan, [failing_log(), fails, second, stuck].concat(), left)
}

#[test]
fn a_retry_that_was_recorded_goes_on() {
    let (plan, stuck, left) = stuck_log();
    let (first, listed) = (undo(0, 1, 1), vec![Line::Stuck { task: TASK }]);
    let runs = [calls(first, 2, 0), Line::Undone(first)].to_vec();
    let retried = [stuck.clone(), reopened(Reopen::Retry)].concat();
    good(&plan, &[retried.clone(), runs.clone(), failed(2)]);
    let resumed = [retried.clone(), boot(2), runs.clone(), failed(2)];
    good(&plan, &resumed);
    let as_before = [listed, kept(How::Permanent, left)].concat();
    let killed = [stuck.clone(), reopens(Reopen::Retry), boot(2)].concat();
    good(&plan, &[killed, as_before.clone()]);

    let lost = [retried.clone(), boot(2), as_before];
    bad("goes on no more", &plan, &lost);
    let nobody = [stuck, runs.clone(), failed(2)];
    bad("an undo starts after its outcome", &plan, &nobody);
    let other = [retried, runs, kept(How::User, Went::Back(2))];
    bad("is another one by now", &plan, &other);
}

fn boot_that_may_retry(run: u32, retries: bool) -> Vec<Line> {
    let rolls_back = false;
    vec![Line::Boot {
        run,
        rolls_back,
        retries,
    }]
}

#[test]
fn a_task_that_got_stuck_on_its_way_back_may_be_retried() {
    let plan = plan(|steps| steps[0].back = Back::FailsLong);
    let first = undo(0, 1, 1);
    let fails = vec![calls(first, 1, 0), Line::NotUndone(first)];
    let rest = [back(undo(1, 1, 1)), back(undo(2, 1, 1))].concat();
    let stuck = now(How::TakenBack, Went::Stuck(vec![format!("{first:?}")]));
    let runs = vec![calls(first, 2, 0), Line::Undone(first)];
    let retried = [fails, rest, stuck, reopened(Reopen::Retry), runs].concat();
    for retries in [false, true] {
        let boot = boot_that_may_retry(2, retries);
        let begun = [done_log(), boot, reopened(Reopen::TakeBack)].concat();
        good(&plan, &[begun.clone(), retried.clone(), taken_back(3)]);
        // Nothing of it has run yet, so it can't be stuck.
        let at_once = [begun, reopened(Reopen::Retry)];
        bad("Retry is said to be recorded", &plan, &at_once);
    }
}

#[test]
fn a_pipeline_may_retry_by_itself() {
    let (plan, stuck, _) = stuck_log();
    let boot = boot_that_may_retry;
    let first = undo(0, 1, 1);
    let runs = [calls(first, 2, 0), Line::Undone(first)].to_vec();
    let parts = [stuck.clone(), boot(2, true), runs.clone(), failed(2)];
    good(&plan, &parts);
    let parts = [stuck.clone(), boot(2, true), boot(3, false), runs.clone()];
    good(&plan, &[parts.concat(), failed(2)]);
    let parts = [stuck, boot(2, false), runs, failed(2)];
    bad("an undo starts after its outcome", &plan, &parts);
}

#[test]
fn a_forgotten_key_is_free() {
    let plain = Plan::plain();
    let number = NUMBER;
    let forgets = vec![Line::Forgets { number }];
    let nothing = vec![Line::Nothing { number }, Line::End];
    let forgot = [forgets.clone(), vec![Line::Forgot { number }]].concat();
    let forgotten = [done_log(), forgot.clone()].concat();
    good(&plain, &[forgotten.clone(), nothing.clone()]);
    good(&plain, &[done_log(), forgets.clone(), nothing.clone()]);
    good(&plain, &[done_log(), forgets.clone(), done()]);
    let next = vec![Line::Submitted {
        number: crate::plan::next_life(NUMBER),
        task: TASK,
    }];
    bad("another one's", &plain, &[forgotten.clone(), next]);
    bad("was forgotten", &plain, &[forgotten.clone(), done()]);
    bad("is unknown", &plain, &[done_log(), nothing.clone()]);
    let keeps = [forgets, vec![Line::Keeps { number }], nothing].concat();
    bad("is unknown", &plain, &[done_log(), keeps]);
    let after = [forgotten, back(undo(0, 1, 1))];
    bad("an undo starts after its outcome", &plain, &after);
    let begun = [done_log(), reopened(Reopen::TakeBack), forgot].concat();
    bad("before its undos had run", &plain, &[begun]);
}
