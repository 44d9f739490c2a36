//! Texts that come from the user's values: made on the user's thread, and cut to a size.

use crate::{failure::Failure, panic_guard, task::Rollback};

/// The longest text of the user's that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// A failure reduced to its kind and its text, which is all that the journal keeps.
///
/// The error in it is the user's: neither its `Display` nor its `Drop` may run on the writer's
/// thread.
pub(super) fn as_text(failure: &Failure) -> Failure {
    let mut text = panic_guard::shown(failure);
    shorten(&mut text);
    Failure::as_shown(failure.kind(), text)
}

/// The result of a rollback, with its texts cut to a size.
pub(super) fn shortened(rollback: &Rollback) -> Rollback {
    let mut rollback = rollback.clone();
    if let Rollback::Stuck(stuck) = &mut rollback {
        for undo in &mut stuck.undos {
            shorten(&mut undo.undo);
            shorten(&mut undo.error);
        }
    }
    rollback
}

fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ..");
    }
}
