//! The way in: a process without stages, such as a web server, that submits orders, cancels some, and
//! asks for the outcomes.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use actix_rt::time::{sleep, sleep_until};
use batrun::{
    Outcome,
    state::TaskId,
    submit::{Submitter, TrySubmitError},
};
use futures::{StreamExt, stream};

use crate::{AnyError, steps::Order};

/// The time for which everything is tried again, while the database is away.
const PATIENCE: Duration = Duration::from_secs(40);
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(200);

/// The answer to the cancel of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    Yes,
    /// It had ended before.
    TooLate,
    /// Nobody has answered, so it may be either.
    Unknown,
}

/// The things that the submitter knows in the end.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) cancels: BTreeMap<u64, Cancelled>,
    /// The orders whose second submit made another task, which it must not.
    pub(crate) twice: Vec<u64>,
    /// The submits that had to be tried again.
    pub(crate) again: u64,
}

pub(crate) fn order(number: u64) -> Order {
    Order {
        number,
        address_known: number % 10 != 3,
    }
}

pub(crate) fn key(number: u64) -> String {
    format!("order-{number}")
}

/// Submits orders with these numbers, evenly over this time. Cancels each fiftieth, and submits
/// each twentieth again.
pub(crate) async fn submit(
    orders: &Submitter<Order>,
    count: u64,
    span: Duration,
) -> Result<Told, AnyError> {
    let told = RefCell::new(Told::default());
    let begin = Instant::now();
    let one = async |number: u64| {
        let at = begin + span.mul_f64(number as f64 / count as f64);
        sleep_until(at.into()).await;
        let task = submit_one(orders, number, &told).await?;
        if number.is_multiple_of(20) && submit_one(orders, number, &told).await? != task {
            told.borrow_mut().twice.push(number);
        }
        if number % 50 == 1 {
            let answer = match orders.cancel(task).await {
                Ok(true) => Cancelled::Yes,
                Ok(false) => Cancelled::TooLate,
                Err(_) => Cancelled::Unknown,
            };
            told.borrow_mut().cancels.insert(number, answer);
        }
        Ok::<_, AnyError>(())
    };
    let mut all = stream::iter(0..count).map(one).buffer_unordered(256);
    while let Some(submitted) = all.next().await {
        submitted?;
    }
    drop(all);
    Ok(told.into_inner())
}

/// The key makes it safe to submit again, if nobody has answered.
async fn submit_one(
    orders: &Submitter<Order>,
    number: u64,
    told: &RefCell<Told>,
) -> Result<TaskId, AnyError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match orders.submit(order(number)).key(key(number)).await {
            Ok(accepted) => return Ok(accepted.task),
            Err(error) if Instant::now() > until => {
                return Err(format!("order {number}: {error}").into());
            }
            Err(TrySubmitError::Full(_)) => {}
            Err(_) => told.borrow_mut().again += 1,
        }
        sleep(PAUSE).await;
    }
}

/// The outcome of each order. Those that are unknown are left out.
pub(crate) async fn outcomes(
    orders: &Submitter<Order>,
    count: u64,
) -> Result<BTreeMap<u64, Outcome<Order>>, AnyError> {
    let one = async |number: u64| {
        let until = Instant::now() + PATIENCE;
        loop {
            match orders.outcome_of::<Order>(&key(number)).await {
                Ok(outcome) => return Ok((number, outcome)),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    let mut all = stream::iter(0..count).map(one).buffer_unordered(1024);
    let mut outcomes = BTreeMap::new();
    while let Some(found) = all.next().await {
        let (number, outcome) = found?;
        if let Some(outcome) = outcome {
            outcomes.insert(number, outcome);
        }
    }
    Ok(outcomes)
}
