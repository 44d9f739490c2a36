//! The workload `durable`: tasks that are on disk before anything follows from them.
//!
//! A stage hands its task on unchanged. The stages of every system alike count in [`Passed`]
//! whether each task was in each stage once, and in order.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, ensure};
use rustix::fs::statfs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::work::{Measure, Params, Workload};

/// A task: about 100 bytes in any encoding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    pub id: u64,
    pub age: u32,
    pub name: String,
}

impl Parcel {
    pub fn new(id: u64) -> Self {
        Parcel {
            id,
            age: 0,
            name: String::from(
                "seventy-two bytes, so that with the other fields it comes to a hundred..",
            ),
        }
    }

    /// The encoding that batrun's journal uses, and a queue that is written by hand would.
    ///
    /// # Errors
    /// None, with these fields.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(self)?)
    }
}

/// The stages that each task was in.
pub struct Passed {
    /// For each task, their number.
    stages: Vec<AtomicU8>,
    /// Tasks that came to a stage a second time, or not from the one before it.
    wrong: AtomicU64,
    last: u8,
    tenths: Option<Tenths>,
}

/// The times at which each tenth of the tasks had left the last stage.
struct Tenths {
    /// The number of tasks in one.
    tasks: u64,
    left: AtomicU64,
    times: Mutex<Vec<Instant>>,
}

impl Tenths {
    fn one_more(&self) {
        if (self.left.fetch_add(1, Relaxed) + 1).is_multiple_of(self.tasks)
            && let Ok(mut times) = self.times.lock()
        {
            times.push(Instant::now());
        }
    }

    /// The pace in the last tenth, by that in the second: the first one has the start in it.
    fn last(&self) -> Option<f64> {
        let times = self.times.lock().ok()?;
        let took = |tenth: usize| Some((*times.get(tenth)? - *times.get(tenth - 1)?).as_secs_f64());
        Some(took(1)? / took(9)?)
    }
}

impl Passed {
    pub fn new(params: &Params) -> Self {
        Passed {
            stages: (0..params.tasks).map(|_| AtomicU8::new(0)).collect(),
            wrong: AtomicU64::new(0),
            last: params.stages as u8,
            tenths: (params.workload == Workload::ClusterMillion).then(|| Tenths {
                tasks: params.tasks / 10,
                left: AtomicU64::new(0),
                times: Mutex::new(Vec::new()),
            }),
        }
    }

    /// The work of a stage (0 is the first) on a task.
    pub fn stage(&self, stage: usize, task: &mut Parcel) {
        self.pass(stage, task.id, &mut task.age);
    }

    /// The same on a task of this number and age.
    pub fn pass(&self, stage: usize, id: u64, age: &mut u32) {
        let seen = self.stages.get(id as usize);
        let before = seen.map(|seen| seen.fetch_add(1, Relaxed));
        if before.map(usize::from) != Some(stage) || *age as usize != stage {
            self.wrong.fetch_add(1, Relaxed);
        }
        *age += 1;
        if let Some(tenths) = &self.tenths
            && stage + 1 == usize::from(self.last)
        {
            tenths.one_more();
        }
    }

    /// Ends the run. `done` is the number of tasks that are known to be done.
    pub fn finish(&self, done: u64, seconds: f64) -> Measure {
        let all = |seen: &&AtomicU8| seen.load(Relaxed) == self.last;
        let passed = self.stages.iter().filter(all).count() as u64;
        Measure {
            seconds,
            done: done.min(passed),
            wrong_order: self.wrong.load(Relaxed) + done.abs_diff(passed),
            last_tenth: self.tenths.as_ref().and_then(Tenths::last),
            ..Measure::default()
        }
    }
}

/// Maximum number of tasks in flight.
pub fn in_flight(params: &Params) -> usize {
    params.workload.in_flight().unwrap_or(1)
}

/// `true` if a folder is in memory, where a sync costs nothing.
///
/// # Errors
/// There is no such folder.
pub fn in_memory(folder: &Path) -> anyhow::Result<bool> {
    const TMPFS: i64 = 0x0102_1994;
    let kind = statfs(folder).context("looking at the folder's disk")?;
    Ok(kind.f_type as i64 == TMPFS)
}

/// A folder on a disk, removed when it is dropped.
pub struct Folder(TempDir);

impl Folder {
    /// # Errors
    /// The folder would be in memory, where a sync costs nothing.
    pub fn new() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("batrun-peers-").context("making a folder")?;
        ensure!(
            !in_memory(folder.path())?,
            "{} is in memory: set TMPDIR to a folder on a disk",
            folder.path().display()
        );
        Ok(Folder(folder))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
