//! Changes of rows, made in the database as they are in memory.

use super::*;

/// Changes that could follow each other, from some numbers.
fn changes(
    numbers: &[u8],
    last_block: &mut u64,
    there: &mut std::collections::BTreeSet<u64>,
) -> Vec<RowOp> {
    let mut ops = Vec::new();
    for pair in numbers.chunks_exact(2) {
        let task = u64::from(pair[1] % 4) + 1;
        // A state keeps the key that its task has.
        let key = format!("{}\\0\0", task % 3);
        let bytes = [pair[0], pair[1]];
        match pair[0] % 10 {
            0..=1 => {
                let state = State::Queued(u16::from(pair[0]));
                ops.push(match there.insert(task) {
                    true => insert_task(task, Some(&key), state, &bytes),
                    false => update_task(task, Some(&key), state, Some(&bytes)),
                });
            }
            2 if there.contains(&task) => {
                ops.push(update_task(task, Some(&key), State::Running(0), None));
            }
            3 if there.contains(&task) => {
                ops.push(put_undo(task, u32::from(pair[1] / 100), &bytes))
            }
            4 => {
                there.remove(&task);
                ops.push(RowOp::DeleteTask {
                    task,
                    has_undos: true,
                });
            }
            5 => ops.push(RowOp::KeepUndos { task }),
            6 if there.contains(&task) => ops.push(RowOp::ReviveUndos { task }),
            7 => {
                *last_block += 1;
                ops.push(put_outcomes(*last_block, 1, &[task], &[(&key, task)]));
                ops.push(put_keyed_outcome(&key, task, 1, Some(&bytes)));
            }
            8 if !there.iter().any(|other| other % 3 == task % 3) => ops.push(RowOp::DeleteKey {
                key: key.into(),
                task,
            }),
            // The key of a task that is there stays taken here, and in memory the writer sees to that.
            _ if *last_block > 0 && !there.contains(&task) => ops.push(RowOp::DeleteOutcomes {
                block: u64::from(pair[1]) % *last_block + 1,
                at: 1,
                keys: vec![(key.into(), task)],
            }),
            _ => ops.push(RowOp::SetMeta("last task", pair[1].to_string())),
        }
    }
    ops
}

#[cfg(feature = "testing")]
mod as_in_memory {
    use super::*;
    use crate::journal::{durability::Durability, memory::disk::Disk, tests::support::all_of};

    proptest! {
        #![proptest_config(ProptestConfig { cases: env::var("BATRUN_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60), failure_persistence: None, ..Default::default() })]

        /// Whatever their order is, and however many commits they come in.
        #[test]
        #[ignore = "needs a server: .ci/postgres"]
        fn postgres_makes_of_changes_what_memory_makes(
            commits in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8)
        ) {
            let mut address = Address::new();
            address.choices.lease = LONG;
            let mut store = address.open().unwrap();
            let mut memory = Disk::new().journal(Durability::Power).unwrap().store;
            let (mut last_block, mut there) = (0, Default::default());
            for numbers in &commits {
                let ops = changes(numbers, &mut last_block, &mut there);
                store.commit(&ops).unwrap();
                memory.commit(&ops).unwrap();
                prop_assert_eq!(all_of(&mut store).unwrap(), all_of(&mut *memory).unwrap());
            }
            store.close(Writes::Succeeded);
        }
    }
}
