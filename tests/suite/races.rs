//! Threads that race with a step of the engine, and values whose drop calls back into it.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use batrun::{PipelineHandle, prelude::*, state::TaskId};

use crate::support::{DRAIN, ErrorWithDrop, live, ms};

type Handle = PipelineHandle<u32, u32>;

/// Runs it on a thread of its own: `false` if it isn't through in time.
fn through(limit: Duration, what: impl FnOnce() + Send + 'static) -> bool {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        what();
        said.send(()).ok();
    });
    heard.recv_timeout(limit).is_ok()
}

#[test]
fn g06_an_error_can_inspect_the_pipeline_when_dropped() {
    let drops = Arc::new(AtomicU64::new(0));
    let seen = drops.clone();
    let ok = through(Duration::from_secs(8), move || {
        live(async {
            let known: Arc<OnceLock<Handle>> = Arc::default();
            let (nosy, drops) = (known.clone(), drops.clone());
            let go = Arc::new(tokio::sync::Notify::new());
            let begin = go.clone();
            let through = Arc::new(tokio::sync::Notify::new());
            let finished = through.clone();
            let handle = Pipeline::new("p")
                .producer(|tasks: Intake<u32>| async move {
                    begin.notified().await;
                    let mut tickets = Vec::new();
                    for n in 0..40 {
                        let ticket = tasks.submit(n).await?;
                        ticket.outcome().await.unwrap();
                        tickets.push(ticket);
                    }
                    for n in 100..140 {
                        tasks.submit(n).await?.outcome().await.unwrap();
                    }
                    drop(tickets);
                    tokio::task::yield_now().await;
                    tasks.submit(100).await?.outcome().await.unwrap();
                    finished.notify_one();
                    Ok(())
                })
                .stage(stage_fn(
                    "s",
                    async move |n: u32, _: &TaskContext<'_, ()>| {
                        if n < 100 {
                            let (nosy, drops) = (nosy.clone(), drops.clone());
                            return Err(Failure::permanent(ErrorWithDrop(move || {
                                drops.fetch_add(1, Ordering::SeqCst);
                                if let Some(handle) = nosy.get() {
                                    handle.snapshot();
                                }
                            })));
                        }
                        // So that the reporter's last failures are others.
                        Err::<u32, _>(Failure::permanent("plain"))
                    },
                ))
                .start()
                .await
                .unwrap();
            known.set(handle.clone()).ok().unwrap();
            go.notify_one();
            through.notified().await;
            handle.shutdown(DRAIN).await.unwrap();
        });
    });
    assert!(ok, "hangs after {} drops", seen.load(Ordering::SeqCst));
}

#[test]
fn g06_an_undos_error_can_cancel_its_task_when_dropped() {
    let ok = through(Duration::from_secs(8), || {
        live(async {
            let known: Arc<OnceLock<batrun::Ticket<u32>>> = Arc::default();
            let theirs = known.clone();
            let handle = Pipeline::new("p")
                .stage(
                    stage_fn("s", async |_: u32, task: &TaskContext<'_, u32>| {
                        task.on_cancel(1).await?;
                        tokio::time::sleep(ms(100)).await;
                        Err::<u32, _>(Failure::permanent("no"))
                    })
                    .cancel_with(async move |_: u32, _: &CancelContext<'_>| {
                        let theirs = theirs.clone();
                        Err::<(), _>(Failure::new(ErrorWithDrop(move || {
                            if let Some(ticket) = theirs.get() {
                                ticket.cancel();
                            }
                        })))
                    })
                    .cancel_retry(Retry::constant(2, ms(10))),
                )
                .start()
                .await
                .unwrap();
            let ticket = handle.submit(1).await.unwrap();
            known.set(ticket).ok().unwrap();
            known.get().unwrap().outcome().await.unwrap();
            handle.shutdown(Shutdown::Abort).await.unwrap();
        });
    });
    assert!(ok, "hangs");
}

