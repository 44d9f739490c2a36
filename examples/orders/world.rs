//! The world: the stock, reservations, charges and shipments. It is a database of its own, which
//! knows nothing of the journal.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use batrun::Outcome;
use rusqlite::{Connection, Result, TransactionBehavior, params};

use crate::list::Order;

/// Items of which there are fewer than are ordered.
const SCARCE: [&str; 2] = ["chair", "violin"];

pub(crate) struct World {
    path: PathBuf,
}

/// The rows of an order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Item and quantity.
    reserved: Vec<(String, u32)>,
    /// Cents.
    charged: Vec<u64>,
    shipped: usize,
}

impl Rows {
    /// Number of rows of each kind.
    pub(crate) fn found(&self) -> [usize; 3] {
        [self.reserved.len(), self.charged.len(), self.shipped]
    }
}

/// A connection for one worker. A change takes the lock when it begins, so that two of them can't
/// wait for each other. It survives the end of the process, but not a loss of power.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(20))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "normal")?;
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    Ok(db)
}

impl World {
    /// Makes the world if it doesn't exist.
    pub(crate) fn new(path: PathBuf, orders: &[Order]) -> Result<Self> {
        let mut db = open(&path)?;
        let change = db.transaction()?;
        change.execute_batch(
            "CREATE TABLE IF NOT EXISTS stock (
                 item TEXT PRIMARY KEY, was INTEGER NOT NULL, here INTEGER NOT NULL
             );
             CREATE TABLE IF NOT EXISTS reserved (
                 key TEXT PRIMARY KEY, number INTEGER NOT NULL, item TEXT NOT NULL,
                 quantity INTEGER NOT NULL
             );
             CREATE TABLE IF NOT EXISTS charged (
                 key TEXT PRIMARY KEY, number INTEGER NOT NULL, cents INTEGER NOT NULL
             );
             CREATE TABLE IF NOT EXISTS shipped (
                 key TEXT PRIMARY KEY, number INTEGER NOT NULL
             );",
        )?;
        let mut wanted = BTreeMap::<&str, u64>::new();
        for order in orders {
            *wanted.entry(&order.item).or_default() += u64::from(order.quantity);
        }
        for (item, wanted) in wanted {
            let stock = match SCARCE.contains(&item) {
                true => wanted * 4 / 5,
                false => wanted,
            };
            change.execute(
                "INSERT OR IGNORE INTO stock VALUES (?1, ?2, ?2)",
                params![item, stock as i64],
            )?;
        }
        change.commit()?;
        Ok(World { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of each order that has any.
    pub(crate) fn rows(&self) -> Result<BTreeMap<u64, Rows>> {
        let db = open(&self.path)?;
        let mut all = BTreeMap::<u64, Rows>::new();
        let mut reserved = db.prepare("SELECT number, item, quantity FROM reserved")?;
        let mut rows = reserved.query([])?;
        while let Some(row) = rows.next()? {
            let of = all.entry(row.get::<_, i64>(0)? as u64).or_default();
            of.reserved.push((row.get(1)?, row.get(2)?));
        }
        let mut charged = db.prepare("SELECT number, cents FROM charged")?;
        let mut rows = charged.query([])?;
        while let Some(row) = rows.next()? {
            let of = all.entry(row.get::<_, i64>(0)? as u64).or_default();
            of.charged.push(row.get::<_, i64>(1)? as u64);
        }
        let mut shipped = db.prepare("SELECT number FROM shipped")?;
        let mut rows = shipped.query([])?;
        while let Some(row) = rows.next()? {
            all.entry(row.get::<_, i64>(0)? as u64).or_default().shipped += 1;
        }
        Ok(all)
    }

    /// Everything that isn't as it should be, a line each.
    pub(crate) fn check(
        &self,
        orders: &[Order],
        ends: &BTreeMap<u64, Outcome<Order>>,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut rows = self.rows()?;
        let mut gone = BTreeMap::<&str, u64>::new();
        for order in orders {
            let number = order.number;
            let found = rows.remove(&number).unwrap_or_default();
            let Some(outcome) = ends.get(&number) else {
                wrong.push(format!("order {number} has no outcome"));
                continue;
            };
            if outcome.rollback.is_stuck() {
                wrong.push(format!("order {number} is stuck: {outcome}"));
            }
            let expected = if outcome.is_done() {
                *gone.entry(&order.item).or_default() += u64::from(order.quantity);
                Rows {
                    reserved: vec![(order.item.clone(), order.quantity)],
                    charged: vec![order.cents],
                    shipped: 1,
                }
            } else {
                Rows::default()
            };
            if found != expected {
                let end = &outcome.end;
                wrong.push(format!(
                    "order {number}, {end}: the world has {found:?} instead of {expected:?}"
                ));
            }
        }
        for (number, found) in rows {
            wrong.push(format!("order {number} was never sent: {found:?}"));
        }
        let db = open(&self.path)?;
        let mut stock = db.prepare("SELECT item, was, here FROM stock")?;
        let mut stock = stock.query([])?;
        while let Some(row) = stock.next()? {
            let (item, was, here): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let gone = gone.get(&*item).copied().unwrap_or_default() as i64;
            if here < 0 || was - here != gone {
                wrong.push(format!(
                    "stock: of {was} {item} {here} are here, and {gone} are gone"
                ));
            }
        }
        Ok(wrong)
    }

    /// Changes the world without an order.
    pub(crate) fn tamper(&self) -> Result<()> {
        let db = open(&self.path)?;
        db.execute(
            "DELETE FROM shipped WHERE number = (SELECT max(number) FROM shipped)",
            [],
        )?;
        Ok(())
    }
}
