//! The journal's one writer: a thread that commits whatever has gathered while the commit before
//! ran. Nobody waits on a timer.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Retention,
    book::{Book, Ended},
    note::{Note, wall_clock},
    rows::KeptRow,
    store::{Op, Store, StoreError},
};
use crate::{
    LedgerError, TaskId, guard,
    ledger::{Mark, Progress},
    task::Outcome,
};

/// An outcome that is kept, with the bytes of the last stage's output.
pub(super) type Kept = (Outcome, Option<Vec<u8>>);

type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What the writer is asked for, in the order in which it was asked.
enum Wish {
    Note(TaskId, Note),
    /// A task with a key, which may be another one's.
    Keyed(TaskId, Note, Answer<()>),
    OutcomeOf(Box<str>, Answer<Option<Kept>>),
}

/// Where wishes gather.
pub(super) struct Desk {
    inbox: Mutex<Inbox>,
    came: Condvar,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Inbox {
    wishes: Vec<Wish>,
    /// The number of the last wish.
    last: u64,
    /// Somebody waits for one of them.
    urgent: bool,
    writer: Writing,
    closed: bool,
}

/// What the writer does meanwhile.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Writing {
    #[default]
    Busy,
    /// Nothing: it has nothing to write.
    Idle,
    /// It lets what nobody waits for gather.
    Gathering,
}

/// How long what nobody waits for is left unwritten at most, so that it mostly goes along with
/// something else and costs no commit of its own.
const LEISURE: Duration = Duration::from_millis(2);

pub(super) struct Writer {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Desk {
    /// Puts a wish to the others. Who has an urgent one waits until it is granted.
    fn ask(&self, wish: Wish, urgent: bool) -> Result<u64, LedgerError> {
        if let Some(error) = self.progress.failure() {
            return Err(error.clone());
        }
        let mut inbox = guard::lock(&self.inbox);
        if inbox.closed {
            return Err(LedgerError::new("the journal is closed"));
        }
        inbox.last += 1;
        let number = inbox.last;
        inbox.wishes.push(wish);
        inbox.urgent |= urgent;
        let sleeps = match inbox.writer {
            Writing::Busy => false,
            Writing::Idle => true,
            Writing::Gathering => urgent,
        };
        if sleeps {
            inbox.writer = Writing::Busy;
            drop(inbox);
            self.came.notify_one();
        }
        Ok(number)
    }

