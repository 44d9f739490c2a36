//! Where callers and the clerk meet: what is asked for gathers here, and the store comes back here.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::answers::{Answer, Kept};
use crate::{
    LedgerError, TaskId, guard,
    journal::{
        note::Note,
        store::{Op, Store, StoreError},
    },
    ledger::Progress,
};

/// What the writer is asked for, in the order in which it was asked.
pub(super) enum Wish {
    Note(TaskId, Note),
    /// A task with a key, which may be another one's.
    Keyed(TaskId, Note, Answer<()>),
    OutcomeOf(Box<str>, Answer<Option<Kept>>),
}

/// Where wishes gather.
pub(super) struct Desk {
    inbox: Mutex<Inbox>,
    came: Condvar,
    pub(super) progress: Arc<Progress>,
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

/// How long what nobody waits for is left unwritten at most, so that it mostly goes along with
/// something else and costs no commit of its own.
const LEISURE: Duration = Duration::from_millis(2);

/// What the writer finds when it looks.
pub(super) struct News {
    pub(super) last: u64,
    pub(super) back: Option<Back>,
    pub(super) closed: bool,
}

/// A store, what was to be written to it, and whether it was.
pub(super) struct Back {
    pub(super) store: Box<dyn Store>,
    pub(super) ops: Vec<Op>,
    pub(super) result: Result<(), StoreError>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Desk {
            inbox: Mutex::default(),
            came: Condvar::new(),
            progress: Arc::default(),
        }
    }

    /// Puts a wish to the others. Who has an urgent one waits until it is granted.
    pub(super) fn ask(&self, wish: Wish, urgent: bool) -> Result<u64, LedgerError> {
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
    pub(super) fn gathered(&self, wishes: &mut Vec<Wish>, away: bool) -> News {
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
    pub(super) fn wait_for_store(&self) -> Back {
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
    pub(super) fn give_back(&self, back: Back) {
        guard::lock(&self.inbox).back = Some(back);
        self.came.notify_one();
    }

    /// Takes nothing more. What has gathered is still written.
    pub(super) fn close(&self) {
        guard::lock(&self.inbox).closed = true;
        self.came.notify_one();
    }

    /// Takes nothing more, and gives out what won't be written.
    pub(super) fn give_up(&self) -> Vec<Wish> {
        let mut inbox = guard::lock(&self.inbox);
        inbox.closed = true;
        mem::take(&mut inbox.wishes)
    }
}
