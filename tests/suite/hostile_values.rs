//! Values of the user's in every place where one can be, each of whose methods panics or calls back
//! into the pipeline, in every kind of stage, with a journal and without. A hundred other tasks are in
//! flight meanwhile, and all of them end as if nothing had happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    fmt,
    future::pending,
    panic::panic_any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use actix::{Actor, Handler};
use batrun::{
    PipelineHandle,
    actor::{Cancel, Reply, TaskMsg},
    policy::{OnStuck, Restart},
    prelude::*,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{AT_MOST, live, ms, until};

/// Where the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Context,
    Output,
    Undo,
    /// The error of an attempt that is made again.
    Error,
    /// The source of the source of an attempt's error.
    Source,
    /// The value that an attempt panics with.
    Payload,
    /// The error of an undo.
    UndoError,
    /// The value that an undo panics with.
    UndoPayload,
    /// In a call that is dropped because its task is cancelled.
    Call,
    /// Held by the stage's value, which is built anew after a panic.
    StageValue,
    /// Captured by the closure that builds stage values, and that runs a stage.
    Closure,
    /// The error of a factory.
    FactoryError,
    /// The value that a factory panics with.
    FactoryPayload,
    ProducerError,
    ProducerPayload,
}

use Place as P;

const PLACES: [Place; 15] = [
    P::Context,
    P::Output,
    P::Undo,
    P::Error,
    P::Source,
    P::Payload,
    P::UndoError,
    P::UndoPayload,
    P::Call,
    P::StageValue,
    P::Closure,
    P::FactoryError,
    P::FactoryPayload,
    P::ProducerError,
    P::ProducerPayload,
];

/// The method that misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    Drop,
    Clone,
    Debug,
    Display,
    Source,
    Serialize,
    Deserialize,
}

use Method as M;

const METHODS: [Method; 7] = [
    M::Drop,
    M::Clone,
    M::Debug,
    M::Display,
    M::Source,
    M::Serialize,
    M::Deserialize,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Panic,
    /// Its payload panics again when it is dropped.
    PanicTwice,
    CallBack,
    /// A source that is its own source.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Async,
    Blocking,
    Actor,
}

/// The misbehaviour of one value.
struct Trap {
    id: usize,
    method: Method,
    act: Act,
    handle: Mutex<Option<PipelineHandle<Hostile, Hostile>>>,
    sprung: AtomicUsize,
    set: AtomicBool,
    /// The call that is to be dropped has begun.
    begun: AtomicBool,
}

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("scripted");
        }
    }
}

impl Trap {
    fn meet(&self, method: Method) {
        if method != self.method || !self.set.load(Ordering::SeqCst) || std::thread::panicking() {
            return;
        }
        self.sprung.fetch_add(1, Ordering::SeqCst);
        match self.act {
            Act::Panic => panic!("scripted"),
            Act::PanicTwice => panic_any(PanicsAgain),
            Act::CallBack => {
                // Not under the lock, which is the test's own.
                let handle = self.handle.lock().unwrap().clone();
                if let Some(handle) = handle {
                    handle.snapshot();
                    drop(handle.outcomes());
                    handle.stuck();
                    handle.pause();
                    handle.resume();
                    handle.resize("first", 4).unwrap();
                }
            }
            Act::Endless => {}
        }
    }
}

/// The traps of all runs, for values that come back from bytes.
static TRAPS: Mutex<Vec<Arc<Trap>>> = Mutex::new(Vec::new());

fn trap(method: Method, act: Act) -> Arc<Trap> {
    let mut traps = TRAPS.lock().unwrap();
    let trap = Arc::new(Trap {
        id: traps.len(),
        method,
        act,
        handle: Mutex::new(None),
        sprung: AtomicUsize::new(0),
        set: AtomicBool::new(true),
        begun: AtomicBool::new(false),
    });
    traps.push(trap.clone());
    trap
}

/// A context, an output, an undo, a payload: harmless without a trap.
struct Hostile {
    number: usize,
    trap: Option<Arc<Trap>>,
}

