//! A reader that never ends, for tests of the producers that read.

use std::{
    io::{self, BufReader, Cursor, Read},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use batrun::prelude::*;

/// Gives the same bytes over and over.
struct Endless {
    bytes: &'static str,
    at: usize,
    reads: Arc<AtomicU64>,
}

impl Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        for byte in &mut *to {
            *byte = self.bytes.as_bytes()[self.at];
            self.at = (self.at + 1) % self.bytes.len();
        }
        Ok(to.len())
    }
}

/// Sees how often a reader was read, and when it is gone.
pub(crate) struct Watch(Weak<AtomicU64>);

pub(crate) fn endless(
    before: &'static str,
    bytes: &'static str,
) -> (impl io::BufRead + Send + 'static, Watch) {
    let reads = Arc::new(AtomicU64::new(0));
    let watch = Watch(Arc::downgrade(&reads));
    let endless = Endless {
        bytes,
        at: 0,
        reads,
    };
    (BufReader::new(Cursor::new(before).chain(endless)), watch)
}

impl Watch {
    /// Runs a pipeline with the producer, shuts it down once the reader was read often, and waits
    /// for the thread that reads to end.
    pub(crate) fn until_it_ends<C: Send + 'static>(self, producer: impl Producer<C>) {
        let report = actix_rt::System::new().block_on(async {
            let pipeline = Pipeline::new("endless").producer(producer);
            let stage = stage_fn("drop", async |_: C, _: &TaskContext<'_, ()>| Ok(()));
            let handle = pipeline.stage(stage).start().await.unwrap();
            // The reader of good lines waits for room in between.
            while handle.snapshot().counts.done == 0
                && self
                    .0
                    .upgrade()
                    .is_some_and(|reads| reads.load(Ordering::SeqCst) < 100)
            {
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
            let grace = Duration::from_secs(10);
            handle.shutdown(Shutdown::Drain(grace)).await.unwrap()
        });
        assert_eq!(report.counts.accepted, report.counts.done);
        let began = Instant::now();
        while self.0.upgrade().is_some() {
            assert!(began.elapsed() < Duration::from_secs(10), "it still reads");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
