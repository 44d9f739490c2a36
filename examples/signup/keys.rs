//! What the service asks about a key.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use actix_web::rt::time::timeout;
use batrun::{Error, Outcome, journal::JournalFile, state::TaskId};

use crate::{AnyError, service::SignUps, stages::SignUp};

static NUMBERS: Mutex<Option<HashMap<String, TaskId>>> = Mutex::new(None);

pub(crate) enum Status {
    Unknown,
    UnderWay,
    Ended(Outcome<SignUp>),
}

pub(crate) fn remember(key: &str, task: TaskId) {
    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    numbers.get_or_insert_default().insert(key.to_owned(), task);
}

pub(crate) async fn status(signups: &SignUps, key: &str) -> Result<Status, Error> {
    match timeout(Duration::from_millis(50), signups.outcome_of(key)).await {
        Err(_) => Ok(Status::UnderWay),
        Ok(Ok(Some(outcome))) => Ok(Status::Ended(outcome)),
        Ok(Ok(None)) => Ok(Status::Unknown),
        Ok(Err(error)) => Err(error),
    }
}

pub(crate) fn cancel(signups: &SignUps, key: &str) -> bool {
    let numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let number = numbers.as_ref().and_then(|numbers| numbers.get(key));
    number.is_some_and(|number| signups.cancel(*number))
}

pub(crate) fn retry_stuck(journal: &Path) -> Result<(), AnyError> {
    if !journal.exists() {
        return Ok(());
    }
    let mut stuck = Vec::new();
    let mut file = JournalFile::edit(journal)?;
    file.tasks(|task| {
        if let Ok(task) = task
            && task.stuck.is_some()
        {
            stuck.push(task.id);
        }
    })?;
    file.retry(&stuck)?;
    Ok(())
}