impl Hostile {
    fn harmless(number: usize) -> Self {
        Hostile { number, trap: None }
    }

    fn meet(&self, method: Method) {
        if let Some(trap) = &self.trap {
            trap.meet(method);
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.meet(M::Drop);
    }
}

impl Clone for Hostile {
    fn clone(&self) -> Self {
        self.meet(M::Clone);
        Hostile {
            number: self.number,
            trap: self.trap.clone(),
        }
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meet(M::Debug);
        f.write_str("hostile")
    }
}

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meet(M::Display);
        f.write_str("hostile")
    }
}

impl StdError for Hostile {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.meet(M::Source);
        let endless = self
            .trap
            .as_ref()
            .is_some_and(|trap| trap.act == Act::Endless);
        endless.then_some(self as _)
    }
}

impl Serialize for Hostile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.meet(M::Serialize);
        let trap = self.trap.as_ref().map(|trap| trap.id as u64);
        (self.number as u64, trap).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Hostile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (number, trap) = <(u64, Option<u64>)>::deserialize(from)?;
        let trap = trap.map(|id| TRAPS.lock().unwrap()[id as usize].clone());
        let value = Hostile {
            number: number as usize,
            trap,
        };
        value.meet(M::Deserialize);
        Ok(value)
    }
}

/// An error two levels above the hostile one.
#[derive(Debug)]
struct Above(Option<Box<Above>>, Option<Hostile>);

impl fmt::Display for Above {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("above")
    }
}

impl StdError for Above {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match (&self.0, &self.1) {
            (Some(above), _) => Some(above),
            (_, Some(hostile)) => Some(hostile),
            _ => None,
        }
    }
}

/// The task that meets the hostile value.
const TRAPPED: usize = 50;
const OTHERS: usize = 100;

/// One run: a value that misbehaves in this way, in this place.
#[derive(Clone)]
struct Run {
    place: Place,
    trap: Arc<Trap>,
}

impl Run {
    fn hostile(&self) -> Hostile {
        Hostile {
            number: TRAPPED,
            trap: Some(self.trap.clone()),
        }
    }

    fn at(&self, place: Place, number: usize) -> bool {
        self.place == place && number == TRAPPED
    }

    /// The undo that a task registers.
    fn undo(&self, number: usize) -> Hostile {
        match self.at(P::Undo, number) {
            true => self.hostile(),
            false => Hostile::harmless(number),
        }
    }

    /// The result of a stage, after its undo is registered.
    fn result(&self, context: Hostile, attempt: u32) -> Result<Hostile, Failure> {
        let number = context.number;
        if number != TRAPPED {
            return Ok(context);
        }
        match self.place {
            P::Context | P::Call => Ok(context),
            P::Output => Ok(self.hostile()),
            P::Undo | P::UndoError | P::UndoPayload => Err(Failure::permanent("no")),
            P::Error if attempt == 1 => Err(Failure::new(self.hostile())),
            P::Error => Err(Failure::permanent(self.hostile())),
            P::Source => {
                let hostile = Above(None, Some(self.hostile()));
                Err(Failure::new(Above(Some(Box::new(hostile)), None)))
            }
            P::Payload => panic_any(self.hostile()),
            // Its stage value is built anew.
            P::StageValue | P::Closure | P::FactoryError | P::FactoryPayload => panic!("scripted"),
            P::ProducerError | P::ProducerPayload => Ok(context),
        }
    }

    fn cancelled(&self, undo: &Hostile) -> Result<(), Failure> {
        match self.place {
            P::UndoError if undo.number == TRAPPED => Err(Failure::new(self.hostile())),
            P::UndoPayload if undo.number == TRAPPED => panic_any(self.hostile()),
            _ => Ok(()),
        }
    }
}

/// A stage as users write it, with a value of its own.
struct Second {
    run: Run,
    _held: Option<Hostile>,
}

impl Stage for Second {
    type Input = Hostile;
    type Output = Hostile;
    type Undo = Hostile;

