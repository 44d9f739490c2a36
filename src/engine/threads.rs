//! The threads a pipeline runs on: which are its own, who works where, and how they are left.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use actix::Arbiter;
use actix_rt::ArbiterHandle;

use crate::{logging, panic_guard};

pub(crate) struct Threads {
    /// The arbiters that workers are spread over, the one of pools and reporter first. Empty where
    /// everything stays on the arbiter it was started on.
    arbiters: Vec<ArbiterHandle>,
    owned: Mutex<Owned>,
    presence: Mutex<Option<Presence>>,
    /// A call has not returned: its thread isn't waited for.
    abandoned: AtomicBool,
}

#[derive(Default)]
struct Owned {
    arbiters: Vec<Arbiter>,
    /// Threads that wait for those of blocking workers that have left.
    retired: Vec<JoinHandle<()>>,
    system: Option<PrivateSystem>,
}

/// Shows whether a blocking worker is still on its thread: each holds a copy of the first.
struct Presence(mpsc::Sender<Present>, mpsc::Receiver<Present>);

/// Never sent.
#[derive(PartialEq)]
pub(crate) enum Present {}

impl Presence {
    fn new() -> Mutex<Option<Self>> {
        let (here, gone) = mpsc::channel();
        Mutex::new(Some(Presence(here, gone)))
    }
}

/// A System of the pipeline's own, where there was none.
pub(crate) struct PrivateSystem {
    pub(crate) end: tokio::sync::oneshot::Sender<()>,
    pub(crate) thread: JoinHandle<()>,
}

/// Time that a thread has to end before it is taken for abandoned.
const JOIN: Duration = Duration::from_millis(100);

/// Number of workers of a stage that each arbiter has before the rest stays with the pools. They keep
/// a processor busy if they work for an eighth of the time.
const SPREAD: usize = 8;

impl Threads {
    /// On the arbiter this is called on.
    pub(crate) fn current() -> Self {
        Threads {
            arbiters: Vec::new(),
            owned: Mutex::default(),
            presence: Presence::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn own(arbiters: Vec<Arbiter>) -> Self {
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let owned = Mutex::new(Owned {
            arbiters,
            ..Owned::default()
        });
        Threads {
            arbiters: handles,
            owned,
            presence: Presence::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_system(&self, system: PrivateSystem) {
        panic_guard::lock(&self.owned).system = Some(system);
    }

    /// The arbiter of producers, pools and the reporter; `None` for the current one.
    pub(crate) fn first(&self) -> Option<&ArbiterHandle> {
        self.arbiters.first()
    }

    /// The arbiter of that worker; `None` for its pool's own. The first workers are spread over
    /// the arbiters, to use all processors. A stage that has many more has them to wait, and waiting
    /// is cheapest where the pools are: no message has to wake another thread.
    pub(crate) fn place(&self, worker: usize) -> Option<ArbiterHandle> {
        match self.arbiters.len() {
            0 => None,
            count if worker >= SPREAD * count => None,
            count => match worker % count {
                0 => None,
                other => Some(self.arbiters[other].clone()),
            },
        }
    }

    /// For a blocking worker, to be held as long as it is on its thread.
    pub(crate) fn attend(&self) -> Option<mpsc::Sender<Present>> {
        let presence = panic_guard::lock(&self.presence);
        presence.as_ref().map(|Presence(here, _)| here.clone())
    }

    /// A blocking worker has left its thread.
    pub(crate) fn retire(&self, thread: Arbiter) {
        thread.stop();
        // An ended thread keeps its stack until it is joined, and a pool may be resized for ever.
        let joined = spawn("batrun-join", thread, |thread| drop(thread.join()));
        let owned = &mut *panic_guard::lock(&self.owned);
        owned.retired.retain(|waiting| !waiting.is_finished());
        match joined {
            Ok(waiting) => owned.retired.push(waiting),
            // It is joined at the end.
            Err(thread) => owned.arbiters.push(thread),
        }
    }

    /// A call has not returned in time: whatever thread it is on may outlive the pipeline.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// The runtime went first: as `leave`, but no blocking worker is at work any more when it says so.
    pub(crate) fn runtime_gone(
        &self,
        then: impl FnOnce() + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let presence = panic_guard::lock(&self.presence).take();
        let gone = presence.map(|Presence(_, gone)| gone);
        match gone {
            Some(gone) if gone.try_recv() == Err(TryRecvError::Empty) => {
                self.end(true, move || {
                    gone.recv().ok();
                    then();
                })
            }
            _ => self.end(false, then),
        }
    }

    /// Ends the pipeline's threads, then says so. On a thread of its own, since a thread can't wait
    /// for itself; `None` where there is nothing to end, or no thread to be had.
    pub(crate) fn leave(&self, then: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
        self.end(false, then)
    }

    fn end(&self, waits: bool, then: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
        let owned = std::mem::take(&mut *panic_guard::lock(&self.owned));
        if !waits && owned.arbiters.is_empty() && owned.retired.is_empty() && owned.system.is_none()
        {
            then();
            return None;
        }
        let abandoned = self.abandoned.load(Ordering::SeqCst);
        let clear = move |(owned, then): (Owned, Box<dyn FnOnce() + Send>)| {
            owned.end_and_join(abandoned);
            then();
        };
        match spawn("batrun-end", (owned, Box::new(then) as Box<_>), clear) {
            Ok(ending) => Some(ending),
            Err((owned, then)) => {
                logging::warning!(
                    "there is no thread to wait for those of the pipeline, which end by themselves; \
                     raise the limits of threads and memory"
                );
                owned.end();
                then();
                None
            }
        }
    }
}

impl Owned {
    fn end_and_join(self, abandoned: bool) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        for arbiter in self.arbiters {
            if abandoned {
                join_for(move || drop(arbiter.join()));
            } else {
                arbiter.join().ok();
            }
        }
        for waiting in self.retired {
            waiting.join().ok();
        }
        if let Some(PrivateSystem { end, thread }) = self.system {
            end.send(()).ok();
            thread.join().ok();
        }
    }

    /// The same without a wait.
    fn end(self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        if let Some(PrivateSystem { end, .. }) = self.system {
            end.send(()).ok();
        }
    }
}

/// Starts a thread with a value; gives that back where there is no thread to be had.
fn spawn<T: Send + 'static>(
    name: &str,
    value: T,
    run: impl FnOnce(T) + Send + 'static,
) -> Result<JoinHandle<()>, T> {
    #[cfg(test)]
    if tests::NO_THREADS.get() {
        return Err(value);
    }
    let handed = Arc::new(Mutex::new(Some(value)));
    let taken = handed.clone();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let value = panic_guard::lock(&taken).take();
        if let Some(value) = value {
            run(value);
        }
    });
    started.map_err(|_| match panic_guard::lock(&handed).take() {
        Some(value) => value,
        None => unreachable!("a thread that was not started has taken its value"),
    })
}

