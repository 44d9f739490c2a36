//! The journal's one writer: a thread that commits whatever has gathered while the commit before
//! ran. Nobody waits on a timer.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Retention,
    book::{Book, Ended},
    note::{Note, wall_clock},
    recovery::{ENDED, ON_PURPOSE},
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
    back: Option<Back>,
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
    /// The store is busy with another commit: it looks at what there is once that is much.
    Away,
    /// It can't go on without the store.
    Blocked,
}

/// So many wishes are much.
const MUCH: usize = 512;

/// A commit of fewer changes isn't worth another thread.
const FEW: usize = 256;

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
            Writing::Away => inbox.wishes.len() >= MUCH,
            Writing::Blocked => false,
        };
        if sleeps {
            inbox.writer = Writing::Busy;
            drop(inbox);
            self.came.notify_one();
        }
        Ok(number)
    }

    /// Everything that has gathered, and the number of the last.
    ///
    /// Where the store is `away`, that is once there is much of it, or once the store is back.
    fn gathered(&self, wishes: &mut Vec<Wish>, away: bool) -> News {
        let mut inbox = guard::lock(&self.inbox);
        if away {
            while inbox.back.is_none() && inbox.wishes.len() < MUCH {
                inbox.writer = Writing::Away;
                inbox = self
                    .came
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        } else {
            inbox = self.wait_for_wishes(inbox);
        }
        inbox.writer = Writing::Busy;
        inbox.urgent = false;
        mem::swap(&mut inbox.wishes, wishes);
        News {
            last: inbox.last,
            back: inbox.back.take(),
            closed: inbox.closed,
        }
    }

    fn wait_for_wishes<'a>(&self, mut inbox: MutexGuard<'a, Inbox>) -> MutexGuard<'a, Inbox> {
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
        inbox
    }

    /// Waits for the store.
    fn wait_for_store(&self) -> Back {
        let mut inbox = guard::lock(&self.inbox);
        loop {
            if let Some(back) = inbox.back.take() {
                inbox.writer = Writing::Busy;
                return back;
            }
            inbox.writer = Writing::Blocked;
            inbox = self
                .came
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The store is back from a commit.
    fn give_back(&self, back: Back) {
        guard::lock(&self.inbox).back = Some(back);
        self.came.notify_one();
    }
}

/// What the writer finds when it looks.
struct News {
    last: u64,
    back: Option<Back>,
    closed: bool,
}

/// A store, what was to be written to it, and whether it was.
struct Back {
    store: Box<dyn Store>,
    ops: Vec<Op>,
    result: Result<(), StoreError>,
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
        let (jobs, given) = mpsc::channel();
        let mut clerk = Clerk {
            desk: desk.clone(),
            store: Some(store),
            jobs,
            book,
            retention,
            waiting: HashMap::new(),
            ended: Vec::new(),
            answers: Answers::default(),
            ops: Vec::new(),
        };
        let returned = desk.clone();
        let committer = std::thread::Builder::new()
            .name("batrun-commit".to_owned())
            .spawn(move || commit_all(&given, &returned))?;
        let thread = std::thread::Builder::new()
            .name("batrun-journal".to_owned())
            .spawn(move || {
                clerk.run();
                // Which ends the other one.
                drop(clerk);
                committer.join().ok();
            })?;
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

/// Commits what it is given, beside the clerk, who takes in meanwhile what comes next.
fn commit_all(jobs: &mpsc::Receiver<(Box<dyn Store>, Vec<Op>)>, desk: &Desk) {
    while let Ok((mut store, ops)) = jobs.recv() {
        let result = guard::run(|| store.commit(&ops))
            .unwrap_or_else(|panic| Err(StoreError::Failed(guard::shown(&panic))));
        desk.give_back(Back { store, ops, result });
    }
}

/// The writer's own.
struct Clerk {
    desk: Arc<Desk>,
    /// `None` while it is away, for a commit.
    store: Option<Box<dyn Store>>,
    jobs: mpsc::Sender<(Box<dyn Store>, Vec<Op>)>,
    book: Book,
    retention: Retention,
    /// Who waits for the outcome of a live task, by its key.
    waiting: HashMap<Box<str>, Vec<Answer<Option<Kept>>>>,
    /// Tasks with keys that have ended in this batch.
    ended: Vec<Ended>,
    /// What is answered once this batch is written.
    answers: Answers,
    ops: Vec<Op>,
}

impl Clerk {
    fn run(&mut self) {
        let mut under_way = None;
        let mut wishes = Vec::new();
        // Whatever it panics with, nobody is to wait for ever.
        let result = guard::run(|| self.work(&mut wishes, &mut under_way))
            .unwrap_or_else(|panic| Err(guard::shown(&panic)));
        // A commit that is still under way is not to be answered as if it were none.
        if self.store.is_none() {
            let back = self.desk.wait_for_store();
            self.store = Some(back.store);
        }
        if let Some(store) = &mut self.store {
            // Nothing is at work any more: what was interrupted, was so on purpose.
            let ended = Op::Word(ENDED, ON_PURPOSE.to_owned());
            let clean = result.is_ok() && store.commit(&[ended]).is_ok();
            store.close(clean);
        }
        if let Err(why) = result {
            // Whether any of it was written nobody knows. Nothing is written any more: a disk that
            // could not sync once may say that it could the next time.
            let error = LedgerError::new(why);
            log::error!("the journal has failed, and nothing is written to it any more: {error}");
            self.desk.progress.fail(error.clone());
            if let Some((_, answers)) = under_way {
                answers.refuse(&error);
            }
            mem::take(&mut self.answers).refuse(&error);
            let mut inbox = guard::lock(&self.desk.inbox);
            inbox.closed = true;
            wishes.append(&mut inbox.wishes);
            drop(inbox);
            for wish in wishes {
                match wish {
                    Wish::Note(..) => {}
                    Wish::Keyed(_, _, answer) => tell(answer, Err(error.clone())),
                    Wish::OutcomeOf(_, answer) => tell(answer, Err(error.clone())),
                }
            }
        }
        self.waiting.clear();
    }

    /// Until it is closed or something fails. `under_way` is what the commit that is under way is
    /// about: the number of its last wish, and who is to be answered.
    fn work(
        &mut self,
        wishes: &mut Vec<Wish>,
        under_way: &mut Option<(u64, Answers)>,
    ) -> Result<(), String> {
        // The number of the last wish that was taken in.
        let mut taken = 0;
        loop {
            let News { last, back, closed } = self.desk.gathered(wishes, self.store.is_none());
            if let Some(back) = back {
                self.take_back(back)?;
            }
            let none = wishes.is_empty();
            self.take_in(wishes)?;
            taken = taken.max(last);
            if self.store.is_none() {
                continue;
            }
            // What was under way is written.
            let written = under_way.take();
            self.make_rows()?;
            if self.ops.len() < FEW {
                if let Some((number, answers)) = written {
                    self.desk.progress.reach(number);
                    answers.give();
                }
                self.commit_here()?;
                self.desk.progress.reach(taken);
                mem::take(&mut self.answers).give();
                if none && closed {
                    return Ok(());
                }
                continue;
            }
            *under_way = Some((taken, mem::take(&mut self.answers)));
            if let Some(store) = self.store.take() {
                let ops = mem::take(&mut self.ops);
                if let Err(refused) = self.jobs.send((store, ops)) {
                    self.store = Some(refused.0.0);
                    return Err("the thread that commits is gone".to_owned());
                }
            }
            // Whoever waits for what is written is woken while the next commit runs.
            if let Some((number, answers)) = written {
                self.desk.progress.reach(number);
                answers.give();
            }
        }
    }

    fn take_back(&mut self, back: Back) -> Result<(), String> {
        let Back {
            store,
            mut ops,
            result,
        } = back;
        self.store = Some(store);
        ops.clear();
        self.ops = ops;
        result.map_err(|error| error.to_string())
    }

    fn store(&mut self) -> Result<&mut Box<dyn Store>, String> {
        if self.store.is_none() {
            let back = self.desk.wait_for_store();
            self.take_back(back)?;
        }
        self.store
            .as_mut()
            .ok_or_else(|| "there is no store".to_owned())
    }

    fn commit_here(&mut self) -> Result<(), String> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let ops = mem::take(&mut self.ops);
        let result = self.store()?.commit(&ops);
        self.ops = ops;
        self.ops.clear();
        result.map_err(|error| error.to_string())
    }

    fn take_in(&mut self, wishes: &mut Vec<Wish>) -> Result<(), String> {
        let now = wall_clock();
        for wish in wishes.drain(..) {
            match wish {
                Wish::Note(task, note) => {
                    let ended = self.book.take(task.0, note, now)?;
                    self.ended.extend(ended);
                }
                Wish::Keyed(task, note, answer) => match self.taken(&note)? {
                    Some(other) => {
                        let known = LedgerError::known(other);
                        self.answers.acks.push((answer, Err(known)));
                    }
                    None => {
                        let ended = self.book.take(task.0, note, now)?;
                        self.ended.extend(ended);
                        self.answers.acks.push((answer, Ok(())));
                    }
                },
                Wish::OutcomeOf(key, answer) => {
                    let live = self.book.with_key(&key).is_some();
                    if live {
                        let waiting = self.waiting.entry(key).or_default();
                        // Who does not wait any more leaves nothing, not even where many do.
                        if waiting.len() >= 16 && waiting.len().is_power_of_two() {
                            waiting.retain(|answer| !answer.is_closed());
                        }
                        waiting.push(answer);
                    } else {
                        let kept = self.look_up(&key)?;
                        self.answers.kept.push((answer, kept));
                    }
                }
            }
        }
        self.book.prepare()
    }

    /// What is to be written of all that was taken in since the last commit.
    fn make_rows(&mut self) -> Result<(), String> {
        let now = wall_clock();
        for ended in mem::take(&mut self.ended) {
            self.book.keep(&ended, now)?;
            let Ended {
                key,
                outcome,
                output,
            } = ended;
            for answer in self.waiting.remove(&key).unwrap_or_default() {
                let kept = (outcome.clone(), output.clone());
                self.answers.kept.push((answer, Some(kept)));
            }
        }
        self.book.rows(now, &mut self.ops)?;
        self.forget(now)
    }

    /// The other task that has this one's key.
    fn taken(&mut self, note: &Note) -> Result<Option<TaskId>, String> {
        let Note::Accepted { key: Some(key), .. } = note else {
            return Ok(None);
        };
        if let Some(live) = self.book.with_key(key) {
            return Ok(Some(live));
        }
        let kept = self.look_up(key)?;
        Ok(kept.map(|(outcome, _)| outcome.task))
    }

    fn look_up(&mut self, key: &str) -> Result<Option<Kept>, String> {
        let ended = self.ended.iter().rev().find(|ended| *ended.key == *key);
        if let Some(ended) = ended {
            return Ok(Some((ended.outcome.clone(), ended.output.clone())));
        }
        let row = self.store()?.kept(key).map_err(|error| error.to_string())?;
        row.map(|row: KeptRow| {
            let outcome = row.outcome().map_err(|error| error.to_string())?;
            Ok((outcome, row.output))
        })
        .transpose()
    }

    /// Lets go of outcomes whose time has passed, or that are too many.
    fn forget(&mut self, now: u64) -> Result<(), String> {
        // Some more than may be kept are, so that not each commit has to look.
        if !self.retention.is_due(self.book.outcomes, now) {
            return Ok(());
        }
        let oldest = self.store()?.blocks(0, FORGET_AT_ONCE);
        let oldest = oldest.map_err(|error| error.to_string())?;
        if oldest.is_empty() {
            self.retention.look_again(now);
        }
        for row in oldest {
            if !self.retention.is_over(&row, self.book.outcomes, now) {
                self.retention.look_again(row.at);
                return Ok(());
            }
            let keys = row.block().map_err(|error| error.to_string())?.keys;
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
            tell(answer, result);
        }
        for (answer, kept) in self.kept {
            tell(answer, Ok(kept));
        }
    }

    fn refuse(self, error: &LedgerError) {
        for (answer, _) in self.acks {
            tell(answer, Err(error.clone()));
        }
        for (answer, _) in self.kept {
            tell(answer, Err(error.clone()));
        }
    }
}

/// Answers, which wakes who waits: with a waker that may be the user's own.
fn tell<T>(answer: Answer<T>, result: Result<T, LedgerError>) {
    guard::run(|| answer.send(result).ok()).ok();
}
