//! The plan of one task's rollback, or of the clean-up between two attempts: which undo runs next, how
//! often, and which are stuck in the end. Pure: it is told what happened and says what to do.

use std::collections::VecDeque;

use crate::{
    policy::{OnStuck, Order},
    task::{StageIx, Undo, UndoStatus},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RollbackPlan {
    /// Undos that are still to run in this round.
    todo: VecDeque<usize>,
    /// Undos that failed for good in this round.
    failed: Vec<usize>,
    order: Order,
    kind: Kind,
    current: Option<Try>,
    undone: usize,
    halted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Between two attempts: one round, and the first undo that fails for good ends it.
    CleanUp,
    /// The final rollback's first round.
    First,
    /// Its second round: one try each.
    Second,
}

/// An undo that runs, and which try of this round it is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Try {
    undo: usize,
    n: u32,
}

/// An undo has failed: how its stage deals with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedCancel {
    pub(super) retries: u32,
    pub(super) retryable: bool,
    pub(super) on_stuck: OnStuck,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Run this undo now.
    Run(usize),
    /// Run it again, after the delay before this retry, from 1.
    Retry(usize, u32),
    /// It is over: these undos are left, in the order of the rollback.
    Over(Vec<usize>),
}

impl RollbackPlan {
    /// Runs the undos that one attempt of a stage has registered.
    pub(super) fn clean_up(undos: &[Undo], stage: StageIx, attempt: u32, order: Order) -> Self {
        let of_attempt = |undo: &Undo| {
            undo.stage == stage
                && undo.attempt == attempt
                && matches!(undo.status, UndoStatus::Registered)
        };
        Self::new(Kind::CleanUp, order, undos, of_attempt)
    }

    /// Runs all undos. One that a clean-up gave up on gets the second round only; if its stage says
    /// halt, none is tried at all.
    pub(crate) fn last(
        undos: &[Undo],
        order: Order,
        on_stuck: impl Fn(StageIx) -> OnStuck,
    ) -> Self {
        let registered = |undo: &Undo| matches!(undo.status, UndoStatus::Registered);
        let mut rollback = Self::new(Kind::First, order, undos, registered);
        for (number, undo) in undos.iter().enumerate() {
            if matches!(undo.status, UndoStatus::Failed(_)) {
                rollback.failed.push(number);
                rollback.halted |= on_stuck(undo.stage) == OnStuck::Halt;
            }
        }
        rollback
    }

    fn new(kind: Kind, order: Order, undos: &[Undo], which: impl Fn(&Undo) -> bool) -> Self {
        let mut todo: VecDeque<usize> = undos
            .iter()
            .enumerate()
            .filter(|(_, undo)| which(undo))
            .map(|(n, _)| n)
            .collect();
        if order == Order::Lifo {
            todo.make_contiguous().reverse();
        }
        RollbackPlan {
            todo,
            failed: Vec::new(),
            order,
            kind,
            current: None,
            undone: 0,
            halted: false,
        }
    }

    /// The same for a rollback in which so many undos have run.
    pub(super) fn after(mut self, undone: usize) -> Self {
        self.undone = undone;
        self
    }

    /// Number of undos that have run.
    pub(super) fn undone(&self) -> usize {
        self.undone
    }

    /// Begins, or goes on after the current undo is settled.
    pub(crate) fn next(&mut self) -> NextStep {
        self.current = None;
        let over = self.halted || self.kind == Kind::CleanUp && !self.failed.is_empty();
        if !over && let Some(undo) = self.todo.pop_front() {
            self.current = Some(Try { undo, n: 1 });
            return NextStep::Run(undo);
        }
        if !over && self.kind == Kind::First && !self.failed.is_empty() {
            self.kind = Kind::Second;
            let failed = std::mem::take(&mut self.failed);
            self.todo = self.in_order(failed).into();
            return self.next();
        }
        let mut left = std::mem::take(&mut self.failed);
        left.extend(self.todo.drain(..));
        NextStep::Over(self.in_order(left))
    }

    /// The current undo has run, or failed.
    pub(crate) fn settle(&mut self, failed: Option<FailedCancel>) -> NextStep {
        let Some(Try { undo, n }) = self.current else {
            return self.next();
        };
        match failed {
            None => {
                self.undone += 1;
                self.next()
            }
            // Each stage's own policy held in the first round; this round is a last look.
            Some(_) if self.kind == Kind::Second => {
                self.failed.push(undo);
                self.next()
            }
            Some(policy) if policy.retryable && n <= policy.retries => {
                self.current = Some(Try { undo, n: n + 1 });
                NextStep::Retry(undo, n)
            }
            Some(policy) => {
                self.failed.push(undo);
                self.halted = self.kind == Kind::First && policy.on_stuck == OnStuck::Halt;
                self.next()
            }
        }
    }

