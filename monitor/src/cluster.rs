//! Troubles of the processes that share a journal, in words.

use batrun::report::{JournalCluster, JournalNodeState, JournalStage};

/// The troubles of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterTroubles {
    /// The stages in their versions that stranded tasks wait for, each with the number of tasks.
    stranded: Vec<(String, u64)>,
    /// The nodes whose lease has run out, each with the number of its tasks.
    silent: Vec<(String, u64)>,
    /// A number as high as this may be higher.
    counted_to: u64,
}

impl ClusterTroubles {
    pub(crate) fn of(cluster: &JournalCluster) -> Self {
        let stages = |stages: &[JournalStage]| {
            let stages = stages
                .iter()
                .map(|stage| format!("{} v{}", stage.name, stage.version));
            stages.collect::<Vec<_>>().join(" → ")
        };
        let stranded = cluster.stranded.iter();
        let nodes = cluster.nodes.iter().filter(|node| {
            let is_silent = matches!(
                node.state,
                JournalNodeState::Overdue | JournalNodeState::Dead
            );
            is_silent && node.tasks > 0
        });
        ClusterTroubles {
            stranded: stranded
                .map(|stranded| (stages(&stranded.stages), stranded.tasks))
                .collect(),
            silent: nodes
                .map(|node| (format!("node {} ({})", node.id, node.name), node.tasks))
                .collect(),
            counted_to: cluster.counted_to,
        }
    }

    /// The sentence about tasks that no process can go on with, and their number.
    pub(crate) fn stranded(&self) -> Option<(String, u64)> {
        let (stages, _) = self.stranded.first()?;
        let tasks = sum(&self.stranded);
        let wait = self.count(tasks, "task waits", "tasks wait");
        let others = match self.stranded.len() {
            1 => String::new(),
            2 => " and of another version".to_owned(),
            more => format!(" and of {} other versions", more - 1),
        };
        let text = match stages.is_empty() {
            true => format!("{wait} for a process with stages, and none lives: start one"),
            false => format!(
                "{wait} for a process with the stages {stages}{others}, and none lives: start one"
            ),
        };
        Some((text, tasks))
    }

    /// The sentence about nodes that are silent and still have tasks, and the number of these.
    pub(crate) fn silent(&self) -> Option<(String, u64)> {
        let (name, _) = self.silent.first()?;
        let tasks = sum(&self.silent);
        let has = self.count(tasks, "task", "tasks");
        let text = match self.silent.len() {
            1 => format!("the lease of {name} has run out, and nobody has its {has} yet"),
            nodes => {
                format!("the leases of {nodes} nodes have run out, and nobody has their {has} yet")
            }
        };
        Some((text, tasks))
    }

    fn count(&self, count: u64, one: &str, many: &str) -> String {
        match count {
            1 => format!("1 {one}"),
            count if count >= self.counted_to => format!("{count} or more {many}"),
            count => format!("{count} {many}"),
        }
    }
}

fn sum(of: &[(String, u64)]) -> u64 {
    of.iter().map(|(_, tasks)| tasks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ClusterTroubles {
        /// One of each kind.
        pub(crate) fn of_test() -> Self {
            troubles(&[("pack v1", 12)], &[("node 3 (host 7)", 3)])
        }
    }

    fn troubles(stranded: &[(&str, u64)], silent: &[(&str, u64)]) -> ClusterTroubles {
        let owned = |of: &[(&str, u64)]| {
            let of = of.iter().map(|(name, tasks)| ((*name).to_owned(), *tasks));
            of.collect()
        };
        ClusterTroubles {
            stranded: owned(stranded),
            silent: owned(silent),
            counted_to: 10_000,
        }
    }

    #[test]
    fn each_trouble_of_a_cluster_has_its_sentence() {
        assert_eq!(troubles(&[], &[]).stranded(), None);
        assert_eq!(troubles(&[], &[]).silent(), None);
        for (stranded, text, tasks) in [
            (
                &[("pack v1 → send v1", 12)][..],
                "12 tasks wait for a process with the stages pack v1 → send v1, and none lives: start one",
                12,
            ),
            (
                &[("pack v1", 1), ("pack v2", 10_000)],
                "10001 or more tasks wait for a process with the stages pack v1 and of another version, and none lives: \
                 start one",
                10_001,
            ),
            (
                &[("", 1)],
                "1 task waits for a process with stages, and none lives: start one",
                1,
            ),
        ] {
            assert_eq!(
                troubles(stranded, &[]).stranded(),
                Some((text.to_owned(), tasks))
            );
        }
        for (silent, text, tasks) in [
            (
                &[("node 3 (host 7)", 1)][..],
                "the lease of node 3 (host 7) has run out, and nobody has its 1 task yet",
                1,
            ),
            (
                &[("node 3 (host 7)", 2), ("node 4 (host 8)", 3)],
                "the leases of 2 nodes have run out, and nobody has their 5 tasks yet",
                5,
            ),
        ] {
            assert_eq!(
                troubles(&[], silent).silent(),
                Some((text.to_owned(), tasks))
            );
        }
    }
}
