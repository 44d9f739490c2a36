//! The orders.

use std::{collections::BTreeSet, fmt::Write};

use serde::{Deserialize, Serialize};

/// The orders that come with the example.
pub(crate) const SAMPLE: &str = include_str!("orders.csv");

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) quantity: u32,
    pub(crate) cents: u64,
    pub(crate) card: Card,
    pub(crate) address: Address,
}

/// The bank's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Card {
    Ok,
    Refused,
}

/// The carrier's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Address {
    Ok,
    Unknown,
}

/// Reads orders, each with a number of its own.
pub(crate) fn read(text: &str) -> Result<Vec<Order>, Box<dyn std::error::Error>> {
    let orders: Vec<Order> = csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()?;
    let mut numbers = BTreeSet::new();
    for order in &orders {
        if !numbers.insert(order.number) {
            return Err(format!("there are two orders with the number {}", order.number).into());
        }
    }
    Ok(orders)
}

/// This many orders, the same ones each time.
pub(crate) fn make(orders: u32) -> String {
    const ITEMS: [(&str, u64); 5] = [
        ("lamp", 3_900),
        ("chair", 8_900),
        ("kettle", 2_450),
        ("clock", 1_990),
        ("violin", 64_000),
    ];
    let mut text = "number,customer,item,quantity,cents,card,address\n".to_owned();
    for number in 1..=u64::from(orders) {
        // A multiplication scatters the numbers, so that neighbours have little in common.
        let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let (item, price) = ITEMS[(dice % 5) as usize];
        let quantity = 1 + dice / 5 % 3;
        let card = if dice / 15 % 12 == 0 { "refused" } else { "ok" };
        let address = if dice / 180 % 15 == 0 {
            "unknown"
        } else {
            "ok"
        };
        let cents = price * quantity;
        // Writing to a `String` can't fail.
        let _ = writeln!(
            text,
            "{number},customer {},{item},{quantity},{cents},{card},{address}",
            dice / 2_700 % 50
        );
    }
    text
}
