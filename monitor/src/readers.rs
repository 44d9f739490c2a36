//! Those who read journals: two at once, so that nobody wears out a disk or a database by looking.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::answer::Refused;

/// The most that read at once.
const MOST: usize = 2;
/// The longest wait for a turn.
const WAIT: Duration = Duration::from_secs(2);

/// The number of those who read.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    reading: Mutex<usize>,
    left: Condvar,
}

/// The turn of one who reads.
#[derive(Debug)]
pub(crate) struct Reading<'a>(&'a Readers);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self
            .0
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}

impl Readers {
    /// Waits for a turn, for a while. Blocks.
    pub(crate) fn enter(&self) -> Result<Reading<'_>, Refused> {
        self.enter_within(WAIT).ok_or_else(|| {
            Refused::unavailable("others read the journal just now; ask again in a moment")
        })
    }

    fn enter_within(&self, wait: Duration) -> Option<Reading<'_>> {
        let until = Instant::now() + wait;
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        while *reading >= MOST {
            let left = until.checked_duration_since(Instant::now())?;
            let woken = self.left.wait_timeout(reading, left);
            reading = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *reading += 1;
        drop(reading);
        Some(Reading(self))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn two_read_at_once_and_others_get_the_turns_of_those() {
        let readers = Readers::default();
        let first = readers.enter().unwrap();
        let _second = readers.enter().unwrap();
        assert!(readers.enter_within(Duration::ZERO).is_none());
        drop(first);
        drop(readers.enter_within(Duration::ZERO).unwrap());
        let (at_once, turns) = (AtomicUsize::new(1), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let turn = readers.enter_within(Duration::from_secs(60)).unwrap();
                    assert!(at_once.fetch_add(1, Ordering::SeqCst) < MOST);
                    turns.fetch_add(1, Ordering::SeqCst);
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert_eq!(turns.into_inner(), 8);
    }
}
