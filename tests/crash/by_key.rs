//! The visitor of tasks that are known by their keys: it takes them back, tries them again, forgets them.

use std::{collections::HashMap, time::Duration};

use crate::{
    child::{Handle, Orders, submit, tell},
    log::{How, Line, Log, Reopen, Told, Went},
    plan::{Numbers, key, next_life},
};

/// The time that it waits for an outcome, before it looks at another task.
const PATIENCE: Duration = Duration::from_millis(20);

/// The number of stuck tasks that it looks at.
const STUCK: usize = 10;

/// A key that nobody has.
const NOBODY: &str = "nobody";

struct Visit<'a> {
    orders: &'a Orders,
    handle: &'a Handle,
    log: &'a Log,
    numbers: Numbers,
}

/// Looks at the tasks with an even key, or those with an odd one: some that are stuck, the older ones, and
/// what follows from that.
pub(crate) async fn visit(orders: &Orders, handle: &Handle, log: &Log, parity: u64) {
    let seed = orders.seed ^ u64::from(orders.run).wrapping_mul(0xa076_1d64_78bd_642f);
    let mut visit = Visit {
        orders,
        handle,
        log,
        numbers: Numbers(seed + parity),
    };
    let stuck = handle.stuck().into_iter();
    let stuck = stuck.filter_map(|stuck| stuck.label?.parse().ok());
    let older = orders.older.iter().copied();
    // A key has to be in one pair of hands.
    let own = |number: &u64| number % 2 == parity;
    // A key that was forgotten has another task by the time it comes again.
    let mut lives = HashMap::new();
    for number in stuck.take(STUCK).chain(older).filter(own) {
        let mut number = lives.get(&key(number)).copied().unwrap_or(number);
        // A few things may come of each.
        while visit.numbers.below(5) > 0 {
            number = visit.one(number).await;
        }
        lives.insert(key(number), number);
    }
}

impl Visit<'_> {
    /// Does something with the task. Returns the one that has its key now.
    async fn one(&mut self, number: u64) -> u64 {
        let (handle, log) = (self.handle, self.log);
        if self.numbers.below(8) == 0 {
            log.note(&Line::Stops { number });
            let took = handle.cancel_key(&key(number));
            log.note(&Line::Stop { number, took });
        }
        let key = key(number);
        let outcome = actix_rt::time::timeout(PATIENCE, handle.outcome_of(&key)).await;
        let Ok(outcome) = outcome else { return number };
        let Some(outcome) = outcome.unwrap() else {
            log.note(&Line::Nothing { number });
            return number;
        };
        let (task, told) = (outcome.task.0, Told::of(&outcome));
        let (end, is_stuck) = (told.end, matches!(told.went, Went::Stuck(_)));
        log.note(&Line::Now { number, task, told });
        match (end, self.numbers.below(6)) {
            (_, 0) => number,
            (_, 1..=3) if is_stuck => {
                self.retry(number, task).await;
                number
            }
            (How::Done | How::TakenBack, 1..=2) => {
                self.take_back(number).await;
                number
            }
            (How::Done | How::TakenBack, 3) => {
                let this = &*self;
                futures::join!(this.take_back(number), this.take_back(number));
                number
            }
            (How::Done, 4) => {
                let this = &*self;
                futures::join!(this.take_back(number), this.forget(number));
                number
            }
            _ => match self.forget(number).await {
                true => {
                    let next = next_life(number);
                    submit(self.orders, handle, log, next).await;
                    next
                }
                false => number,
            },
        }
    }

    async fn take_back(&self, number: u64) {
        let how = Reopen::TakeBack;
        self.log.note(&Line::Reopens { number, how });
        match self.handle.take_back(&key(number)).await {
            Ok(ticket) => {
                let task = ticket.id().0;
                self.log.note(&Line::Reopened { number, task, how });
                let log = self.log.clone();
                actix_rt::spawn(async move { tell(ticket, &log).await });
            }
            Err(_) => self.log.note(&Line::Stays { number, how }),
        }
    }

    async fn retry(&mut self, number: u64, task: u64) {
        let how = Reopen::Retry;
        self.log.note(&Line::Reopens { number, how });
        let retried = match self.numbers.below(2) {
            0 => self.handle.stuck().iter().find_map(|stuck| {
                let own = stuck.task.0 == task;
                own.then(|| self.handle.retry(stuck.task).is_ok())
            }),
            _ => {
                let retried = self.handle.retry_all(|stuck| stuck.task.0 == task);
                retried.first().map(Result::is_ok)
            }
        };
        if retried != Some(true) {
            return self.log.note(&Line::Stays { number, how });
        }
        // Whatever was recorded before this is answered is recorded by then.
        self.handle.forget(NOBODY).await.unwrap();
        self.log.note(&Line::Reopened { number, task, how });
    }

    /// `true` if the key is free now.
    async fn forget(&self, number: u64) -> bool {
        self.log.note(&Line::Forgets { number });
        let forgotten = self.handle.forget(&key(number)).await;
        self.log.note(&match forgotten {
            Ok(true) => Line::Forgot { number },
            Ok(false) | Err(_) => Line::Keeps { number },
        });
        forgotten == Ok(true)
    }
}
