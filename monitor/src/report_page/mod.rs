//! The final report as a page: one file that needs nothing else, for programs to leave behind.

mod charts;
mod html;
mod not_done;
mod words;

use batrun::report::Report;

use charts::{outcome_bar, time_chart};
use html::Html;
use not_done::{failures, producers, stuck};
use words::{duration, grouped};

/// A report as a page of HTML: the pipeline's picture, its numbers and times, its last failures, and what is stuck.
///
/// It is one file, without scripts, that loads nothing: keep it beside the output of a batch, or attach it to a
/// build. Everything of yours in it, such as the errors of stages, is text there. It has what the report has: the
/// keys of tasks and the undos of stuck ones, too.
///
/// ```
/// use batrun::prelude::*;
/// use batrun_monitor::ReportPage;
///
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir();
/// let report = Pipeline::new("numbers")
///     .producer(from_iter(0..10))
///     .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(2 * n)))
///     .run()
///     .await?;
/// std::fs::write(folder.join("report.html"), report.to_html())?;
/// # Ok(()) }
/// ```
pub trait ReportPage {
    /// The page.
    fn to_html(&self) -> String;
}

impl ReportPage for Report {
    fn to_html(&self) -> String {
        let mut page = Html::page(
            &format!("{} – batrun", self.pipeline),
            include_str!("style.css"),
        );
        head(&mut page, self);
        numbers(&mut page, self);
        picture(&mut page, self);
        times(&mut page, self);
        stages(&mut page, self);
        producers(&mut page, self);
        failures(&mut page, self);
        stuck(&mut page, self);
        page.end()
    }
}

fn head(page: &mut Html, report: &Report) {
    page.open("header", "");
    page.element("h1", "", &report.pipeline);
    page.element("p", "verdict", &verdict(report));
    if let Some(why) = &report.suspended {
        page.element("p", "problem", &format!("suspended: {why}"));
    }
    page.close("header");
}

/// The end of it all, in a sentence.
fn verdict(report: &Report) -> String {
    let counts = &report.counts;
    let time = duration(report.elapsed);
    let accepted = grouped(counts.accepted);
    let not_done = counts.accepted.saturating_sub(counts.done);
    let stuck = match report.stuck.len() {
        0 => String::new(),
        1 => " One task is stuck, and waits for a person.".to_owned(),
        many => format!(" {many} tasks are stuck, and wait for a person."),
    };
    match (counts.accepted, not_done) {
        (0, _) => format!("No task came, in {time}."),
        (1, 0) => format!("The task is done, in {time}.{stuck}"),
        (_, 0) => format!("All {accepted} tasks are done, in {time}.{stuck}"),
        (_, 1) => format!(
            "{} of {accepted} tasks are done, one is not, in {time}.{stuck}",
            grouped(counts.done)
        ),
        (_, left) => format!(
            "{} of {accepted} tasks are done, {} are not, in {time}.{stuck}",
            grouped(counts.done),
            grouped(left)
        ),
    }
}

fn numbers(page: &mut Html, report: &Report) {
    let counts = &report.counts;
    let all = [
        ("accepted", counts.accepted, ""),
        ("done", counts.done, "good"),
        ("failed", counts.failed, "bad"),
        ("timed out", counts.timed_out, "bad"),
        ("cancelled", counts.cancelled, "warn"),
        ("taken back", counts.taken_back, ""),
        ("left to other processes", counts.released, ""),
        ("suspended", counts.suspended, "warn"),
        ("stuck", report.stuck.len() as u64, "bad"),
    ];
    page.open("section", "numbers");
    for (name, number, tone) in all {
        // The first five are always there, so that a reader sees that they are 0.
        if number == 0
            && !matches!(
                name,
                "accepted" | "done" | "failed" | "timed out" | "cancelled"
            )
        {
            continue;
        }
        page.open("div", if number == 0 { "number none" } else { "number" });
        page.element("span", "label", name);
        page.element("strong", tone, &grouped(number));
        page.close("div");
    }
    page.close("section");
    outcome_bar(page, counts);
}

/// The stages in order, with the way back below.
fn picture(page: &mut Html, report: &Report) {
    page.section("The pipeline");
    page.open("ol", "picture");
    page.open("li", "end");
    page.element("strong", "", &grouped(report.counts.accepted));
    page.element("span", "", "accepted");
    page.close("li");
    for stage in &report.stages {
        page.open(
            "li",
            if stage.counts.failed > 0 {
                "stage failing"
            } else {
                "stage"
            },
        );
        page.element("strong", "", &stage.name);
        page.element(
            "span",
            "",
            &format!("{} finished", grouped(stage.counts.finished)),
        );
        page.element(
            "span",
            "",
            &format!("{} failed", grouped(stage.counts.failed)),
        );
        page.element("span", "", &format!("p99 {}", duration(stage.work.p99)));
        page.element(
            "span",
            "undone",
            &format!("↩ {} undone", grouped(stage.counts.cancelled)),
        );
        page.close("li");
    }
    page.open("li", "end");
    page.element("strong", "", &grouped(report.counts.done));
    page.element("span", "", "done");
    page.close("li");
    page.close("ol");
    page.close("section");
}

fn times(page: &mut Html, report: &Report) {
    if report.stages.iter().all(|stage| stage.work.count == 0) {
        return;
    }
    page.section("Times");
    page.element("p", "note", "On a scale on which each line is ten times the one before. A bar goes from the median to 99 of 100, its thin end to the longest.");
    time_chart(page, &report.stages);
    page.close("section");
}

fn stages(page: &mut Html, report: &Report) {
    page.section("Stages");
    let heads = [
        "stage",
        "started",
        "finished",
        "failed",
        "retried",
        "panicked",
        "stopped",
        "undone",
        "undo failed",
        "wait p50",
        "wait p99",
        "work p50",
        "work p99",
        "longest",
    ];
    page.table(
        &heads,
        report.stages.iter().map(|stage| {
            let counts = &stage.counts;
            let mut row = vec![stage.name.to_string()];
            row.extend(
                [
                    counts.started,
                    counts.finished,
                    counts.failed,
                    counts.retried,
                    counts.panicked,
                    counts.stopped,
                    counts.cancelled,
                    counts.cancel_failures,
                ]
                .map(grouped),
            );
            row.extend(
                [
                    stage.wait.p50,
                    stage.wait.p99,
                    stage.work.p50,
                    stage.work.p99,
                    stage.work.max,
                ]
                .map(duration),
            );
            row
        }),
    );
    page.close("section");
}

#[cfg(test)]
mod tests;