    /// Everything that has gathered, and the number of the last; `None` once there won't be more.
    fn gathered(&self, wishes: &mut Vec<Wish>) -> Option<u64> {
        let mut inbox = guard::lock(&self.inbox);
        // Where there is much to do there soon is more: what isn't urgent wakes nobody for now.
        let mut until = Instant::now() + LEISURE;
        while !inbox.urgent && !inbox.closed {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                inbox.writer = Writing::Gathering;
                inbox = self
                    .came
                    .wait_timeout(inbox, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else if inbox.wishes.is_empty() {
                inbox.writer = Writing::Idle;
                inbox = self
                    .came
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner);
                until = Instant::now() + LEISURE;
            } else {
                break;
            }
        }
        inbox.writer = Writing::Busy;
        inbox.urgent = false;
        if inbox.wishes.is_empty() {
            return None;
        }
        mem::swap(&mut inbox.wishes, wishes);
        Some(inbox.last)
    }
}

impl Writer {
    pub(super) fn start(
        store: Box<dyn Store>,
        book: Book,
        retention: Retention,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk {
            inbox: Mutex::default(),
            came: Condvar::new(),
            progress: Arc::default(),
        });
        let mut clerk = Clerk {
            desk: desk.clone(),
            store,
            book,
            retention,
            waiting: HashMap::new(),
            ops: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("batrun-journal".to_owned())
            .spawn(move || clerk.run())?;
        Ok(Writer {
            desk,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Writes a change, in its turn. What nobody waits for isn't urgent.
    pub(super) fn note(&self, task: TaskId, note: Note, urgent: bool) -> Result<Mark, LedgerError> {
        let number = self.desk.ask(Wish::Note(task, note), urgent)?;
        Ok(Mark::new(&self.desk.progress, number))
    }

    /// Writes that a task with a key was accepted, unless the key is another one's.
    pub(super) fn keyed(
        &self,
        task: TaskId,
        note: Note,
    ) -> Result<oneshot::Receiver<Result<(), LedgerError>>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.desk.ask(Wish::Keyed(task, note, answer), true)?;
        Ok(answered)
    }

    pub(super) fn outcome_of(
        &self,
        key: &str,
    ) -> Result<oneshot::Receiver<Result<Option<Kept>, LedgerError>>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.desk.ask(Wish::OutcomeOf(key.into(), answer), true)?;
        Ok(answered)
    }

    /// Writes what is left, and lets go of the file.
    pub(super) fn close(&self) {
        let mut inbox = guard::lock(&self.desk.inbox);
        inbox.closed = true;
        drop(inbox);
        self.desk.came.notify_one();
        if let Some(thread) = guard::lock(&self.thread).take() {
            thread.join().ok();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The writer's own.
struct Clerk {
    desk: Arc<Desk>,
    store: Box<dyn Store>,
    book: Book,
    retention: Retention,
    /// Who waits for the outcome of a live task, by its key.
    waiting: HashMap<Box<str>, Vec<Answer<Option<Kept>>>>,
    ops: Vec<Op>,
}

impl Clerk {
    fn run(&mut self) {
        let mut wishes = Vec::new();
        let failed = loop {
            let Some(last) = self.desk.gathered(&mut wishes) else {
                break None;
            };
            let mut answers = Answers::default();
            let written = self.write(&mut wishes, &mut answers);
            match written {
                Ok(()) => {
                    self.desk.progress.reach(last);
                    answers.give();
                }
                // Whether any of it was written nobody knows. Nothing is written any more: a disk
                // that could not sync once may say that it could the next time.
                Err(why) => break Some((LedgerError::new(why), answers)),
            }
        };
        self.store.close(failed.is_none());
        if let Some((error, answers)) = failed {
            log::error!("the journal has failed, and nothing is written to it any more: {error}");
            self.desk.progress.fail(error.clone());
            answers.refuse(&error);
            let mut inbox = guard::lock(&self.desk.inbox);
            inbox.closed = true;
            let left = mem::take(&mut inbox.wishes);
            drop(inbox);
            for wish in left {
                match wish {
                    Wish::Note(..) => {}
                    Wish::Keyed(_, _, answer) => drop(answer.send(Err(error.clone()))),
                    Wish::OutcomeOf(_, answer) => drop(answer.send(Err(error.clone()))),
                }
            }
        }
        self.waiting.clear();
    }

    fn write(&mut self, wishes: &mut Vec<Wish>, answers: &mut Answers) -> Result<(), String> {
        let now = wall_clock();
        self.ops.clear();
        let mut ended = Vec::new();
        for wish in wishes.drain(..) {
            match wish {
                Wish::Note(task, note) => {
                    ended.extend(self.book.take(task.0, note, now)?);
                }
                Wish::Keyed(task, note, answer) => match self.taken(&note, &ended)? {
                    Some(other) => {
                        answers.acks.push((answer, Err(LedgerError::known(other))));
                    }
                    None => {
                        ended.extend(self.book.take(task.0, note, now)?);
                        answers.acks.push((answer, Ok(())));
                    }
                },
                Wish::OutcomeOf(key, answer) => {
                    let live = self.book.with_key(&key).is_some();
                    if live {
                        self.waiting.entry(key).or_default().push(answer);
                    } else {
                        let kept = self.look_up(&key, &ended)?;
                        answers.kept.push((answer, kept));
                    }
                }
            }
        }
        for ended in ended {
            self.book.keep(&ended, now)?;
            let Ended {
                key,
                outcome,
                output,
            } = ended;
            for answer in self.waiting.remove(&key).unwrap_or_default() {
                let kept = (outcome.clone(), output.clone());
                answers.kept.push((answer, Some(kept)));
            }
        }
        self.book.rows(now, &mut self.ops)?;
        self.forget(now).map_err(|error| error.to_string())?;
        if self.ops.is_empty() {
            return Ok(());
        }
        self.store
            .commit(&self.ops)
            .map_err(|error| error.to_string())
    }

    /// The other task that has this one's key.
    fn taken(&mut self, note: &Note, ended: &[Ended]) -> Result<Option<TaskId>, String> {
        let Note::Accepted { key: Some(key), .. } = note else {
            return Ok(None);
        };
        if let Some(live) = self.book.with_key(key) {
            return Ok(Some(live));
        }
        let kept = self.look_up(key, ended)?;
        Ok(kept.map(|(outcome, _)| outcome.task))
    }

    fn look_up(&mut self, key: &str, ended: &[Ended]) -> Result<Option<Kept>, String> {
        if let Some(ended) = ended.iter().rev().find(|ended| *ended.key == *key) {
            return Ok(Some((ended.outcome.clone(), ended.output.clone())));
        }
        let row = self.store.kept(key).map_err(|error| error.to_string())?;
        row.map(|row: KeptRow| {
            let outcome = row.outcome().map_err(|error| error.to_string())?;
            Ok((outcome, row.output))
        })
        .transpose()
    }

    /// Lets go of outcomes whose time has passed, or that are too many.
    fn forget(&mut self, now: u64) -> Result<(), StoreError> {
        // Some more than may be kept are, so that not each commit has to look.
        if !self.retention.is_due(self.book.outcomes, now) {
            return Ok(());
        }
        let oldest = self.store.blocks(0, FORGET_AT_ONCE)?;
        if oldest.is_empty() {
            self.retention.look_again(now);
        }
        for row in oldest {
            if !self.retention.is_over(&row, self.book.outcomes, now) {
                self.retention.look_again(row.at);
                return Ok(());
            }
            let keys = row.block()?.keys;
            self.book.outcomes = self.book.outcomes.saturating_sub(row.count);
            self.ops.push(Op::Forget {
                block: row.number,
                keys,
            });
            // Its tasks' numbers are used up all the same.
            self.ops.push(self.book.last_task());
        }
        Ok(())
    }
}

const FORGET_AT_ONCE: usize = 64;

/// What is answered once the batch is written.
#[derive(Default)]
struct Answers {
    acks: Vec<(Answer<()>, Result<(), LedgerError>)>,
    kept: Vec<(Answer<Option<Kept>>, Option<Kept>)>,
}

impl Answers {
    fn give(self) {
        for (answer, result) in self.acks {
            answer.send(result).ok();
        }
        for (answer, kept) in self.kept {
            answer.send(Ok(kept)).ok();
        }
    }

    fn refuse(self, error: &LedgerError) {
        for (answer, _) in self.acks {
            answer.send(Err(error.clone())).ok();
        }
        for (answer, _) in self.kept {
            answer.send(Err(error.clone())).ok();
        }
    }
}
