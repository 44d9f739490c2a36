//! In which order undos are cancelled, and when.

use batrun::{Rollback, prelude::*};

use crate::kit::{Journal, still};

/// Registers two undos, `<name>1` and `<name>2`, and then succeeds or fails.
fn stage(
    name: &'static str,
    journal: &Journal,
    fails: bool,
) -> impl Stage<Input = u32, Output = u32> + Clone + Send {
    let (ran, cancelled) = (journal.clone(), journal.clone());
    stage_fn(
        name,
        async move |input: u32, task: &TaskContext<'_, String>| {
            for n in 1..=2 {
                task.on_cancel(format!("{name}{n}")).await?;
                ran.note(format!("did {name}{n}"));
            }
            if fails {
                Err(Failure::new("no"))
            } else {
                Ok(input)
            }
        },
    )
    .cancel_with(async move |undo: String, _: &CancelContext<'_>| {
        cancelled.note(format!("undid {undo}"));
        Ok(())
    })
}

#[test]
fn g03_undo_runs_in_registration_order() {
    let journal = Journal::default();
    let report = still(
        Pipeline::new("fifo")
            .producer(from_iter([7]))
            .stage(stage("a", &journal, false))
            .stage(stage("b", &journal, true))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 1);
    assert_eq!(journal.of("undid "), ["a1", "a2", "b1", "b2"]);
    assert_eq!(
        report.last_failures[0].rollback,
        Rollback::Complete { undos: 4 }
    );
}

#[test]
fn g03_lifo_runs_the_undos_in_reverse_order() {
    let journal = Journal::default();
    let report = still(
        Pipeline::new("lifo")
            .order(Order::Lifo)
            .producer(from_iter([7]))
            .stage(stage("a", &journal, false))
            .stage(stage("b", &journal, true))
            .current_arbiter()
            .run(),
    )
    .unwrap();
    assert_eq!(report.counts.failed, 1);
    assert_eq!(journal.of("undid "), ["b2", "b1", "a2", "a1"]);
}
