//! Faults and repeats that a test puts into a pipeline. Only there with the feature `testing`:
//! every stage is then wrapped ([`injected`]), and looks before and after each call whether something
//! is due.

pub(crate) mod fault;
pub(crate) mod repeat;
pub(crate) mod injected;

pub use fault::Fault;
pub use repeat::Repeat;

pub(crate) use injected::Injected;

use self::fault::{CurrentCall, When};
use crate::{error::BuildError, failure::Failure, stage::StageConfig};

/// The faults and repeats that a test has put into a pipeline.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub(crate) faults: Vec<Fault>,
    pub(crate) repeat: Repeat,
}

impl Faults {
    pub(crate) fn check(&self, stages: &[StageConfig]) -> Result<(), BuildError> {
        for fault in &self.faults {
            if !stages.iter().any(|stage| stage.name == fault.stage) {
                return Err(BuildError::FaultWithoutStage(fault.stage.clone()));
            }
        }
        match stages.iter().find(|stage| !stage.copies) {
            Some(stage) if self.repeat.runs => Err(BuildError::NotRepeatable(stage.name.clone())),
            _ => Ok(()),
        }
    }

    /// Gives each stage one attempt more, for the run that is thrown away.
    pub(crate) fn prepared(&self, mut stages: Vec<StageConfig>) -> Vec<StageConfig> {
        if self.repeat.runs {
            for stage in &mut stages {
                stage.retry = stage.retry.one_more_at_once();
            }
        }
        stages
    }

    async fn befall(&self, when: When, now: &CurrentCall<'_>) -> Result<(), Failure> {
        for fault in &self.faults {
            fault.befall(when, now).await?;
        }
        Ok(())
    }
}
