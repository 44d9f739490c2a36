//! The faults, as they happen.

use std::{sync::Arc, thread, time::Duration};

use nix::sys::signal::Signal;

use crate::{
    child::{Command, LEASE},
    database,
    fault::{Kind, Length},
    node::Node,
    plan::Numbers,
    proxy::{Cut, Proxy, Way},
    server::{Replication, Servers},
    world::on_a_system,
};

/// The effect of a fault.
pub(crate) struct Done {
    pub(crate) effects: u64,
    /// It lives, as far as the fault is concerned.
    pub(crate) node: Option<Node>,
}

fn dead(effects: u64) -> Result<Done, String> {
    let node = None;
    Ok(Done { effects, node })
}

pub(crate) fn some_end(numbers: &mut Numbers) -> Command {
    match numbers.below(2) {
        0 => Command::Suspend,
        _ => Command::Drain,
    }
}

/// Something happens to a node.
pub(crate) fn of_a_node(
    kind: Kind,
    mut numbers: Numbers,
    mut node: Node,
    others: &[Arc<Proxy>],
    address: &str,
) -> Result<Done, String> {
    // Not just when the round begins.
    thread::sleep(Duration::from_millis(numbers.below(300)));
    let proxy = node.proxy.clone();
    match kind {
        Kind::Kill => {
            node.kill();
            return dead(1);
        }
        Kind::Stop => {
            stop_together(&mut numbers, vec![node])?;
            return dead(1);
        }
        Kind::KillAndCut => {
            let cuts = cut_a_claim(node, others);
            // The tasks that were claimed go on.
            let still = on_a_system(database::still(address));
            return match still.is_empty() {
                true => dead(cuts),
                false => Err(format!("C3: claimed tasks stand still: {still:?}")),
            };
        }
        Kind::Handover => {
            node.tell(some_end(&mut numbers));
            node.ended_in_peace()?;
            return dead(1);
        }
        Kind::Hold(way, length) => {
            proxy.hold(way, true);
            thread::sleep(length.time(&mut numbers));
            proxy.hold(way, false);
            if length == Length::Long {
                node.gave_up("and it was cut off for longer than its lease")?;
                return dead(proxy.late());
            }
        }
        Kind::HoldOpenOnes(length) => {
            proxy.hold_open_ones(true);
            thread::sleep(length.time(&mut numbers));
            proxy.hold_open_ones(false);
        }
        Kind::Delay(length) => {
            let delay = match length {
                Length::Short => Duration::from_millis(5 + numbers.below(60)),
                Length::Long => length.time(&mut numbers),
            };
            for way in [Way::ToServer, Way::ToNode] {
                proxy.delay(way, delay);
            }
            thread::sleep(LEASE * 3 / 2);
            for way in [Way::ToServer, Way::ToNode] {
                proxy.delay(way, Duration::ZERO);
            }
            if length == Length::Long {
                node.gave_up("and answers came later than its lease ran out")?;
                return dead(proxy.late());
            }
        }
        Kind::Cut(cut) => {
            proxy.cut(Some(cut));
            // It commits all the time, unless it hangs.
            for _ in 0..20 {
                thread::sleep(LEASE / 20);
                if proxy.cuts() > 0 {
                    break;
                }
            }
            proxy.cut(None);
        }
        other => return Err(format!("{other:?} is no fault of a node")),
    }
    let effects = match kind {
        Kind::Cut(_) => proxy.cuts(),
        _ => proxy.late(),
    };
    let node = Some(node);
    Ok(Done { effects, node })
}

/// Kills a node, and cuts the connection of each other one over which its tasks are claimed, once. Returns how
/// many were cut.
fn cut_a_claim(node: Node, others: &[Arc<Proxy>]) -> u64 {
    let cuts = || others.iter().map(|other| other.cuts()).sum::<u64>();
    let before = cuts();
    others
        .iter()
        .for_each(|other| other.cut(Some(Cut::AfterClaim)));
    node.kill();
    // The lease runs out, and somebody looks.
    for _ in 0..60 {
        thread::sleep(LEASE / 20);
        if cuts() > before {
            break;
        }
    }
    others.iter().for_each(|other| other.cut(None));
    cuts() - before
}

/// Stops nodes for longer than their leases, and wakes them.
pub(crate) fn stop_together(numbers: &mut Numbers, nodes: Vec<Node>) -> Result<(), String> {
    nodes.iter().for_each(|node| node.signal(Signal::SIGSTOP));
    thread::sleep(LEASE + Duration::from_millis(100 + numbers.below(1_000)));
    nodes.iter().for_each(|node| node.signal(Signal::SIGCONT));
    for mut node in nodes {
        node.gave_up("and it stood still for longer than its lease")?;
    }
    Ok(())
}

/// Something happens to the database. Returns how much.
pub(crate) fn of_the_database(
    kind: Kind,
    numbers: &mut Numbers,
    servers: &mut Servers,
) -> Result<u64, String> {
    let address = servers.address();
    let connections = || on_a_system(database::connections(&address));
    match kind {
        Kind::Restart => {
            let lost = connections();
            servers.stop("immediate")?;
            servers.start_again()?;
            Ok(lost)
        }
        Kind::Freeze(length) => {
            let stopped = servers.signal(Signal::SIGSTOP);
            thread::sleep(outage(length, numbers));
            servers.signal(Signal::SIGCONT);
            Ok(stopped as u64)
        }
        Kind::Shutdown(length) => {
            let lost = connections();
            servers.stop("fast")?;
            thread::sleep(outage(length, numbers));
            servers.start_again()?;
            Ok(lost)
        }
        Kind::Promotion => {
            on_a_system(servers.stand_by(Replication::Synchronous))?;
            thread::sleep(Duration::from_millis(200 + numbers.below(400)));
            let lost = connections();
            servers.fail_over()?;
            Ok(lost)
        }
        Kind::Locks => {
            let time = Duration::from_millis(200 + numbers.below(400));
            Ok(on_a_system(database::hold_rows(&address, time, false)))
        }
        Kind::IdleTransaction(length) => {
            let time = length.time(numbers);
            Ok(on_a_system(database::hold_rows(&address, time, true)))
        }
        other => Err(format!("{other:?} is no fault of the database")),
    }
}

/// The time for which the database is away.
fn outage(length: Length, numbers: &mut Numbers) -> Duration {
    match (length, crate::variable("BATRUN_OUTAGE")) {
        (Length::Long, Some(seconds)) => Duration::from_secs(seconds),
        _ => length.time(numbers),
    }
}
