//! The settings of a pipeline that are not a stage's.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "testing")]
use crate::faults::Faults;
#[cfg(feature = "journal")]
use crate::{journal::Journal, policy::Recovery};
use crate::{
    ledger::Ledger,
    policy::{Order, Retry},
    report::Recorder,
    stage::config::parallelism,
};

pub(super) struct Options {
    pub(super) order: Order,
    /// The number of arbiters of its own; `None` for the current one.
    pub(super) arbiters: Option<usize>,
    pub(super) max_in_flight: Option<usize>,
    pub(super) max_stuck: usize,
    pub(super) retry_stuck: Option<Retry>,
    pub(super) max_undos: usize,
    pub(super) abandon_after: Duration,
    pub(super) recorder: Option<Recorder>,
    pub(super) ledger: Option<Arc<dyn Ledger>>,
    #[cfg(feature = "journal")]
    pub(super) journal: Option<Journal>,
    #[cfg(feature = "journal")]
    pub(super) recovery: Recovery,
    #[cfg(feature = "journal")]
    pub(super) keep_undos: bool,
    #[cfg(feature = "journal")]
    pub(super) crash_limit: u32,
    #[cfg(feature = "testing")]
    pub(super) faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            order: Order::Fifo,
            arbiters: Some(parallelism()),
            max_in_flight: None,
            max_stuck: 1_000,
            retry_stuck: None,
            max_undos: 1_024,
            abandon_after: Duration::from_secs(60),
            recorder: None,
            ledger: None,
            #[cfg(feature = "journal")]
            journal: None,
            #[cfg(feature = "journal")]
            recovery: Recovery::default(),
            #[cfg(feature = "journal")]
            keep_undos: false,
            #[cfg(feature = "journal")]
            crash_limit: 3,
            #[cfg(feature = "testing")]
            faults: Faults::default(),
        }
    }
}