    async fn run(
        &mut self,
        context: Hostile,
        task: &TaskContext<'_, Hostile>,
    ) -> Result<Hostile, Failure> {
        let number = context.number;
        task.on_cancel(self.run.undo(number)).await?;
        let _local = self.run.at(P::Call, number).then(|| self.run.hostile());
        if self.run.at(P::Call, number) {
            self.run.trap.begun.store(true, Ordering::SeqCst);
            pending::<()>().await;
        }
        self.run.result(context, task.attempt())
    }

    async fn cancel(&mut self, undo: Hostile, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.run.cancelled(&undo)
    }
}

impl Second {
    fn work(run: &Run) -> Work<Second> {
        let run = run.clone();
        let builds = AtomicUsize::new(0);
        // Of the values that are built, one is hostile, and one can't be built.
        let captured = (run.place == P::Closure).then(|| run.hostile());
        Work::try_with("second", move || {
            let build = builds.fetch_add(1, Ordering::SeqCst);
            let _copied = captured.as_ref().filter(|_| build % 4 == 3).cloned();
            match run.place {
                P::FactoryError if build % 4 == 3 => return Err(Failure::new(run.hostile())),
                P::FactoryPayload if build % 4 == 3 => panic_any(run.hostile()),
                _ => {}
            }
            Ok(Second {
                run: run.clone(),
                _held: (run.place == P::StageValue).then(|| run.hostile()),
            })
        })
        .workers(3)
        .restart(Restart::exponential(ms(1), ms(2)))
    }
}

/// The same as an actor of the user's, on a thread of its own.
struct Owned(Run);

impl Actor for Owned {
    type Context = actix::Context<Self>;
}

impl Handler<TaskMsg<Hostile, Reply<Hostile, Hostile>>> for Owned {
    type Result = actix::ResponseFuture<()>;

    fn handle(
        &mut self,
        message: TaskMsg<Hostile, Reply<Hostile, Hostile>>,
        _: &mut Self::Context,
    ) -> Self::Result {
        let run = self.0.clone();
        let (context, reply) = message.into_parts();
        Box::pin(async move {
            let undo = run.undo(context.number);
            let Ok(_) = reply.on_cancel(undo).await else {
                return reply.fail(Failure::permanent("its undo can't be recorded"));
            };
            let attempt = reply.attempt();
            match run.result(context, attempt) {
                Ok(output) => reply.done(output),
                Err(failure) => reply.fail(failure),
            }
        })
    }
}

impl Handler<Cancel<Hostile>> for Owned {
    type Result = ();

    fn handle(&mut self, cancel: Cancel<Hostile>, _: &mut Self::Context) {
        let (undo, reply) = cancel.into_parts();
        let result = self.0.cancelled(&undo);
        // Its drop in here is the actor's own matter.
        std::mem::forget(undo);
        match result {
            Ok(()) => reply.done(),
            Err(failure) => reply.fail(failure),
        }
    }
}

/// The places that an actor of the user's has: what it panics with, and what it holds, is its own matter.
const OF_ACTORS: [Place; 6] = [
    P::Context,
    P::Output,
    P::Undo,
    P::Error,
    P::Source,
    P::UndoError,
];

/// Builds the pipeline onto one with a journal or without, whose types differ.
macro_rules! start {
    ($pipeline:expr, $run:expr, $kind:expr) => {{
        let (run, kind): (&Run, Kind) = ($run, $kind);
        let to_produce = run.clone();
        let before = stage_fn(
            "first",
            async |context: Hostile, task: &TaskContext<'_, Hostile>| {
                task.on_cancel(Hostile::harmless(context.number)).await?;
                Ok(context)
            },
        )
        .cancel_with(async |_: Hostile, _: &CancelContext<'_>| Ok(()))
        .workers(2);
        let pipeline = $pipeline
            .producer(move |_: Intake<Hostile>| async move {
                match to_produce.place {
                    P::ProducerError => Err(Failure::new(to_produce.hostile())),
                    P::ProducerPayload => panic_any(to_produce.hostile()),
                    _ => Ok(()),
                }
            })
            .stage(before);
        let retry = Retry::constant(1, ms(1));
        let pipeline = match kind {
            Kind::Async | Kind::Blocking => {
                let work = Second::work(run)
                    .retry(retry)
                    .cancel_retry(retry)
                    .on_stuck(OnStuck::Continue);
                match kind {
                    Kind::Blocking => pipeline.stage(work.blocking()),
                    _ => pipeline.stage(work),
                }
            }
            Kind::Actor => {
                let actor = run.clone();
                let addr = Owned::start_in_arbiter(&actix_rt::Arbiter::current(), |_| Owned(actor));
                pipeline.stage(
                    Work::actor("second", addr)
                        .retry(retry)
                        .cancel_retry(retry)
                        .on_stuck(OnStuck::Continue),
                )
            }
        };
        pipeline.start().await.unwrap()
    }};
}

