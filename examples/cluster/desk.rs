//! A worker's connection to the world, a service of other people: a line of JSON, answered by one.

use std::net::SocketAddr;

use batrun::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::steps::Effect;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Do {
        effect: Effect,
        order: u64,
        key: String,
        task: u64,
        fence: u64,
    },
    Undo {
        key: String,
    },
}

/// A request, and the node that sends it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) node: u32,
    pub(crate) request: Request,
}

/// The answer: an error says why the world refuses.
pub(crate) type Answer = Result<(), String>;

pub(crate) struct Desk {
    world: SocketAddr,
    node: u32,
    connection: Option<BufReader<TcpStream>>,
}

impl Desk {
    pub(crate) fn new(world: SocketAddr, node: u32) -> Self {
        Desk {
            world,
            node,
            connection: None,
        }
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Result<(), Failure> {
        let node = self.node;
        let letter = serde_json::to_string(&Letter { node, request })? + "\n";
        // Taken out: if this is dropped in the middle, an answer is on its way that nobody waits for.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(self.world).await?),
        };
        connection.write_all(letter.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        let answer: Answer = serde_json::from_str(&answer)?;
        self.connection = Some(connection);
        answer.map_err(Failure::new)
    }
}

/// Each worker has a connection of its own.
impl Clone for Desk {
    fn clone(&self) -> Self {
        Desk::new(self.world, self.node)
    }
}
