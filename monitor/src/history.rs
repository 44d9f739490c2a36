//! The last day: a value each second of the last five minutes, each ten seconds of the last hour, each minute of
//! the last 24 hours. Of bounded size, whatever runs.

use std::{collections::VecDeque, time::Duration};

use batrun::{
    report::{Snapshot, StageTimes, TimeHistogram},
    state::StageName,
};
use serde_json::{Value, json};

/// The rings of a pipeline.
#[derive(Debug)]
pub(crate) struct History {
    rings: [Ring; 3],
}

/// The values of a pipeline, and of each stage.
const PIPELINE: [&str; 4] = ["accepted", "done", "failed", "in_flight"];
const STAGE: [&str; 7] = [
    "queued",
    "busy",
    "per_second",
    "wait_p50_ms",
    "wait_p99_ms",
    "work_p50_ms",
    "work_p99_ms",
];

impl History {
    pub(crate) fn new(stages: usize) -> Self {
        let ring = |step_ms, points| Ring::new(step_ms, points, stages);
        History {
            rings: [ring(1_000, 300), ring(10_000, 360), ring(60_000, 1_440)],
        }
    }

    pub(crate) fn add(&mut self, at: u64, snapshot: &Snapshot, times: &[StageTimes]) {
        let sums = Sums::of(snapshot, times);
        for ring in &mut self.rings {
            ring.add(at, snapshot, &sums);
        }
    }

    /// None if there is no such range.
    pub(crate) fn json(&self, range: &str, now: u64, stages: &[StageName]) -> Option<Value> {
        let ring = match range {
            "5m" => 0,
            "1h" => 1,
            "24h" => 2,
            _ => return None,
        };
        Some(self.rings[ring].json(now, stages))
    }
}

/// Counts that go up from the pipeline's start.
#[derive(Clone, Debug)]
struct Sums {
    accepted: u64,
    done: u64,
    failed: u64,
    stages: Vec<StageSums>,
}

#[derive(Clone, Debug)]
struct StageSums {
    started: u64,
    wait: Vec<u64>,
    work: Vec<u64>,
}

impl Sums {
    fn of(snapshot: &Snapshot, times: &[StageTimes]) -> Self {
        let counts = &snapshot.counts;
        let bounds = bounds();
        let buckets = |of: &TimeHistogram| of.cumulative(&bounds);
        Sums {
            accepted: counts.accepted,
            done: counts.done,
            failed: counts.failed + counts.timed_out + counts.cancelled,
            stages: snapshot
                .stages
                .iter()
                .zip(times)
                .map(|(stage, times)| StageSums {
                    started: stage.counts.started,
                    wait: buckets(&times.wait),
                    work: buckets(&times.work),
                })
                .collect(),
        }
    }
}

/// Bounds in decade: a quantile is right to 7 %.
const IN_DECADE: u32 = 16;
/// From 1 µs to 10^5 s.
const DECADES: u32 = 11;

fn bounds() -> Vec<Duration> {
    (0..=IN_DECADE * DECADES).map(bound).collect()
}

fn bound(place: u32) -> Duration {
    Duration::from_secs_f64(1e-6 * 10f64.powf(f64::from(place) / f64::from(IN_DECADE)))
}

/// The quantile of the times between two readings, in milliseconds; NaN if there are none.
fn quantile(before: &[u64], after: &[u64], part: f64) -> f32 {
    let between =
        |place: usize| after[place].saturating_sub(before.get(place).copied().unwrap_or(0));
    let Some(last) = after.len().checked_sub(1) else {
        return f32::NAN;
    };
    let all = between(last);
    if all == 0 {
        return f32::NAN;
    }
    let rank = ((all as f64 * part).ceil() as u64).max(1);
    let place = (0..=last)
        .find(|place| between(*place) >= rank)
        .unwrap_or(last);
    let upper = bound(place as u32).as_secs_f64();
    // The middle of the bucket, on its scale.
    let lower = upper / 10f64.powf(1.0 / f64::from(IN_DECADE));
    (1_000.0 * (lower * upper).sqrt()) as f32
}