/// Runs one combination; the number of times that the trap was met, or what went wrong.
async fn attempt(run: Run, kind: Kind, journal: bool) -> Result<usize, String> {
    let handle: PipelineHandle<Hostile, Hostile> = match journal {
        #[cfg(feature = "journal")]
        true => {
            let journal = crate::support::on_disk(&batrun::testing::Disk::new());
            start!(Pipeline::new("hostile").journal(journal), &run, kind)
        }
        _ => start!(Pipeline::new("hostile"), &run, kind),
    };
    *run.trap.handle.lock().unwrap() = Some(handle.clone());
    let mut tickets = Vec::new();
    for number in 0..=OTHERS {
        let context = match run.at(P::Context, number) {
            true => run.hostile(),
            false => Hostile::harmless(number),
        };
        match handle.submit(context).await {
            Ok(ticket) => tickets.push((number, ticket)),
            Err(refused) if number == TRAPPED => {
                // The caller's own drop, which the test guards.
                let refused = std::panic::AssertUnwindSafe(|| drop(refused));
                std::panic::catch_unwind(refused)
                    .map_err(std::mem::forget)
                    .ok();
            }
            Err(_) => return Err(format!("task {number} was refused")),
        }
    }
    if run.place == P::Call {
        until(|| run.trap.begun.load(Ordering::SeqCst)).await;
        handle.cancel(tickets[TRAPPED].1.id());
    }
    for (number, ticket) in tickets {
        let outcome = match tokio::time::timeout(AT_MOST, ticket.outcome()).await {
            Err(_) => return Err(format!("task {number} hangs")),
            Ok(Err(error)) => return Err(format!("task {number}: {error}")),
            Ok(Ok(outcome)) => outcome,
        };
        if number != TRAPPED && !outcome.is_done() {
            return Err(format!("task {number} is not done: {}", outcome.end));
        }
        let dropped = std::panic::AssertUnwindSafe(|| {
            if number == TRAPPED {
                // As a program would, in its log; its own panic is its own.
                let _ = format!("{outcome} {outcome:?}");
            }
            drop(outcome);
        });
        std::panic::catch_unwind(dropped)
            .map_err(std::mem::forget)
            .ok();
    }
    let shutdown = handle.shutdown(Shutdown::Drain(AT_MOST));
    let report = tokio::time::timeout(AT_MOST, shutdown).await;
    let report = match report {
        Err(_) => return Err("the shutdown hangs".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(report)) => report,
    };
    let counts = report.counts;
    let ended = counts.done + counts.failed + counts.timed_out + counts.cancelled;
    if counts.accepted != ended || counts.done < OTHERS as u64 || report.suspended.is_some() {
        return Err(report.to_string());
    }
    let _ = report.to_string();
    // The last holds of what is in it.
    drop((report, handle));
    let to_handle = run.trap.handle.lock().unwrap().take();
    drop(to_handle);
    Ok(run.trap.sprung.load(Ordering::SeqCst))
}

