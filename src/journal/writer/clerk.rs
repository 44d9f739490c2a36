//! The thread that takes in what has gathered, turns it into rows, and commits these.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, mpsc},
};

use super::{
    answers::{Answer, Answers, Kept, tell},
    desk::{Back, Desk, News, Wish},
};
use crate::{
    LedgerError, TaskId, guard,
    journal::{
        Retention,
        book::{Book, Ended},
        note::{Note, wall_clock},
        rows::KeptRow,
        store::{Op, Store},
    },
};

/// The word that says how the process before has ended.
pub(in crate::journal) const ENDED: &str = "ended";
pub(in crate::journal) const ON_PURPOSE: &str = "on purpose";

/// A commit of fewer changes isn't worth another thread.
const FEW: usize = 256;

/// The writer's own.
pub(super) struct Clerk {
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
    pub(super) fn new(
        desk: Arc<Desk>,
        store: Box<dyn Store>,
        jobs: mpsc::Sender<(Box<dyn Store>, Vec<Op>)>,
        book: Book,
        retention: Retention,
    ) -> Self {
        Clerk {
            desk,
            store: Some(store),
            jobs,
            book,
            retention,
            waiting: HashMap::new(),
            ended: Vec::new(),
            answers: Answers::default(),
            ops: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) {
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
            wishes.append(&mut self.desk.give_up());
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
