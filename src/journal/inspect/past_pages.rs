//! Pages of outcomes, the newest first, made of blocks.

use std::time::{Duration, UNIX_EPOCH};

use crate::{
    journal::rows::outcome_block::OutcomeBlockRow,
    ledger::past::{PastCursor, PastOutcome, PastPage},
};

/// A page under way.
pub(super) struct PastPages {
    /// Everything that is not older than this is on a page before, or has been taken in.
    place: Option<PastCursor>,
    left: usize,
    page: PastPage,
    /// There is more than what fits.
    more: bool,
}

impl PastPages {
    pub(super) fn new(before: Option<PastCursor>, limit: usize) -> Self {
        PastPages {
            place: before,
            left: limit,
            page: PastPage::default(),
            more: false,
        }
    }

    /// The place from which to go on.
    #[cfg(feature = "postgres")]
    pub(super) fn place(&self) -> Option<PastCursor> {
        self.place
    }

    /// The number of outcomes that still fit.
    #[cfg(feature = "postgres")]
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Takes in what the next older block has that is older than the place. `false` once the page is full and
    /// there is more.
    pub(super) fn take_in(&mut self, row: &OutcomeBlockRow) -> bool {
        let place = self.place.filter(|place| place.block == row.number);
        if place.is_some_and(|place| place.older == 0) {
            return true;
        }
        if self.left == 0 {
            self.more = true;
            return false;
        }
        let cursor = |older: usize| PastCursor {
            at: row.at,
            block: row.number,
            older: older as u64,
        };
        let block = match row.block() {
            Ok(block) => block,
            Err(corrupt) => {
                self.page.corrupt.push(corrupt.to_string());
                self.left -= 1;
                self.place = Some(cursor(0));
                return true;
            }
        };
        let mut outcomes: Vec<_> = block.into_outcomes().collect();
        if let Some(place) = place {
            outcomes.truncate(usize::try_from(place.older).unwrap_or(usize::MAX));
        }
        let at = UNIX_EPOCH + Duration::from_millis(row.at);
        while let Some((outcome, _)) = outcomes.pop() {
            self.page.outcomes.push(PastOutcome {
                outcome,
                at,
                output: None,
            });
            self.left -= 1;
            self.place = Some(cursor(outcomes.len()));
            if self.left == 0 && !outcomes.is_empty() {
                self.more = true;
                return false;
            }
        }
        true
    }

    pub(super) fn finish(self) -> PastPage {
        let next = self.place.filter(|_| self.more);
        PastPage { next, ..self.page }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::journal::rows::outcome_block::OutcomeBlock;

    fn row(number: u64, done: impl Into<Vec<u64>>) -> OutcomeBlockRow {
        let block = OutcomeBlock {
            done: done.into(),
            ..OutcomeBlock::default()
        };
        OutcomeBlockRow::new(number, 1_000 * number, &block).unwrap()
    }

    /// The tasks of each page, with the damage, until there is no more.
    fn pages(rows: &[OutcomeBlockRow], limit: usize) -> Vec<(Vec<u64>, usize)> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let mut pages = PastPages::new(before, limit);
            let from = before.map_or(u64::MAX, |before: PastCursor| before.block);
            let newest = rows.iter().rev().filter(|row| row.number <= from);
            let _all_taken_in = newest.clone().all(|row| pages.take_in(row));
            let page = pages.finish();
            let tasks = page.outcomes.iter().map(|past| past.outcome.task.0);
            all.push((tasks.collect(), page.corrupt.len()));
            before = page.next;
            if before.is_none() || all.len() > rows.len() + 10 {
                return all;
            }
        }
    }

    #[test]
    fn d1_pages_of_outcomes_begin_and_end_within_blocks() {
        let rows = [row(1, [1, 2]), row(4, [3]), row(5, [4, 5, 6, 7])];
        let whole = |tasks: &[u64]| (tasks.to_vec(), 0);
        assert_eq!(
            pages(&rows, 3),
            [whole(&[7, 6, 5]), whole(&[4, 3, 2]), whole(&[1])]
        );
        // No page is empty because the one before was full.
        assert_eq!(pages(&rows, 7), [whole(&[7, 6, 5, 4, 3, 2, 1])]);
        assert_eq!(pages(&rows, 4), [whole(&[7, 6, 5, 4]), whole(&[3, 2, 1])]);
        assert_eq!(pages(&[], 4), [whole(&[])]);
    }

    #[test]
    fn d1_a_damaged_block_is_named_once_and_those_before_it_follow() {
        let mut rows = [row(1, [1]), row(2, [2, 3]), row(3, [4])];
        rows[1].checksum ^= 1;
        assert_eq!(pages(&rows, 2), [(vec![4], 1), (vec![1], 0)]);
        assert_eq!(pages(&rows, 3), [(vec![4, 1], 1)]);
    }
}
