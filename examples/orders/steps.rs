//! The stages. Each effect is a transaction under `task.key()`, so that a second one changes
//! nothing. An undo is that key: if the effect never happened, or is gone, it changes nothing.

use std::{path::PathBuf, time::Duration};

use batrun::prelude::*;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    list::{Address, Card, Order},
    world::{self, World},
};

/// Makes the stages.
pub(crate) struct Steps {
    world: PathBuf,
    pace: Duration,
}

impl Steps {
    pub(crate) fn new(world: &World, pace: Duration) -> Self {
        Steps {
            world: world.path().to_owned(),
            pace,
        }
    }

    fn step<S: Stage>(&self, name: &str, make: fn(Desk) -> S) -> Work<S> {
        let (path, pace) = (self.world.clone(), self.pace);
        let factory = move || {
            let db = world::open(&path)?;
            Ok(make(Desk { db, pace }))
        };
        Work::try_with(name, factory)
            // A database may be busy for longer than its timeout.
            .cancel_retry(Retry::exponential(5))
            .blocking()
    }

    pub(crate) fn reserve(&self) -> Work<Reserve> {
        self.step("reserve", Reserve)
    }

    pub(crate) fn charge(&self) -> Work<Charge> {
        self.step("charge", Charge)
    }

    pub(crate) fn ship(&self) -> Work<Ship> {
        self.step("ship", Ship)
    }
}

/// A worker's connection and pace.
pub(crate) struct Desk {
    db: Connection,
    pace: Duration,
}

impl Desk {
    /// Waits for as long as a real service would take.
    fn work(&self) {
        std::thread::sleep(self.pace);
    }
}

/// Takes the ordered items from the stock.
pub(crate) struct Reserve(Desk);

impl Stage for Reserve {
    type Input = Order;
    type Output = Order;
    type Undo = String;

    async fn run(
        &mut self,
        order: Order,
        task: &TaskContext<'_, String>,
    ) -> Result<Order, Failure> {
        let key = task.key().to_string();
        let undo = task.on_cancel(key.clone()).await?;
        self.0.work();
        let change = self.0.db.transaction()?;
        let new = change.execute(
            "INSERT OR IGNORE INTO reserved VALUES (?1, ?2, ?3, ?4)",
            params![key, order.number as i64, order.item, order.quantity],
        )?;
        if new == 1 {
            let taken = change.execute(
                "UPDATE stock SET here = here - ?2 WHERE item = ?1 AND here >= ?2",
                params![order.item, order.quantity],
            )?;
            if taken == 0 {
                change.rollback()?;
                undo.withdraw().await?;
                let text = format!("there is no {} left", order.item);
                return Err(Failure::permanent(text));
            }
        }
        change.commit()?;
        Ok(order)
    }

    async fn cancel(&mut self, key: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        let change = self.0.db.transaction()?;
        let was: Option<(String, u32)> = change
            .query_row(
                "DELETE FROM reserved WHERE key = ?1 RETURNING item, quantity",
                [key],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        if let Some((item, quantity)) = was {
            change.execute(
                "UPDATE stock SET here = here + ?2 WHERE item = ?1",
                params![item, quantity],
            )?;
        }
        Ok(change.commit()?)
    }
}

/// Takes the customer's money.
pub(crate) struct Charge(Desk);

impl Stage for Charge {
    type Input = Order;
    type Output = Order;
    type Undo = String;

    async fn run(
        &mut self,
        order: Order,
        task: &TaskContext<'_, String>,
    ) -> Result<Order, Failure> {
        if order.card == Card::Refused {
            return Err(Failure::permanent("the card is refused"));
        }
        let key = task.key().to_string();
        task.on_cancel(key.clone()).await?;
        self.0.work();
        self.0.db.execute(
            "INSERT OR IGNORE INTO charged VALUES (?1, ?2, ?3)",
            params![key, order.number as i64, order.cents as i64],
        )?;
        Ok(order)
    }

    async fn cancel(&mut self, key: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.0
            .db
            .execute("DELETE FROM charged WHERE key = ?1", [key])?;
        Ok(())
    }
}

/// Hands the parcel to the carrier.
pub(crate) struct Ship(Desk);

impl Stage for Ship {
    type Input = Order;
    type Output = Order;
    type Undo = String;

    async fn run(
        &mut self,
        order: Order,
        task: &TaskContext<'_, String>,
    ) -> Result<Order, Failure> {
        let key = task.key().to_string();
        task.on_cancel(key.clone()).await?;
        self.0.work();
        if order.address == Address::Unknown {
            return Err(Failure::permanent("nobody knows the address"));
        }
        self.0.db.execute(
            "INSERT OR IGNORE INTO shipped VALUES (?1, ?2)",
            params![key, order.number as i64],
        )?;
        Ok(order)
    }

    async fn cancel(&mut self, key: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.0
            .db
            .execute("DELETE FROM shipped WHERE key = ?1", [key])?;
        Ok(())
    }
}
