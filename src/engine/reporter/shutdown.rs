//! The end of a pipeline: drain, abort, suspend.
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

use super::Reporter;
use crate::{
    clock::nanos,
    engine::threads::Threads,
    ledger::Ledger,
    panic_guard,
    policy::Shutdown,
    report::{OutcomeFeed, Report},
    shared::messages::{Closing, ToPool},
    task::{Refusal, StopCause},
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

pub(crate) struct ShutdownState {
    phase: Phase,
    abandon_after: Duration,
    threads: Arc<Threads>,
    finish: Arc<FinalReport>,
    sender: Option<watch::Sender<Option<Report>>>,
    report: Option<Report>,
    pools_left: usize,
    suspended: Option<Arc<str>>,
    outcomes: Arc<OutcomeFeed>,
    ledger: Option<Arc<dyn Ledger>>,
}

/// The report, once it is there, and the thread that hands it out.
pub(crate) struct FinalReport {
    pub(crate) report: watch::Receiver<Option<Report>>,
    joiner: Mutex<Option<JoinHandle<()>>>,
}

/// Time that the other pools have to leave if a call was given up: its own pool surely won't.
const LEAVE: Duration = Duration::from_millis(50);

impl ShutdownState {
    pub(crate) fn new(
        pools: usize,
        abandon_after: Duration,
        threads: Arc<Threads>,
        outcomes: Arc<OutcomeFeed>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> (Self, Arc<FinalReport>) {
        let (sender, report) = watch::channel(None);
        let finish = Arc::new(FinalReport {
            report,
            joiner: Mutex::new(None),
        });
        let shutdown = ShutdownState {
            phase: Phase::Open,
            abandon_after,
            threads,
            finish: finish.clone(),
            sender: Some(sender),
            report: None,
            pools_left: pools,
            suspended: None,
            outcomes,
            ledger,
        };
        (shutdown, finish)
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
        let mut joiner = panic_guard::lock(&self.finish.joiner);
        let ledger = self.ledger.take();
        *joiner = self.threads.leave(move || {
            // A caller who has the report may open the same journal again.
            if let Some(ledger) = ledger {
                ledger.close();
            }
            sender.send(Some(report)).ok();
        });
    }

    /// The runtime went first. A handle that is kept does not keep the ledger, but what still works
    /// does.
    pub(super) fn runtime_gone(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            let leaving = self.threads.runtime_gone(move || ledger.close());
            *panic_guard::lock(&self.finish.joiner) = leaving;
        }
    }
}

impl FinalReport {
    /// Waits for the report; `None` when the runtime ended first.
    pub(crate) async fn wait(&self) -> Option<Report> {
        let mut report = self.report.clone();
        let report = report.wait_for(Option::is_some).await.ok()?.clone();
        // It has nothing left to do but to end.
        if let Some(joiner) = panic_guard::lock(&self.joiner).take() {
            joiner.join().ok();
        }
        report
    }
}

impl Reporter {
    /// The last handle and the last intake are gone: drains, without limit.
    pub(super) fn all_handles_dropped(&mut self, ctx: &mut Context<Self>) {
        if self.shutdown.phase == Phase::Open {
            self.shutdown.phase = Phase::Draining;
            self.close_intake();
        }
        self.end_if_empty(self.shared.table.counts().in_flight(), ctx);
    }

    pub(super) fn shut_down(&mut self, how: Shutdown, ctx: &mut Context<Self>) {
        match (how, self.shutdown.phase) {
            (_, Phase::Closing | Phase::Over) => return,
            (Shutdown::Drain(grace), Phase::Open | Phase::Draining) => {
                self.shutdown.phase = Phase::Draining;
                #[cfg(feature = "journal")]
                self.shared.leaves.store(true, Ordering::SeqCst);
                self.stop_producers();
                self.close_intake();
                let abort_at = self.shared.clock.now().saturating_add(nanos(grace));
                self.shared.board.set_abort_at(abort_at);
                ctx.run_later(grace, |reporter, ctx| reporter.abort(ctx));
            }
            // It has less time than that already.
            (Shutdown::Drain(_), Phase::Aborting) => {}
            (Shutdown::Abort, _) => self.abort(ctx),
            (Shutdown::Suspend, _) => return self.suspend_on_purpose(ctx),
        }
        self.end_if_empty(self.shared.table.counts().in_flight(), ctx);
    }

    /// Stops everything where it is, on purpose.
    fn suspend_on_purpose(&mut self, ctx: &mut Context<Self>) {
        let why = || Arc::from("`Shutdown::Suspend` was called");
        let why = self.shared.suspended_why.get_or_init(why).clone();
        self.shared.suspended.store(true, Ordering::SeqCst);
        self.shared.table.refuse(Refusal::Suspended);
        self.ledger_failed(why, ctx);
    }

    fn abort(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.shutdown.phase, Phase::Open | Phase::Draining) {
            return;
        }
        self.shutdown.phase = Phase::Aborting;
        self.shared.board.set_abort_at(self.shared.clock.now());
        self.stop_producers();
        self.close_intake();
        for task in self.shared.table.live() {
            self.shared.cancel(&task, StopCause::Shutdown);
        }
        ctx.run_later(self.shutdown.abandon_after, |reporter, ctx| {
            reporter.give_up_all(ctx)
        });
        self.end_if_empty(self.shared.table.counts().in_flight(), ctx);
    }

    /// Tasks that have not ended by now end stuck.
    fn give_up_all(&mut self, ctx: &mut Context<Self>) {
        if self.shutdown.phase != Phase::Aborting {
            return;
        }
        self.shutdown.threads.abandon();
        for task in self.shared.table.live() {
            self.give_up(&task, ctx);
        }
    }

    /// Nothing more is accepted. What was, goes on, even where the pipeline was paused.
    fn close_intake(&mut self) {
        self.shared.table.refuse(Refusal::Closed);
        self.shared.board.set_draining();
        self.shared.resume_all();
    }

    fn stop_producers(&mut self) {
        self.producers_left = 0;
        self.shared.end_producers();
    }

    /// Ends the pipeline once it is to end and no task is left.
    pub(super) fn end_if_empty(&mut self, in_flight: u64, ctx: &mut Context<Self>) {
        let shutdown = matches!(self.shutdown.phase, Phase::Draining | Phase::Aborting);
        if shutdown && in_flight == 0 && self.producers_left == 0 {
            self.close_pools(Closing::WhenIdle, ctx);
        }
    }

    fn close_pools(&mut self, closing: Closing, ctx: &mut Context<Self>) {
        self.shutdown.phase = Phase::Closing;
        self.stop_producers();
        self.shared.tell_pools(|| ToPool::Close(closing));
        // A pool leaves at once, unless a call that was given up keeps one of its workers.
        let patience = if self.shutdown.threads.is_abandoned() {
            LEAVE
        } else {
            // A value that takes its time to drop may.
            self.shutdown.abandon_after
        };
        ctx.run_later(patience, |reporter, ctx| {
            if reporter.shutdown.phase == Phase::Closing {
                reporter.shutdown.threads.abandon();
                reporter.shared.tell_pools(|| ToPool::Abandon);
                reporter.finish(ctx);
            }
        });
    }

    pub(super) fn pool_closed(&mut self, ctx: &mut Context<Self>) {
        self.shutdown.pools_left = self.shutdown.pools_left.saturating_sub(1);
        if self.shutdown.pools_left == 0 {
            self.finish(ctx);
        }
    }

    /// A record failed: everything stops where it is.
    pub(super) fn ledger_failed(&mut self, why: Arc<str>, ctx: &mut Context<Self>) {
        if matches!(self.shutdown.phase, Phase::Closing | Phase::Over) {
            return;
        }
        self.suspend(&why);
        self.shutdown.suspended = Some(why);
        self.close_pools(Closing::Suspended, ctx);
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        if self.shutdown.phase == Phase::Over {
            return;
        }
        self.shutdown.phase = Phase::Over;
        let suspended = self.shutdown.suspended.clone();
        self.shutdown.report = Some(self.report(suspended));
        ctx.stop();
    }
}
