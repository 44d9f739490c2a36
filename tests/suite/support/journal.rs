//! Journals of tests, in memory and in a folder that goes away, and a pipeline that has one.

use std::{future::pending, path::PathBuf};

use batrun::{
    PipelineHandle,
    journal::{Durability, Journal},
    prelude::*,
    testing::Disk,
};

/// A journal on this disk that survives a loss of power.
pub fn on_disk(disk: &Disk) -> Journal {
    disk.journal(Durability::Power).unwrap()
}

/// A place for a journal, there as long as the folder is held.
pub fn journal_path() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    (folder, path)
}

/// The pipeline `p`, whose four workers return what they get.
pub async fn echo(journal: Journal) -> PipelineHandle<u32, u32> {
    echo_hanging_at(None, journal).await
}

/// As [`echo`], where a task with this number hangs.
pub async fn echo_hanging_at(
    number: impl Into<Option<u32>>,
    journal: Journal,
) -> PipelineHandle<u32, u32> {
    let number = number.into();
    let echo = stage_fn("echo", async move |n: u32, _: &TaskContext<'_, ()>| {
        if number == Some(n) {
            pending::<()>().await;
        }
        Ok(n)
    });
    let pipeline = Pipeline::new("p").journal(journal);
    pipeline.stage(echo.workers(4)).start().await.unwrap()
}
