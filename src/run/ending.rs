//! How a pipeline ends: drain, abort, suspend. The reporter's part of it.
//!
//! In this order: producers stop, the intake closes, tasks end or are cancelled and rolled back,
//! pools send their workers home and leave, the reporter writes its report and leaves, the threads
//! end, and only then is the report handed out.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use actix::{ActorContext, AsyncContext, Context};
use tokio::sync::watch;

use super::{grounds::Grounds, reporter::Reporter};
use crate::{
    guard,
    ledger::Ledger,
    message::ToPool,
    outcomes::Outcomes,
    policy::Shutdown,
    report::Report,
    task::{Refused, StopCause},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// No new tasks; the accepted ones finish.
    Draining,
    /// Every task is cancelled and rolled back.
    Aborting,
    /// No task is left; the pools leave.
    Closing,
    Over,
}

pub(crate) struct Ending {
    phase: Phase,
    abandon_after: Duration,
    grounds: Arc<Grounds>,
    finish: Arc<Finish>,
    sender: Option<watch::Sender<Option<Report>>>,
    report: Option<Report>,
    pools_left: usize,
    suspended: Option<Arc<str>>,
    outcomes: Arc<Outcomes>,
    ledger: Option<Arc<dyn Ledger>>,
}

/// Where the report will be, and what is still ending when it is there.
pub(crate) struct Finish {
    pub(crate) report: watch::Receiver<Option<Report>>,
    janitor: Mutex<Option<JoinHandle<()>>>,
}

/// How long the other pools may take to leave where a call was given up, so that one surely won't.
const LEAVE: Duration = Duration::from_millis(50);

impl Ending {
    pub(crate) fn new(
        pools: usize,
        abandon_after: Duration,
        grounds: Arc<Grounds>,
        outcomes: Arc<Outcomes>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> (Self, Arc<Finish>) {
        let (sender, report) = watch::channel(None);
        let finish = Arc::new(Finish {
            report,
            janitor: Mutex::new(None),
        });
        let ending = Ending {
            phase: Phase::Open,
            abandon_after,
            grounds,
            finish: finish.clone(),
            sender: Some(sender),
            report: None,
            pools_left: pools,
            suspended: None,
            outcomes,
            ledger,
        };
        (ending, finish)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The reporter has left: so do the threads, and the report is handed out.
    pub(super) fn leave(&mut self) {
        let (Some(sender), Some(report)) = (self.sender.take(), self.report.take()) else {
            return;
        };
        self.outcomes.close();
        let mut janitor = guard::lock(&self.finish.janitor);
        let ledger = self.ledger.take();
        *janitor = self.grounds.leave(move || {
            // Whoever has the report may open the same journal again.
            if let Some(ledger) = ledger {
                ledger.close();
            }
            sender.send(Some(report)).ok();
        });
    }

    /// The runtime went first. A handle that is kept does not keep the ledger, but what still works
    /// does.
    pub(super) fn forsake(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            let leaving = self.grounds.desert(move || ledger.close());
            *guard::lock(&self.finish.janitor) = leaving;
        }
    }
}

impl Finish {
    /// Waits for the report; `None` when the runtime ended first.
    pub(crate) async fn wait(&self) -> Option<Report> {
        let mut report = self.report.clone();
        let report = report.wait_for(Option::is_some).await.ok()?.clone();
        // It has nothing left to do but to end.
        if let Some(janitor) = guard::lock(&self.janitor).take() {
            janitor.join().ok();
        }
        report
    }
}

impl Reporter {
    /// The last handle and the last intake are gone: drains, without limit.
    pub(super) fn deserted(&mut self, ctx: &mut Context<Self>) {
        if self.ending.phase == Phase::Open {
            self.ending.phase = Phase::Draining;
            self.close_intake();
        }
        self.look_for_end(self.core.table.counts().in_flight(), ctx);
    }

