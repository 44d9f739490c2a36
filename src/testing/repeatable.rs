//! The check that the world is the same when things happen twice.

use std::fmt::Debug;

use crate::faults::Repeat;

/// Makes a world with nothing repeated, with every run made twice (its undos run in between), with
/// every undo run twice, and with both, and compares them.
///
/// The closure builds a fresh world, runs a pipeline with [`repeat`](crate::Pipeline::repeat) in it,
/// and returns the state of the world: a list of files, the rows of a table,
/// [`Recorder::left`](super::Recorder::left). Let some of its tasks fail, or no rollback takes place.
///
/// # Panics
/// If a world differs: the panic shows both. If an undo fails as it runs again, which would leave a
/// task stuck. If nothing was repeated at all.
pub async fn assert_repeatable<W: PartialEq + Debug>(world: impl AsyncFn(Repeat) -> W) {
    let once = world(Repeat::nothing()).await;
    for repeat in [Repeat::runs(), Repeat::cancels(), Repeat::both()] {
        let twice = world(repeat.clone()).await;
        if let Some(refused) = repeat.refused() {
            panic!("a cancel failed when it was called again: {refused}");
        }
        assert!(
            repeat.is_tried(),
            "with {repeat} nothing was: give the pipeline .repeat(repeat), and let a task fail"
        );
        assert!(
            once == twice,
            "with {repeat} the world is another one:\n  once: {once:?}\n then: {twice:?}"
        );
    }
}
