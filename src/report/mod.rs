//! A pipeline's account of itself: live as a snapshot and a stream of outcomes, at the end as a report.
//!
//! | to see | use |
//! |---|---|
//! | if it can work now | [`PipelineHandle::health`](crate::PipelineHandle::health): a [`Health`] |
//! | counts and queues now | [`PipelineHandle::snapshot`](crate::PipelineHandle::snapshot): a [`Snapshot`] |
//! | what is in flight, and what has ended | [`Control`](crate::Control): for monitors, which must keep nothing open |
//! | what is in its journal | [`Control::journal`](crate::Control::journal): a [`JournalReader`] |
//! | each outcome as it comes | [`PipelineHandle::outcomes`](crate::PipelineHandle::outcomes) |
//! | everything at the end | the [`Report`] of `run`, `join` and `shutdown` |
//!
//! All of them are `Serialize`. The [guide](crate::guide::operations) says what to watch.

pub(crate) mod counts;
pub(crate) mod times;
pub(crate) mod refusals;
pub(crate) mod final_report;
pub(crate) mod snapshot;
pub(crate) mod stage_stats;
pub(crate) mod health;
pub(crate) mod outcomes;
pub(crate) mod ended;
pub(crate) mod task_view;
pub(crate) mod task_filter;
pub(crate) mod task_page;
pub(crate) mod timeline;
pub(crate) mod timelines;
pub(crate) mod recorder;
pub(crate) mod board;
pub(crate) mod journal_reader;

pub use crate::{
    ledger::{
        cluster::{
            JournalCluster, JournalNode, JournalNodeState, JournalStage, JournalStranded,
            JournalTakeover,
        },
        past::{NoPastCursor, PastCursor, PastOutcome, PastPage},
        read_journal::{JournalKind, JournalSize, UnreadableJournal},
    },
    task::Counts,
};
pub use counts::{StageCounts, Times};
pub use ended::{Cursor, EndedTask};
pub use final_report::{ProducerError, Report, StageReport};
pub use health::Health;
pub use journal_reader::JournalReader;
pub use outcomes::Lagged;
pub use recorder::Recorder;
pub use refusals::RefusedCounts;
pub use snapshot::{Snapshot, StageHealth, StageSnapshot, TaskProgress};
pub use task_filter::TaskFilter;
pub use task_view::{TaskDetail, TaskPage, TaskPhase, TaskView, UndoState, UndoView};
pub use timeline::{Timeline, TimelineEvent, TimelineKind};
pub use times::{StageTimes, TimeHistogram};

pub(crate) use board::{Board, LastState, Now};
pub(crate) use final_report::LAST_FAILURES;
pub(crate) use outcomes::OutcomeFeed;
pub(crate) use snapshot::MOST_PROGRESS;
pub(crate) use stage_stats::{PausedBy, PoolSettings, StageStats};
pub(crate) use task_filter::Seen;
pub(crate) use task_page::PageBuilder;
pub(crate) use timeline::{Event, EventKind, Events};
