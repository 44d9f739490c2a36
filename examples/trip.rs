//! The classic example of a saga: a trip is a flight, a hotel and a car, booked one after the other
//! with three companies. If one of them fails or takes too long, the earlier bookings have to be
//! cancelled, so that a traveller has the whole trip or nothing of it.
//!
//! `cargo run --example trip`: exits with 0 if that holds for every trip.
//! `cargo run --example trip -- --skip-cancel`: the undos do nothing, so bookings are left behind, and
//! the exit code is 1.

use std::{
    collections::BTreeSet,
    error::Error,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use batrun::prelude::*;

/// A trip's time from its submission to its end: a traveller who waits longer books elsewhere.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The context that each stage hands to the next.
#[derive(Clone, Copy)]
struct Trip {
    traveller: &'static str,
    to: &'static str,
}

const TRIPS: [Trip; 8] = [
    trip("Ada", "Rome"),
    trip("Bela", "Oslo"),
    trip("Cyra", "Venice"), // has no cars: fails in the last stage
    trip("Dario", "Rome"),
    trip("Emre", "Atlantis"), // its hotel does not answer: is too late
    trip("Fatou", "Oslo"),
    trip("Goran", "Venice"),
    trip("Hana", "Oslo"),
];

const fn trip(traveller: &'static str, to: &'static str) -> Trip {
    Trip { traveller, to }
}

/// A booking: traveller and thing. It is also the undo of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Booking {
    traveller: &'static str,
    what: &'static str,
}

/// The books of the companies. They know nothing of trips, and nothing of batrun.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeSet<Booking>>>);

impl World {
    fn books(&self) -> MutexGuard<'_, BTreeSet<Booking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stage that books one thing. All three are alike, so one type is enough: each worker of each stage has
/// a clone of it.
#[derive(Clone)]
struct Book {
    what: &'static str,
    world: World,
    skip_cancel: bool,
}

impl Stage for Book {
    type Input = Trip;
    type Output = Trip;
    type Undo = Booking;

    async fn run(&mut self, trip: Trip, task: &TaskContext<'_, Booking>) -> Result<Trip, Failure> {
        let Trip { traveller, to } = trip;
        let what = self.what;
        // The intent first, then the effect. A task that is stopped between the two runs an undo for a
        // booking that was never made, which does no harm. In the other order it would leave a booking
        // that nobody remembers.
        task.on_cancel(Booking { traveller, what }).await?;

        actix_rt::time::sleep(Duration::from_millis(100)).await; // the company's work
        if (what, to) == ("car", "Venice") {
            say(traveller, "car: FAILS, Venice has none");
            // Permanent: a second attempt would find no car either. The stages before this one have done
            // their part, so their undos run, too.
            return Err(Failure::permanent("no cars in Venice"));
        }
        self.world.books().insert(Booking { traveller, what });
        say(traveller, format_args!("{what}: booked for {to}"));

        if (what, to) == ("hotel", "Atlantis") {
            say(traveller, "hotel: does not confirm ..");
            // At the deadline this future is dropped here. The booking is in the books by then, and only
            // the undo takes it out.
            actix_rt::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(trip)
    }

    /// Runs once for each booking of a trip that failed or was late. After a crash it may run
    /// again, so it has to cope with a booking that is gone or was never made.
    async fn cancel(&mut self, booking: Booking, _: &CancelContext<'_>) -> Result<(), Failure> {
        let Booking { traveller, what } = booking;
        if self.skip_cancel {
            say(traveller, format_args!("{what}: UNDO skipped"));
        } else if self.world.books().remove(&booking) {
            say(traveller, format_args!("{what}: UNDO cancels the booking"));
        } else {
            say(traveller, format_args!("{what}: UNDO finds no booking"));
        }
        Ok(())
    }
}

fn say(traveller: &str, what: impl std::fmt::Display) {
    println!("{traveller:<6} {what}");
}

/// Books all trips at once. `true` if each of them is booked completely or not at all.
async fn travel(skip_cancel: bool) -> Result<bool, Box<dyn Error>> {
    let world = World::default();
    let book = |what| {
        let world = world.clone();
        let stage = Book {
            what,
            world,
            skip_cancel,
        };
        stage.named(what).workers(4)
    };
    let handle = Pipeline::new("trips")
        .stage(book("flight"))
        .stage(book("hotel"))
        .stage(book("car"))
        .start()
        .await?;

    let mut tickets = Vec::new();
    for trip in TRIPS {
        let ticket = handle.submit(trip).timeout(TIMEOUT).await?;
        tickets.push((trip.traveller, ticket));
    }
    // An outcome arrives after the task's rollback.
    let mut expected = BTreeSet::new();
    let mut done = 0;
    for (traveller, ticket) in tickets {
        let outcome = ticket.outcome().await?;
        say(traveller, format_args!("= {outcome}"));
        if outcome.is_done() {
            done += 1;
            expected.extend(["flight", "hotel", "car"].map(|what| Booking { traveller, what }));
        }
    }
    let report = handle.shutdown(Shutdown::Drain(Duration::ZERO)).await?;
    println!("\n{report}");

    // The check reads the companies' books, not the report.
    let books = world.books();
    for Booking { traveller, what } in books.difference(&expected) {
        println!("left behind: the {what} of {traveller}");
    }
    for Booking { traveller, what } in expected.difference(&books) {
        println!("missing: the {what} of {traveller}");
    }
    let whole = *books == expected;
    if whole {
        let none = TRIPS.len() - done;
        println!("{done} trips are booked wholly, and nothing is left of the other {none}");
    }
    // Two have no car, and one has no hotel.
    Ok(whole && done == TRIPS.len() - 3)
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let mut skip_cancel = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--skip-cancel" => skip_cancel = true,
            "--help" => {
                println!("Books flights, hotels and cars, and cancels what came to nothing.\n");
                println!("trip [--skip-cancel]");
                println!("  --skip-cancel  the undos do nothing, so the check of the books fails");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("unknown option {other:?}; see --help");
                return ExitCode::from(2);
            }
        }
    }
    match travel(skip_cancel).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
