//! Opening a journal, and its options.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

#[cfg(feature = "postgres")]
use super::postgres::{node::Choices, server::Server, store::Postgres};
use super::{
    durability::Durability,
    error::JournalError,
    key_rules::{Ended, KeyRules},
    retention::Retention,
    sqlite::database::Sqlite,
    store::Store,
};

/// A journal, in one file or in a PostgreSQL database: it lets a pipeline go on after a crash.
///
/// ```no_run
/// # use batrun::{journal::Journal, prelude::*};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let report = Pipeline::new("orders")
///     .journal(Journal::open("orders.journal")?)
///     .stage(stage_fn("double", async |n: u32, _: &TaskContext<()>| Ok(n * 2)))
///     .run()
///     .await?;
/// # Ok(()) }
/// ```
///
/// A task is in the journal from before its `submit` returns until it has its outcome, with its
/// stage, its context, its deadline, its undos in their order, and the ones among them that were
/// undone. After a crash, [`Pipeline::start`](crate::Pipeline::start) goes on with every task, as
/// [`Recovery`](crate::policy::Recovery) says. Outcomes stay for [a while](Self::keep_for); stuck tasks stay
/// until a person [resolves](crate::PipelineHandle::resolve) them.
///
/// The file is a SQLite database. Its log is beside it (`-wal`, `-shm`) while it is open, and a
/// file `-lock` keeps a second pipeline out. Copy the file together with its `-wal`. The program `batrun`
/// (feature `cli`) shows what is in a file. Values are MessagePack with the names of fields, so a new field
/// with `#[serde(default)]` needs no new [version](crate::IntoWork::version).
#[must_use = "a journal does nothing until a pipeline has it: `.journal(..)`"]
pub struct Journal {
    pub(super) store: Box<dyn Store>,
    pub(super) path: PathBuf,
    pub(super) retention: Retention,
    pub(super) rules: KeyRules,
    pub(super) source: Source,
}

/// The place in which others find a journal that is open.
#[derive(Clone)]
pub(super) enum Source {
    /// Nobody does.
    Nowhere,
    File(PathBuf),
    /// Without a schema it is the pipeline's.
    #[cfg(feature = "postgres")]
    Database(Server, Option<String>),
}

