//! The part of a report that a person has to read: what failed, and what is stuck.

use batrun::{
    Outcome,
    report::Report,
    state::{Rollback, Stuck},
};

use super::html::{Html, guarded};

pub(super) fn producers(page: &mut Html, report: &Report) {
    if report.producer_errors.is_empty() {
        return;
    }
    page.section("Producers that ended with an error");
    let rows = report
        .producer_errors
        .iter()
        .map(|error| vec![error.producer.to_string(), guarded(&error.failure)]);
    page.table(&["producer", "error"], rows);
    page.close("section");
}

pub(super) fn failures(page: &mut Html, report: &Report) {
    if report.last_failures.is_empty() {
        return;
    }
    page.section("Last failures");
    page.element(
        "p",
        "note",
        "The last 20 tasks that were not done, the latest first.",
    );
    page.table(
        &["task", "outcome", "rollback"],
        report.last_failures.iter().rev().map(|outcome| {
            vec![
                named(outcome),
                guarded(&outcome.end),
                rollback(&outcome.rollback),
            ]
        }),
    );
    page.close("section");
}

fn named(outcome: &Outcome) -> String {
    let name = outcome.label.as_ref().or(outcome.key.as_ref());
    name.map_or_else(
        || outcome.task.to_string(),
        |name| format!("{} {name}", outcome.task),
    )
}

fn rollback(rollback: &Rollback) -> String {
    match rollback {
        Rollback::None => "nothing to undo".to_owned(),
        Rollback::Complete { undos: 1 } => "1 undo ran".to_owned(),
        Rollback::Complete { undos } => format!("{undos} undos ran"),
        Rollback::Stuck(stuck) => format!("stuck: {} left", stuck.undos.len()),
        other => format!("{other:?}"),
    }
}

pub(super) fn stuck(page: &mut Html, report: &Report) {
    if report.stuck.is_empty() {
        return;
    }
    page.section("Stuck, to be looked at by a person");
    for task in &report.stuck {
        page.element("h3", "", &stuck_name(task));
        if let Some(stage) = &task.still_running {
            page.element(
                "p",
                "problem",
                &format!("A call of {stage} had not returned."),
            );
        }
        page.table(
            &["stage", "undo that is left", "error"],
            task.undos.iter().map(|undo| {
                vec![
                    undo.stage.to_string(),
                    undo.undo.clone(),
                    undo.error.clone(),
                ]
            }),
        );
    }
    page.close("section");
}

fn stuck_name(task: &Stuck) -> String {
    let name = task.label.as_ref().or(task.key.as_ref());
    name.map_or_else(
        || format!("Task {}", task.task),
        |name| format!("Task {} “{name}”", task.task),
    )
}
