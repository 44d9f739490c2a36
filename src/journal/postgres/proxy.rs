//! A proxy before the server of the tests, which cuts connections and holds bytes back.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

/// The way of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

#[derive(Default)]
struct Direction {
    /// The bytes that have come through.
    passed: AtomicU64,
    /// Once so many have, the connection is cut; 0 is never.
    cut_at: AtomicU64,
    /// Nothing comes through, and nobody is told.
    is_mute: AtomicBool,
}

#[derive(Default)]
struct State {
    to_server: Direction,
    to_client: Direction,
    cuts: AtomicU64,
}

/// Forwards all connections to a server.
pub(super) struct Proxy {
    pub(super) port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let shared = state.clone();
        // It ends with the process of the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The server may be away.
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                for (from, to, way) in [
                    (&client, &server, Way::ToServer),
                    (&server, &client, Way::ToClient),
                ] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = shared.clone();
                    thread::spawn(move || shared.forward(from, to, way));
                }
            }
        });
        Proxy { port, state }
    }

    pub(super) fn passed(&self, way: Way) -> u64 {
        self.state.direction(way).passed.load(SeqCst)
    }

    /// Cuts the next connection over which so many more bytes come.
    pub(super) fn cut_after(&self, bytes: u64, way: Way) {
        let direction = self.state.direction(way);
        let at = direction.passed.load(SeqCst) + bytes;
        direction.cut_at.store(at.max(1), SeqCst);
    }

    /// Swallows all that goes this way, on every connection.
    pub(super) fn mute(&self, way: Way, is_mute: bool) {
        self.state.direction(way).is_mute.store(is_mute, SeqCst);
    }

    pub(super) fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }
}

impl State {
    fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let direction = self.direction(way);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if direction.is_mute.load(SeqCst) {
                continue;
            }
            let before = direction.passed.fetch_add(count as u64, SeqCst);
            let cut_at = direction.cut_at.load(SeqCst);
            let left = match cut_at {
                0 => count,
                _ => usize::try_from(cut_at.saturating_sub(before)).unwrap(),
            };
            if left < count || cut_at > 0 && left == count {
                direction.cut_at.store(0, SeqCst);
                self.cuts.fetch_add(1, SeqCst);
                to.write_all(&buffer[..left]).ok();
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}
