//! Requests to look at: those of a service with good and bad minutes.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::rt::{
    self,
    time::{interval, sleep},
};
use serde_json::json;

use crate::{client, request, world::World};

/// Accounts that get stuck, until somebody has dealt with some. The pipeline's own limit is higher.
const STUCK: usize = 4;

/// Sends requests until it is aborted.
pub(crate) async fn run(to: SocketAddr, world: Arc<World>) {
    rt::spawn(spoil(to, world));
    let client = client();
    for i in 0.. {
        rt::spawn(request(client.clone(), to, i));
        // A minute's wave, at whose top more come than it can take.
        let phase = i as f64 / 400.0 * std::f64::consts::TAU;
        sleep(Duration::from_millis((26.0 - 18.0 * phase.sin()) as u64)).await;
    }
}

/// Now and then somebody else writes to the file of an account that runs late. Its undo refuses to remove such a
/// file, so the task is stuck: a person has to look.
async fn spoil(to: SocketAddr, world: Arc<World>) {
    let mut ticks = interval(Duration::from_secs(20));
    for n in 1..=STUCK {
        ticks.tick().await;
        let name = format!("slow-and-spoilt-{n}");
        let account = json!({ "name": name, "pages": n });
        let url = format!("http://{to}/accounts");
        let send = client().post(url).send_json(&account);
        let sent = rt::spawn(async move { drop(send.await) });
        let file = world.file(&name);
        while !sent.is_finished() {
            if file.exists() {
                fs::write(&file, "someone else's").ok();
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
