//! Work that is between two actors when one of them dies or leaves: in a message, in a record that is
//! still to be written, in the hands of somebody else.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::ThreadId,
    time::Duration,
};

use batrun::{
    Ticket,
    ledger::{Change, Ledger, Recorded, Transition},
    policy::{RateLimit, Restart},
    prelude::*,
};
use futures::Stream;
use tokio::{
    sync::Semaphore,
    time::{sleep as wait, timeout},
};

use crate::support::{AT_MOST, DRAIN, live, ms, sleep, still, summary, until};
#[cfg(feature = "journal")]
use {
    crate::support::{Gate, gate, on_disk},
    batrun::testing::Disk,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn stop_this_thread() {
    actix_rt::Arbiter::current().stop();
}

fn soon() -> Restart {
    Restart::exponential(ms(1), ms(10))
}

/// The end of a task, or that it has none.
async fn end_of<O: Send + 'static>(ticket: &Ticket<O>) -> String {
    match timeout(PATIENCE, ticket.outcome()).await {
        Ok(outcome) => summary(&outcome.unwrap()),
        Err(_) => "hangs".to_owned(),
    }
}

async fn pass(gate: &Semaphore) {
    gate.acquire().await.unwrap().forget();
}

/// Lets the others on this thread have one turn, in the same breath: no timer fires, no stop of the
/// runtime is seen meanwhile.
async fn step() {
    let mut over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A ledger that takes its time over some changes.
struct Slow {
    over: fn(&Change<'_>) -> bool,
    gate: Arc<Semaphore>,
}

impl Ledger for Slow {
    fn record(&self, transition: Transition<'_>) -> Recorded {
        if !(self.over)(&transition.change) {
            return Recorded::now();
        }
        let gate = self.gate.clone();
        Recorded::later(async move {
            pass(&gate).await;
            Ok(())
        })
    }
}

#[test]
fn g01_a_last_result_of_a_worker_that_leaves_goes_on_once_it_is_recorded() {
    let (calls, records) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    live(async {
        let at_work = Arc::new(AtomicUsize::new(0));
        let stage = stage_fn("held", {
            let (calls, at_work) = (calls.clone(), at_work.clone());
            async move |n: u32, _: &TaskContext<'_, ()>| {
                at_work.fetch_add(1, Ordering::SeqCst);
                pass(&calls).await;
                Ok(n)
            }
        });
        let handle = Pipeline::new("p")
            .ledger(Slow {
                over: |change| matches!(change, Change::Finished { .. }),
                gate: records.clone(),
            })
            .stage(stage.workers(2).blocking())
            .start()
            .await
            .unwrap();
        let tickets = [
            handle.submit(1).await.unwrap(),
            handle.submit(2).await.unwrap(),
        ];
        until(|| at_work.load(Ordering::SeqCst) == 2).await;
        calls.add_permits(2);
        until(|| handle.snapshot().stages[0].counts.finished == 2).await;
        handle.resize("held", 1).unwrap();
        until(|| handle.snapshot().stages[0].workers == 1).await;
        sleep(100).await;
        records.add_permits(10);
        for ticket in &tickets {
            assert_eq!(end_of(ticket).await, "done; nothing to take back");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[cfg(feature = "journal")]
#[test]
fn j2_a_worker_that_leaves_takes_no_result_along_that_is_being_recorded() {
    live(async {
        let disk = Disk::new();
        let (gate, keeper) = gate();
        let held = stage_fn("held", {
            let gate: Gate = gate.clone();
            async move |n: u32, _: &TaskContext<'_, ()>| {
                gate.pass();
                Ok(n)
            }
        });
        let next = stage_fn("next", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
        let handle = Pipeline::new("p")
            .journal(on_disk(&disk))
            .stage(held.workers(2).blocking())
            .stage(next)
            .start()
            .await
            .unwrap();
        let tickets = [
            handle.submit(1).await.unwrap(),
            handle.submit(2).await.unwrap(),
        ];
        keeper.wait_for_call();
        keeper.wait_for_call();
        disk.stop();
        keeper.release();
        keeper.release();
        until(|| handle.snapshot().stages[0].counts.finished == 2).await;
        handle.resize("held", 1).unwrap();
        until(|| handle.snapshot().stages[0].workers == 1).await;
        sleep(100).await;
        disk.go_on();
        for ticket in &tickets {
            assert_eq!(end_of(ticket).await, "done; nothing to take back");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[cfg(feature = "journal")]
#[test]
fn g06_a_result_of_a_thread_that_is_stopped_goes_on_once_it_is_recorded() {
    live(async {
        let disk = Disk::new();
        let stage = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| {
            stop_this_thread();
            Ok(n)
        });
        let handle = Pipeline::new("p")
            .journal(on_disk(&disk))
            .stage(stage.blocking().restart(soon()))
            .start()
            .await
            .unwrap();
        for n in 0..10 {
            let ticket = handle.submit(n).await.unwrap();
            assert_eq!(end_of(&ticket).await, "done; nothing to take back", "{n}");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn g06_tasks_in_a_message_to_a_dead_worker_go_on_and_hold_no_room() {
    live(async {
        let stage = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| {
            stop_this_thread();
            Ok(n)
        });
        let handle = Pipeline::new("stopped")
            .stage(stage.blocking().capacity(2).restart(soon()))
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..200 {
            match timeout(PATIENCE, handle.submit(n)).await {
                Ok(ticket) => tickets.push(ticket.unwrap()),
                Err(_) => panic!("there is no room for task {n}"),
            }
        }
        for (n, ticket) in tickets.iter().enumerate() {
            assert_eq!(end_of(ticket).await, "done; nothing to take back", "{n}");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn g06_an_undo_in_a_message_to_a_dead_worker_still_runs() {
    live(async {
        let stage = stage_fn("s", async |n: u32, task: &TaskContext<'_, u32>| {
            task.on_cancel(n).await?;
            Err::<u32, _>(Failure::permanent("no"))
        });
        let stage = stage.cancel_with(async |_: u32, _: &CancelContext<'_>| {
            stop_this_thread();
            Ok(())
        });
        let handle = Pipeline::new("stopped")
            .stage(
                stage
                    .blocking()
                    .cancel_retry(Retry::constant(20, ms(1)))
                    .restart(soon()),
            )
            .start()
            .await
            .unwrap();
        let mut tickets = Vec::new();
        for n in 0..100 {
            tickets.push(handle.submit(n).await.unwrap());
        }
        for (n, ticket) in tickets.iter().enumerate() {
            let end = end_of(ticket).await;
            assert_eq!(end, "failed in s: no; 1 undo taken back", "{n}");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn g03_a_worker_that_dies_ends_no_clean_up_of_its_last_task() {
    let (undo_may_end, killer_may_go) = (Semaphore::new(0), Semaphore::new(0));
    let gates = Arc::new((undo_may_end, killer_may_go));
    let (now, most, all) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let undos = Arc::new((now, most, all));
    let killing = Arc::new(AtomicBool::new(false));
    live(async {
        let stage = stage_fn("s", {
            let (gates, killing) = (gates.clone(), killing.clone());
            async move |n: u32, task: &TaskContext<'_, u32>| {
                if n == 0 {
                    task.on_cancel(n).await?;
                    return Err(Failure::new("again"));
                }
                killing.store(true, Ordering::SeqCst);
                pass(&gates.1).await;
                stop_this_thread();
                pending::<Result<u32, Failure>>().await
            }
        });
        let stage = stage.cancel_with({
            let (gates, undos) = (gates.clone(), undos.clone());
            async move |_: u32, _: &CancelContext<'_>| {
                let now = undos.0.fetch_add(1, Ordering::SeqCst) + 1;
                undos.1.fetch_max(now, Ordering::SeqCst);
                undos.2.fetch_add(1, Ordering::SeqCst);
                pass(&gates.0).await;
                undos.0.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        });
        let failure_recorded = Arc::new(Semaphore::new(0));
        let handle = Pipeline::new("stopped")
            .ledger(Slow {
                over: |change| matches!(change, Change::AttemptFailed { .. }),
                gate: failure_recorded.clone(),
            })
            .stage(
                stage
                    .blocking()
                    .retry(Retry::constant(3, ms(1)))
                    .restart(soon()),
            )
            .start()
            .await
            .unwrap();
        handle.pause();
        let cleaned = handle.submit(0).await.unwrap();
        let killer = handle.submit(1).await.unwrap();
        handle.resume();
        // The worker goes on to the next task, so another one runs the undo.
        until(|| killing.load(Ordering::SeqCst)).await;
        failure_recorded.add_permits(1);
        until(|| undos.0.load(Ordering::SeqCst) == 1).await;
        assert!(cleaned.cancel());
        sleep(20).await;
        gates.1.add_permits(1);
        assert!(end_of(&killer).await.contains("its worker died"));
        sleep(200).await;
        assert_eq!(undos.1.load(Ordering::SeqCst), 1, "two at once");
        gates.0.add_permits(10);
        assert_eq!(
            end_of(&cleaned).await,
            "cancelled in s; nothing to take back"
        );
        assert_eq!(undos.2.load(Ordering::SeqCst), 1);
        let report = handle.shutdown(DRAIN).await.unwrap();
        let counts = report.stages[0].counts;
        assert_eq!(
            counts.started,
            counts.finished + counts.failed + counts.stopped,
            "{counts:?}"
        );
    });
}

#[cfg(feature = "journal")]
#[test]
fn j1_a_system_that_stops_fails_no_task_that_was_at_work() {
    let disk = Disk::new();
    let hangs = Arc::new(AtomicBool::new(true));
    let at_work = Arc::new(AtomicBool::new(false));
    let pipeline = {
        let (disk, hangs, at_work) = (disk.clone(), hangs.clone(), at_work.clone());
        move || {
            let first = stage_fn("first", {
                let hangs = hangs.clone();
                async move |n: u32, _: &TaskContext<'_, ()>| {
                    if n == 2 && hangs.load(Ordering::SeqCst) {
                        actix_rt::System::current().stop();
                        for _ in 0..5 {
                            step().await;
                        }
                        // The stop is on its way to all threads, and this one has some work left.
                        std::thread::sleep(ms(300));
                    }
                    Ok(n)
                }
            });
            let (hangs, at_work) = (hangs.clone(), at_work.clone());
            let second = stage_fn("second", async move |n: u32, _: &TaskContext<'_, ()>| {
                at_work.store(true, Ordering::SeqCst);
                if hangs.load(Ordering::SeqCst) {
                    pending::<()>().await;
                }
                Ok(n)
            });
            Pipeline::new("p")
                .journal(on_disk(&disk))
                .stage(first)
                .stage(second.workers(2).blocking())
                .current_arbiter()
        }
    };
    let first = {
        let pipeline = pipeline.clone();
        let at_work = at_work.clone();
        std::thread::spawn(move || {
            let system = actix_rt::System::new();
            let handle = system.block_on(async {
                let handle = pipeline().start().await.unwrap();
                handle.submit(1).key("one").await.unwrap();
                until(|| at_work.load(Ordering::SeqCst)).await;
                handle.submit(2).key("two").await.unwrap();
                handle
            });
            system.run().unwrap();
            drop(handle);
        })
    };
    first.join().unwrap();
    hangs.store(false, Ordering::SeqCst);
    live(async {
        // The threads of its blocking workers may be leaving still.
        sleep(500).await;
        let handle = pipeline().start().await.unwrap();
        for (n, key) in [(1, "one"), (2, "two")] {
            let ticket = handle.submit(n).key(key).await.unwrap();
            assert_eq!(end_of(&ticket).await, "done; nothing to take back", "{key}");
        }
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn g06_an_arbiter_that_is_stopped_takes_only_its_own_workers_along() {
    let first: Arc<std::sync::OnceLock<ThreadId>> = Arc::default();
    let stopped = Arc::new(AtomicUsize::new(0));
    live(async {
        let stage = stage_fn("s", {
            let (first, stopped) = (first.clone(), stopped.clone());
            async move |n: u32, _: &TaskContext<'_, ()>| {
                let elsewhere = first.get() != Some(&std::thread::current().id());
                if elsewhere && stopped.fetch_add(1, Ordering::SeqCst) == 3 {
                    stop_this_thread();
                }
                wait(ms(1)).await;
                Ok(n)
            }
        });
        let handle = Pipeline::new("stopped")
            .producer({
                let first = first.clone();
                move |_: Intake<u32>| async move {
                    first.set(std::thread::current().id()).ok();
                    Ok(())
                }
            })
            .stage(stage.workers(6).restart(soon()))
            .arbiters(2)
            .start()
            .await
            .unwrap();
        until(|| first.get().is_some()).await;
        let mut tickets = Vec::new();
        for n in 0..300 {
            tickets.push(handle.submit(n).await.unwrap());
        }
        let (mut done, mut died) = (0, 0);
        for (n, ticket) in tickets.iter().enumerate() {
            let end = end_of(ticket).await;
            done += usize::from(end.starts_with("done"));
            died += usize::from(end.contains("its worker died"));
            assert!(
                end.starts_with("done") || end.contains("its worker died"),
                "{n}: {end}"
            );
        }
        assert!(stopped.load(Ordering::SeqCst) > 3);
        assert_eq!(done + died, 300);
        // Of the three workers there, each was at one task at most.
        assert!((1..=3).contains(&died), "{died}");
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn n1_an_attempt_whose_worker_dies_before_its_call_is_counted_as_started() {
    let records = Arc::new(Semaphore::new(1));
    let thread: Arc<Mutex<Option<actix_rt::ArbiterHandle>>> = Arc::default();
    live(async {
        let stage = stage_fn("s", {
            let thread = thread.clone();
            async move |n: u32, _: &TaskContext<'_, ()>| {
                *thread.lock().unwrap() = Some(actix_rt::Arbiter::current());
                Ok(n)
            }
        });
        let handle = Pipeline::new("stopped")
            .ledger(Slow {
                over: |change| matches!(change, Change::Started { .. }),
                gate: records.clone(),
            })
            .stage(stage.blocking().restart(soon()))
            .start()
            .await
            .unwrap();
        let first = handle.submit(1).await.unwrap();
        assert_eq!(end_of(&first).await, "done; nothing to take back");
        let waits = handle.submit(2).await.unwrap();
        // It is taken up, and waits for its record.
        sleep(50).await;
        thread.lock().unwrap().take().unwrap().stop();
        assert!(end_of(&waits).await.contains("its worker died"));
        let report = handle.shutdown(DRAIN).await.unwrap();
        let counts = report.stages[0].counts;
        let all = (counts.started, counts.finished, counts.failed);
        assert_eq!(all, (2, 1, 1), "{counts:?}");
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of mine");
    }
}

#[test]
fn g06_a_submitter_whose_waker_panics_stops_no_other_task() {
    live(async {
        let gate = Arc::new(Semaphore::new(0));
        let stage = stage_fn("s", {
            let gate = gate.clone();
            async move |n: u32, _: &TaskContext<'_, ()>| {
                pass(&gate).await;
                Ok(n)
            }
        });
        let handle = Pipeline::new("wakes")
            .stage(stage)
            .max_in_flight(1)
            .start()
            .await
            .unwrap();
        let waker = Waker::from(Arc::new(Panics));
        let first = handle.submit(1).await.unwrap();
        let mut waits = handle.submit(2);
        let mut cx = Context::from_waker(&waker);
        assert!(Future::poll(Pin::new(&mut waits), &mut cx).is_pending());
        gate.add_permits(3);
        assert_eq!(end_of(&first).await, "done; nothing to take back");
        let second = timeout(PATIENCE, waits).await.unwrap().unwrap();
        assert_eq!(end_of(&second).await, "done; nothing to take back");
        timeout(AT_MOST, handle.shutdown(DRAIN))
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn g06_a_listener_whose_waker_panics_stops_no_task() {
    live(async {
        let stage = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
        let handle = Pipeline::new("wakes").stage(stage).start().await.unwrap();
        let mut outcomes = Box::pin(handle.outcomes());
        let waker = Waker::from(Arc::new(Panics));
        let mut cx = Context::from_waker(&waker);
        assert!(outcomes.as_mut().poll_next(&mut cx).is_pending());
        for n in 0..3 {
            let ticket = handle.submit(n).await.unwrap();
            assert_eq!(end_of(&ticket).await, "done; nothing to take back");
        }
        timeout(AT_MOST, handle.shutdown(DRAIN))
            .await
            .unwrap()
            .unwrap();
        assert!(outcomes.as_mut().poll_next(&mut cx).is_ready());
    });
}

#[test]
fn g10_a_permit_of_a_task_that_is_handed_back_is_not_used_up() {
    // Wherever on its way to the worker the pause meets the task.
    for steps in 0..30 {
        still(async {
            let hour = Duration::from_secs(3600);
            let stage = stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n));
            let handle = Pipeline::new("limited")
                .stage(stage.rate_limit(RateLimit::new(1, hour)))
                .current_arbiter()
                .start()
                .await
                .unwrap();
            sleep(1).await;
            let meddler = handle.clone();
            let meddle = async move {
                let ticket = meddler.submit(1).await.unwrap();
                for _ in 0..steps {
                    step().await;
                }
                meddler.pause();
                ticket
            };
            let ticket = actix_rt::spawn(meddle).await.unwrap();
            sleep(10).await;
            handle.resume();
            let end = timeout(Duration::from_secs(60), ticket.outcome()).await;
            assert!(end.is_ok(), "paused after {steps} steps");
            handle.shutdown(DRAIN).await.unwrap();
        });
    }
}
