//! Compares the database with the tasks' outcomes, and those with the server's records.

use std::{collections::BTreeMap, path::Path};

use batrun::{report::Report, state::End};

use crate::{
    notes::{Note, Notes},
    server::{Fate, Site},
    store::{self, Row, Run},
};

/// Everything that isn't as it should be, a line each.
pub(crate) fn check(
    report: &Report,
    notes: &Notes,
    path: &Path,
    run: Run,
    site: Option<&Site>,
) -> rusqlite::Result<Vec<String>> {
    let notes = notes.all();
    let rows = store::rows(path, run)?;
    let mut wrong = ends(report, &notes);
    wrong.extend(database(&notes, &rows));
    if let Some(site) = site {
        wrong.extend(fates(&notes, &site.fates()));
        wrong.extend(site.miscounted());
        wrong.extend(attempts(report, site));
    }
    if wrong.is_empty() {
        println!(
            "database: {} rows, one for each page that is done, none of the {} others",
            rows.len(),
            notes.len() - rows.len()
        );
        if let Some(site) = site {
            println!(
                "server: {} requests, one for each page and one for each 503 that was tried again",
                site.total()
            );
        }
    }
    Ok(wrong)
}

/// The report against the outcomes.
fn ends(report: &Report, notes: &BTreeMap<u64, Note>) -> Vec<String> {
    let count = |is: fn(&End) -> bool| {
        let ends = notes.values().filter_map(|note| note.end.as_ref());
        ends.filter(|end| is(end)).count() as u64
    };
    let mut wrong = Vec::new();
    for (what, reported, seen) in [
        (
            "done",
            report.counts.done,
            count(|end| matches!(end, End::Done)),
        ),
        (
            "failed",
            report.counts.failed,
            count(|end| matches!(end, End::Failed { .. })),
        ),
        (
            "timed out",
            report.counts.timed_out,
            count(|end| matches!(end, End::TimedOut { .. })),
        ),
        (
            "cancelled",
            report.counts.cancelled,
            count(|end| matches!(end, End::Cancelled { .. })),
        ),
    ] {
        if reported != seen {
            wrong.push(format!(
                "{what}: {reported} in the report, {seen} in outcomes"
            ));
        }
    }
    for stuck in &report.stuck {
        wrong.push(format!("task {} is stuck: {stuck}", stuck.task));
    }
    for producer in &report.producer_errors {
        wrong.push(format!("the producer failed: {}", producer.failure));
    }
    wrong
}

/// A row for each task that is done, and none for the others.
fn database(notes: &BTreeMap<u64, Note>, rows: &BTreeMap<u64, Row>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (task, note) in notes {
        let done = matches!(note.end, Some(End::Done));
        let expected = note.bytes.filter(|_| done).map(|bytes| Row {
            url: note.url.clone(),
            bytes,
        });
        let found = rows.get(task);
        if found != expected.as_ref() || done != found.is_some() {
            wrong.push(format!(
                "{}: the database has {found:?} instead of {expected:?}",
                note.url
            ));
        }
    }
    for (task, row) in rows {
        if !notes.contains_key(task) {
            wrong.push(format!("{}: a row without a task", row.url));
        }
    }
    wrong
}

/// The outcomes against the server's behaviour for each page.
fn fates(notes: &BTreeMap<u64, Note>, fates: &BTreeMap<String, Fate>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (url, fate) in fates {
        let mut of_it = notes.values().filter(|note| note.url == *url);
        let found = match (of_it.next(), of_it.next()) {
            (Some(note), None) => note,
            _ => {
                wrong.push(format!("{url}: not exactly one task"));
                continue;
            }
        };
        let so = match (fate, &found.end) {
            (Fate::Done(bytes), Some(End::Done)) => found.bytes == Some(*bytes),
            (Fate::Failed(at), Some(End::Failed { stage, .. })) => **stage == **at,
            (Fate::TimedOut(at), Some(End::TimedOut { stage })) => **stage == **at,
            _ => false,
        };
        if !so {
            let end = found.end.as_ref().map(ToString::to_string);
            let end = end.as_deref().unwrap_or("without an outcome");
            let bytes = found.bytes;
            wrong.push(format!("{url}: {end} ({bytes:?} bytes), not {fate:?}"));
        }
    }
    wrong
}

/// The attempts that the report counts against the requests that the server counts.
fn attempts(report: &Report, site: &Site) -> Option<String> {
    let fetch = report.stages.iter().find(|stage| &*stage.name == "fetch")?;
    let (started, requests) = (fetch.counts.started, site.total());
    (started != requests)
        .then(|| format!("fetch: {started} attempts in the report, {requests} requests"))
}