/// The methods of a value that batrun calls in each place. The others are the user's own to call.
fn expected(kind: Kind, journal: bool) -> BTreeMap<Place, BTreeSet<Method>> {
    let with_bytes = |methods: &[Method]| {
        let bytes = [M::Serialize, M::Deserialize];
        let bytes = bytes.iter().filter(|_| journal);
        methods.iter().chain(bytes).copied().collect()
    };
    let plain = |methods: &[Method]| methods.iter().copied().collect();
    let mut all = BTreeMap::from([
        (P::Context, with_bytes(&[M::Drop, M::Clone])),
        (P::Output, with_bytes(&[M::Drop])),
        (P::Undo, with_bytes(&[M::Drop, M::Clone])),
        (P::Error, plain(&[M::Drop, M::Display, M::Source])),
        (P::Source, plain(&[M::Drop, M::Display, M::Source])),
        (P::Payload, plain(&[M::Drop])),
        (P::UndoError, plain(&[M::Drop, M::Display, M::Source])),
        (P::UndoPayload, plain(&[M::Drop])),
        (P::Call, plain(&[M::Drop])),
        (P::StageValue, plain(&[M::Drop])),
        (P::Closure, plain(&[M::Drop, M::Clone])),
        (P::FactoryError, plain(&[M::Drop, M::Display, M::Source])),
        (P::FactoryPayload, plain(&[M::Drop])),
        (P::ProducerError, plain(&[M::Drop, M::Display, M::Source])),
        (P::ProducerPayload, plain(&[M::Drop])),
    ]);
    if kind == Kind::Actor {
        all.retain(|place, _| OF_ACTORS.contains(place));
    }
    all
}

/// Runs every combination of one kind of stage.
fn try_all(kind: Kind) {
    crate::support::quietly();
    let mut met = BTreeMap::<(bool, Place), BTreeSet<Method>>::new();
    let (mut runs, mut wrong) = (0, Vec::new());
    for journal in [false, cfg!(feature = "journal")] {
        for (place, method, act) in combinations(kind, journal) {
            let trap = trap(method, act);
            let run = Run {
                place,
                trap: trap.clone(),
            };
            runs += 1;
            match live(attempt(run, kind, journal)) {
                Ok(0) => {}
                Ok(_) => {
                    met.entry((journal, place)).or_default().insert(method);
                }
                Err(why) => wrong.push(format!(
                    "{place:?} {method:?} {act:?} {kind:?} journal {journal}: {why}"
                )),
            }
            trap.set.store(false, Ordering::SeqCst);
        }
    }
    println!("{runs} combinations");
    assert!(wrong.is_empty(), "{} of {runs}: {wrong:#?}", wrong.len());
    // A combination that meets nothing shows nothing.
    for journal in [false, cfg!(feature = "journal")] {
        for (place, methods) in expected(kind, journal) {
            let met = met.get(&(journal, place)).cloned().unwrap_or_default();
            let missed: Vec<_> = methods.difference(&met).collect();
            assert!(
                missed.is_empty(),
                "{place:?}, journal {journal}: {missed:?} not met"
            );
        }
    }
}

#[test]
fn g06_k1_hostile_values_in_a_stage_harm_no_other_task() {
    try_all(Kind::Async);
}

#[test]
fn g06_k1_hostile_values_in_a_blocking_stage_harm_no_other_task() {
    try_all(Kind::Blocking);
}

#[test]
fn g06_k1_hostile_values_in_an_actor_of_the_users_harm_no_other_task() {
    try_all(Kind::Actor);
}

fn combinations(kind: Kind, journal: bool) -> Vec<(Place, Method, Act)> {
    let mut all = Vec::new();
    for place in PLACES {
        if kind == Kind::Actor && !OF_ACTORS.contains(&place) {
            continue;
        }
        for method in METHODS {
            if !journal && matches!(method, M::Serialize | M::Deserialize) {
                continue;
            }
            let acts: &[Act] = match method {
                M::Source => &[Act::Panic, Act::PanicTwice, Act::CallBack, Act::Endless],
                _ => &[Act::Panic, Act::PanicTwice, Act::CallBack],
            };
            all.extend(acts.iter().map(|act| (place, method, *act)));
        }
    }
    all
}
