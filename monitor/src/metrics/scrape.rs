//! One reading of all pipelines, and its metrics.

use std::{
    fmt,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use batrun::{
    Control,
    report::{Snapshot, StageHealth, StageSnapshot, StageTimes, TimeHistogram},
};
use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::journal::SeenJournal;
use crate::shared::Inner;

/// The upper bounds of buckets, in seconds.
const BUCKETS: [f64; 17] = [
    1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];

/// All pipelines as they are now.
pub(super) struct Scrape {
    pub(super) pipelines: Vec<Seen>,
    bounds: Vec<f64>,
}

pub(super) struct Seen {
    /// Two pipelines of one name would be one series.
    pub(super) name: String,
    pub(super) journal: Option<SeenJournal>,
    snapshot: Snapshot,
    times: Vec<StageTimes>,
    rollbacks: TimeHistogram,
}

/// A metric's name, its help, and its value.
type Of<T> = (&'static str, &'static str, fn(&T) -> u64);

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Scrape {
    pub(super) fn new(inner: &Inner) -> Self {
        let mut pipelines: Vec<Seen> = Vec::new();
        for watched in inner.pipelines() {
            let control: &Control = &watched.control;
            let same = pipelines
                .iter()
                .filter(|seen| seen.snapshot.pipeline.as_ref() == control.name())
                .count();
            pipelines.push(Seen {
                name: match same {
                    0 => control.name().to_owned(),
                    _ => format!("{} ({})", control.name(), same + 1),
                },
                journal: SeenJournal::of(&watched),
                snapshot: control.snapshot(),
                times: control.times(),
                rollbacks: control.rollback_times(),
            });
        }
        let bounds = inner
            .buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Scrape {
            pipelines,
            bounds: bounds.unwrap_or_else(|| BUCKETS.to_vec()),
        }
    }

    pub(super) fn write(&self, inner: &Inner, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.pipelines.is_empty() {
            self.tasks(encoder)?;
            self.stages(encoder)?;
            self.rollbacks(encoder)?;
            self.journals(encoder)?;
        }
        let streams = inner.streams.count() as u64;
        let help = "Streams of samples that are open";
        encoder
            .encode_descriptor("batrun_monitor_streams", help, None, MetricType::Gauge)?
            .encode_gauge(&streams)?;
        let cost = inner.cost.load(Ordering::Relaxed) as f64 / 1e9;
        let help = "Time that the monitor has spent on samples";
        encoder
            .encode_descriptor(
                "batrun_monitor_sample",
                help,
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&cost, None)
    }

    fn tasks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.pipelines(
            encoder,
            "batrun_pipeline_info",
            "The pipeline, and what watches it",
            |seen, metric| {
                let labels: Labels<'_> = vec![
                    ("pipeline", &seen.name),
                    ("version", env!("CARGO_PKG_VERSION")),
                    (
                        "journal",
                        seen.journal.as_ref().map_or("none", |of| of.kind),
                    ),
                ];
                metric.encode_family(&labels)?.encode_gauge(&1i64)
            },
        )?;
        let accepted = "Tasks that were accepted";
        self.counters(encoder, "batrun_tasks_accepted", accepted, |of| {
            vec![("", "", of.counts.accepted)]
        })?;
        let ended = "Tasks that have ended, by their outcome";
        self.counters(encoder, "batrun_tasks_ended", ended, |of| {
            let counts = &of.counts;
            vec![
                ("outcome", "done", counts.done),
                ("outcome", "failed", counts.failed),
                ("outcome", "timed_out", counts.timed_out),
                ("outcome", "cancelled", counts.cancelled),
                ("outcome", "taken_back", counts.taken_back),
                ("outcome", "suspended", counts.suspended),
            ]
        })?;
        let refused = "Tasks that were refused, by the reason";
        self.counters(encoder, "batrun_tasks_refused", refused, |of| {
            let refused = &of.refused;
            vec![
                ("reason", "full", refused.full),
                ("reason", "closed", refused.closed),
                ("reason", "stuck", refused.stuck),
                ("reason", "suspended", refused.suspended),
            ]
        })?;
        let gauges: [Of<Snapshot>; 7] = [
            (
                "batrun_tasks_in_flight",
                "Tasks that were accepted and have no outcome yet",
                |of| of.in_flight,
            ),
            (
                "batrun_tasks_in_flight_limit",
                "Tasks that may be in flight",
                |of| of.in_flight_limit as u64,
            ),
            (
                "batrun_tasks_stuck",
                "Stuck tasks that nobody has resolved",
                |of| of.stuck as u64,
            ),
            (
                "batrun_tasks_stuck_limit",
                "Stuck tasks at which nothing more is accepted",
                |of| of.stuck_limit as u64,
            ),
            (
                "batrun_pipeline_paused",
                "1 if the pipeline is paused",
                |of| of.paused.into(),
            ),
            (
                "batrun_pipeline_draining",
                "1 if the pipeline accepts nothing more",
                |of| of.draining.into(),
            ),
            (
                "batrun_pipeline_suspended",
                "1 if the pipeline is suspended",
                |of| of.suspended_why.is_some().into(),
            ),
        ];
        for (name, help, value) in gauges {
            self.pipelines(encoder, name, help, |seen, metric| {
                let labels: Labels<'_> = vec![("pipeline", &seen.name)];
                metric
                    .encode_family(&labels)?
                    .encode_gauge(&value(&seen.snapshot))
            })?;
        }
        Ok(())
    }

    /// A gauge of each pipeline.
    fn pipelines(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        write: impl Fn(&Seen, &mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        self.pipelines
            .iter()
            .try_for_each(|seen| write(seen, &mut metric))
    }

    /// Counters of each pipeline, each with a label and its value.
    fn counters(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        values: impl Fn(&Snapshot) -> Vec<(&'static str, &'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for seen in &self.pipelines {
            for (label, value, count) in values(&seen.snapshot) {
                let mut labels: Labels<'_> = vec![("pipeline", &seen.name)];
                if !label.is_empty() {
                    labels.push((label, value));
                }
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauges: [Of<StageSnapshot>; 7] = [
            (
                "batrun_stage_queued",
                "Tasks in the queue of the stage",
                |of| of.queued as u64,
            ),
            (
                "batrun_stage_queue_capacity",
                "Tasks that the queue has room for",
                |of| of.capacity as u64,
            ),
            (
                "batrun_stage_workers",
                "Workers that have a stage value",
                |of| of.workers as u64,
            ),
            (
                "batrun_stage_workers_busy",
                "Workers that are in an attempt",
                |of| of.busy as u64,
            ),
            (
                "batrun_stage_workers_target",
                "Workers that the stage is to have",
                |of| of.target as u64,
            ),
            (
                "batrun_stage_up",
                "0 if no worker could be built ten times in a row",
                |of| (!matches!(of.health, StageHealth::Down { .. })).into(),
            ),
            (
                "batrun_stage_build_failures",
                "Workers that could not be built, in a row",
                |of| match of.health {
                    StageHealth::Failing { failures, .. } | StageHealth::Down { failures, .. } => {
                        failures.into()
                    }
                    _ => 0,
                },
            ),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            self.each_stage(|labels, stage, _| {
                metric.encode_family(labels)?.encode_gauge(&value(stage))
            })?;
        }
        let help = "The longest wait of a task that has had no attempt of this stage yet";
        let seconds = Some(&Unit::Seconds);
        let mut metric = encoder.encode_descriptor(
            "batrun_stage_oldest_queued",
            help,
            seconds,
            MetricType::Gauge,
        )?;
        self.each_stage(|labels, stage, _| {
            let oldest = stage.oldest_queued.unwrap_or_default().as_secs_f64();
            metric.encode_family(labels)?.encode_gauge(&oldest)
        })?;

        let counters: [Of<StageSnapshot>; 4] = [
            (
                "batrun_stage_attempts_started",
                "Attempts that were started",
                |of| of.counts.started,
            ),
            (
                "batrun_stage_retries",
                "Failed attempts that were followed by another",
                |of| of.counts.retried,
            ),
            (
                "batrun_stage_undos_cancelled",
                "Undos that ran to their end",
                |of| of.counts.cancelled,
            ),
            (
                "batrun_stage_cancel_failures",
                "Tries of an undo that failed",
                |of| of.counts.cancel_failures,
            ),
        ];
        for (name, help, value) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            self.each_stage(|labels, stage, _| {
                metric
                    .encode_family(labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(&value(stage), None)
            })?;
        }
        self.attempts(encoder)?;
        let waits: fn(&StageTimes) -> &TimeHistogram = |of| &of.wait;
        let works: fn(&StageTimes) -> &TimeHistogram = |of| &of.work;
        for (name, help, times) in [
            (
                "batrun_stage_wait",
                "The time that tasks waited for the stage",
                waits,
            ),
            ("batrun_stage_work", "The time that attempts took", works),
        ] {
            let mut metric =
                encoder.encode_descriptor(name, help, seconds, MetricType::Histogram)?;
            self.each_stage(|labels, _, of| {
                self.histogram(metric.encode_family(labels)?, times(of))
            })?;
        }
        Ok(())
    }

    /// Each attempt counts once: one that panicked has not failed besides.
    fn attempts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Attempts that have ended, by their result";
        let mut metric =
            encoder.encode_descriptor("batrun_stage_attempts", help, None, MetricType::Counter)?;
        self.each_stage(|labels, stage, _| {
            let counts = &stage.counts;
            // Those of stopped tasks that panicked are in neither count of the other two.
            let panicked = counts.panicked.min(counts.failed);
            for (result, count) in [
                ("finished", counts.finished),
                ("failed", counts.failed - panicked),
                ("panicked", panicked),
                ("stopped", counts.stopped),
            ] {
                let mut labels = labels.clone();
                labels.push(("result", result));
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
            Ok(())
        })
    }

    fn rollbacks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The time from the end of a task's work to the end of its rollback";
        let seconds = Some(&Unit::Seconds);
        let mut metric =
            encoder.encode_descriptor("batrun_rollback", help, seconds, MetricType::Histogram)?;
        self.pipelines.iter().try_for_each(|seen| {
            let labels: Labels<'_> = vec![("pipeline", &seen.name)];
            self.histogram(metric.encode_family(&labels)?, &seen.rollbacks)
        })
    }

    fn each_stage(
        &self,
        mut write: impl FnMut(&Labels<'_>, &StageSnapshot, &StageTimes) -> fmt::Result,
    ) -> fmt::Result {
        for seen in &self.pipelines {
            for (stage, times) in seen.snapshot.stages.iter().zip(&seen.times) {
                write(
                    &vec![("pipeline", &*seen.name), ("stage", &*stage.name)],
                    stage,
                    times,
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn histogram(
        &self,
        mut metric: MetricEncoder<'_>,
        times: &TimeHistogram,
    ) -> fmt::Result {
        let bounds: Vec<Duration> = self
            .bounds
            .iter()
            .map(|bound| Duration::from_secs_f64(*bound))
            .collect();
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(bounds.len() + 1);
        for (bound, below) in self.bounds.iter().zip(times.cumulative(&bounds)) {
            buckets.push((*bound, below - before));
            before = below;
        }
        // The encoder writes the last one as +Inf.
        buckets.push((f64::MAX, times.count() - before));
        let sum = times.sum_ns() as f64 / 1e9;
        metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
    }
}
