//! Two ways to write a stage: as a type with the trait [`Stage`], and as an actix actor.
//!
//! A theatre sells seats. Each booking goes through three stages:
//!
//! 1. `reserve` marks seats in a plan that all workers share: the trait [`Stage`].
//! 2. `charge` takes the price from an account: [`Bank`], a plain actor.
//! 3. `print` prints the tickets: a function, without an undo.
//!
//! For some bookings printing fails, and for one it panics. Their undos run: the money is given
//! back, and the seats are freed. At the end the plan and the accounts are compared with the
//! bookings that are done. `cargo run -p batrun-examples-full --example own_stage`: the exit code
//! is 0 only if they match. The panic's own message on stderr is part of the show.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use batrun::{
    actor::{Cancel, Reply, TaskMsg},
    prelude::*,
    state::Key,
};
use clap::Parser;

/// Number of seats in the plan.
const SEATS: usize = 40;
/// The price of a seat.
const PRICE: u32 = 25;
/// The money in each account at first.
const MONEY: u32 = 100;

struct Booking {
    name: &'static str,
    seats: usize,
}

/// The bookings, each with the end that it should have.
const BOOKINGS: [(Booking, Expected); 8] = [
    (booking("Ada", 2), Expected::Done),
    (booking("Bela", 4), Expected::Done),
    (booking("Cleo", 3), Expected::PrintFails),
    (booking("Dora", 99), Expected::SoldOut),
    (booking("Emil", 6), Expected::TooPoor),
    (booking("Fay", 1), Expected::PrintFails),
    (booking("Gus", 2), Expected::PrintPanics),
    (booking("Hugo", 1), Expected::Done),
];

const fn booking(name: &'static str, seats: usize) -> Booking {
    Booking { name, seats }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Done,
    SoldOut,
    TooPoor,
    PrintFails,
    PrintPanics,
}

fn say(who: impl fmt::Display, what: impl fmt::Display) {
    println!("{who:<22} {what}");
}

// ---------------------------------------------------------------------------------------------
// A stage with the trait.
// ---------------------------------------------------------------------------------------------

/// The holder of each seat. Shared by all workers and by readers outside the pipeline.
#[derive(Clone)]
struct Plan(Arc<Mutex<Vec<Option<Key>>>>);

impl Plan {
    fn new(seats: usize) -> Self {
        Plan(Arc::new(Mutex::new(vec![None; seats])))
    }

    /// Takes this many free seats, all or none.
    fn take(&self, count: usize, holder: &Key) -> Option<Vec<usize>> {
        let mut plan = self.lock();
        let free = plan.iter().enumerate().filter(|(_, seat)| seat.is_none());
        let seats: Vec<usize> = free.map(|(number, _)| number).take(count).collect();
        if seats.len() < count {
            return None;
        }
        for &seat in &seats {
            plan[seat] = Some(holder.clone());
        }
        Some(seats)
    }

    /// Frees this holder's seats, and returns their number.
    fn free(&self, holder: &Key) -> usize {
        let mut freed = 0;
        for seat in self.lock().iter_mut() {
            if seat.as_ref() == Some(holder) {
                *seat = None;
                freed += 1;
            }
        }
        freed
    }

    fn taken(&self) -> Vec<usize> {
        let plan = self.lock();
        let taken = plan.iter().enumerate().filter(|(_, seat)| seat.is_some());
        taken.map(|(number, _)| number).collect()
    }

    /// Each change is complete when the lock is released, so the plan is right even after a panic.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stage. It is `Clone`, so each worker gets a clone; the shared part is behind an `Arc`. A
/// stage that isn't `Clone` (it owns a connection, say) is given as `Work::with("name", || ..)`.
#[derive(Clone)]
struct ReserveSeats {
    plan: Plan,
}

/// The undo of a reservation: data, not a closure. It names the holder, not the seats, because the
/// seats are known only once they are taken, and the undo has to be registered before that. Its
/// `Debug` is printed in reports, so it shows nothing private.
#[derive(Clone, Debug)]
struct Reservation {
    holder: Key,
}

/// The output of the stage.
struct Reserved {
    booking: Booking,
    seats: Vec<usize>,
}

impl Stage for ReserveSeats {
    type Input = Booking;
    type Output = Reserved;
    type Undo = Reservation;