impl Journal {
    /// Opens a journal that survives a loss of power, and creates it if there is none.
    ///
    /// Blocks while it reads the whole file to see whether it is sound. [`options`](Self::options) has a
    /// way to wait for another pipeline that has it open.
    ///
    /// # Errors
    /// [`JournalError::Held`] if another pipeline has it open, and every other [`JournalError`] but
    /// [`OtherPipeline`](JournalError::OtherPipeline) and [`NotStuck`](JournalError::NotStuck).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::open_with(path, Durability::Power)
    }

    /// As [`open`](Self::open), with this durability.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(path: impl AsRef<Path>, durability: Durability) -> Result<Self, JournalError> {
        let path = path.as_ref();
        let store = Box::new(Sqlite::open(path, durability)?);
        // The program may go to another folder.
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Journal {
            source: Source::File(absolute),
            ..Self::on(store, path)
        })
    }

    /// The choices that are made before the journal is opened.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use batrun::{journal::Journal, prelude::*};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // The process of the last deployment may still be on its way out.
    /// let options = Journal::options().wait_for_lock(Duration::from_secs(30));
    /// let pipeline = Pipeline::<u32>::new("orders").journal(options.open("orders.journal").await?);
    /// # Ok(()) }
    /// ```
    pub fn options() -> JournalOptions {
        JournalOptions {
            durability: Durability::Power,
            wait_for_lock: None,
            #[cfg(feature = "postgres")]
            schema: None,
            #[cfg(feature = "postgres")]
            lease: Duration::from_secs(15),
        }
    }

    /// Opens a journal in a PostgreSQL database, for one process or for several at once, on any machines.
    ///
    /// Each process that starts the pipeline with the same address runs all of its stages, on the tasks that it
    /// has accepted. A process shows by a lease that it lives. If it is killed, or stands still for longer, the
    /// others take its tasks over from where they stood; so they do when it is shut down with tasks left. What a
    /// process does whose tasks were taken over is not recorded any more, and its pipeline is suspended. A key
    /// stands for one task in all of them, and [`outcome_of`](crate::PipelineHandle::outcome_of) waits for it in
    /// any.
    ///
    /// The address is that of libpq: `postgres://user@host/database`, or `host=.. user=.. dbname=..`, with
    /// `sslmode` and the options that go with it. Each pipeline has a schema of its own, `batrun_` and its name,
    /// which is made if there is none. [`options`](Self::options) has the schema and the lease.
    ///
    /// Every commit of the journal is a commit of the database, and survives what those survive. A pipeline
    /// waits for a database that is away, until its lease has run out.
    ///
    /// ```no_run
    /// # use batrun::{journal::Journal, prelude::*};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let journal = Journal::postgres("postgres://shop@db.example/shop").await?;
    /// let pipeline = Pipeline::<u32>::new("orders").journal(journal);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`JournalError::Io`] if the server can't be reached or refuses the user. The other errors of a journal
    /// come from [`Pipeline::start`](crate::Pipeline::start), once the schema is known.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting. A connection that it was just opening is closed again.
    #[cfg(feature = "postgres")]
    pub async fn postgres(address: impl AsRef<str>) -> Result<Self, JournalError> {
        Self::options().postgres(address).await
    }

    pub(super) fn on(store: Box<dyn Store>, path: impl Into<PathBuf>) -> Self {
        Journal {
            store,
            path: path.into(),
            retention: Retention::default(),
            rules: KeyRules::default(),
            source: Source::Nowhere,
        }
    }

    /// Sets the time for which outcomes are kept, in whole milliseconds. Default: seven days.
    ///
    /// A key stays taken for as long as the outcome of its task is kept, and in any case while its task is
    /// stuck. In memory a kept outcome with a key takes some 40 bytes.
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.retention.max_age = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Says whose key stays taken once its task has ended. Default: [`Ended::Any`].
    ///
    /// With [`Ended::Done`] a failed task gives its key back, so that the same request may be tried anew
    /// under the same key; its outcome stays until the next task with that key has one.
    pub fn key_for(mut self, ended: Ended) -> Self {
        self.rules.taken_by = ended;
        self
    }

    /// Says if the same key with another context is refused, with
    /// [`SubmitError::KeyConflict`](crate::SubmitError::KeyConflict). Default: it is.
    ///
    /// Contexts are compared as they are encoded, by a digest. Switch it off for a context whose encoding
    /// differs each time (a `HashMap` in it, a time stamp), and while a deploy changes its type: a request
    /// that comes again after that is encoded in another way.
    pub fn compare_contexts(mut self, compare: bool) -> Self {
        self.rules.same_context = compare;
        self
    }

    /// Sets the number of outcomes that are kept. Default: 1,000,000.
    ///
    /// Beyond that the oldest ones are dropped, all outcomes of one commit at a time.
    pub fn keep_most(mut self, outcomes: u64) -> Self {
        self.retention.max_outcomes = outcomes;
        self
    }
}

/// The choices that are made before a journal is opened; made by [`Journal::options`].
#[derive(Clone, Debug)]
#[must_use = "they do nothing until the journal is opened"]
pub struct JournalOptions {
    durability: Durability,
    /// Default: no wait for a file; on a database, a second more than the lease.
    wait_for_lock: Option<Duration>,
    #[cfg(feature = "postgres")]
    schema: Option<String>,
    #[cfg(feature = "postgres")]
    lease: Duration,
}

/// The time between two looks at the lock of another process.
const POLL: Duration = Duration::from_millis(50);

/// The longest time to wait for the answer of a database.
#[cfg(feature = "postgres")]
const ANSWER: Duration = Duration::from_secs(10);

impl JournalOptions {
    /// Sets what a journal in a file survives. Default: [`Durability::Power`]. It has no say in a database,
    /// whose own settings count.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The longest time to wait for another pipeline, of this process or of another one, to give the
    /// journal up: a deployment may start the new process before the old one has gone. Looks 20 times a
    /// second. Default: no wait. On a database nobody has to wait: processes run side by side.
    pub fn wait_for_lock(mut self, time: Duration) -> Self {
        self.wait_for_lock = Some(time);
        self
    }

