//! The protocol of `src/task/atomic_state.rs`, with every interleaving that the memory model allows.
//!
//! `cargo test --release --manifest-path tests/loom/Cargo.toml`

#![cfg(test)]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../src/task/atomic_state.rs"]
mod atomic_state;
#[path = "../../../src/task/state.rs"]
mod state;

use atomic_state::{AtomicState, fence};
use loom::{
    sync::{Arc, atomic, atomic::AtomicU32, atomic::Ordering},
    thread,
};
use state::{Event, Illegal, State, next};

/// A task goes from stage 0 to stage 1 while it is being stopped. The thread that is told, or
/// looks, lets go of it, and that happens exactly once.
#[test]
fn g05_a_decided_end_is_noticed_exactly_once() {
    loom::model(|| {
        let task = Arc::new(AtomicState::new());
        task.begin();
        let let_go = Arc::new(AtomicU32::new(0));
        let holder = {
            let (task, let_go) = (task.clone(), let_go.clone());
            thread::spawn(move || {
                let noticed = |stage| {
                    if task.apply(Event::Stopped(stage)).is_ok() {
                        let_go.fetch_add(1, Ordering::SeqCst);
                    }
                };
                // The worker of stage 0.
                if task.apply(Event::Start(0)).is_err() {
                    return noticed(0);
                }
                if task.apply(Event::Finish(0)).is_err() {
                    return noticed(0);
                }
                // The pool of stage 1, where the message arrives.
                fence();
                if task.is_ending() {
                    noticed(1);
                }
            })
        };
        let told = match task.stop() {
            Some(State::Queued(stage) | State::Running(stage)) => stage,
            other => panic!("{other:?}"),
        };
        holder.join().unwrap();
        // The pool of stage 1 takes it out of its queue if it is told to.
        if told == 1 && task.apply(Event::Stopped(1)).is_ok() {
            let_go.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(let_go.load(Ordering::SeqCst), 1, "told stage {told}");
        assert_eq!(task.load(), State::RollingBack);
    });
}

/// As above, where an attempt fails and its pool, told by the worker, lets it rest.
#[test]
fn g05_a_stop_between_two_attempts_is_noticed_exactly_once() {
    loom::model(|| {
        let task = Arc::new(AtomicState::new());
        task.begin();
        let let_go = Arc::new(AtomicU32::new(0));
        let holder = {
            let (task, let_go) = (task.clone(), let_go.clone());
            thread::spawn(move || {
                let worker =
                    task.apply(Event::Start(0)).is_ok() && task.apply(Event::Retry(0)).is_ok();
                // The pool is told here, unless the worker has noticed.
                fence();
                if (!worker || task.is_ending()) && task.apply(Event::Stopped(0)).is_ok() {
                    let_go.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let told = task.stop();
        holder.join().unwrap();
        // The pool looks at what rests when it is told that something queued was stopped; a worker
        // that is told to halt has nothing left to look at.
        if told == Some(State::Queued(0)) && task.apply(Event::Stopped(0)).is_ok() {
            let_go.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(let_go.load(Ordering::SeqCst), 1, "told {told:?}");
    });
}

/// Either a pool lets go of a task that a worker has in its hands, or the worker starts it: never both.
#[test]
fn g05_a_pool_never_releases_a_task_that_a_worker_starts() {
    loom::model(|| {
        let task = Arc::new(AtomicState::new());
        task.begin();
        let worker = {
            let task = task.clone();
            thread::spawn(move || {
                if task.apply(Event::Start(0)).is_err() {
                    return false;
                }
                fence();
                // The stage is called only if nothing was decided by now.
                !task.is_ending()
            })
        };
        task.stop().unwrap();
        // The pool, where the stop is announced.
        fence();
        let let_go = task.is_queued() && task.apply(Event::Stopped(0)).is_ok();
        let started = worker.join().unwrap();
        assert!(!(started && let_go));
    });
}

/// Either a stop or the last result is taken, never both.
#[test]
fn g01_done_and_stopped_exclude_each_other() {
    loom::model(|| {
        let task = Arc::new(AtomicState::new());
        task.begin();
        let worker = {
            let task = task.clone();
            thread::spawn(move || {
                task.apply(Event::Start(0)).is_ok() && task.apply(Event::Complete(0)).is_ok()
            })
        };
        let stopped = task.stop().is_some();
        assert_ne!(worker.join().unwrap(), stopped);
    });
}
