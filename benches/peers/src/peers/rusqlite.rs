//! A queue written by hand on SQLite: a table of tasks with their stages and contexts, and one
//! thread that writes to it.
//!
//! The writer commits everything that gathered during the commit before, in one transaction, and
//! only then passes the tasks on: to the next stage's thread, or, once they are deleted, to the
//! collector. The log is in WAL mode with `synchronous = FULL`, which syncs it at each commit;
//! statements are prepared once. Each stage has one thread: it does next to nothing.

use std::{thread, time::Instant};

use anyhow::anyhow;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rusqlite::{Connection, params};

use crate::{
    durable::{Folder, Parcel, Passed, in_flight},
    work::{Measure, Params},
};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(measure(params))
}

/// A task, and how many stages it has been through.
struct Step(Parcel, usize);

fn measure(params: &Params) -> anyhow::Result<Measure> {
    let folder = Folder::new()?;
    let table = open(&folder)?;
    let passed = Passed::new(params);
    let (steps, wanted) = unbounded();
    let (ended, outcomes) = unbounded();
    let (written, stages): (Vec<_>, Vec<_>) = (0..params.stages).map(|_| unbounded()).unzip();
    let (seconds, done) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(table, params, wanted, written, ended));
        for (stage, tasks) in stages.into_iter().enumerate() {
            let (steps, passed) = (steps.clone(), &passed);
            scope.spawn(move || {
                for mut task in tasks {
                    passed.stage(stage, &mut task);
                    if steps.send(Step(task, stage + 1)).is_err() {
                        break;
                    }
                }
            });
        }
        let began = Instant::now();
        let (mut next, mut done) = (0, 0);
        'all: while done < params.tasks {
            while next < params.tasks && next - done < in_flight(params) as u64 {
                // A writer that has gone returns its error at its join.
                if steps.send(Step(Parcel::new(next), 0)).is_err() {
                    break 'all;
                }
                next += 1;
            }
            match outcomes.recv() {
                Ok(more) => done += more,
                Err(_) => break,
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        writer
            .join()
            .map_err(|_| anyhow!("the writer panicked"))??;
        anyhow::Ok((seconds, done))
    })?;
    Ok(passed.finish(done, seconds))
}

/// Runs until every task has ended. The stages end with it.
fn write(
    table: Connection,
    params: &Params,
    wanted: Receiver<Step>,
    written: Vec<Sender<Parcel>>,
    ended: Sender<u64>,
) -> anyhow::Result<()> {
    let mut begin = table.prepare("BEGIN IMMEDIATE")?;
    let mut insert = table.prepare("INSERT INTO task VALUES (?1, 0, ?2)")?;
    let mut update = table.prepare("UPDATE task SET stage = ?2, context = ?3 WHERE id = ?1")?;
    let mut delete = table.prepare("DELETE FROM task WHERE id = ?1")?;
    let mut commit = table.prepare("COMMIT")?;
    let mut gathered = Vec::new();
    let mut left = params.tasks;
    while left > 0 {
        gathered.push(wanted.recv()?);
        gathered.extend(wanted.try_iter());
        begin.execute([])?;
        for Step(task, stages) in &gathered {
            let id = task.id as i64;
            match *stages {
                0 => insert.execute(params![id, task.bytes()?])?,
                all if all == params.stages => delete.execute([id])?,
                some => update.execute(params![id, some, task.bytes()?])?,
            };
        }
        commit.execute([])?;
        let mut done = 0;
        for Step(task, stages) in gathered.drain(..) {
            match written.get(stages) {
                Some(stage) => stage.send(task)?,
                None => done += 1,
            }
        }
        if done > 0 {
            ended.send(done)?;
            left -= done;
        }
    }
    Ok(())
}

fn open(folder: &Folder) -> anyhow::Result<Connection> {
    let table = Connection::open(folder.file("tasks.db"))?;
    table.pragma_update(None, "journal_mode", "wal")?;
    table.pragma_update(None, "synchronous", "FULL")?;
    table.execute_batch(
        "CREATE TABLE task (id INTEGER PRIMARY KEY, stage INTEGER NOT NULL, context BLOB NOT NULL)",
    )?;
    Ok(table)
}
