//! Tasks by what one knows of them: a number, a key, the beginning of a label.

use batrun::{
    report::{Cursor, PastOutcome, TaskDetail, TaskView},
    state::TaskId,
};
use serde_json::{Value, json};

use crate::{
    answer::{Refused, Reply},
    call::Call,
    journal::find,
    look::{exactly, key, label},
    texts::{Whole, without_values},
};

pub(crate) fn search(call: &Call) -> Result<Reply, Refused> {
    let pipeline = call.pipeline()?;
    let (control, q) = (&pipeline.control, call.q()?.trim());
    let mut hits: Vec<(u64, Value)> = Vec::new();
    let mut add =
        |task: TaskId, place: &str, of_key: Option<&str>, of_label: Option<&str>, text: String| {
            if hits.len() < 50 && hits.iter().all(|(known, _)| *known != task.0) {
                let hit = json!({
                    "task": Whole(task.0),
                    "where": place,
                    "key": key(call, of_key),
                    "label": label(call, of_label),
                    "text": text,
                });
                hits.push((task.0, hit));
            }
        };
    if !q.is_empty() {
        let in_flight = |view: &TaskView| match &view.stage {
            Some(stage) => format!("{} in {stage}, attempt {}", view.phase, view.attempt),
            None => view.phase.to_string(),
        };
        if let Some(TaskDetail { view, .. }) = exactly(call, control, q) {
            add(
                view.task,
                "in_flight",
                view.key.as_deref(),
                view.label.as_deref(),
                in_flight(&view),
            );
        }
        let number = q.parse().ok().map(TaskId);
        let values = call.access.sees_values();
        let takes = |task: TaskId, key: Option<&str>, label: Option<&str>| {
            Some(task) == number
                || values && key == Some(q)
                || label.is_some_and(|label| label.starts_with(q))
        };
        for stuck in control.stuck() {
            if takes(stuck.task, stuck.key.as_deref(), stuck.label.as_deref()) {
                let text = format!("stuck, {} undos left", stuck.undos.len());
                add(
                    stuck.task,
                    "stuck",
                    stuck.key.as_deref(),
                    stuck.label.as_deref(),
                    text,
                );
            }
        }
        let page = control.tasks(&batrun::report::TaskFilter::new().label(q), None, 50);
        for view in &page.tasks {
            add(
                view.task,
                "in_flight",
                view.key.as_deref(),
                view.label.as_deref(),
                in_flight(view),
            );
        }
        for mut ended in control.ended(Cursor::Newest, usize::MAX) {
            let outcome = &mut ended.outcome;
            if takes(
                outcome.task,
                outcome.key.as_deref(),
                outcome.label.as_deref(),
            ) {
                if !values {
                    without_values(outcome);
                }
                let text = call.texts().show_line(&*outcome);
                add(
                    outcome.task,
                    "ended",
                    outcome.key.as_deref(),
                    outcome.label.as_deref(),
                    text,
                );
            }
        }
    }
    let mut in_journal = String::new();
    if let Some(journal) = control.journal().filter(|_| call.access.sees_values())
        && !q.is_empty()
    {
        in_journal = match find(call, journal, q) {
            Ok(found) => {
                if let Some(PastOutcome { outcome, .. }) = found {
                    let text = call.texts().show_line(&outcome);
                    let (key, label) = (outcome.key.as_deref(), outcome.label.as_deref());
                    add(outcome.task, "journal", key, label, text);
                }
                " In the journal: of all finished tasks with this very key.".to_owned()
            }
            Err(refused) => format!(" Not in the journal: {refused}."),
        };
    }
    let keys = match call.access.sees_values() {
        true => "numbers, keys and the beginnings of labels",
        false => "numbers and the beginnings of labels, but no keys, which you may not see",
    };
    let covered = format!(
        "Looked through {keys}: of all tasks in flight, all stuck ones and the last 1,000 that were not done. At most 50 are listed.{in_journal}"
    );
    let hits: Vec<Value> = hits.into_iter().map(|(_, hit)| hit).collect();
    Reply::json(&json!({ "hits": hits, "covered": covered }))
}
