//! Orders on three processes and one PostgreSQL database. Any process may die, nothing is lost, and
//! nothing goes on twice.
//!
//! ```sh
//! cargo run -p batrun-examples-full --example cluster                 # the whole script, in less than a minute
//! cargo run -p batrun-examples-full --example cluster -- --tamper     # the check notices, exit code 1
//! ```
//!
//! `steps`, `node` and `submitter` are what a user of batrun writes: the stages, the process that
//! runs them (start it as often as you like), and the process that only submits, such as a web server. An
//! order reserves stock, charges and ships: all of it, or nothing.
//!
//! `world` is a service of other people, with the effects. It refuses keys that were taken back
//! and fences that are lower than one it has seen.
//!
//! `script` kills one node with SIGKILL, stops one with SIGSTOP for two leases and wakes it, and restarts the
//! database as after a crash, while the submitter submits orders, cancels some and submits some twice. A node
//! that ends by itself is started again, as a service manager does (`nodes`). At the end `check`
//! compares the outcomes with the world.

mod steps;
mod node;
mod submitter;
mod world;
mod script;
mod check;
mod desk;
mod nodes;
mod server;

use std::{
    cell::RefCell,
    env,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use clap::Parser;
use nix::sys::signal::Signal;

use crate::{
    node::{PIPELINE, Place},
    nodes::{Nodes, SUSPENDED},
    server::{NotInstalled, Server},
    steps::Order,
    world::World,
};

pub(crate) type AnyError = Box<dyn std::error::Error>;

/// Several processes with one pipeline on a PostgreSQL database, which are killed and stopped.
///
/// It starts a database server of its own and three nodes, submits orders, kills one node, stops one and
/// wakes it later, restarts the database, and then checks the world: each order is wholly there or not
/// at all, none twice, and each has the outcome that it should have. It takes less than a minute. The exit
/// code is 0 if all of that holds, 1 with what is wrong if it doesn't, and 3 if there is neither a
/// PostgreSQL server on this machine (Debian: apt install postgresql) nor --database.
#[derive(Parser)]
struct Options {
    /// Number of orders
    #[arg(long, value_name = "N", default_value_t = 3000)]
    orders: u64,
    /// The time after which the others take over from a node that doesn't answer
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(500..=60_000))]
    lease: u64,
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// The address of a database [default: that of a server that is started, and stopped at the end]. It
    /// isn't restarted, and the schema that is made in it stays there
    #[arg(long, value_name = "ADDRESS")]
    database: Option<String>,
    /// Charge an order twice behind everybody's back, so that the check fails
    #[arg(long)]
    tamper: bool,
    /// Be a node
    #[arg(long, hide = true, requires_all = ["world", "schema"])]
    node: Option<u32>,
    #[arg(long, hide = true)]
    world: Option<SocketAddr>,
    #[arg(long, hide = true)]
    schema: Option<String>,
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    let ended = match options.node {
        Some(number) => be_a_node(&options, number).await,
        None => start(&options).await,
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<NotInstalled>() => {
            eprintln!("cluster: {error}");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn be_a_node(options: &Options, number: u32) -> Result<u8, AnyError> {
    nodes::end_with_the_parent();
    let place = Place {
        database: env::var("BATRUN_EXAMPLE_DATABASE")?,
        schema: options.schema.clone().ok_or("no --schema")?,
        lease: Duration::from_millis(options.lease),
    };
    let world = options.world.ok_or("no --world")?;
    match node::run(&place, world, number).await? {
        true => Ok(0),
        false => Ok(SUSPENDED),
    }
}

/// Runs everything, or until SIGINT or SIGTERM. Whichever it is, the nodes and the server end with it.
async fn start(options: &Options) -> Result<u8, AnyError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new().prefix("cluster-").tempdir()?;
    let server = match &options.database {
        Some(_) => None,
        None => Some(Arc::new(Server::start(folder.path())?)),
    };
    let run = run(options, folder.path(), server.as_ref());
    tokio::select! {
        right = run => Ok(u8::from(!right?)),
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
    }
}

/// `true` if all is as it should be.
async fn run(
    options: &Options,
    folder: &Path,
    server: Option<&Arc<Server>>,
) -> Result<bool, AnyError> {
    let database = match (&options.database, server) {
        (Some(given), _) => given.clone(),
        (None, Some(server)) => server.address(),
        (None, None) => return Err("no database".into()),
    };
    let place = Place {
        database,
        schema: format!("batrun_example_{}", std::process::id()),
        lease: Duration::from_millis(options.lease),
    };
    let world = World::default();
    let nodes = RefCell::new(Nodes::new(place.clone(), world.serve()?, folder));
    let played = play(options, &place, server, &world, &nodes).await;
    if !matches!(played, Ok(true)) && !options.tamper {
        eprintln!("{}", nodes.borrow().logs());
    }
    if options.database.is_some() {
        let schema = &place.schema;
        println!("left in the database: DROP SCHEMA {schema} CASCADE removes it");
    }
    played
}

async fn play(
    options: &Options,
    place: &Place,
    server: Option<&Arc<Server>>,
    world: &World,
    nodes: &RefCell<Nodes>,
) -> Result<bool, AnyError> {
    for _ in 0..options.nodes {
        nodes.borrow_mut().start()?;
    }
    let mut starting = std::mem::take(&mut nodes.borrow_mut().running);
    for node in &mut starting {
        node.up().await?;
    }
    nodes.borrow_mut().running = starting;
    let orders = place.journal().await?.submitter::<Order>(PIPELINE).await?;
    println!("{} orders, {} nodes", options.orders, options.nodes);

    let begin = Instant::now();
    let span = script::span(place.lease);
    let work = async {
        let (told, story) = futures::try_join!(
            submitter::submit(&orders, options.orders, span),
            script::play(nodes, server, world, place.lease),
        )?;
        let outcomes = submitter::outcomes(&orders, options.orders).await?;
        Ok::<_, AnyError>((told, story, outcomes))
    };
    let (told, story, outcomes) = tokio::select! {
        done = work => done?,
        error = look_after(nodes) => return Err(error),
    };
    let took = begin.elapsed().as_secs_f64();
    println!("{took:5.1} s  every order has its outcome");
    orders.close();
    stop(nodes).await?;

    let mut books = world.books();
    for &node in &story.hurt {
        let count = books.taken_over_from(node);
        println!("node {node}: others went on with {count} orders that it had begun");
    }
    if options.tamper {
        books.tamper().ok_or("nothing was charged")?;
    }
    check::tell(&books, &outcomes);
    let mut wrong = story.wrong;
    wrong.extend(check::check(&books, options.orders, &outcomes, &told));
    for line in wrong.iter().take(20) {
        println!("WRONG: {line}");
    }
    if wrong.is_empty() {
        println!("\nworld: every order is wholly there or not at all, and none is there twice");
    }
    Ok(wrong.is_empty())
}

/// Starts nodes in the places of those that end. Returns only with an error.
async fn look_after(nodes: &RefCell<Nodes>) -> AnyError {
    loop {
        sleep(Duration::from_millis(100)).await;
        match nodes.borrow_mut().replace_ended() {
            Ok(ended) => {
                for number in ended {
                    println!("         node {number}: ended by itself; another one starts");
                }
            }
            Err(error) => return error,
        }
    }
}

/// Has the nodes end by SIGTERM.
async fn stop(nodes: &RefCell<Nodes>) -> Result<(), AnyError> {
    let mut running = std::mem::take(&mut nodes.borrow_mut().running);
    for node in &running {
        node.signal(Signal::SIGTERM)?;
    }
    for node in &mut running {
        node.end().await?;
    }
    Ok(())
}