    /// Sets the schema of a journal in a database. Default: `batrun_` and the pipeline's name.
    #[cfg(feature = "postgres")]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// Sets the time after which other processes take over the tasks of this one, on a database, if it has not
    /// renewed its lease; at least 100 ms. Default: 15 s.
    ///
    /// It is renewed five times in this time, and by each commit. After seven tenths of it without a renewal
    /// nothing begins that a commit has not shown to be this process's still, and at its end the pipeline is
    /// suspended. So it is also the longest time for which a pipeline comes through while the database is away: a
    /// process can't tell that from being cut off itself.
    #[cfg(feature = "postgres")]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// Connects to a PostgreSQL server, as [`Journal::postgres`] does.
    ///
    /// # Errors
    /// The same.
    ///
    /// # Cancel safety
    /// The same.
    #[cfg(feature = "postgres")]
    pub async fn postgres(self, address: impl AsRef<str>) -> Result<Journal, JournalError> {
        let server = Server::parse(address.as_ref()).map_err(|why| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, why);
            JournalError::io(Path::new("the address of a journal"), error)
        })?;
        let path = server.path();
        let lease = self.lease;
        let source = Source::Database(server.clone(), self.schema.clone());
        let choices = Choices {
            schema: self.schema,
            lease,
            patience: lease,
            // So that one that is silent leaves time for another.
            answer: ANSWER.min(lease / 3),
        };
        let connect = move || Postgres::connect(server, choices);
        let store = on_a_thread(path.clone(), connect).await?;
        Ok(Journal {
            source,
            ..Journal::on(Box::new(store), path)
        })
    }

    /// Opens the journal, and creates it if there is none. Waits and reads the file on a thread of its own,
    /// so that nothing else on this one is held up.
    ///
    /// # Errors
    /// [`JournalError::Held`] if another pipeline still has it open, with the time that was waited, and those
    /// of [`Journal::open`]; [`JournalError::Io`] if there is no thread to be had.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting. A journal that it was just opening is closed again.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Journal, JournalError> {
        let path = path.as_ref().to_owned();
        let (waits, waiting) = oneshot::channel::<()>();
        let opening = on_a_thread(path.clone(), move || {
            self.open_here(&path, || waits.is_closed())
        });
        let opened = opening.await;
        drop(waiting);
        opened
    }

    fn open_here(
        &self,
        path: &Path,
        nobody_waits: impl Fn() -> bool,
    ) -> Result<Journal, JournalError> {
        let begin = Instant::now();
        loop {
            let waited = begin.elapsed();
            match Journal::open_with(path, self.durability) {
                Err(JournalError::Held { path, .. }) => {
                    let most = self.wait_for_lock.unwrap_or_default();
                    let left = most.saturating_sub(waited);
                    if left.is_zero() || nobody_waits() {
                        let waited = waited.min(most);
                        return Err(JournalError::Held { path, waited });
                    }
                    thread::sleep(POLL.min(left));
                }
                opened => return opened,
            }
        }
    }
}

/// Opens a journal on a thread of its own.
pub(super) async fn on_a_thread<T: Send + 'static>(
    path: PathBuf,
    open: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let (opened, opening) = oneshot::channel();
    thread::Builder::new()
        .name("batrun-open".to_owned())
        .spawn(move || opened.send(open()).ok())
        .map_err(|error| JournalError::io(&path, error))?;
    opening.await.unwrap_or_else(|_| {
        let error = io::Error::other("the thread that was opening it has ended");
        Err(JournalError::io(&path, error))
    })
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn j4_nobody_waits_for_a_lock_whose_wait_was_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let held = Journal::open(&path).unwrap();
        let (options, looks) = (Journal::options().wait_for_lock(4 * POLL), Cell::new(0));
        let nobody_waits = || looks.replace(looks.get() + 1) == 1;
        let refused = options.open_here(&path, nobody_waits);
        assert!(matches!(refused, Err(JournalError::Held { .. })));
        assert_eq!(looks.get(), 2);
        drop(held);
    }
}
