//! Charts as SVG, which need no script.

use std::time::Duration;

use batrun::{
    report::{StageReport, Times},
    state::StageName,
};

use super::{html::Html, words::duration};

/// The outcomes of tasks, side by side by their share.
pub(super) fn outcome_bar(page: &mut Html, counts: &batrun::report::Counts) {
    if counts.accepted == 0 {
        return;
    }
    let shares = [
        ("done", counts.done),
        ("failed", counts.failed),
        ("timed-out", counts.timed_out),
        ("cancelled", counts.cancelled),
    ];
    page.raw(format_args!("<svg class=\"outcomes\" viewBox=\"0 0 1000 14\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"));
    let mut from = 0.0;
    for (kind, count) in shares {
        let width = 1_000.0 * count as f64 / counts.accepted as f64;
        if count > 0 {
            // One in a million is still to be seen.
            page.raw(format_args!(
                "<rect class=\"{kind}\" x=\"{from:.1}\" width=\"{:.1}\" height=\"14\"/>",
                width.max(2.0)
            ));
        }
        from += width;
    }
    page.raw(format_args!("</svg>\n"));
}

const LEFT: f64 = 150.0;
const WIDTH: f64 = 700.0;
const ROW: f64 = 44.0;
const TOP: f64 = 26.0;

/// For each stage the time that tasks waited for it, and the time of its attempts.
pub(super) fn time_chart(page: &mut Html, stages: &[StageReport]) {
    let taken = stages
        .iter()
        .flat_map(|stage| [&stage.wait, &stage.work])
        .filter(|times| times.count > 0);
    let (mut least, mut most) = (f64::MAX, 0.0_f64);
    for times in taken {
        least = least.min(decade(times.p50));
        most = most.max(decade(times.max));
    }
    let (first, last) = (least.floor(), most.ceil().max(least.floor() + 1.0));
    let at = |time: Duration| LEFT + WIDTH * (decade(time) - first) / (last - first);
    let height = TOP + ROW * stages.len() as f64;
    page.raw(format_args!("<div class=\"scroll\" tabindex=\"0\"><svg class=\"times\" viewBox=\"0 0 880 {height}\" role=\"img\" aria-label=\"Times of each stage; the table below has them as numbers\">\n"));
    for line in first as i32..=last as i32 {
        let time = Duration::from_secs_f64(10f64.powi(line) / 1e9);
        let x = at(time);
        page.raw(format_args!("<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{height}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"16\">{}</text>\n", duration(time)));
    }
    for (row, stage) in stages.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        name(page, &stage.name, y);
        bar(page, "wait", &stage.wait, y + 8.0, &at);
        bar(page, "work", &stage.work, y + 24.0, &at);
    }
    page.raw(format_args!("</svg></div>\n<ul class=\"legend\"><li class=\"wait\">wait</li><li class=\"work\">work</li></ul>\n"));
}

/// The decimal logarithm of its nanoseconds.
fn decade(time: Duration) -> f64 {
    (time.as_nanos().max(1) as f64).log10()
}

fn name(page: &mut Html, name: &StageName, y: f64) {
    let short: String = name.chars().take(20).collect();
    let dots = if short.len() < name.len() { "…" } else { "" };
    page.raw(format_args!(
        "<text class=\"name\" x=\"0\" y=\"{:.1}\">",
        y + 26.0
    ));
    page.text(&format!("{short}{dots}"));
    page.raw(format_args!("</text>\n"));
}

fn bar(page: &mut Html, kind: &str, times: &Times, y: f64, at: &impl Fn(Duration) -> f64) {
    if times.count == 0 {
        return;
    }
    let [from, to, end] = [times.p50, times.p99, times.max].map(at);
    let width = (to - from).max(3.0);
    page.raw(format_args!("<g class=\"{kind}\"><rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"12\" rx=\"3\"/>"));
    if end > from + width {
        page.raw(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"2\"/>",
            from + width,
            y + 5.0,
            end - from - width
        ));
    }
    page.raw(format_args!(
        "<title>{kind}: p50 {}, p99 {}, longest {}</title></g>\n",
        duration(times.p50),
        duration(times.p99),
        duration(times.max)
    ));
}
