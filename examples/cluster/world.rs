//! The world outside: a stock, a bank and a carrier, as one service with memory of its own. It knows
//! nothing of batrun or of the database, only keys and fences.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    desk::{Answer, Letter, Request},
    steps::Effect,
};

/// Clones are the same world.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Books>>);

#[derive(Default)]
pub(crate) struct Books {
    /// The effects, by their keys.
    rows: BTreeMap<String, (u64, Effect)>,
    /// The keys that were taken back, also those that never came.
    undone: HashSet<String>,
    /// The highest fence of each task.
    fences: HashMap<u64, u64>,
    /// Each order's nodes, one after the other.
    hands: BTreeMap<u64, Vec<u32>>,
    nodes: BTreeMap<u32, Requests>,
}

/// The requests of a node.
#[derive(Clone, Copy, Default)]
pub(crate) struct Requests {
    pub(crate) all: u64,
    pub(crate) refused: u64,
}

impl World {
    /// Serves on a free port, until the process ends.
    pub(crate) fn serve(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let world = self.clone();
        thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                let world = world.clone();
                thread::spawn(move || world.attend(visitor));
            }
        });
        Ok(address)
    }

    fn attend(&self, visitor: TcpStream) -> io::Result<()> {
        visitor.set_nodelay(true)?;
        for line in BufReader::new(visitor.try_clone()?).lines() {
            let answer = self.books().answer(serde_json::from_str(&line?)?);
            writeln!(&visitor, "{}", serde_json::to_string(&answer)?)?;
        }
        Ok(())
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn answer(&mut self, letter: Letter) -> Answer {
        let node = letter.node;
        let answer = self.act(node, letter.request);
        let requests = self.nodes.entry(node).or_default();
        requests.all += 1;
        requests.refused += u64::from(answer.is_err());
        answer
    }

    fn act(&mut self, node: u32, request: Request) -> Answer {
        match request {
            Request::Do {
                effect,
                order,
                key,
                task,
                fence,
            } => {
                let highest = self.fences.entry(task).or_default();
                if fence < *highest {
                    return Err(format!("{key}: another process has the task by now"));
                }
                *highest = fence;
                if self.undone.contains(&key) {
                    return Err(format!("{key}: it was taken back already"));
                }
                self.rows.insert(key, (order, effect));
                self.note(order, node);
            }
            Request::Undo { key } => {
                if let Some((order, _)) = self.rows.remove(&key) {
                    self.note(order, node);
                }
                self.undone.insert(key);
            }
        }
        Ok(())
    }

    fn note(&mut self, order: u64, node: u32) {
        let hands = self.hands.entry(order).or_default();
        if hands.last() != Some(&node) {
            hands.push(node);
        }
    }

    pub(crate) fn requests(&self, node: u32) -> Requests {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    /// The number of orders that this node had begun in the world, and others went on with.
    pub(crate) fn taken_over_from(&self, node: u32) -> usize {
        let went_on = |hands: &&Vec<u32>| {
            let mine = hands.iter().position(|&hand| hand == node);
            mine.is_some_and(|at| at + 1 < hands.len())
        };
        self.hands.values().filter(went_on).count()
    }

    /// The number of reservations, charges and shipments of each order.
    pub(crate) fn counts(&self) -> BTreeMap<u64, [usize; 3]> {
        let mut counts = BTreeMap::<u64, [usize; 3]>::new();
        for (order, effect) in self.rows.values() {
            counts.entry(*order).or_default()[*effect as usize] += 1;
        }
        counts
    }

    /// Charges an order a second time, behind everybody's back. `None` if nothing was charged.
    pub(crate) fn tamper(&mut self) -> Option<u64> {
        let charged = |row: &&(u64, Effect)| row.1 == Effect::Charge;
        let row = *self.rows.values().find(charged)?;
        self.rows.insert("tampered".to_owned(), row);
        Some(row.0)
    }
}
