//! The faults: nodes that are killed and stopped, and a database that restarts, while orders come in.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::time::sleep;
use nix::sys::signal::Signal;

use crate::{
    AnyError,
    nodes::{Node, Nodes, SUSPENDED},
    server::Server,
    world::World,
};

/// The time between two faults.
const PAUSE: Duration = Duration::from_secs(2);

/// The requests of a node that is at work.
const BUSY: u64 = 20;

/// The time that orders should come in for, so that there are some at each fault.
pub(crate) fn span(lease: Duration) -> Duration {
    4 * PAUSE + 2 * lease
}

/// The things that went wrong, and to whom something was done.
pub(crate) struct Story {
    begin: Instant,
    pub(crate) wrong: Vec<String>,
    /// The nodes that were killed or stopped.
    pub(crate) hurt: Vec<u32>,
}

impl Story {
    fn tell(&self, line: &str) {
        println!("{:5.1} s  {line}", self.begin.elapsed().as_secs_f64());
    }
}

/// Plays the script. The server is restarted if it is this program's own.
pub(crate) async fn play(
    nodes: &RefCell<Nodes>,
    server: Option<&Arc<Server>>,
    world: &World,
    lease: Duration,
) -> Result<Story, AnyError> {
    let mut story = Story {
        begin: Instant::now(),
        wrong: Vec::new(),
        hurt: Vec::new(),
    };
    sleep(PAUSE).await;

    let mut killed = busy(nodes, world).await?;
    killed.signal(Signal::SIGKILL)?;
    killed.end().await?;
    let new = nodes.borrow_mut().start()?;
    story.hurt.push(killed.number);
    story.tell(&format!(
        "node {}: killed by SIGKILL; node {new} starts",
        killed.number
    ));
    sleep(PAUSE).await;

    let stopped = busy(nodes, world).await?;
    stopped.signal(Signal::SIGSTOP)?;
    let new = nodes.borrow_mut().start()?;
    story.hurt.push(stopped.number);
    story.tell(&format!(
        "node {}: stopped by SIGSTOP; node {new} starts",
        stopped.number
    ));
    sleep(2 * lease).await;
    wake(stopped, nodes, world, &mut story).await?;

    match server {
        Some(server) => {
            let begin = Instant::now();
            restart(server.clone()).await?;
            let took = begin.elapsed().as_secs_f64();
            story.tell(&format!(
                "database: restarted as after a crash, in {took:.1} s"
            ));
        }
        None => story.tell("database: not restarted, since it is that of --database"),
    }
    Ok(story)
}

/// Takes out the first node that is at work, or simply the first one if none is.
async fn busy(nodes: &RefCell<Nodes>, world: &World) -> Result<Node, AnyError> {
    for _ in 0..100 {
        let works = |node: &Node| world.books().requests(node.number).all >= BUSY;
        if let Some(node) = nodes.borrow_mut().take(works) {
            return Ok(node);
        }
        sleep(Duration::from_millis(50)).await;
    }
    let any = nodes.borrow_mut().take(|_| true);
    any.ok_or_else(|| "no node is left".into())
}

async fn restart(server: Arc<Server>) -> Result<(), AnyError> {
    let restart = move || server.restart().map_err(|error| error.to_string());
    Ok(actix_rt::task::spawn_blocking(restart).await??)
}

/// Wakes a node whose lease is over: it has to notice, and to end by itself.
async fn wake(
    mut zombie: Node,
    nodes: &RefCell<Nodes>,
    world: &World,
    story: &mut Story,
) -> Result<(), AnyError> {
    let number = zombie.number;
    let before = world.books().requests(number);
    let begin = Instant::now();
    zombie.signal(Signal::SIGCONT)?;
    let status = zombie.end().await?;
    let after = world.books().requests(number);
    story.tell(&format!(
        "node {number}: woken after its lease, ended by itself in {} ms; the world got {} late requests \
         from it, and refused {} of them",
        begin.elapsed().as_millis(),
        after.all - before.all,
        after.refused - before.refused,
    ));
    if let Some(why) = nodes.borrow().why_suspended(number) {
        story.tell(&format!("node {number}: {why}"));
    }
    if status.code() != Some(i32::from(SUSPENDED)) {
        let line = format!("node {number} did not end suspended, but with {status}");
        story.wrong.push(line);
    }
    Ok(())
}
