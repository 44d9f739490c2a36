//! The limit: the same bytes written to the end of a file, and a sync for each group of them.
//!
//! No stages, no threads, no reading back. A task has four records: that it was accepted, and that
//! each stage has ended. A group has the next record of each task in flight, so that a task's next
//! record is always in a later group than the one before, as in a system that waits for the sync.

use std::{fs::File, io::Write, time::Instant};

use crate::{
    durable::{Folder, Parcel, Passed, in_flight},
    work::{Measure, Params},
};

pub fn run(params: &Params) -> Option<anyhow::Result<Measure>> {
    Some(measure(params))
}

fn measure(params: &Params) -> anyhow::Result<Measure> {
    let folder = Folder::new()?;
    let mut file = File::create_new(folder.file("records"))?;
    let passed = Passed::new(params);
    let mut flying: Vec<Parcel> = Vec::with_capacity(in_flight(params));
    let mut group = Vec::new();
    let (mut next, mut done) = (0, 0);
    let began = Instant::now();
    while done < params.tasks {
        group.clear();
        for task in &mut flying {
            passed.stage(task.age as usize, task);
            group.extend(task.bytes()?);
        }
        while flying.len() < in_flight(params) && next < params.tasks {
            let task = Parcel::new(next);
            group.extend(task.bytes()?);
            flying.push(task);
            next += 1;
        }
        file.write_all(&group)?;
        file.sync_data()?;
        let before = flying.len();
        flying.retain(|task| (task.age as usize) < params.stages);
        done += (before - flying.len()) as u64;
    }
    Ok(passed.finish(done, began.elapsed().as_secs_f64()))
}
