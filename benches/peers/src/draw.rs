//! A sweep as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::{
    plots::{Point, Sweep, Unit},
    table::grouped,
};

const SIZE: (u32, u32) = (760, 440);
const LINE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const GREY: RGBColor = RGBColor(0x60, 0x60, 0x60);
/// From a span this wide on, the y axis is logarithmic.
const WIDE: f64 = 20.0;

/// Writes an SVG: the medians as a line, from the least to the most of the rounds as bars.
pub fn plot(path: &Path, sweep: Sweep, points: &[&Point]) -> anyhow::Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (title, rest, axis) = words(sweep);
    let area = area.margin(8, 12, 8, 20);
    let (head, body) = area.split_vertically(52);
    head.draw_text(title, &text(24, &BLACK), (8, 2))?;
    head.draw_text(rest, &text(17, &GREY), (8, 29))?;
    let least = points
        .iter()
        .map(|point| point.min)
        .fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.max).fold(0.0, f64::max);
    // Both axes are drawn evenly, over the logarithm to base 2 where that is wanted: labels at
    // powers of two read better than the few at powers of ten.
    let wide = most / least > WIDE;
    let y = |value: f64| if wide { value.log2() } else { value };
    let up = if wide {
        y(least) - 0.3..y(most) + 0.3
    } else {
        0.0..most * 1.1
    };
    let first = points.first().map_or(0.0, |point| x(sweep, point.value));
    let last = points.last().map_or(1.0, |point| x(sweep, point.value));
    let pad = (last - first) * 0.03;
    let mut chart = ChartBuilder::on(&body)
        .x_label_area_size(48)
        .y_label_area_size(88)
        .build_cartesian_2d(first - pad..last + pad, up)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(0xe2, 0xe2, 0xe2))
        .axis_style(GREY)
        .label_style(text(17, &BLACK))
        .axis_desc_style(text(17, &BLACK))
        .x_desc(axis)
        .y_desc(match sweep.unit() {
            Unit::HopNs => "ns a task and stage",
            Unit::TasksPerSecond => "tasks a second",
            Unit::CpuUs => "µs of processor time a task",
        })
        .x_labels(if sweep == Sweep::Failing {
            11
        } else {
            points.len().max(6)
        })
        .x_label_formatter(&|&x| label(sweep, x))
        .y_labels(8)
        .y_label_formatter(&|&y| match power(y) {
            _ if !wide => grouped(y),
            Some(power) => grouped((1_u64 << power) as f64),
            None => String::new(),
        })
        .draw()?;
    let at = |point: &&Point| (x(sweep, point.value), y(point.median));
    chart.draw_series(LineSeries::new(points.iter().map(at), LINE.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| {
        let x = x(sweep, point.value);
        let bar = vec![(x, y(point.min)), (x, y(point.max))];
        PathElement::new(bar, LINE.mix(0.5).stroke_width(5))
    }))?;
    chart.draw_series(
        points
            .iter()
            .map(|point| Circle::new(at(point), 4, LINE.filled())),
    )?;
    area.present()?;
    Ok(())
}

fn text(size: u32, colour: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(colour)
}

/// Exponential sweeps are drawn over the logarithm.
fn x(sweep: Sweep, value: u64) -> f64 {
    match sweep {
        Sweep::Failing => value as f64,
        // None at all stands one step before 10 µs.
        Sweep::WaitingTime => (value.max(1) as f64).log10(),
        _ => (value as f64).log2(),
    }
}

fn label(sweep: Sweep, x: f64) -> String {
    match (sweep, power(x)) {
        (Sweep::Failing, _) => format!("{x:.0} %"),
        (_, None) => String::new(),
        (Sweep::WaitingTime, Some(0)) => "0".to_owned(),
        (Sweep::WaitingTime, Some(power @ ..3)) => format!("{} µs", 10_u64.pow(power)),
        (Sweep::WaitingTime, Some(power)) => format!("{} ms", 10_u64.pow(power - 3)),
        (Sweep::Payload, Some(power @ 10..)) => format!("{} KiB", 1_u64 << (power - 10)),
        (Sweep::Payload, Some(power)) => format!("{} B", 1_u64 << power),
        (_, Some(power)) => grouped((1_u64 << power) as f64),
    }
}

/// The places of labels that are powers of two.
fn power(at: f64) -> Option<u32> {
    let whole = (0.0..64.0).contains(&at) && (at - at.round()).abs() < 1e-6;
    whole.then(|| at.round() as u32)
}

/// The title, the other settings, and the x axis.
fn words(sweep: Sweep) -> (&'static str, &'static str, &'static str) {
    match sweep {
        Sweep::Workers => (
            "A hop, by the number of workers",
            "3 stages that do next to nothing, a 4 s timeout on each task",
            "workers in each stage",
        ),
        Sweep::Stages => (
            "A hop, by the number of stages",
            "stages of 4 workers that do next to nothing, a 4 s timeout on each task",
            "stages",
        ),
        Sweep::Capacity => (
            "A hop, by the capacity of the queues",
            "3 stages of 4 workers that do next to nothing, a 4 s timeout on each task",
            "tasks that may wait for each stage",
        ),
        Sweep::Payload => (
            "A hop, by the size of what is moved",
            "3 stages of 4 workers; the producer allocates and fills the payload, stages pass it on",
            "bytes on the heap of each task",
        ),
        Sweep::Failing => (
            "A hop, by the share of tasks that fail",
            "3 stages of 4 workers that register an undo each; tasks fail in the third, and all is taken back",
            "tasks that fail",
        ),
        Sweep::WaitingWorkers => (
            "Stages that wait, by the number of workers",
            "3 stages that each wait for 1 ms",
            "workers in each stage",
        ),
        Sweep::WaitingCpu => (
            "The cost of a task that waits, by the number of workers",
            "3 stages that each wait for 1 ms",
            "workers in each stage",
        ),
        Sweep::WaitingTime => (
            "Stages that wait, by the time that they wait",
            "3 stages of 256 workers",
            "time that each stage waits",
        ),
    }
}
