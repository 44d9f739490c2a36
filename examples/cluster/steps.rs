//! The order and its three stages. Nothing in here knows how many processes there are.
//!
//! Each effect is asked for by `task.key()`, so that a second request changes nothing, and with
//! `task.fence()`, so that the world can refuse a process that was taken over from.

use std::{net::SocketAddr, time::Duration};

use batrun::prelude::*;
use serde::{Deserialize, Serialize};

use crate::desk::{Desk, Request};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) address_known: bool,
}

/// An effect in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    Reserve,
    Charge,
    Ship,
}

/// A stage that has one effect.
#[derive(Clone)]
pub(crate) struct Step {
    effect: Effect,
    desk: Desk,
    pace: Duration,
}

/// A stage whose worker asks the world for this effect. Each attempt takes as long as `pace`.
pub(crate) fn step(effect: Effect, world: SocketAddr, node: u32, pace: Duration) -> Work<Step> {
    let desk = Desk::new(world, node);
    let step = Step { effect, desk, pace };
    step.named(format!("{effect:?}").to_lowercase())
        .workers(64)
        .retry(Retry::exponential(5))
        .cancel_retry(Retry::exponential(5))
}

impl Stage for Step {
    type Input = Order;
    type Output = Order;
    type Undo = String;

    async fn run(
        &mut self,
        order: Order,
        task: &TaskContext<'_, String>,
    ) -> Result<Order, Failure> {
        let key = task.key().to_string();
        // Before the request, since nobody knows after a kill how far that has come.
        task.on_cancel(key.clone()).await?;
        actix_rt::time::sleep(self.pace).await;
        if self.effect == Effect::Ship && !order.address_known {
            return Err(Failure::permanent("nobody knows the address"));
        }
        let request = Request::Do {
            effect: self.effect,
            order: order.number,
            key,
            task: task.task_id().0,
            fence: task.fence(),
        };
        self.desk.ask(request).await?;
        Ok(order)
    }

    /// By the key, of which the world may never have heard: it refuses the request if it comes later.
    async fn cancel(&mut self, key: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.desk.ask(Request::Undo { key }).await
    }
}