    fn in_order(&self, mut undos: Vec<usize>) -> Vec<usize> {
        undos.sort_unstable();
        if self.order == Order::Lifo {
            undos.reverse();
        }
        undos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    const KEEP_TRYING: FailedCancel = FailedCancel {
        retries: 1,
        retryable: true,
        on_stuck: OnStuck::Continue,
    };
    const PERMANENT: FailedCancel = FailedCancel {
        retryable: false,
        ..KEEP_TRYING
    };
    const HALT: FailedCancel = FailedCancel {
        retries: 0,
        on_stuck: OnStuck::Halt,
        ..KEEP_TRYING
    };

    fn undos(of: &[(StageIx, u32)]) -> Vec<Undo> {
        let undo = |(stage, attempt): &(StageIx, u32)| Undo {
            stage: *stage,
            attempt: *attempt,
            generation: 0,
            value: None,
            status: UndoStatus::Registered,
            tries: 0,
        };
        of.iter().map(undo).collect()
    }

    fn last(undos: &[Undo], order: Order) -> RollbackPlan {
        RollbackPlan::last(undos, order, |_| OnStuck::Continue)
    }

    #[test]
    fn g03_first_registered_first_cancelled() {
        let mut rollback = last(&undos(&[(0, 1), (0, 1), (1, 1)]), Order::Fifo);
        assert_eq!(rollback.next(), NextStep::Run(0));
        assert_eq!(rollback.settle(None), NextStep::Run(1));
        assert_eq!(rollback.settle(None), NextStep::Run(2));
        assert_eq!(rollback.settle(None), NextStep::Over(vec![]));
        assert_eq!(rollback.undone(), 3);
    }

    #[test]
    fn g03_lifo_is_the_other_way_round() {
        let mut rollback = last(&undos(&[(0, 1), (1, 1)]), Order::Lifo);
        assert_eq!(rollback.next(), NextStep::Run(1));
        assert_eq!(rollback.settle(None), NextStep::Run(0));
    }

    #[test]
    fn g09_what_failed_gets_one_more_try_after_the_rest() {
        let mut rollback = last(&undos(&[(0, 1), (1, 1), (2, 1)]), Order::Fifo);
        assert_eq!(rollback.next(), NextStep::Run(0));
        assert_eq!(rollback.settle(Some(KEEP_TRYING)), NextStep::Retry(0, 1));
        assert_eq!(rollback.settle(Some(KEEP_TRYING)), NextStep::Run(1));
        assert_eq!(rollback.settle(None), NextStep::Run(2));
        assert_eq!(rollback.settle(Some(PERMANENT)), NextStep::Run(0));
        assert_eq!(rollback.settle(None), NextStep::Run(2));
        assert_eq!(rollback.settle(Some(KEEP_TRYING)), NextStep::Over(vec![2]));
    }

    #[test]
    fn g09_halt_leaves_the_rest_untouched() {
        let mut rollback = last(&undos(&[(0, 1), (1, 1), (2, 1)]), Order::Fifo);
        assert_eq!(rollback.next(), NextStep::Run(0));
        assert_eq!(rollback.settle(None), NextStep::Run(1));
        assert_eq!(rollback.settle(Some(HALT)), NextStep::Over(vec![1, 2]));
    }

    #[test]
    fn g10_a_clean_up_is_of_one_attempt_and_ends_with_the_first_failure() {
        let undos = undos(&[(0, 1), (1, 1), (1, 2), (1, 2)]);
        let mut rollback = RollbackPlan::clean_up(&undos, 1, 2, Order::Fifo);
        assert_eq!(rollback.next(), NextStep::Run(2));
        assert_eq!(rollback.settle(Some(PERMANENT)), NextStep::Over(vec![2, 3]));
    }

    #[test]
    fn g10_what_a_clean_up_gave_up_on_waits_for_the_second_round() {
        let mut undos = undos(&[(0, 1), (1, 1), (1, 1)]);
        undos[1].status = UndoStatus::Failed(Failure::new("x"));
        undos[2].status = UndoStatus::Withdrawn;
        let mut rollback = last(&undos, Order::Fifo);
        assert_eq!(rollback.next(), NextStep::Run(0));
        assert_eq!(rollback.settle(None), NextStep::Run(1));
        assert_eq!(rollback.settle(None), NextStep::Over(vec![]));
        let mut halted = RollbackPlan::last(&undos, Order::Fifo, |_| OnStuck::Halt);
        assert_eq!(halted.next(), NextStep::Over(vec![0, 1]));
    }
}
