//! A ledger is code of the user's: a panic in it is a failed record.

use super::{
    KeptOutcome, Ledger,
    change::Transition,
    guarded_future::{Guarded, panicked},
    recorded::Recorded,
};
use crate::{failure, panic_guard};

/// A user's ledger, each call of which is guarded, and its drop.
pub(crate) struct GuardedLedger<L>(Option<L>);

impl<L: Ledger> GuardedLedger<L> {
    pub(crate) fn new(ledger: L) -> Self {
        GuardedLedger(Some(ledger))
    }
}

impl<L: Ledger> Ledger for GuardedLedger<L> {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        let Some(ledger) = &self.0 else {
            return Recorded::now();
        };
        failure::catch(|| ledger.record(transition))
            .unwrap_or_else(|panic| Recorded::failed(panicked(&panic)))
    }

    fn outcome_of(&self, key: &str) -> KeptOutcome {
        let Some(ledger) = &self.0 else {
            return Box::pin(async { Ok(None) });
        };
        match failure::catch(|| ledger.outcome_of(key)) {
            Ok(kept) => Box::pin(Guarded::new(kept)),
            Err(panic) => {
                let error = panicked(&panic);
                Box::pin(async { Err(error) })
            }
        }
    }

    fn close(&self) {
        if let Some(ledger) = &self.0
            && let Err(panic) = failure::catch(|| ledger.close())
        {
            crate::logging::error!("closing the ledger failed: {}", panicked(&panic));
        }
    }
}

impl<L> Drop for GuardedLedger<L> {
    fn drop(&mut self) {
        panic_guard::drop_quietly(self.0.take());
    }
}
