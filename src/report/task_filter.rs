//! The choice of tasks in flight: which of them a filter takes.

use std::time::Duration;

use super::task_view::TaskPhase;
use crate::{clock::Nanos, task::StageIx};

/// A choice of the tasks in flight, for [`Control::tasks`](crate::Control::tasks). Default: all of them. Each
/// setting narrows it.
///
/// ```
/// use std::time::Duration;
/// use batrun::report::{TaskFilter, TaskPhase};
///
/// // What waits for the bank for more than a minute.
/// let late = TaskFilter::new()
///     .phase(TaskPhase::Queued)
///     .stage("pay")
///     .older_than(Duration::from_secs(60));
/// # let _ = late;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// A bit for each phase; none stands for all.
    phases: u8,
    stage: Option<String>,
    older_than: Duration,
    label: String,
}

/// A task as a filter sees it: what can be read without a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) phase: TaskPhase,
    pub(crate) stage: Option<StageIx>,
    pub(crate) age: Nanos,
}

impl TaskFilter {
    /// Takes every task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes tasks in this phase; called again, in any of those. Default: in any.
    pub fn phase(mut self, phase: TaskPhase) -> Self {
        self.phases |= phase.bit();
        self
    }

    /// Takes tasks that wait for this stage or are at work in it. Default: in any. Tasks whose undos run are in
    /// none.
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// Takes tasks that have been where they are for longer than this: see
    /// [`TaskView::age`](super::TaskView::age). Default: 0.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = age;
        self
    }

    /// Takes tasks whose [label](crate::submit::Submit::label) begins with this. Default: any, and none.
    pub fn label(mut self, prefix: impl Into<String>) -> Self {
        self.label = prefix.into();
        self
    }

    pub(crate) fn stage_name(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// Only labels can tell.
    pub(crate) fn asks_for_label(&self) -> bool {
        !self.label.is_empty()
    }

    /// `stage` is the number of the stage that it asks for.
    pub(crate) fn takes(&self, seen: &Seen, stage: Option<StageIx>) -> bool {
        (self.phases == 0 || self.phases & seen.phase.bit() != 0)
            && (stage.is_none() || seen.stage == stage)
            && u128::from(seen.age) >= self.older_than.as_nanos()
    }

    pub(crate) fn takes_label(&self, label: Option<&str>) -> bool {
        self.label.is_empty() || label.is_some_and(|label| label.starts_with(&self.label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Seen = Seen {
        phase: TaskPhase::Queued,
        stage: Some(1),
        age: 5_000_000,
    };

    #[test]
    fn d1_a_filter_takes_all_until_it_is_told_what() {
        let all = TaskFilter::new();
        assert!(all.takes(&WAITS, None) && all.takes_label(None) && all.takes_label(Some("x")));
        assert!(!all.asks_for_label());
    }

    #[test]
    fn d1_a_filter_narrows_by_each_of_its_settings() {
        let any_of_two = TaskFilter::new()
            .phase(TaskPhase::Running)
            .phase(TaskPhase::Queued);
        assert!(any_of_two.takes(&WAITS, None));
        let running = TaskFilter::new().phase(TaskPhase::Running);
        assert!(!running.takes(&WAITS, None));
        assert!(TaskFilter::new().takes(&WAITS, Some(1)));
        assert!(!TaskFilter::new().takes(&WAITS, Some(0)));
        let rolling_back = Seen {
            stage: None,
            ..WAITS
        };
        assert!(!TaskFilter::new().takes(&rolling_back, Some(1)));
        let old = |ms| TaskFilter::new().older_than(Duration::from_millis(ms));
        assert!(old(5).takes(&WAITS, None));
        assert!(!old(6).takes(&WAITS, None));
        assert!(
            !TaskFilter::new()
                .older_than(Duration::MAX)
                .takes(&WAITS, None)
        );
        let ada = TaskFilter::new().label("ad");
        assert!(ada.takes_label(Some("ada")) && !ada.takes_label(Some("mada")));
        assert!(!ada.takes_label(None));
    }
}