    pub(super) fn shut_down(&mut self, how: Shutdown, ctx: &mut Context<Self>) {
        match (how, self.ending.phase) {
            (_, Phase::Closing | Phase::Over) => return,
            (Shutdown::Drain(grace), Phase::Open | Phase::Draining) => {
                self.ending.phase = Phase::Draining;
                self.stop_producers();
                self.close_intake();
                ctx.run_later(grace, |reporter, ctx| reporter.abort(ctx));
            }
            // It has less time than that already.
            (Shutdown::Drain(_), Phase::Aborting) => {}
            (Shutdown::Abort, _) => self.abort(ctx),
            (Shutdown::Suspend, _) => return self.suspend_all(ctx),
        }
        self.look_for_end(self.core.table.counts().in_flight(), ctx);
    }

    /// Stops everything where it is, on purpose.
    fn suspend_all(&mut self, ctx: &mut Context<Self>) {
        self.core.suspended.store(true, Ordering::SeqCst);
        self.core.table.refuse(Refused::Suspended);
        self.unrecorded("it was told to".into(), ctx);
    }

    fn abort(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.ending.phase, Phase::Open | Phase::Draining) {
            return;
        }
        self.ending.phase = Phase::Aborting;
        self.stop_producers();
        self.close_intake();
        for task in self.core.table.live() {
            self.core.cancel(&task, StopCause::Shutdown);
        }
        ctx.run_later(self.ending.abandon_after, |reporter, ctx| {
            reporter.give_up_all(ctx)
        });
        self.look_for_end(self.core.table.counts().in_flight(), ctx);
    }

    /// What has not ended by now ends stuck.
    fn give_up_all(&mut self, ctx: &mut Context<Self>) {
        if self.ending.phase != Phase::Aborting {
            return;
        }
        self.ending.grounds.abandon();
        for task in self.core.table.live() {
            self.give_up(&task, ctx);
        }
    }

    /// Nothing more is accepted. What was, goes on, even where the pipeline was paused.
    fn close_intake(&mut self) {
        self.core.table.refuse(Refused::Closed);
        if self.core.paused.swap(false, Ordering::SeqCst) {
            self.core.tell_pools(|| ToPool::Look);
        }
    }

    fn stop_producers(&mut self) {
        self.producers_left = 0;
        self.core.end_producers();
    }

    /// Ends the pipeline once it is to end and no task is left.
    pub(super) fn look_for_end(&mut self, in_flight: u64, ctx: &mut Context<Self>) {
        let ending = matches!(self.ending.phase, Phase::Draining | Phase::Aborting);
        if ending && in_flight == 0 && self.producers_left == 0 {
            self.close_pools(false, ctx);
        }
    }

    fn close_pools(&mut self, suspend: bool, ctx: &mut Context<Self>) {
        self.ending.phase = Phase::Closing;
        self.stop_producers();
        self.core.tell_pools(|| ToPool::Close { suspend });
        // A pool leaves at once, unless a call that was given up keeps one of its workers.
        let patience = if self.ending.grounds.is_abandoned() {
            LEAVE
        } else {
            // A value that takes its time to drop may.
            self.ending.abandon_after
        };
        ctx.run_later(patience, |reporter, ctx| {
            if reporter.ending.phase == Phase::Closing {
                reporter.ending.grounds.abandon();
                reporter.core.tell_pools(|| ToPool::Leave);
                reporter.finish(ctx);
            }
        });
    }

    pub(super) fn pool_closed(&mut self, ctx: &mut Context<Self>) {
        self.ending.pools_left = self.ending.pools_left.saturating_sub(1);
        if self.ending.pools_left == 0 {
            self.finish(ctx);
        }
    }

    /// A record failed: everything stops where it is.
    pub(super) fn unrecorded(&mut self, why: Arc<str>, ctx: &mut Context<Self>) {
        if matches!(self.ending.phase, Phase::Closing | Phase::Over) {
            return;
        }
        self.suspend(&why);
        self.ending.suspended = Some(why);
        self.close_pools(true, ctx);
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        if self.ending.phase == Phase::Over {
            return;
        }
        self.ending.phase = Phase::Over;
        let suspended = self.ending.suspended.clone();
        self.ending.report = Some(self.report(suspended));
        ctx.stop();
    }
}
