//! The size of a database's tables during a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::execute;

/// All tables and indexes that the run has made, in bytes.
const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// A thread that looks once a second.
pub struct Sizes(Arc<AtomicU64>);

impl Sizes {
    pub fn watch(address: String) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&most);
        thread::spawn(move || {
            while let Some(most) = seen.upgrade() {
                let size = execute(&address, SIZE).ok();
                let size = size.and_then(|rows| rows.first()?.parse().ok());
                most.fetch_max(size.unwrap_or(0), Relaxed);
                drop(most);
                thread::sleep(Duration::from_secs(1));
            }
        });
        Sizes(most)
    }

    pub fn most_mb(self) -> f64 {
        self.0.load(Relaxed) as f64 / f64::from(1 << 20)
    }
}
