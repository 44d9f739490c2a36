//! The process that is killed: a pipeline of ready-made stages with a journal, and a producer.

use std::{
    env, fs,
    future::pending,
    io::{self, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use batrun::{
    journal::{Durability, Journal},
    prelude::*,
};
use batrun_actors::{
    Command, HttpRequest, MakeDirectory, Program, Request, Sql, Statement, WriteFile, try_map,
};
use serde::{Deserialize, Serialize};

use crate::world::{Asked, Ended, World};

/// The environment variable that tells a child its orders.
pub(crate) const ORDERS: &str = "BATRUN_CRASH_ACTORS_CHILD";

#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    /// The address of the server's charges.
    pub(crate) server: String,
    /// The number of this process, from 1.
    pub(crate) run: u64,
    /// The journal survives a loss of power.
    pub(crate) power: bool,
    /// It brings what it finds to its end before it submits anything, and isn't killed before that. So
    /// no undo runs at three kills, after which a journal sets its task aside.
    pub(crate) settles: bool,
    /// It brings everything to its end, submits nothing new, and is not killed.
    pub(crate) last: bool,
}

/// The line that it prints once the pipeline has started, or has settled.
pub(crate) const UP: &str = "up";

/// The time that the last child may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Handle = PipelineHandle<u64, u64>;

/// Follows the orders in the environment, if there are any.
pub(crate) fn run() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    // Nobody is left to kill it once its parent has ended.
    std::thread::spawn(|| {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::abort();
    });
    actix_rt::System::new().block_on(live(orders));
}

async fn live(orders: Orders) {
    let world = World::new(&orders.folder);
    let durability = match orders.power {
        true => Durability::Power,
        false => Durability::Process,
    };
    let journal = Journal::open_with(world.journal(), durability).unwrap();
    let handle = start(&world, &orders.server, journal).await;
    if orders.settles || orders.last {
        settle(&handle).await;
    }
    println!("{UP}");
    io::stdout().flush().unwrap();
    if orders.last {
        return finish(&world, handle).await;
    }
    let first = orders.run * 10_000;
    for number in first.. {
        fs::write(world.price(number), World::old_price(number)).unwrap();
        world.note(&Asked { number });
        let submit = handle.submit(number).key(number.to_string());
        // Some are late, anywhere on their way.
        let limit = (number % 7 == 3).then(|| Duration::from_millis(5 + number % 40));
        submit.timeout(limit).await.unwrap();
    }
    pending().await
}

async fn start(world: &World, server: &str, journal: Journal) -> Handle {
    let retry = Retry::constant(2, Duration::from_millis(2));
    let at = |place: fn(&World, u64) -> PathBuf| {
        let world = world.clone();
        move |number: &u64| place(&world, *number)
    };
    let made = at(World::made);
    let unmade = at(World::made);
    let server = server.to_owned();
    let charge = move |number: &u64| format!("{server}/{number}");
    let give_back = charge.clone();
    Pipeline::new("orders")
        .journal(journal)
        .max_in_flight(24)
        .max_stuck(1_000_000)
        .stage(
            MakeDirectory::new(at(World::order))
                .parents()
                .workers(3)
                .retry(retry),
        )
        .stage(
            WriteFile::new(at(World::receipt), |number| World::receipt_of(*number))
                .named("receipt")
                .workers(3)
                .retry(retry),
        )
        .stage(
            WriteFile::new(at(World::price), |number| World::new_price(*number))
                .named("price")
                .workers(3)
                .retry(retry),
        )
        .stage(
            Command::new(move |number: &u64| {
                // Some fail for good after a part of their work.
                let text = "mkdir \"$1\" && : > \"$1/part\" && [ $2 -ne 5 ] && mv \"$1/part\" \"$1/whole\"";
                Program::new("sh")
                    .args(["-c", text, "make"])
                    .arg(made(number))
                    .arg((number % 9).to_string())
            })
            .cancel_with(move |number| Program::new("rm").arg("-rf").arg(unmade(number)))
            .permanent([1])
            .workers(3)
            .retry(retry),
        )
        .stage(
            HttpRequest::new(move |number| Request::post(charge(number)))
                .cancel_with(move |number| Request::delete(give_back(number)))
                .workers(3)
                .retry(retry),
        )
        .stage(
            Sql::sqlite(world.database(), |number: &u64| {
                Statement::new("INSERT INTO bookings VALUES (?1)").bind(*number as i64)
            })
            .cancel_with(|number: &u64| {
                Statement::new("DELETE FROM bookings WHERE number = ?1").bind(*number as i64)
            })
            .workers(2)
            .retry(retry),
        )
        .stage(try_map("check", |number: u64| match number % 4 {
            1 => Err(Failure::permanent("it is refused")),
            _ => Ok(number),
        }))
        .start()
        .await
        .unwrap()
}

/// Waits until everything is done.
async fn settle(handle: &Handle) {
    let until = Instant::now() + PATIENCE;
    while handle.snapshot().in_flight > 0 {
        assert!(Instant::now() < until, "{:?}", handle.snapshot());
        actix_rt::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Writes down the outcomes.
async fn finish(world: &World, handle: Handle) {
    for Asked { number } in world.asked() {
        let outcome = handle.outcome_of(&number.to_string()).await.unwrap();
        world.note(&Ended {
            number,
            is_done: outcome.as_ref().is_some_and(|outcome| outcome.is_done()),
            is_stuck: outcome
                .as_ref()
                .is_some_and(|outcome| outcome.rollback.is_stuck()),
            text: outcome.map(|outcome| outcome.to_string()),
        });
    }
    handle.shutdown(Shutdown::Abort).await.unwrap();
}
