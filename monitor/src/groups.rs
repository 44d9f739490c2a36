//! Failures that are alike, as one group.

use batrun::report::EndedTask;
use serde::Serialize;

use crate::texts::{Texts, end_of, masked, millis};

/// Tasks that ended in the same stage, with errors that differ by numbers only.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    stage: Option<String>,
    error: Option<String>,
    count: usize,
    first_at: u64,
    last_at: u64,
    /// The last hour in steps of three minutes, the oldest first.
    recent: [u32; STEPS],
}

const STEPS: usize = 20;
const STEP_MS: u64 = 3 * 60 * 1_000;

/// The groups, the largest first.
pub(crate) fn of(ended: &[EndedTask], texts: &Texts, now: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for one in ended {
        let (stage, error) = end_of(&one.outcome.end);
        let error = error.map(|error| masked(&texts.show(&error)));
        let (stage, at) = (stage.map(str::to_owned), millis(one.at));
        let place = *places
            .entry((stage.clone(), error.clone()))
            .or_insert_with(|| {
                groups.push(Group {
                    stage,
                    error,
                    count: 0,
                    first_at: at,
                    last_at: at,
                    recent: [0; STEPS],
                });
                groups.len() - 1
            });
        let group = &mut groups[place];
        group.count += 1;
        group.first_at = group.first_at.min(at);
        group.last_at = group.last_at.max(at);
        let steps = (now.saturating_sub(at) / STEP_MS) as usize;
        if let Some(step) = (STEPS - 1).checked_sub(steps) {
            group.recent[step] += 1;
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}