    async fn run(
        &mut self,
        booking: Booking,
        task: &TaskContext<'_, Reservation>,
    ) -> Result<Reserved, Failure> {
        // The key of this task in this stage: the same for each retry, another one for each task.
        let holder = task.key();

        // Intent first. If this fails (the task is late, or cancelled), `?` leaves without the
        // effect. The other way round, a deadline between the two would leave seats taken for ever.
        let undo = task
            .on_cancel(Reservation {
                holder: holder.clone(),
            })
            .await?;

        // Then the effect.
        match self.plan.take(booking.seats, &holder) {
            Some(seats) => {
                say(booking.name, format_args!("reserve  takes seats {seats:?}"));
                Ok(Reserved { booking, seats })
            }
            None => {
                // It surely did not happen, so there is nothing to take back. Without this line the
                // undo would run and find nothing, which is right as well.
                undo.withdraw().await?;
                say(booking.name, "reserve  FAILS");
                // Permanent: a retry would not help. Other errors become failures with `?`.
                Err(Failure::permanent(format!(
                    "{} seats are not free",
                    booking.seats
                )))
            }
        }
    }

    /// Takes a reservation back. It may run on another worker's value than `run` did, may run
    /// twice, and may find that the seats were never taken: `free` does the right thing in each
    /// case, because it goes by the holder.
    async fn cancel(
        &mut self,
        undo: Reservation,
        cancel: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        let freed = self.plan.free(&undo.holder);
        say(
            format_args!("task {}", cancel.task_id()),
            format_args!("reserve  CANCEL frees {freed} seats"),
        );
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------
// A stage that is an actor.
// ---------------------------------------------------------------------------------------------

/// An actor that other parts of a program may use as well: it knows nothing of pipelines but the
/// two messages below. A panic in a handler would end it and everything else on its arbiter, so it
/// returns failures instead.
struct Bank {
    accounts: HashMap<&'static str, u32>,
    /// The charges (account and amount) by their keys. An undo looks here, so it gives back this
    /// task's money, once.
    charges: HashMap<Key, (&'static str, u32)>,
}

impl Actor for Bank {
    type Context = Context<Self>;
}

impl Bank {
    fn charge(&mut self, key: Key, account: &'static str, amount: u32) -> Result<(), Failure> {
        // A repeated attempt must not pay twice.
        if self.charges.contains_key(&key) {
            return Ok(());
        }
        let money = self.accounts.entry(account).or_default();
        let Some(left) = money.checked_sub(amount) else {
            let why = format!("{amount} is too much for an account of {money}");
            return Err(Failure::permanent(why));
        };
        *money = left;
        self.charges.insert(key, (account, amount));
        Ok(())
    }
}

/// The undo of a charge.
#[derive(Clone, Debug)]
struct Charge {
    key: Key,
}

struct Paid {
    booking: Booking,
    seats: Vec<usize>,
    amount: u32,
}

/// The work on a task: the message has its context and a [`Reply`], which may be sent now or later,
/// from anywhere. A reply that is dropped fails the task.
impl Handler<TaskMsg<Reserved, Reply<Paid, Charge>>> for Bank {
    // A future, because the registration of an undo has to be awaited. In the meantime the actor
    // goes on with other messages.
    type Result = ResponseActFuture<Self, ()>;

    fn handle(
        &mut self,
        task: TaskMsg<Reserved, Reply<Paid, Charge>>,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let (Reserved { booking, seats }, reply) = task.into_parts();
        let key = reply.key();
        let register = async move {
            // Intent first, here as well.
            let undo = Charge { key: key.clone() };
            let registered = reply.on_cancel(undo).await;
            (registered, key, reply)
        };
        let work = register
            .into_actor(self)
            .then(move |(registered, key, reply), bank, _| {
                // `bank` is the actor again. This is the effect; it is left out if the registration
                // failed.
                let amount = booking.seats as u32 * PRICE;
                let charged = match registered {
                    Ok(undo) => bank
                        .charge(key, booking.name, amount)
                        .map_err(|failure| (failure, Some(undo))),
                    Err(error) => Err((error.into(), None)),
                };
                async move {
                    match charged {
                        Ok(()) => {
                            say(booking.name, format_args!("charge   takes {amount}"));
                            reply.done(Paid {
                                booking,
                                seats,
                                amount,
                            });
                        }
                        Err((failure, undo)) => {
                            say(booking.name, "charge   FAILS");
                            // Nothing was taken, so there is nothing to take back.
                            if let Some(undo) = undo
                                && let Err(error) = reply.withdraw(undo).await
                            {
                                return reply.fail(error);
                            }
                            reply.fail(failure);
                        }
                    }
                }
                .into_actor(bank)
            });
        Box::pin(work)
    }
}

/// The run of an undo: the message has the undo and a reply for its result.
impl Handler<Cancel<Charge>> for Bank {
    type Result = ();

    fn handle(&mut self, cancel: Cancel<Charge>, _: &mut Context<Self>) {
        let task = cancel.task_id();
        let (Charge { key }, reply) = cancel.into_parts();
        // Nothing under this key: it was never charged, or was given back before.
        let given_back = self.charges.remove(&key).map_or(0, |(account, amount)| {
            *self.accounts.entry(account).or_default() += amount;
            amount
        });
        say(
            format_args!("task {task}"),
            format_args!("charge   CANCEL gives {given_back} back"),
        );
        reply.done();
    }
}

/// A message that has nothing to do with pipelines: what is in the accounts?
#[derive(Message)]
#[rtype(result = "HashMap<&'static str, u32>")]
struct Balances;

impl Handler<Balances> for Bank {
    type Result = MessageResult<Balances>;

    fn handle(&mut self, _: Balances, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.accounts.clone())
    }
}

// ---------------------------------------------------------------------------------------------
// The pipeline.
// ---------------------------------------------------------------------------------------------

/// The last stage, as a function. It registers no undo: put a stage whose effect can't be taken
/// back at the end.
fn print(paid: Paid) -> Result<Paid, Failure> {
    let name = paid.booking.name;
    let expected = BOOKINGS.iter().find(|(booking, _)| booking.name == name);
    match expected {
        Some((_, Expected::PrintFails)) => {
            say(name, "print    FAILS");
            Err(Failure::permanent("the printer has no paper"))
        }
        Some((_, Expected::PrintPanics)) => {
            say(name, "print    PANICS");
            panic!("the printer is on fire")
        }
        _ => {
            say(name, "print    prints");
            Ok(paid)
        }
    }
}

async fn run() -> Result<bool, Box<dyn Error>> {
    let plan = Plan::new(SEATS);
    let accounts = BOOKINGS.map(|(booking, _)| (booking.name, MONEY));
    let bank = Bank {
        accounts: HashMap::from(accounts),
        charges: HashMap::new(),
    }
    .start();
    let reserve = ReserveSeats { plan: plan.clone() };
    let print = stage_fn("print", async |paid: Paid, _: &TaskContext<()>| print(paid));

    let handle = Pipeline::new("theatre")
        .stage(reserve.named("reserve").workers(2))
        .actor("charge", bank.clone())
        .stage(print.workers(2))
        .start()
        .await?;

    let mut tickets = Vec::new();
    for (booking, expected) in BOOKINGS {
        let name = booking.name;
        let ticket = handle.submit(booking).timeout(Duration::from_secs(10));
        let ticket = ticket.await?;
        say(name, format_args!("is task {}", ticket.id()));
        tickets.push((name, expected, ticket));
    }

    let mut wrong = Vec::new();
    let mut seats = Vec::new();
    let mut balances = HashMap::from(accounts);
    for (name, expected, ticket) in tickets {
        // An outcome arrives after the task's rollback.
        let outcome = ticket.outcome().await?;
        say(name, &outcome);
        if outcome.is_done() != (expected == Expected::Done) {
            wrong.push(format!("{name}: {expected:?} was expected"));
        }
        if let Some(paid) = outcome.output {
            seats.extend(paid.seats);
            *balances.entry(name).or_default() -= paid.amount;
        }
    }
    let report = handle.shutdown(Shutdown::Drain(Duration::ZERO)).await?;
    println!("\n{report}");

    // The check reads the plan and the accounts themselves, not the report.
    seats.sort();
    let taken = plan.taken();
    if taken != seats {
        wrong.push(format!("seats {taken:?} are taken, not {seats:?}"));
    }
    let found = bank.send(Balances).await?;
    for (name, balance) in &balances {
        if found.get(name) != Some(balance) {
            wrong.push(format!("{name} has {:?}, not {balance}", found.get(name)));
        }
    }
    if wrong.is_empty() {
        println!(
            "{} seats and {} accounts as they should be, nothing kept of those that failed",
            taken.len(),
            found.len()
        );
    }
    for problem in &wrong {
        println!("wrong: {problem}");
    }
    Ok(wrong.is_empty())
}

/// Sells seats in a theatre: shows a stage with the trait and a stage that is an actor, and the
/// undos of both.
#[derive(Parser)]
#[command(name = "own_stage")]
struct Args {}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let Args {} = Args::parse();
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
