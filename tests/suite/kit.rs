//! What the tests share: a world whose clock stands still, and a journal of what stages did.

use std::{
    fmt::Display,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Runs a test on one arbiter with a paused clock: time passes only while everybody waits.
pub fn still<F: Future>(test: F) -> F::Output {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(test)
}

/// Runs a test in real time, inside a System.
pub fn live<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(test)
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub async fn sleep(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, what: impl Display) {
        self.0.lock().unwrap().push(what.to_string());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Those that begin so, without that beginning.
    pub fn of(&self, beginning: &str) -> Vec<String> {
        self.all()
            .iter()
            .filter_map(|line| line.strip_prefix(beginning))
            .map(str::to_owned)
            .collect()
    }
}
