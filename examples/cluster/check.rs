//! The check: the world against the outcomes, and a table of both.

use std::collections::BTreeMap;

use batrun::{Outcome, state::End};

use crate::{
    steps::Order,
    submitter::{Cancelled, Told, order},
    world::Books,
};

/// The effects of an order that is wholly there: one of each kind.
const WHOLE: [usize; 3] = [1, 1, 1];

/// Everything that isn't as it should be, a line each.
pub(crate) fn check(
    books: &Books,
    count: u64,
    outcomes: &BTreeMap<u64, Outcome<Order>>,
    told: &Told,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut world = books.counts();
    for number in &told.twice {
        wrong.push(format!("order {number}: its key has stood for two tasks"));
    }
    for number in 0..count {
        let found = world.remove(&number).unwrap_or_default();
        let Some(outcome) = outcomes.get(&number) else {
            wrong.push(format!("order {number}: it has no outcome"));
            continue;
        };
        let expected = match outcome.is_done() {
            true => WHOLE,
            false => [0; 3],
        };
        if found != expected {
            wrong.push(format!(
                "order {number}: the world has {found:?} instead of {expected:?}; {outcome}"
            ));
        }
        if outcome.rollback.is_stuck() || !is_expected(number, &outcome.end, told) {
            let cancel = told.cancels.get(&number);
            wrong.push(format!("order {number}: cancel {cancel:?}, and {outcome}"));
        }
    }
    for (number, found) in world {
        wrong.push(format!(
            "order {number}: nobody sent it, and the world has {found:?}"
        ));
    }
    wrong
}

fn is_expected(number: u64, end: &End, told: &Told) -> bool {
    let cancel = told.cancels.get(&number);
    match end {
        End::Cancelled { .. } => matches!(cancel, Some(Cancelled::Yes | Cancelled::Unknown)),
        _ if cancel == Some(&Cancelled::Yes) => false,
        End::Done => order(number).address_known,
        End::Failed { stage, .. } => &**stage == "ship" && !order(number).address_known,
        _ => false,
    }
}

/// Prints the orders by their ends, each with what the world has of them.
pub(crate) fn tell(books: &Books, outcomes: &BTreeMap<u64, Outcome<Order>>) {
    let world = books.counts();
    let mut lines = BTreeMap::<String, [usize; 4]>::new();
    for (number, outcome) in outcomes {
        let end = match &outcome.end {
            End::Cancelled { .. } => "cancelled".to_owned(),
            End::Failed { stage, failure } => format!("failed in {stage}: {failure}"),
            end => end.to_string(),
        };
        let line = lines.entry(end).or_default();
        line[0] += 1;
        let found = world.get(number).copied().unwrap_or_default();
        for (sum, found) in line[1..].iter_mut().zip(found) {
            *sum += found;
        }
    }
    let wide = lines.keys().map(String::len).max().unwrap_or(0);
    println!("\n{:wide$}  orders  reserved  charged  shipped", "");
    for (end, [orders, reserved, charged, shipped]) in lines {
        println!("{end:wide$}  {orders:>6}  {reserved:>8}  {charged:>7}  {shipped:>7}");
    }
}