/// Waits for a thread, but not for ever.
fn join_for(join: impl FnOnce() + Send + 'static) {
    let (ended, joined) = std::sync::mpsc::channel();
    let waiting = thread::Builder::new()
        .name("batrun-join".to_owned())
        .spawn(move || {
            join();
            ended.send(()).ok();
        });
    if waiting.is_ok() && joined.recv_timeout(JOIN).is_err() {
        logging::warning!("a thread whose call has not returned is left behind");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{cell::Cell, sync::atomic::AtomicBool};

    use super::*;

    thread_local! {
        /// As if the system had no more threads.
        pub(super) static NO_THREADS: Cell<bool> = const { Cell::new(false) };
    }

    /// The arbiter's thread ends, and so does what it runs.
    fn ends(arbiter: &ArbiterHandle) -> bool {
        let (sender, ended) = mpsc::channel::<()>();
        // Dropped with the arbiter, or at once if that has ended.
        arbiter.spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        ended.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    #[test]
    fn g12_n6_without_a_thread_to_wait_on_the_threads_end_and_the_report_is_given() {
        actix_rt::System::new().block_on(async {
            let threads = Threads::own(vec![Arbiter::new(), Arbiter::new()]);
            let blocking = Arbiter::new();
            let mut all = threads.arbiters.clone();
            all.push(blocking.handle());
            NO_THREADS.set(true);
            threads.retire(blocking);
            let told = std::sync::Arc::new(AtomicBool::new(false));
            let tells = told.clone();
            assert!(
                threads
                    .leave(move || tells.store(true, Ordering::SeqCst))
                    .is_none()
            );
            NO_THREADS.set(false);
            assert!(told.load(Ordering::SeqCst));
            assert!(all.iter().all(ends));
        });
    }

    #[test]
    fn g12_n6_a_thread_that_nobody_could_wait_for_is_waited_for_at_the_end() {
        actix_rt::System::new().block_on(async {
            let threads = Threads::own(Vec::new());
            NO_THREADS.set(true);
            threads.retire(Arbiter::new());
            NO_THREADS.set(false);
            assert_eq!(threads.owned.lock().unwrap().arbiters.len(), 1);
            threads.leave(|| {}).unwrap().join().unwrap();
        });
    }
}
