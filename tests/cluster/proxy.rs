//! The network between a node and the servers: it holds bytes back, delays them and cuts connections.
//!
//! Bytes that are held back come later, as those of a network that was down do: also after the node has given
//! their connection up.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::wire::{Answers, Request, Requests};

/// The way of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    ToServer,
    ToNode,
}

/// The moment at which a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// The commit never comes to the server.
    BeforeCommit,
    /// It does, and the answer never comes back.
    AfterCommit,
    /// Tasks were claimed, and the node doesn't learn which.
    AfterClaim,
}

#[derive(Default)]
struct Direction {
    is_held: AtomicBool,
    /// Milliseconds for each piece.
    delay: AtomicU64,
    /// The pieces that were held back or delayed.
    late: AtomicU64,
}

#[derive(Default)]
struct State {
    to_server: Direction,
    to_node: Direction,
    cut: Mutex<Option<Cut>>,
    cuts: AtomicU64,
    has_ended: AtomicBool,
    /// The connections that there were.
    connections: AtomicU64,
    /// Of connections before this one nothing passes to the server.
    held_before: AtomicU64,
    /// The next claim to be sent is held back, and its connection.
    holds_claim: AtomicBool,
}

/// Forwards the connections of a node to two servers.
pub(crate) struct Proxy {
    pub(crate) ports: [u16; 2],
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn before(servers: [u16; 2]) -> Self {
        let state = Arc::<State>::default();
        let ports = servers.map(|server| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let shared = state.clone();
            thread::spawn(move || shared.listen(&listener, server));
            port
        });
        Proxy { ports, state }
    }

    /// Holds back all that goes this way, on every connection, until it lets it go.
    pub(crate) fn hold(&self, way: Way, is_held: bool) {
        self.state.direction(way).is_held.store(is_held, SeqCst);
    }

    /// Holds back all that goes to the server on the connections that there are, and lets new ones pass.
    pub(crate) fn hold_open_ones(&self, is_held: bool) {
        let before = match is_held {
            true => self.state.connections.load(SeqCst),
            false => 0,
        };
        self.state.held_before.store(before, SeqCst);
    }

    /// Holds back the next claim, and all that follows it on its connection, until it lets it go.
    pub(crate) fn hold_a_claim(&self, is_held: bool) {
        self.state.holds_claim.store(is_held, SeqCst);
    }

    /// Delays each piece that goes this way.
    pub(crate) fn delay(&self, way: Way, delay: Duration) {
        let delay = delay.as_millis() as u64;
        self.state.direction(way).delay.store(delay, SeqCst);
    }

    /// The pieces that were held back or delayed.
    pub(crate) fn late(&self) -> u64 {
        let State {
            to_server, to_node, ..
        } = &*self.state;
        to_server.late.load(SeqCst) + to_node.late.load(SeqCst)
    }

    /// Cuts the first connection for which this moment comes, or none from now on.
    pub(crate) fn cut(&self, cut: Option<Cut>) {
        *self.state.cut.lock().unwrap() = cut;
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.has_ended.store(true, SeqCst);
        for port in self.ports {
            // Its thread looks up.
            TcpStream::connect(("127.0.0.1", port)).ok();
        }
    }
}

/// A connection of a node, with the one to the server.
struct Connection {
    node: TcpStream,
    server: TcpStream,
    number: u64,
    /// The requests that have no answer yet.
    open: Mutex<VecDeque<Request>>,
}

impl Connection {
    fn cut(&self) {
        self.server.shutdown(Shutdown::Both).ok();
        self.node.shutdown(Shutdown::Both).ok();
    }
}

impl State {
    fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToNode => &self.to_node,
        }
    }

    fn listen(self: Arc<Self>, listener: &TcpListener, server: u16) {
        for node in listener.incoming().flatten() {
            if self.has_ended.load(SeqCst) {
                return;
            }
            // It may be away.
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                continue;
            };
            node.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let open = Mutex::default();
            let connection = Arc::new(Connection {
                node,
                server,
                number: self.connections.fetch_add(1, SeqCst),
                open,
            });
            for way in [Way::ToServer, Way::ToNode] {
                let (shared, connection) = (self.clone(), connection.clone());
                thread::spawn(move || shared.forward(&connection, way));
            }
        }
    }

    fn forward(&self, connection: &Connection, way: Way) {
        let (mut from, mut to) = match way {
            Way::ToServer => (&connection.node, &connection.server),
            Way::ToNode => (&connection.server, &connection.node),
        };
        let (mut requests, mut answers) = (Requests::default(), Answers::default());
        let mut buffer = [0; 16_384];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            // The end of a connection is held back, too.
            self.wait(connection, way);
            let bytes = &buffer[..count];
            if count == 0 {
                to.shutdown(Shutdown::Write).ok();
                return;
            }
            let mut open = connection.open.lock().unwrap();
            let (commits, claimed) = match way {
                Way::ToServer => {
                    let new = requests.read(bytes);
                    let commits = new.contains(&Request::Commit);
                    while new.contains(&Request::Claim) && self.holds_claim.load(SeqCst) {
                        thread::sleep(Duration::from_millis(2));
                    }
                    open.extend(new);
                    (commits, false)
                }
                Way::ToNode => (false, answers.read(bytes, &mut open)),
            };
            drop(open);
            let passes = match self.cuts_here(commits, claimed) {
                Some(cut) => cut == Cut::AfterCommit,
                None => {
                    if to.write_all(bytes).is_err() {
                        return connection.cut();
                    }
                    continue;
                }
            };
            if passes {
                to.write_all(bytes).ok();
            }
            return connection.cut();
        }
    }

    fn wait(&self, connection: &Connection, way: Way) {
        let direction = self.direction(way);
        let delay = direction.delay.load(SeqCst);
        let is_held = || {
            let by_itself = connection.number < self.held_before.load(SeqCst);
            direction.is_held.load(SeqCst) || by_itself && way == Way::ToServer
        };
        let held = || is_held() && !self.has_ended.load(SeqCst);
        if delay > 0 || held() {
            direction.late.fetch_add(1, SeqCst);
        }
        thread::sleep(Duration::from_millis(delay));
        while held() {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The moment that has come, if it is the one to cut at.
    fn cuts_here(&self, commits: bool, claimed: bool) -> Option<Cut> {
        if !commits && !claimed {
            return None;
        }
        let mut cut = self.cut.lock().unwrap();
        let here = cut.take_if(|cut| match cut {
            Cut::BeforeCommit | Cut::AfterCommit => commits,
            Cut::AfterClaim => claimed,
        })?;
        self.cuts.fetch_add(1, SeqCst);
        Some(here)
    }
}
