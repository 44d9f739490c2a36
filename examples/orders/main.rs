//! Orders that survive the kill of their process: each goes through `reserve`, `charge` and `ship`,
//! whose effects are rows in a database, and afterwards has all of its rows or none of them.
//!
//! `cargo run -p batrun-examples-full --example orders -- --folder DIR --kill-after 400` kills itself in
//! the middle, with SIGKILL; the same without `--kill-after` finishes the rest. Kill it as often and in
//! any way you like. At the end it compares the world with the orders' outcomes, and exits with 0 only
//! if they agree; `--tamper` shows that it notices.
//!
//! A journal survives a kill, and the stages that were at work then run again. So each order is
//! submitted with its number as its key: submitting all of them again adds none. And each effect
//! carries `task.key()`: having it again changes nothing.

mod list;
mod steps;
mod world;

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use batrun::{Outcome, journal::Journal, prelude::*, state::End};
use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{list::Order, steps::Steps, world::World};

/// Takes orders, charges them and ships them, and survives a kill in the middle.
#[derive(Parser)]
struct Options {
    /// The folder for the orders, the journal and the world; give the same one to go on after a
    /// kill [default: a new one among the temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// A CSV file with the columns number, customer, item, quantity, cents, card (ok or refused) and
    /// address (ok or unknown) [default: the 200 orders that come with the example]
    #[arg(long, value_name = "FILE", conflicts_with = "make")]
    csv: Option<PathBuf>,
    /// Make this many orders instead
    #[arg(long, value_name = "N")]
    make: Option<u32>,
    /// Kill this process, with SIGKILL, this long after its pipeline has started
    #[arg(long, value_name = "MS")]
    kill_after: Option<u64>,
    /// Minimum time that each step takes
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pace: u64,
    /// Number of workers of each stage
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Take a row out of the world before it is checked
    #[arg(long)]
    tamper: bool,
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("orders: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `true` if the world matches the outcomes.
async fn run(options: Options) -> Result<bool, Box<dyn Error>> {
    let folder = match &options.folder {
        Some(folder) => {
            fs::create_dir_all(folder)?;
            folder.clone()
        }
        None => tempfile::Builder::new().prefix("orders-").tempdir()?.keep(),
    };
    println!("folder: {}", folder.display());
    let orders = orders(&options, &folder)?;
    let world = World::new(folder.join("world.db"), &orders)?;
    let steps = Steps::new(&world, Duration::from_millis(options.pace));

    let workers = usize::from(options.workers);
    let pipeline = Pipeline::new("orders")
        .journal(Journal::open(folder.join("orders.journal"))?)
        .stage(steps.reserve().workers(workers))
        .stage(steps.charge().workers(workers))
        .stage(steps.ship().workers(workers))
        .start()
        .await?;
    let found = pipeline.snapshot().counts.accepted;
    println!(
        "{} orders, {found} of them left by a run before",
        orders.len()
    );
    if let Some(after) = options.kill_after {
        kill_this(Duration::from_millis(after));
    }

    let mut tickets = Vec::with_capacity(orders.len());
    for order in &orders {
        let key = order.number.to_string();
        tickets.push(pipeline.submit(order.clone()).key(key).await?);
    }
    let mut ends = BTreeMap::new();
    for (order, ticket) in orders.iter().zip(tickets) {
        ends.insert(order.number, ticket.outcome().await?);
    }
    let report = pipeline.shutdown(Shutdown::Drain(Duration::ZERO)).await?;

    print!("\n{report}");
    if options.tamper {
        world.tamper()?;
    }
    tell(&world, &ends)?;
    let wrong = world.check(&orders, &ends)?;
    for line in &wrong {
        println!("WRONG: {line}");
    }
    if wrong.is_empty() {
        let done = ends.values().filter(|outcome| outcome.is_done()).count();
        println!(
            "world: {done} orders are wholly there, nothing is left of the other {}, and the stock adds up",
            ends.len() - done
        );
    }
    Ok(wrong.is_empty())
}

/// The orders of this folder: the first run writes them down, and the others read them.
fn orders(options: &Options, folder: &Path) -> Result<Vec<Order>, Box<dyn Error>> {
    let kept = folder.join("orders.csv");
    let wanted = match (&options.csv, options.make) {
        (Some(csv), _) => {
            Some(fs::read_to_string(csv).map_err(|error| format!("{}: {error}", csv.display()))?)
        }
        (None, Some(number)) => Some(list::make(number)),
        (None, None) => None,
    };
    if !kept.exists() {
        let text = wanted.as_deref().unwrap_or(list::SAMPLE);
        let orders = list::read(text)?;
        // By a rename, because a kill must not leave half of them.
        fs::write(folder.join("orders.new"), text)?;
        fs::rename(folder.join("orders.new"), &kept)?;
        return Ok(orders);
    }
    let text = fs::read_to_string(&kept)?;
    if wanted.is_some_and(|wanted| wanted != text) {
        let kept = kept.display();
        return Err(format!("{kept} has other orders than these: choose another --folder").into());
    }
    list::read(&text)
}

/// Ends this process as a failing machine would: no code of it runs after that.
fn kill_this(after: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(after);
        println!("killed after {after:?}");
        if let Err(error) = kill(Pid::this(), Signal::SIGKILL) {
            eprintln!("orders: this process can't kill itself: {error}");
        }
    });
}

/// Prints the orders' ends, and the number of rows that the world has of them.
fn tell(world: &World, ends: &BTreeMap<u64, Outcome<Order>>) -> Result<(), Box<dyn Error>> {
    let mut lines = BTreeMap::<String, [usize; 4]>::new();
    let rows = world.rows()?;
    for (number, outcome) in ends {
        let end = match &outcome.end {
            End::Failed { stage, failure } => format!("failed in {stage}: {failure}"),
            end => end.to_string(),
        };
        let counts = lines.entry(end).or_default();
        counts[0] += 1;
        if let Some(row) = rows.get(number) {
            for (count, found) in counts[1..].iter_mut().zip(row.found()) {
                *count += found;
            }
        }
    }
    let wide = lines.keys().map(String::len).max().unwrap_or(0);
    println!("\n{:wide$}  orders  reserved  charged  shipped", "");
    for (end, [orders, reserved, charged, shipped]) in lines {
        println!("{end:wide$}  {orders:>6}  {reserved:>8}  {charged:>7}  {shipped:>7}");
    }
    println!();
    Ok(())
}