#[derive(Debug)]
struct Ring {
    step_ms: u64,
    points: usize,
    stages: usize,
    /// The newest step that has values: its time divided by its length.
    last: u64,
    before: Option<(u64, Sums)>,
    /// A row of values for each step, the oldest first; NaN where there is none.
    rows: VecDeque<Box<[f32]>>,
}

impl Ring {
    fn new(step_ms: u64, points: usize, stages: usize) -> Self {
        Ring {
            step_ms,
            points,
            stages,
            last: 0,
            before: None,
            rows: VecDeque::new(),
        }
    }

    fn add(&mut self, at: u64, snapshot: &Snapshot, sums: &Sums) {
        let step = at / self.step_ms;
        let Some((since, before)) = &self.before else {
            self.last = step;
            self.before = Some((at, sums.clone()));
            return;
        };
        // The clock was set back, or the step isn't over.
        if step <= self.last {
            if at < *since {
                self.last = step;
                self.before = Some((at, sums.clone()));
            }
            return;
        }
        let steps = step - self.last;
        let row = self.row(before, sums, (at - since) as f64 / 1_000.0, snapshot);
        // Counts of a time in which nobody sampled are spread over it, as nothing else is known of them.
        let same = before.accepted == sums.accepted
            && before.done == sums.done
            && before.failed == sums.failed;
        for left in (0..steps.min(self.points as u64)).rev() {
            let mut row = row.clone();
            if left > 0 && !same {
                self.forget_levels(&mut row);
            }
            if self.rows.len() == self.points {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
        }
        self.last = step;
        self.before = Some((at, sums.clone()));
    }

    fn row(&self, before: &Sums, sums: &Sums, seconds: f64, snapshot: &Snapshot) -> Box<[f32]> {
        let rate = |before: u64, after: u64| {
            (after.saturating_sub(before) as f64 / seconds.max(0.001)) as f32
        };
        let mut row = vec![
            rate(before.accepted, sums.accepted),
            rate(before.done, sums.done),
            rate(before.failed, sums.failed),
            snapshot.in_flight as f32,
        ];
        let stages = snapshot.stages.iter().zip(&sums.stages).zip(&before.stages);
        for ((stage, sums), before) in stages.take(self.stages) {
            row.extend([
                stage.queued as f32,
                stage.busy as f32,
                rate(before.started, sums.started),
                quantile(&before.wait, &sums.wait, 0.5),
                quantile(&before.wait, &sums.wait, 0.99),
                quantile(&before.work, &sums.work, 0.5),
                quantile(&before.work, &sums.work, 0.99),
            ]);
        }
        row.into()
    }

    /// A time that nobody has seen has no values.
    fn forget_levels(&self, row: &mut [f32]) {
        row[3] = f32::NAN;
        for stage in 0..self.stages {
            for value in [0, 1, 3, 4, 5, 6] {
                if let Some(value) = row.get_mut(PIPELINE.len() + stage * STAGE.len() + value) {
                    *value = f32::NAN;
                }
            }
        }
    }

    fn json(&self, now: u64, stages: &[StageName]) -> Value {
        let column = |at: usize| -> Vec<Option<f32>> {
            let values = self
                .rows
                .iter()
                .map(|row| row.get(at).copied().filter(|value| value.is_finite()));
            values
                .map(|value| value.map(|value| (value * 1_000.0).round() / 1_000.0))
                .collect()
        };
        let named = |first: usize, names: &[&str]| {
            let columns = names
                .iter()
                .enumerate()
                .map(|(at, name)| ((*name).to_owned(), json!(column(first + at))));
            columns.collect::<serde_json::Map<_, _>>()
        };
        let stages: Vec<Value> = stages
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let mut stage = named(PIPELINE.len() + at * STAGE.len(), &STAGE);
                stage.insert("name".to_owned(), json!(name));
                Value::Object(stage)
            })
            .collect();
        let until = match self.rows.is_empty() {
            true => now,
            false => self.last * self.step_ms,
        };
        json!({
            "step_ms": self.step_ms,
            "until": until,
            "points": self.rows.len(),
            "pipeline": named(0, &PIPELINE),
            "stages": stages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(accepted: u64) -> Sums {
        Sums {
            accepted,
            done: 0,
            failed: 0,
            stages: Vec::new(),
        }
    }

    fn snapshot() -> Snapshot {
        serde_json::from_value(json!({
            "pipeline": "p", "accepted": 0, "done": 0, "failed": 0, "timed_out": 0, "cancelled": 0, "taken_back": 0,
            "suspended": 0, "released": 0, "in_flight": 4, "in_flight_limit": 9, "stuck": 0, "stuck_limit": 9,
            "refused": { "full": 0, "closed": 0, "stuck": 0, "suspended": 0 }, "paused": false, "draining": false,
            "ended": false, "started_at": { "secs_since_epoch": 0, "nanos_since_epoch": 0 },
            "uptime": { "secs": 1, "nanos": 0 }, "stages": [], "progress": [],
        }))
        .unwrap()
    }

    fn shown(ring: &Ring) -> (u64, Value, Value) {
        let all = ring.json(0, &[]);
        let pipeline = &all["pipeline"];
        (
            all["until"].as_u64().unwrap(),
            pipeline["accepted"].clone(),
            pipeline["in_flight"].clone(),
        )
    }

    #[test]
    fn a_ring_has_a_value_for_each_step() {
        let mut ring = Ring::new(1_000, 3, 0);
        for (at, accepted) in [(10_000, 5), (10_400, 6), (11_000, 9), (12_000, 9)] {
            ring.add(at, &snapshot(), &sums(accepted));
        }
        assert_eq!(shown(&ring), (12_000, json!([4.0, 0.0]), json!([4.0, 4.0])));
        // Nobody has looked for four seconds, in which eight came.
        ring.add(16_000, &snapshot(), &sums(17));
        assert_eq!(
            shown(&ring),
            (16_000, json!([2.0, 2.0, 2.0]), json!([null, null, 4.0]))
        );
        // Nothing has happened for a day.
        ring.add(86_416_000, &snapshot(), &sums(17));
        assert_eq!(
            shown(&ring),
            (86_416_000, json!([0.0, 0.0, 0.0]), json!([4.0, 4.0, 4.0]))
        );
        // The clock was set back.
        ring.add(20_000, &snapshot(), &sums(17));
        ring.add(21_000, &snapshot(), &sums(18));
        assert_eq!(
            shown(&ring),
            (21_000, json!([0.0, 0.0, 1.0]), json!([4.0, 4.0, 4.0]))
        );
    }

    #[test]
    fn quantiles_are_those_of_the_time_between_two_readings() {
        let reading = |times: &[(u32, u64)]| -> Vec<u64> {
            let below = |place| {
                times
                    .iter()
                    .filter(|(at, _)| *at <= place)
                    .map(|(_, count)| count)
                    .sum()
            };
            (0..=IN_DECADE * DECADES).map(below).collect()
        };
        // 1 ms is three decades above 1 µs, 1 s six.
        let (ms, s) = (3 * IN_DECADE, 6 * IN_DECADE);
        let before = reading(&[(s, 1_000)]);
        let after = reading(&[(ms, 99), (s, 1_001)]);
        let near = |value: f32, wanted: f32| (value / wanted - 1.0).abs() < 0.08;
        assert!(near(quantile(&before, &after, 0.5), 1.0));
        assert!(near(quantile(&before, &after, 0.99), 1.0));
        assert!(near(quantile(&before, &after, 1.0), 1_000.0));
        assert!(quantile(&after, &after, 0.5).is_nan());
        assert!(near(quantile(&[], &after, 0.5), 1_000.0));
    }
}
