//! The things that are read of a journal for many who ask, and kept for a while.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use batrun::report::{JournalCluster, JournalKind, JournalReader, JournalSize, UnreadableJournal};

use crate::{answer::Refused, cluster::ClusterTroubles, readers::Readers};

/// Nodes are read no more often than this, however many look at them.
const NODES: Duration = Duration::from_secs(2);
/// The same of sizes, however often metrics are scraped, and of troubles, however many samples are taken.
const SELDOM: Duration = Duration::from_secs(15);
/// The longest wait of a scrape for a size that is just being read. The last one will do otherwise.
const PATIENCE: Duration = Duration::from_millis(100);

/// The journal of a pipeline that is watched.
#[derive(Debug, Default)]
pub(crate) struct JournalWatch {
    cluster: Mutex<Option<(Instant, Arc<JournalCluster>)>>,
    troubles: Arc<Kept<ClusterTroubles>>,
    sizes: Arc<Kept<JournalSize>>,
}

impl JournalWatch {
    /// The nodes as they were two seconds ago at most; `None` for a journal in a file. Blocks.
    pub(crate) fn cluster(
        &self,
        journal: &JournalReader,
        readers: &Readers,
    ) -> Result<Option<Arc<JournalCluster>>, Refused> {
        // The others wait for the one who reads.
        let mut last = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, cluster)) = &*last
            && at.elapsed() < NODES
        {
            return Ok(Some(cluster.clone()));
        }
        let turn = readers.enter()?;
        let read = journal.cluster();
        drop(turn);
        let cluster = read.map_err(|error| unreadable(&error))?.map(Arc::new);
        let troubles = cluster.as_deref().map(ClusterTroubles::of);
        self.troubles.was_read_at(Instant::now(), troubles);
        *last = cluster.clone().map(|cluster| (Instant::now(), cluster));
        Ok(cluster)
    }

    /// The size as it was some seconds ago; `None` if it isn't known. Blocks for a moment at most.
    pub(crate) fn size(&self, journal: &JournalReader) -> Option<JournalSize> {
        let journal = journal.clone();
        let read = move || journal.size().ok();
        self.sizes.get(Instant::now(), PATIENCE, read)
    }

    /// The troubles of those that share a database, as they were some seconds ago; `None` if they aren't known.
    pub(crate) fn troubles(&self, journal: &JournalReader) -> Option<ClusterTroubles> {
        if journal.kind() != JournalKind::Database {
            return None;
        }
        let journal = journal.clone();
        let read = move || Some(ClusterTroubles::of(&journal.cluster().ok()??));
        // A sample waits for no database.
        self.troubles.get(Instant::now(), Duration::ZERO, read)
    }
}

/// The name of a kind, for a journal or none.
pub(crate) fn kind(journal: Option<&JournalReader>) -> &'static str {
    match journal.map(JournalReader::kind) {
        None => "none",
        Some(JournalKind::File) => "file",
        Some(JournalKind::Database) => "database",
        Some(_) => "other",
    }
}

pub(crate) fn unreadable(error: &UnreadableJournal) -> Refused {
    Refused::unavailable(format!("the journal can't be read now: {error}"))
}

/// The last that was read, and the thread that reads the next one.
#[derive(Debug)]
struct Kept<T> {
    last: Mutex<Last<T>>,
    was_read: Condvar,
}

#[derive(Debug)]
struct Last<T> {
    asked: Option<Instant>,
    reading: bool,
    value: Option<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept {
            last: Mutex::new(Last {
                asked: None,
                reading: false,
                value: None,
            }),
            was_read: Condvar::new(),
        }
    }
}

impl<T: Clone + Send + 'static> Kept<T> {
    /// The last value, or the next one, if it is due and comes that soon.
    fn get(
        self: &Arc<Self>,
        now: Instant,
        patience: Duration,
        read: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |asked: Instant| now.saturating_duration_since(asked) >= SELDOM;
        if !last.reading && last.asked.is_none_or(is_due) {
            last.asked = Some(now);
            let kept = self.clone();
            // A scrape may come from a thread that must not wait for a database.
            let thread = thread::Builder::new().name("batrun-monitor-journal".to_owned());
            let started = thread.spawn(move || kept.put(read()));
            last.reading = started.is_ok();
        }
        let until = Instant::now() + patience;
        while last.reading
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            let woken = self.was_read.wait_timeout(last, left);
            last = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        last.value.clone()
    }

    /// Takes up what somebody else has read just now.
    fn was_read_at(&self, now: Instant, value: Option<T>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.asked = Some(now);
        last.value = value;
    }

    fn put(&self, value: Option<T>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.value = value;
        last.reading = false;
        self.was_read.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    };

    use super::*;

    fn of(bytes: u64) -> Option<JournalSize> {
        let mut size = JournalSize::default();
        size.bytes = bytes;
        Some(size)
    }

    /// Waits until what was asked for is there.
    fn wait(sizes: &Kept<JournalSize>) -> Option<JournalSize> {
        let mut last = sizes.last.lock().unwrap();
        while last.reading {
            last = sizes.was_read.wait(last).unwrap();
        }
        last.value
    }

    #[test]
    fn a_size_is_read_once_in_a_while_however_many_ask() {
        let (sizes, reads) = (
            Arc::<Kept<JournalSize>>::default(),
            Arc::<AtomicU64>::default(),
        );
        let now = Instant::now();
        let ask = |at: Instant| {
            let reads = reads.clone();
            sizes.get(at, PATIENCE, move || {
                of(1 + reads.fetch_add(1, Ordering::SeqCst))
            });
            wait(&sizes)
        };
        assert_eq!(ask(now), of(1));
        for _ in 0..100 {
            assert_eq!(ask(now + SELDOM - Duration::from_millis(1)), of(1));
        }
        assert_eq!(ask(now + SELDOM), of(2));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_scrape_does_not_wait_for_a_journal_that_does_not_answer() {
        let sizes = Arc::<Kept<JournalSize>>::default();
        let now = Instant::now();
        assert_eq!(
            sizes.get(now, PATIENCE, || of(1)).or_else(|| wait(&sizes)),
            of(1)
        );
        let (answer, answers) = mpsc::channel();
        // The last one will do, and nobody else begins to read.
        let later = now + SELDOM;
        assert_eq!(
            sizes.get(later, PATIENCE, move || answers.recv().ok()),
            of(1)
        );
        let again = sizes.get(later + SELDOM, PATIENCE, || panic!("two read at once"));
        assert_eq!(again, of(1));
        answer.send(of(2).unwrap()).unwrap();
        assert_eq!(wait(&sizes), of(2));
        // One that fails isn't hidden behind an old one.
        sizes.get(later + SELDOM, PATIENCE, || None);
        assert_eq!(wait(&sizes), None);
    }

    #[test]
    fn what_somebody_else_has_read_is_not_read_again_for_a_while() {
        let sizes = Arc::<Kept<JournalSize>>::default();
        let now = Instant::now();
        sizes.was_read_at(now, of(3));
        let soon = now + SELDOM - Duration::from_millis(1);
        let kept = sizes.get(soon, Duration::ZERO, || None);
        assert_eq!((kept, wait(&sizes)), (of(3), of(3)));
        sizes.get(now + SELDOM, Duration::ZERO, || of(4));
        assert_eq!(wait(&sizes), of(4));
    }
}
