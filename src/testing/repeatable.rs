//! Is the world the same when things happen twice?

use std::fmt::Debug;

use super::Repeat;

/// Makes a world with nothing repeated, with every run (taken back, then made again), with every
/// cancel (called twice) and with both, and compares them. The closure builds a fresh world, runs a pipeline with
/// [`repeat`](crate::Pipeline::repeat) in it, and returns what the world is like: a list of files,
/// the rows of a table, [`Recorder::left`](super::Recorder::left). Let some of its tasks fail, or
/// no final cancel takes place.
///
/// # Panics
/// When a world differs, with both of them; when a cancel fails as it is called again, which would
/// leave a task stuck; and when nothing was repeated at all.
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
