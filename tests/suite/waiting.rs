//! A worker that waits with each task takes the next one by itself, where its pool has no reason to be asked.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use batrun::{Control, prelude::*};
use tokio::{sync::Notify, task::yield_now};

use crate::support::{Do, acting, live, ms, sleep, still, until};

/// A stage of one worker, which has waited once, waits now, and has more to do.
async fn waits_with_more_to_do(tasks: usize) -> (PipelineHandle<Do, Do>, Vec<Ticket<Do>>) {
    let handle = Pipeline::new("waits")
        .stage(acting("a").workers(1).capacity(50))
        .current_arbiter()
        .start()
        .await
        .unwrap();
    let mut tickets = Vec::new();
    for _ in 0..tasks {
        tickets.push(handle.submit(Do::Take(10)).await.unwrap());
    }
    sleep(15).await;
    assert_eq!(handle.snapshot().stages[0].counts.started, 2);
    (handle, tickets)
}

#[test]
fn d1_a_worker_that_waits_takes_nothing_while_its_stage_is_paused() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(4).await;
        let control = handle.control();
        control.pause_stage("a").unwrap();
        sleep(50).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.queued), (2, 2));
        control.resume_stage("a").unwrap();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
    });
}

#[test]
fn g10_a_worker_that_waits_keeps_to_a_rate_that_is_set_meanwhile() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(5).await;
        let control = handle.control();
        let rate = RateLimit::new(1, ms(1000));
        control.set_rate("a", Some(rate)).unwrap();
        sleep(500).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.queued), (3, 2));
        control.set_rate("a", None).unwrap();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
    });
}

#[test]
fn g02_a_worker_that_waits_takes_nothing_that_was_stopped() {
    still(async {
        let (handle, tickets) = waits_with_more_to_do(4).await;
        assert!(tickets[2].cancel());
        sleep(100).await;
        let stage = &handle.snapshot().stages[0];
        assert_eq!((stage.counts.started, stage.counts.finished), (3, 3));
        assert_eq!(stage.queued, 0);
    });
}

/// A call that is ready when it is polled once more has not waited: its worker may not go on with one task after the other
/// while all others on the thread stand still.
#[test]
fn g08_a_worker_whose_calls_only_yield_leaves_its_thread_to_others() {
    still(async {
        const TASKS: usize = 400;
        let started = Rc::new(Cell::new(0));
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = seen.clone();
        let yields = stage_fn("yields", async move |n: usize, _: &TaskContext<'_, ()>| {
            counted.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
            Ok(n)
        });
        let handle = Pipeline::new("polite")
            .stage(yields.workers(1).capacity(TASKS))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.pause();
        let mut tickets = Vec::new();
        for n in 0..TASKS {
            tickets.push(handle.submit(n).await.unwrap());
        }
        // Somebody else on this thread, who sees how many tasks have started since the last turn.
        let most = Rc::new(Cell::new(0));
        let beside = actix_rt::spawn({
            let (started, most, seen) = (started.clone(), most.clone(), seen.clone());
            async move {
                while started.get() < TASKS {
                    let before = started.replace(seen.load(Ordering::Relaxed));
                    most.set(most.get().max(started.get() - before));
                    yield_now().await;
                }
            }
        });
        handle.resume();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        beside.await.unwrap();
        // A turn of the runtime has some sixty steps, and a task takes three.
        assert!(most.get() < 100, "{} tasks in one turn", most.get());
    });
}

/// The tasks on which the two workers of the test below stop, each the first of four.
const FIRST: usize = 100;
const OTHER: usize = 104;

/// Two workers with threads of their own have four tasks each. One of them waits, so that workers may take tasks by
/// themselves. The other one waits, too, while its pool's thread is busy: its own tasks still come first.
#[test]
fn g02_a_worker_overtakes_no_task_that_it_has_just_handed_back() {
    live(async {
        let (begun, begins) = mpsc::channel();
        let (first_may, first) = mpsc::channel();
        let first = Arc::new(Mutex::new(first));
        let other = Arc::new(Notify::new());
        let others = other.clone();
        let both = Arc::new(Barrier::new(2));
        let steps = stage_fn("steps", async move |n: usize, _: &TaskContext<'_, ()>| {
            begun.send(n).unwrap();
            if n < 2 {
                both.wait();
            }
            if n == FIRST {
                first.lock().unwrap().recv().unwrap();
                yield_now().await;
                yield_now().await;
            }
            if n == OTHER {
                others.notified().await;
            }
            Ok(n)
        });
        let handle = Pipeline::new("order")
            .stage(steps.workers(2).blocking().capacity(50))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        // Both workers are there,
        let zero = handle.submit(0).await.unwrap();
        handle.submit(1).await.unwrap().outcome().await.unwrap();
        zero.outcome().await.unwrap();
        // and it is known how little time a call takes, so that each gets several.
        for n in 2..20 {
            handle.submit(n).await.unwrap().outcome().await.unwrap();
        }
        // Neither has still to say that it is free.
        sleep(20).await;
        handle.pause();
        let mut tickets = Vec::new();
        for n in FIRST..FIRST + 8 {
            tickets.push(handle.submit(n).await.unwrap());
        }
        handle.resume();
        let mut order = Vec::new();
        // The tasks that the other worker has handed back are here again.
        until(|| {
            order.extend(begins.try_iter());
            order.contains(&FIRST)
                && order.contains(&OTHER)
                && handle.snapshot().stages[0].queued > 0
        })
        .await;
        // From here on the pool's thread is busy: this one.
        first_may.send(()).unwrap();
        order.extend(begins.recv_timeout(ms(100)));
        let other_ticket = tickets.remove(OTHER - FIRST);
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        other.notify_one();
        assert!(other_ticket.outcome().await.unwrap().is_done());
        order.extend(begins.try_iter());
        let at = |n| order.iter().position(|task| *task == n);
        assert!(at(FIRST + 1) < at(OTHER + 1), "{order:?}");
    });
}

/// Looks at its stage's queue when it is dropped.
struct Looks {
    control: Arc<Mutex<Option<Control>>>,
    queued: mpsc::Sender<usize>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        let control = self.control.lock().unwrap();
        let queued = control.as_ref().unwrap().snapshot().stages[0].queued;
        self.queued.send(queued).ok();
    }
}

#[test]
fn a_queue_is_never_seen_empty_while_stopped_tasks_are_taken_out() {
    still(async {
        let keeps = stage_fn("keeps", async |_: Looks, _: &TaskContext<'_, ()>| Ok(()));
        let handle = Pipeline::new("seen")
            .stage(keeps.workers(1).capacity(20))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        handle.pause();
        let (queued, seen) = mpsc::channel();
        let control = Arc::new(Mutex::new(Some(handle.control())));
        let mut tickets = Vec::new();
        for _ in 0..10 {
            let looks = Looks {
                control: control.clone(),
                queued: queued.clone(),
            };
            tickets.push(handle.submit(looks).await.unwrap());
        }
        sleep(10).await;
        assert_eq!(handle.snapshot().stages[0].queued, 10);
        assert!(tickets[0].cancel());
        tickets.remove(0).outcome().await.unwrap();
        assert_eq!(seen.try_recv(), Ok(9));
        handle.resume();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
    });
}
