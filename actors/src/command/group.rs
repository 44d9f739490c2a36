//! A running program, and the processes that it started, in a process group of their own.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    process::ExitStatus,
    task::Poll,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::Child,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::{Program, output::Pipes};

/// Time for which the pipes are still read after the program has exited. It has a bound because a
/// process that was left behind may keep them open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Time for which the rest of a killed group is waited for. After SIGKILL it runs no more code of
/// its own; the wait is for what the kernel still does for it. It has a bound because a process
/// stays listed for ever in a container whose init collects no orphans.
const REMAINS: Duration = Duration::from_millis(500);

/// A program that was started. If it is dropped while the program runs, the whole group is killed.
pub(super) struct Group {
    child: Child,
    pub(super) pipes: Pipes,
}

/// The end of a program.
pub(super) enum Ended<S> {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed, for this reason.
    Killed(S),
}

impl Group {
    pub(super) fn start(program: &Program, largest: usize) -> io::Result<Self> {
        // If this process inherited SIGCHLD as ignored, the system throws its children's exit codes
        // away, and a wait for one fails. A handler, even one that does nothing, makes it keep them.
        // It is set once, and stays. The program doesn't inherit it.
        let _handled = signal(SignalKind::child())?;
        let mut child = program.prepare().spawn()?;
        let pipes = Pipes::take(&mut child, program.input(), largest);
        Ok(Group { child, pipes })
    }

    /// Waits until the program exits or `stop` is ready. After `stop`, the group is killed and is
    /// gone when this returns.
    ///
    /// # Cancel safety
    /// If the future is dropped, the program goes on until the group itself is dropped, which kills
    /// it without waiting.
    pub(super) async fn run<S>(
        &mut self,
        stop: impl Future<Output = S>,
        terminate_first: Option<Duration>,
    ) -> io::Result<Ended<S>> {
        let why = {
            let (pipes, mut exit) = (&mut self.pipes, pin!(self.child.wait()));
            let mut stop = pin!(stop);
            let ended = poll_fn(|cx| {
                // A program whose pipe is full stops until somebody reads: it would never exit.
                let _ = pipes.poll(cx);
                if let Poll::Ready(status) = exit.as_mut().poll(cx) {
                    return Poll::Ready(Ok(status));
                }
                stop.as_mut().poll(cx).map(Err)
            });
            match ended.await {
                Ok(status) => {
                    let status = status?;
                    let rest = poll_fn(|cx| pipes.poll(cx));
                    timeout(LAST_WORDS, rest).await.ok();
                    return Ok(Ended::Exited(status));
                }
                Err(why) => why,
            }
        };
        if let Some(patience) = terminate_first {
            self.terminate(patience).await;
        }
        self.kill().await?;
        Ok(Ended::Killed(why))
    }

    /// Asks the group to end, and waits until it has or `patience` has passed.
    async fn terminate(&mut self, patience: Duration) {
        let Some(leader) = self.leader() else { return };
        killpg(leader, Signal::SIGTERM).ok();
        let pipes = &mut self.pipes;
        let ended = async {
            // Wait for both: a program may close its outputs early, or exit before its children.
            poll_fn(|cx| pipes.poll(cx)).await;
            while !has_exited(leader) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(patience, ended).await.ok();
    }

    async fn kill(&mut self) -> io::Result<()> {
        let leader = self.leader();
        self.send_kill();
        self.child.wait().await?;
        let Some(leader) = leader else { return Ok(()) };
        // Signal 0 only asks whether the group exists. Another group may have got its number by
        // now: then this waits in vain until the time is up, and does no harm.
        let remains = async {
            while killpg(leader, None).is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(REMAINS, remains).await.ok();
        Ok(())
    }

    /// The number of the group, or `None` once the leader's exit has been collected. Until then the
    /// kernel gives the number to nobody else, so a signal can't reach a stranger.
    fn leader(&self) -> Option<Pid> {
        let id = i32::try_from(self.child.id()?).ok()?;
        Some(Pid::from_raw(id))
    }

    fn send_kill(&self) {
        if let Some(leader) = self.leader() {
            // It fails if this process may not signal the program: then `kill` waits for its end.
            killpg(leader, Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody can wait here. The runtime collects the exit later.
        self.send_kill();
    }
}

/// `true` once a child has exited. Its exit stays uncollected, so that its number stays ours and
/// the group can still be killed.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn has_exited(child: Pid) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(child), look), Ok(WaitStatus::StillAlive))
}

/// Always `false`: these systems can't tell without collecting the exit, so the patience runs out.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn has_exited(_: Pid) -> bool {
    false
}
