//! A shop that is never quite well, to look at: orders that fail and are taken back, a stage that is too slow, one
//! that refuses now and then, and an undo that gets stuck.
//!
//! ```sh
//! cargo run -p batrun-monitor --example demo               # on a free port; prints its URL
//! cargo run -p batrun-monitor --example demo -- 8080       # on this one
//! ```

use std::time::Duration;

use actix_rt::time::sleep;
use batrun::{Failure, prelude::*, report::Recorder};
use batrun_monitor::Monitor;

#[derive(Clone, Debug)]
struct Order {
    number: u64,
    customer: &'static str,
}

const CUSTOMERS: [&str; 8] = [
    "ada",
    "grace",
    "edsger",
    "barbara",
    "donald",
    "frances",
    "alan",
    "<script>alert(1)</script>",
];

/// Numbers that look random, the same in each run.
fn dice(order: &Order, salt: u64) -> u64 {
    let mixed = (order.number ^ salt << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

async fn work(order: &Order, salt: u64, ms: u64) {
    sleep(Duration::from_millis(ms / 2 + dice(order, salt) % ms)).await;
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;

    let reserve = stage_fn(
        "reserve",
        async |order: Order, task: &TaskContext<String>| {
            task.on_cancel(format!("reservation of order {}", order.number))
                .await?;
            work(&order, 1, 20).await;
            match dice(&order, 2) % 40 {
                0 => Err(Failure::permanent(format!(
                    "item {} is sold out",
                    order.number % 100
                ))),
                _ => Ok(order),
            }
        },
    )
    .cancel_with(async |_: String, _: &CancelContext| {
        sleep(Duration::from_millis(8)).await;
        Ok(())
    })
    .workers(2)
    .capacity(16);

    let pay = stage_fn("pay", async |order: Order, task: &TaskContext<String>| {
        task.on_cancel(format!(
            "payment of {}, order {}",
            order.customer, order.number
        ))
        .await?;
        work(&order, 3, 40).await;
        match dice(&order, 4 + u64::from(task.attempt())) % 12 {
            0 => Err(Failure::new("the bank doesn't answer")),
            1 if dice(&order, 9).is_multiple_of(4) => Err(Failure::permanent("card refused")),
            _ => Ok(order),
        }
    })
    .cancel_with(async |payment: String, _: &CancelContext| {
        sleep(Duration::from_millis(15)).await;
        // One customer's bank never gives anything back.
        match payment.contains("edsger") && payment.ends_with("7") {
            true => Err(Failure::permanent("the bank refuses the refund")),
            false => Ok(()),
        }
    })
    .workers(4)
    .capacity(16)
    .retry(Retry::constant(2, Duration::from_millis(200)));

    let pack = stage_fn("pack", async |order: Order, task: &TaskContext<String>| {
        task.on_cancel(format!("parcel {}", order.number)).await?;
        for part in 1..=4 {
            work(&order, part, 25).await;
            task.progress(part as f64 / 4.0, format!("part {part} of 4"));
        }
        match dice(&order, 11) % 10 {
            0 => Err(Failure::permanent(format!(
                "parcel {} broke: \u{202e}glass\u{7}",
                order.number
            ))),
            _ => Ok(order),
        }
    })
    .cancel_with(async |_: String, _: &CancelContext| {
        sleep(Duration::from_millis(30)).await;
        Ok(())
    })
    .workers(3)
    .capacity(12);

    let ship = stage_fn("ship/by post", async |order: Order, _: &TaskContext<()>| {
        work(&order, 12, 10).await;
        match dice(&order, 13) % 30 {
            0 => Err(Failure::permanent(format!(
                "no carrier for order {}",
                order.number
            ))),
            _ => Ok(order.number),
        }
    })
    .workers(2)
    .rate_limit(RateLimit::per_second(50));

    let orders = Pipeline::new("orders")
        .max_stuck(50)
        .max_in_flight(60)
        .recorder(Recorder::bytes(4 << 20).one_in(20))
        .stage(reserve)
        .stage(pay)
        .stage(pack)
        .stage(ship)
        .start()
        .await?;

    let mails = Pipeline::new("mails")
        .stage(stage_fn(
            "send",
            async |number: u64, _: &TaskContext<()>| {
                sleep(Duration::from_millis(5)).await;
                Ok(number)
            },
        ))
        .start()
        .await?;

    let serving = Monitor::new()
        .watch(&orders)
        .watch(&mails)
        .serve(("127.0.0.1", port))?;
    println!("{serving}");

    // Orders come faster than they can be packed, so that they wait.
    for number in 1.. {
        let customer = CUSTOMERS[number as usize % CUSTOMERS.len()];
        let submit = orders
            .submit(Order { number, customer })
            .label(customer)
            .timeout(Duration::from_secs(20));
        match submit.await {
            Ok(ticket) => drop(ticket),
            Err(_) if orders.snapshot().ended => break,
            // Too many are stuck, or it drains.
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
        if number % 3 == 0 {
            mails.submit(number).await.ok();
        }
        sleep(Duration::from_millis(15)).await;
    }
    // It stays as it was at its end, to be looked at.
    orders.join().await?;
    std::future::pending().await
}
