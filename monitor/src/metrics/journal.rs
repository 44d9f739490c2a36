//! The metrics of journals. Nothing here reads one: sizes are those of the last seconds.

use std::{fmt, time::Duration};

use batrun::report::{JournalSize, TimeHistogram};
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType, registry::Unit};

use super::scrape::{Labels, Scrape, Seen};
use crate::{journal_watch::kind, live::Watched};

/// A journal as it is now.
pub(super) struct SeenJournal {
    pub(super) kind: &'static str,
    commits: TimeHistogram,
    size: Option<JournalSize>,
    lease_left: Option<Duration>,
}

impl SeenJournal {
    pub(super) fn of(watched: &Watched) -> Option<Self> {
        let journal = watched.control.journal()?;
        Some(SeenJournal {
            kind: kind(Some(journal)),
            commits: journal.commit_times(),
            size: watched.journal.size(journal),
            lease_left: journal.lease_left(),
        })
    }
}

/// A gauge: its name, its unit, its help, and its value where there is one.
type Gauge = (
    &'static str,
    Option<Unit>,
    &'static str,
    fn(&SeenJournal) -> Option<f64>,
);

impl Scrape {
    pub(super) fn journals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let journals = || {
            let seen = self.pipelines.iter();
            seen.filter_map(|seen: &Seen| Some((seen, seen.journal.as_ref()?)))
        };
        if journals().next().is_none() {
            return Ok(());
        }
        let help = "The time that commits of this process to the journal took";
        let mut metric = encoder.encode_descriptor(
            "batrun_journal_commit",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (seen, journal) in journals() {
            let labels: Labels<'_> = vec![("pipeline", &seen.name)];
            self.histogram(metric.encode_family(&labels)?, &journal.commits)?;
        }
        let gauges: [Gauge; 4] = [
            (
                "batrun_journal",
                Some(Unit::Bytes),
                "The size of the journal's file with its log, or of its tables",
                |of| Some(of.size?.bytes as f64),
            ),
            (
                "batrun_journal_outcomes_kept",
                None,
                "The outcomes that the journal keeps",
                |of| Some(of.size?.outcomes_kept as f64),
            ),
            (
                "batrun_journal_nodes_alive",
                None,
                "The processes on the journal whose lease holds",
                |of| Some(of.size?.nodes_alive? as f64),
            ),
            (
                "batrun_journal_lease_left",
                Some(Unit::Seconds),
                "The time until the lease of this process runs out",
                |of| Some(of.lease_left?.as_secs_f64()),
            ),
        ];
        for (name, unit, help, value) in gauges {
            if journals().all(|(_, journal)| value(journal).is_none()) {
                continue;
            }
            let mut metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (seen, journal) in journals() {
                if let Some(value) = value(journal) {
                    let labels: Labels<'_> = vec![("pipeline", &seen.name)];
                    metric.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}