/// A user's cancel falls between a failed attempt and the wait for the next one.
#[test]
fn g08_a_cancel_between_two_attempts_takes_effect_at_once() {
    live(async {
        let gate = Arc::new(AtomicU64::new(0));
        let go = gate.clone();
        let handle = Pipeline::new("p")
            .stage(
                stage_fn("s", async move |n: u32, task: &TaskContext<'_, ()>| {
                    if task.attempt() == 1 {
                        // Now, about: the other thread cancels.
                        go.store(task.task_id().0, Ordering::Release);
                        for _ in 0..(n % 64) * 4 {
                            std::hint::spin_loop();
                        }
                        return Err(Failure::new("again"));
                    }
                    Ok(n)
                })
                .workers(1)
                .retry(Retry::constant(3, ms(60_000))),
            )
            .start()
            .await
            .unwrap();
        let tickets: Arc<Mutex<std::collections::HashMap<u64, Arc<batrun::Ticket<u32>>>>> =
            Arc::default();
        let theirs = tickets.clone();
        let end = Arc::new(AtomicBool::new(false));
        let over = end.clone();
        let thread = std::thread::spawn(move || {
            let mut held: Option<(u64, Arc<batrun::Ticket<u32>>)> = None;
            while !over.load(Ordering::Relaxed) {
                if held.is_none() {
                    let mut map = theirs.lock().unwrap();
                    let key = map.keys().next().copied();
                    held = key.and_then(|key| map.remove(&key).map(|t| (key, t)));
                    continue;
                }
                if let Some((id, ticket)) = &held {
                    let deadline = Instant::now() + Duration::from_millis(200);
                    while gate.load(Ordering::Acquire) < *id && Instant::now() < deadline {
                        std::hint::spin_loop();
                    }
                    ticket.cancel();
                    held = None;
                }
            }
        });
        let began = Instant::now();
        let (mut n, mut late) = (0, 0);
        while began.elapsed() < Duration::from_secs(3) && late == 0 {
            n += 1;
            handle.pause();
            let ticket = Arc::new(handle.submit(n).await.unwrap());
            tickets
                .lock()
                .unwrap()
                .insert(ticket.id().0, ticket.clone());
            handle.resume();
            if tokio::time::timeout(Duration::from_secs(30), ticket.outcome())
                .await
                .is_err()
            {
                late += 1;
            }
        }
        end.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        let rested = late;
        handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!(rested, 0);
    });
}

/// Cancels by the numbers of tasks that have ended, while their records get new tasks.
#[test]
fn g01_cancelling_an_old_task_id_never_hits_a_new_task() {
    live(async {
        let ended: Arc<(AtomicU64, AtomicU64)> = Arc::default();
        let hits: Arc<Mutex<Vec<u64>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, stop) = (ended.clone(), over.clone());
        let known: Arc<OnceLock<Handle>> = Arc::default();
        let handle = Pipeline::new("p")
            .producer(|tasks: Intake<u32>| async move {
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(9) && !stop.load(Ordering::Relaxed) {
                    let mut tickets = Vec::new();
                    for n in 0..16 {
                        tickets.push(tasks.submit(n).await?);
                    }
                    for ticket in &tickets {
                        ticket.outcome().await.unwrap();
                    }
                    let (from, to) = (tickets[0].id().0, tickets[15].id().0);
                    theirs.0.store(from, Ordering::SeqCst);
                    theirs.1.store(to, Ordering::SeqCst);
                }
                Ok(())
            })
            .stage(stage_fn("s", async |n: u32, _: &TaskContext<'_, ()>| Ok(n)).workers(1))
            .max_in_flight(32)
            .start()
            .await
            .unwrap();
        known.set(handle.clone()).ok().unwrap();
        let mut threads = Vec::new();
        for _ in 0..3 {
            let (handle, ended, over, hits) =
                (handle.clone(), ended.clone(), over.clone(), hits.clone());
            threads.push(std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (to, from) = (
                        ended.1.load(Ordering::SeqCst),
                        ended.0.load(Ordering::SeqCst),
                    );
                    let to = to.min(from);
                    for id in to.saturating_sub(15)..=to {
                        if id > 0
                            && handle
                                .cancel(serde_json::from_str::<TaskId>(&id.to_string()).unwrap())
                        {
                            hits.lock().unwrap().push(id);
                        }
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        let report = handle.shutdown(DRAIN).await.unwrap();
        let hits = hits.lock().unwrap();
        assert_eq!((report.counts.cancelled, hits.len()), (0, 0));
    });
}

/// An output that takes its time to be dropped.
struct Slow(bool);
impl Drop for Slow {
    fn drop(&mut self) {
        if self.0 {
            std::thread::sleep(ms(300));
        }
    }
}

#[test]
fn g02_no_task_starts_late_behind_a_value_slow_to_drop() {
    live(async {
        let late: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = late.clone();
        let put: Arc<Mutex<Option<batrun::Ticket>>> = Arc::default();
        let got = put.clone();
        let report = Pipeline::new("p")
            .producer(|tasks: Intake<u32>| async move {
                for _ in 0..2000 {
                    tasks.submit(0).await?;
                }
                tokio::time::sleep(ms(100)).await;
                *put.lock().unwrap() = Some(tasks.submit(1).await?);
                for n in 2..5 {
                    tasks.submit(n).timeout(ms(200)).await?;
                }
                Ok(())
            })
            .stage(
                stage_fn("s", async move |n: u32, task: &TaskContext<'_, ()>| {
                    if task
                        .deadline()
                        .is_some_and(|at| at <= tokio::time::Instant::now())
                    {
                        seen.lock()
                            .unwrap()
                            .push(format!("task {n} starts late: {:?}", task.time_left()));
                    }
                    if n == 1 {
                        assert!(got.lock().unwrap().take().unwrap().cancel());
                    }
                    Ok(Slow(n == 1))
                })
                .workers(1),
            )
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert_eq!(
            (report.counts.done, report.counts.cancelled),
            (2000, 1),
            "{report}"
        );
        assert_eq!(report.counts.timed_out, 3);
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new());
    });
}
