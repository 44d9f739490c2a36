//! The switches of a running pipeline: pause, size and rate, of the whole or of a stage.

use std::sync::atomic::Ordering;

use super::{Shared, messages::ToPool};
use crate::{
    error::{BuildError, Error, MOST_WORKERS},
    panic_guard,
    policy::RateLimit,
    report::PausedBy,
    task::StageIx,
};

impl Shared {
    /// The number of the stage with this name.
    pub(crate) fn stage_number(&self, stage: &str) -> Result<StageIx, Error> {
        let at = self.stages.iter().position(|name| **name == *stage);
        at.map(|at| at as StageIx)
            .ok_or_else(|| Error::NoSuchStage(stage.to_owned()))
    }

    /// No stage starts work, until `resume`. Does nothing once the pipeline is to end.
    pub(crate) fn pause(&self) {
        self.set_paused(true);
        // A shutdown resumes, whichever comes first.
        if self.table.refused().is_some() {
            self.resume();
        }
    }

    pub(crate) fn resume(&self) {
        self.set_paused(false);
        self.tell_pools(|| ToPool::Dispatch);
    }

    fn set_paused(&self, paused: bool) {
        // So that of two threads one has the last word on all stages.
        let _switching = panic_guard::lock(&self.switching);
        self.paused.store(paused, Ordering::SeqCst);
        for stats in &self.board.stats {
            stats.set_paused(PausedBy::Pipeline, paused);
        }
    }

    /// The same for one stage.
    pub(crate) fn pause_stage(&self, stage: &str, paused: bool) -> Result<(), Error> {
        let at = self.stage_number(stage)?;
        let stats = &self.board.stats[at as usize];
        stats.set_paused(PausedBy::Stage, paused);
        if paused && self.table.refused().is_some() {
            stats.set_paused(PausedBy::Stage, false);
        }
        if !stats.is_paused() {
            self.tell_pool(at, ToPool::Dispatch);
        }
        Ok(())
    }

    /// The pipeline is to end: what is in flight goes on, whatever was paused.
    pub(crate) fn resume_all(&self) {
        self.set_paused(false);
        for stats in &self.board.stats {
            stats.set_paused(PausedBy::Stage, false);
        }
        self.tell_pools(|| ToPool::Dispatch);
    }

    /// Gives a stage another number of workers.
    pub(crate) fn resize(&self, stage: &str, workers: usize) -> Result<(), Error> {
        let at = self.stage_number(stage)?;
        if workers == 0 {
            return Err(Error::ZeroWorkers(stage.to_owned()));
        }
        if workers > MOST_WORKERS {
            return Err(Error::TooManyWorkers(stage.to_owned()));
        }
        if self.fixed_size[at as usize] {
            return Err(Error::FixedSize(stage.to_owned()));
        }
        let stats = &self.board.stats[at as usize];
        // Under its lock, so that the last number shown is that of the last message.
        stats.change_settings(|settings| {
            settings.workers = workers;
            self.tell_pool(at, ToPool::Resize(workers));
        });
        Ok(())
    }

    /// Gives a stage another limit on its attempts, or none.
    pub(crate) fn set_rate(&self, stage: &str, rate: Option<RateLimit>) -> Result<(), Error> {
        let at = self.stage_number(stage)?;
        if rate.is_some_and(|rate| rate.is_zero()) {
            return Err(BuildError::ZeroRate(stage.to_owned()).into());
        }
        let stats = &self.board.stats[at as usize];
        stats.change_settings(|settings| {
            settings.rate = rate;
            self.tell_pool(at, ToPool::SetRate(rate));
        });
        Ok(())
    }
}
