//! A running program and whatever it started, in a process group of their own.

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
    time::{sleep, timeout},
};

use super::{Program, output::Pipes};

/// How long what a program said is still read after it has exited: a process that it left behind
/// may keep the pipes open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long the killed rest of a group is waited for. It is dead when the signal is, save for
/// what the kernel still does for it; but where nobody collects orphans it is listed for ever.
const REMAINS: Duration = Duration::from_millis(500);

/// A program that was started. Dropped while it runs, its whole group is killed.
pub(super) struct Group {
    child: Child,
    pub(super) pipes: Pipes,
}

/// How a program came to its end.
pub(super) enum Ended<S> {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed, for this reason.
    Killed(S),
}

impl Group {
    pub(super) fn start(program: &Program, largest: usize) -> io::Result<Self> {
        let mut child = program.prepare().spawn()?;
        let pipes = Pipes::take(&mut child, program.input(), largest);
        Ok(Group { child, pipes })
    }

    /// Waits until the program exits or `stop` is ready; then its group is killed, and is gone
    /// when this returns.
    pub(super) async fn run<S>(
        &mut self,
        stop: impl Future<Output = S>,
        terminate_first: Option<Duration>,
    ) -> io::Result<Ended<S>> {
        let why = {
            let (pipes, mut exit) = (&mut self.pipes, pin!(self.child.wait()));
            let mut stop = pin!(stop);
            let ended = poll_fn(|cx| {
                // It must not have to wait for us to read or write.
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

    /// Asks the group to end and gives it a while.
    async fn terminate(&mut self, patience: Duration) {
        let Some(leader) = self.leader() else { return };
        killpg(leader, Signal::SIGTERM).ok();
        let pipes = &mut self.pipes;
        let ended = async {
            // Both: a program may close its outputs early, or exit before what it started.
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
        // Signal 0 only looks. The number may be another group's by now, which costs some time.
        let remains = async {
            while killpg(leader, None).is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(REMAINS, remains).await.ok();
        Ok(())
    }

    /// The number of the group, as long as it surely is ours: until the leader's exit was
    /// collected, nobody else can get it.
    fn leader(&self) -> Option<Pid> {
        let id = i32::try_from(self.child.id()?).ok()?;
        Some(Pid::from_raw(id))
    }

    fn send_kill(&self) {
        if let Some(leader) = self.leader() {
            // It fails where the program may not be signalled: then its end is waited for.
            killpg(leader, Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The runtime collects the exit later.
        self.send_kill();
    }
}

/// Whether a child has exited, leaving that to be collected: the number must stay ours.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn has_exited(child: Pid) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(child), look), Ok(WaitStatus::StillAlive))
}

/// Can't be told here without collecting it, so the patience runs out.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn has_exited(_: Pid) -> bool {
    false
}
