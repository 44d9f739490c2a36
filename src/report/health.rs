//! A pipeline's answer to the question whether it can work now.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{task::StageName, text::one_line};

/// Says if a pipeline can work now; made by [`PipelineHandle::health`](crate::PipelineHandle::health), for
/// a readiness probe. It prints as a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "health")]
#[non_exhaustive]
pub enum Health {
    /// It accepts tasks and works on them, though `submit` may have to wait for room.
    Ready,
    /// It accepts tasks, and starts none until it is [resumed](crate::PipelineHandle::resume).
    Paused,
    /// No value of this stage could be built, ten times in a row or more, so its tasks fail.
    StageDown {
        /// The stage.
        stage: StageName,
        /// The last failure.
        error: String,
    },
    /// As many tasks are stuck as [`max_stuck`](crate::Pipeline::max_stuck) allows, so none is accepted.
    TooManyStuck {
        /// The number of stuck tasks.
        stuck: usize,
    },
    /// It is shutting down, or has ended.
    Closed,
    /// It stopped where it was: its journal or ledger failed, or [`Shutdown::Suspend`](crate::Shutdown::Suspend) was called.
    Suspended {
        /// The reason.
        why: Arc<str>,
    },
}

impl Health {
    /// `true` if tasks that are submitted now have a chance: it is ready, or paused.
    pub fn is_ready(&self) -> bool {
        matches!(self, Health::Ready | Health::Paused)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Ready => f.write_str("ready"),
            Health::Paused => {
                f.write_str("paused: tasks are accepted, and wait until it is resumed")
            }
            Health::StageDown { stage, error } => {
                let (stage, error) = (one_line(stage), one_line(error));
                write!(f, "stage {stage} is down: {error}")
            }
            Health::TooManyStuck { stuck } => write!(
                f,
                "{stuck} tasks are stuck, so none is accepted; retry or resolve some"
            ),
            Health::Closed => f.write_str("shutting down, or ended"),
            Health::Suspended { why } => write!(f, "suspended: {}", one_line(why)),
        }
    }
}
