//! The tasks that a process with too many of them leaves to others.

/// The processes that have nothing waiting, and the tasks for which they have room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idle {
    pub(super) processes: u64,
    pub(super) room: u64,
}

/// The number of tasks to leave to the others. `waiting` counts those that wait here now, and at the last look: what
/// comes and goes in between is not worth the way.
///
/// Each gets the same share, this one included, so that none is sent on twice.
pub(super) fn to_release(waiting: [usize; 2], idle: Idle) -> usize {
    let waiting = waiting[0].min(waiting[1]) as u64;
    let shares = idle.processes + 1;
    let theirs = waiting - waiting.div_ceil(shares);
    usize::try_from(theirs.min(idle.room)).unwrap_or(usize::MAX)
}

/// The same of a process that is to end: it keeps none.
pub(super) fn to_leave(waiting: usize, idle: Idle) -> usize {
    usize::try_from(idle.room)
        .unwrap_or(usize::MAX)
        .min(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(processes: u64, room: u64) -> Idle {
        Idle { processes, room }
    }

    #[test]
    fn each_process_gets_a_share_as_far_as_it_has_room() {
        assert_eq!(to_release([100, 100], idle(1, 1_000)), 50);
        assert_eq!(to_release([100, 100], idle(3, 1_000)), 75);
        assert_eq!(to_release([101, 400], idle(1, 1_000)), 50);
        assert_eq!(to_release([100, 100], idle(1, 20)), 20);
        // The last one stays: it would only go to and fro.
        assert_eq!(to_release([1, 1], idle(5, 10)), 0);
        assert_eq!(to_release([0, 100], idle(5, 10)), 0);
        assert_eq!(to_release([100, 100], idle(0, 0)), 0);
    }

    #[test]
    fn a_process_that_is_to_end_leaves_all_for_which_there_is_room() {
        assert_eq!(to_leave(100, idle(1, 1_000)), 100);
        assert_eq!(to_leave(100, idle(2, 30)), 30);
        assert_eq!(to_leave(100, Idle::default()), 0);
    }
}
