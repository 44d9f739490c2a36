//! The world: three nodes at a time, and the faults that befall them.

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use crate::{
    child::{Command, Orders},
    database,
    fault::{Counts, Decks, Kind},
    faults,
    log::Line,
    node::Node,
    plan::Numbers,
    proxy::Proxy,
    server::Servers,
};

/// The number of nodes at a time.
const NODES: usize = 3;

pub(crate) struct World {
    folder: PathBuf,
    seed: u64,
    servers: Servers,
    numbers: Numbers,
    nodes: Vec<Node>,
    last: u32,
    pub(crate) counts: Counts,
}

impl World {
    pub(crate) fn new(folder: PathBuf, seed: u64) -> Self {
        World {
            folder,
            seed,
            servers: Servers::start(),
            numbers: Numbers(seed),
            nodes: Vec::new(),
            last: 0,
            counts: Counts::default(),
        }
    }

    /// The number of processes that there were.
    pub(crate) fn processes(&self) -> u32 {
        self.last
    }

    /// The address of the database as it is now.
    pub(crate) fn address(&self) -> String {
        self.servers.address()
    }

    /// Makes the tables, and has all changes of them written down.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        let mut first = self.start(false);
        first.wait_until_up()?;
        first.tell(Command::Drain);
        first.ended_in_peace()?;
        on_a_system(database::audit(&self.address()));
        Ok(())
    }

    /// Lets this many faults happen.
    pub(crate) fn run(&mut self, faults: u64) -> Result<(), String> {
        let (mut decks, mut left) = (Decks::new(), faults);
        while left > 0 {
            self.fill(NODES)?;
            self.go_on();
            let round = decks.draw(&mut self.numbers, left);
            left -= round.len() as u64;
            self.happen(&round)
                .map_err(|why| format!("{round:?}: {why}"))?;
            self.go_on();
            self.reap(&round)
                .map_err(|why| format!("{round:?}: {why}"))?;
            self.nothing_stands_still()
                .map_err(|why| format!("after {round:?}: {why}"))?;
        }
        self.fill(NODES)
    }

    /// Brings everything to its end.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let mut last = self.nodes.pop().unwrap();
        for mut node in std::mem::take(&mut self.nodes) {
            node.tell(faults::some_end(&mut self.numbers));
            node.ended_in_peace()?;
        }
        // It may be too busy to keep its lease.
        for _ in 0..3 {
            last.tell(Command::Finish);
            last.ended_in_peace()?;
            if last.last_line() == Some(Line::End) {
                return Ok(());
            }
            last = self.start(false);
            last.wait_until_up()?;
        }
        Err("the last nodes have suspended themselves".to_owned())
    }

    /// Stops this many nodes for longer than their leases and wakes them, together, beside others that take over.
    pub(crate) fn wake(&mut self, zombies: usize) -> Result<(), String> {
        self.fill(zombies + 2)?;
        self.go_on();
        let mut stopped = Vec::new();
        for _ in 0..zombies {
            stopped.push(self.some_node());
        }
        faults::stop_together(&mut self.numbers, stopped)?;
        self.counts.add(Kind::Stop, zombies as u64);
        self.reap(&[Kind::Stop])
    }

    fn start(&mut self, produces: bool) -> Node {
        self.last += 1;
        let proxy = Proxy::before(self.servers.ports());
        let orders = Orders {
            folder: self.folder.clone(),
            seed: self.seed,
            process: self.last,
            produces,
            server: Servers::addresses(proxy.ports),
        };
        Node::start(&orders, Arc::new(proxy))
    }

    /// Starts nodes until so many are there.
    fn fill(&mut self, nodes: usize) -> Result<(), String> {
        let mut failed = 0;
        while self.nodes.len() < nodes {
            let missing = nodes - self.nodes.len();
            let new: Vec<Node> = (0..missing).map(|_| self.start(true)).collect();
            for node in new {
                if node.wait_until_up()? {
                    self.nodes.push(node);
                    continue;
                }
                failed += 1;
                self.counts.failed_starts += 1;
                let (process, errors) = (node.process, node.errors());
                let text = format!("process {process} has not started: {errors}");
                if failed > 3 {
                    return Err(text);
                }
                eprintln!("{text}");
            }
        }
        Ok(())
    }

    /// The nodes work, and take over.
    fn go_on(&mut self) {
        thread::sleep(Duration::from_millis(300 + self.numbers.below(400)));
    }

    fn some_node(&mut self) -> Node {
        let at = self.numbers.below(self.nodes.len() as u64) as usize;
        self.nodes.swap_remove(at)
    }

    /// Lets these happen, at the same time.
    fn happen(&mut self, round: &[Kind]) -> Result<(), String> {
        let mut of_nodes = Vec::new();
        let mut of_the_database = Vec::new();
        for kind in round {
            let numbers = Numbers(self.numbers.next());
            match kind.is_of_the_database() {
                true => of_the_database.push((*kind, numbers)),
                false => of_nodes.push((*kind, numbers, self.some_node())),
            }
        }
        let (address, servers) = (self.servers.address(), &mut self.servers);
        let others: Vec<_> = self.nodes.iter().map(|node| node.proxy.clone()).collect();
        let (address, others) = (&address, &others);
        let done = thread::scope(|scope| {
            let mut running = Vec::new();
            for (kind, numbers, node) in of_nodes {
                running.push(scope.spawn(move || {
                    let done = faults::of_a_node(kind, numbers, node, others, address)?;
                    Ok((kind, done.effects, done.node))
                }));
            }
            for (kind, mut numbers) in of_the_database {
                let effects = faults::of_the_database(kind, &mut numbers, servers);
                let effects = effects.map(|effects| (kind, effects, None));
                running.push(scope.spawn(move || effects));
            }
            let ended = running.into_iter().map(|thread| thread.join().unwrap());
            ended.collect::<Result<Vec<_>, String>>()
        })?;
        for (kind, effects, node) in done {
            self.counts.add(kind, effects);
            self.nodes.extend(node);
        }
        if round.iter().any(|kind| kind.ends_all()) {
            for node in &mut self.nodes {
                node.gave_up("and the database was away for longer than its lease")?;
            }
        }
        Ok(())
    }

    /// Removes nodes that have suspended themselves, which is theirs to decide: a lease is short, and so is the
    /// time of a machine that is busy.
    fn reap(&mut self, round: &[Kind]) -> Result<(), String> {
        for mut node in std::mem::take(&mut self.nodes) {
            if node.has_ended().is_none() {
                self.nodes.push(node);
                continue;
            }
            node.gave_up("and it has ended")?;
            self.counts.gave_up(round);
        }
        Ok(())
    }

    /// C3: each task goes on as long as its node lives.
    fn nothing_stands_still(&self) -> Result<(), String> {
        let still = on_a_system(database::still(&self.address()));
        match still.is_empty() {
            true => Ok(()),
            false => Err(format!("C3: tasks of live nodes stand still: {still:?}")),
        }
    }
}

pub(crate) fn on_a_system<T>(work: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}
