//! A stage that runs a program; its undo runs another one.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, ErrorKind},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use batrun::{CancelContext, Failure, Stage, TaskContext};
use tokio::time::timeout;

use group::{Ended, Group};
pub use output::Output;
pub use program::Program;

mod group;
mod output;
mod program;
#[cfg(test)]
mod tests;

/// Default of [`Command::largest`], in bytes.
const LARGEST: usize = 64 << 10;

type Make<I> = Arc<dyn Fn(&I) -> Program + Send + Sync>;
type Then<I, O> = Arc<dyn Fn(I, Output) -> Result<O, Failure> + Send + Sync>;

/// A stage that runs a [`Program`] for each task; its undo runs another program.
///
/// A closure makes the program from the context, and it is run without a shell. Exit code 0 is
/// success: the context goes on unchanged, unless [`then`](Self::then) makes something else of it.
///
/// # Undo
/// With [`cancel_with`](Self::cancel_with), a second program takes back what the first one did. It
/// is registered as the undo before the first one starts, so it has to cope with a first one that
/// did nothing, a part or everything because it was killed or failed on its way.
/// [`gone`](Self::gone) lists the exit codes by which it says that nothing was left to do. Without
/// `cancel_with`, nothing is taken back.
///
/// # Errors
/// - Another exit code than 0, or a signal: the failure names the program, the code or signal, and
///   the last three lines on standard error. It may be tried again, unless the code is listed as
///   [`permanent`](Self::permanent) or [`untouched`](Self::untouched).
/// - The program ran for longer than [`limit`](Self::limit): it was killed, and may be tried again.
/// - The program doesn't exist or can't be executed: a permanent failure. It has done nothing, so
///   the undo is withdrawn.
/// - An exit code of the undo's program that is neither 0 nor `gone` is a failed cancel: it is
///   tried again by the stage's [`cancel_retry`](batrun::IntoWork::cancel_retry), and then the task
///   is stuck.
///
/// # Cancel safety
/// The program runs in a process group of its own. If the task is late or cancelled, the whole
/// group is killed (SIGKILL, or see [`terminate_first`](Self::terminate_first)), and the rollback
/// begins once it is gone.
///
/// - A process that left the group (a daemon in a session of its own) is not seen, and survives.
/// - So does a process that the program leaves running when it exits by itself; that is how it
///   starts a daemon. The output of such a process is read for another 100 ms and then dropped.
/// - A program that this process may not signal, because it runs as another user, is waited for.
/// - If batrun's own process is killed, the programs that it started go on. With a journal, the next
///   process runs the undo without waiting for them: make the undo cope with a program that is still
///   at work, or have them end with the process (a service manager does, and so does a container).
///
/// A stage's [`timeout`](batrun::IntoWork::timeout) doesn't stop a program: it waits for the end of
/// the program and then fails the attempt. Use [`limit`](Self::limit) instead. An undo's program
/// that overruns the stage's [`cancel_timeout`](batrun::IntoWork::cancel_timeout) is killed with
/// its group, without SIGTERM before and without waiting for its end.
///
/// # This process's signals
/// The first program that is started sets a handler for SIGCHLD in this process, unless tokio has set
/// it already. Without it, exit codes would be lost where the process that started this one has
/// SIGCHLD ignored. A handler that was there before is still called.
///
/// # Cost
/// Starting a program takes some milliseconds, in which the stage's thread does nothing else.
///
/// ```
/// use batrun::prelude::*;
/// use batrun_actors::{Command, Program};
///
/// let folder = tempfile::tempdir()?;
/// let root = folder.path().to_owned();
/// let undo_root = root.clone();
/// let create = Command::new(move |name: &String| Program::new("mkdir").arg(root.join(name)))
///     .cancel_with(move |name: &String| Program::new("rmdir").arg(undo_root.join(name)));
/// let check = stage_fn("check", async |name: String, _: &TaskContext<()>| match &*name {
///     "eve" => Err(Failure::permanent("not on the list")),
///     _ => Ok(name),
/// });
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("homes")
///         .producer(from_iter(["ada", "eve"].map(String::from)))
///         .stage(create.workers(2))
///         .stage(check)
///         .run(),
/// )?;
/// assert_eq!((report.counts.done, report.counts.failed), (1, 1));
/// assert!(folder.path().join("ada").exists());
/// assert!(!folder.path().join("eve").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Command<I, O = I> {
    program: Make<I>,
    cancel: Option<Make<I>>,
    then: Then<I, O>,
    rules: Rules,
}

#[derive(Clone)]
struct Rules {
    largest: usize,
    limit: Option<Duration>,
    terminate_first: Option<Duration>,
    untouched: Vec<i32>,
    permanent: Vec<i32>,
    gone: Vec<i32>,
}

impl<I> Command<I> {
    /// A stage that runs the program that `program` makes from a task's context. The closure is
    /// called once in each attempt.
    pub fn new(program: impl Fn(&I) -> Program + Send + Sync + 'static) -> Self {
        Command {
            program: Arc::new(program),
            cancel: None,
            then: Arc::new(|context, _| Ok(context)),
            rules: Rules {
                largest: LARGEST,
                limit: None,
                terminate_first: None,
                untouched: Vec::new(),
                permanent: Vec::new(),
                gone: Vec::new(),
            },
        }
    }
}

impl<I, O> Command<I, O> {
    /// Sets the program that takes back the effect. The closure is called, and the undo registered,
    /// before the stage's program starts. Default: no undo.
    pub fn cancel_with(mut self, program: impl Fn(&I) -> Program + Send + Sync + 'static) -> Self {
        self.cancel = Some(Arc::new(program));
        self
    }

    /// Makes the stage's output from the context and the program's [`Output`], after exit code 0.
    /// Default: the context goes on unchanged.
    ///
    /// # Errors
    /// A failure of the closure is the attempt's, although the program has succeeded: its undo
    /// runs.
    pub fn then<P>(
        self,
        then: impl Fn(I, Output) -> Result<P, Failure> + Send + Sync + 'static,
    ) -> Command<I, P> {
        Command {
            program: self.program,
            cancel: self.cancel,
            then: Arc::new(then),
            rules: self.rules,
        }
    }

    /// Maximum number of bytes that are kept of standard output, and as many of standard error. The
    /// rest is read and dropped, and [`Output`] says so. Default: 64 KiB each.
    pub fn largest(mut self, bytes: usize) -> Self {
        self.rules.largest = bytes;
        self
    }

    /// Adds exit codes by which the program says that it changed nothing (`groupadd`'s 9: the group
    /// exists already). The task fails for good, and its undo is withdrawn, because it would take
    /// back what somebody else made. Default: none.
    pub fn untouched(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.rules.untouched.extend(codes);
        self
    }

    /// Adds exit codes that another attempt would meet as well: the task fails for good. The undo
    /// runs, because the program may have done a part of its work. Default: none, so every exit
    /// code but 0 may be tried again.
    pub fn permanent(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.rules.permanent.extend(codes);
        self
    }

    /// Adds exit codes by which the undo's program says that there is nothing to take back, or
    /// nothing left (`userdel`'s 6: there is no such user). They count as success, as 0 does.
    /// Default: none.
    pub fn gone(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.rules.gone.extend(codes);
        self
    }

    /// Maximum time that the program may run in each attempt. Then its group is killed and the
    /// attempt has failed; it may be tried again. The undo's program isn't limited by it, but by
    /// the stage's `cancel_timeout`. Default: no limit but the task's deadline.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.rules.limit = Some(limit);
        self
    }

    /// Sends the group a SIGTERM before it is killed, and gives it this long to end by itself. The
    /// rollback waits for that long at most; less if the program exits and its outputs are closed
    /// earlier (on Linux, Android and FreeBSD; elsewhere it always waits that long). Default:
    /// SIGKILL at once.
    pub fn terminate_first(mut self, patience: Duration) -> Self {
        self.rules.terminate_first = Some(patience);
        self
    }
}

impl<I, O> Clone for Command<I, O> {
    fn clone(&self) -> Self {
        Command {
            program: self.program.clone(),
            cancel: self.cancel.clone(),
            then: self.then.clone(),
            rules: self.rules.clone(),
        }
    }
}

/// Why a program is killed.
enum Stop {
    /// The task is late or cancelled.
    Task,
    /// The program ran for too long.
    Limit(Duration),
}

impl<I: Send + 'static, O: Send + 'static> Stage for Command<I, O> {
    type Input = I;
    type Output = O;
    type Undo = Program;

    async fn run(&mut self, input: I, task: &TaskContext<'_, Program>) -> Result<O, Failure> {
        let rules = &self.rules;
        let program = (self.program)(&input);
        let undo = match &self.cancel {
            Some(cancel) => Some(task.on_cancel(cancel(&input)).await?),
            None => None,
        };
        let stop = async {
            let Some(limit) = rules.limit else {
                task.stopping().await;
                return Stop::Task;
            };
            match timeout(limit, task.stopping()).await {
                Ok(()) => Stop::Task,
                Err(_) => Stop::Limit(limit),
            }
        };
        // One shield from the start to the end: a future dropped in between would leave a program
        // running beside the rollback.
        let ran = task.shield(async {
            let mut group = Group::start(&program, rules.largest).map_err(Broken::Start)?;
            let ended = group.run(stop, rules.terminate_first).await;
            ended.map(|ended| (ended, group)).map_err(Broken::Wait)
        });
        let (status, mut group) = match ran.await {
            Ok((Ended::Exited(status), group)) => (status, group),
            Ok((Ended::Killed(Stop::Task), _)) => {
                let why = format!("{program} was killed because its task was stopped");
                return Err(Failure::new(why));
            }
            Ok((Ended::Killed(Stop::Limit(limit)), _)) => {
                return Err(Failure::new(format!(
                    "{program} ran for more than {limit:?} and was killed"
                )));
            }
            Err(Broken::Wait(error)) => return Err(in_words(&program, error).into()),
            Err(Broken::Start(error)) => {
                let failure = not_started(&program, error);
                if !failure.is_retryable()
                    && let Some(undo) = undo
                {
                    undo.withdraw().await?;
                }
                return Err(failure);
            }
        };
        if status.success() {
            return (self.then)(input, group.pipes.take_output());
        }
        let says = |codes: &[i32]| status.code().is_some_and(|code| codes.contains(&code));
        let why = ending(&program, status, &group);
        if says(&rules.untouched) {
            if let Some(undo) = undo {
                undo.withdraw().await?;
            }
            return Err(Failure::permanent(why));
        }
        Err(if says(&rules.permanent) {
            Failure::permanent(why)
        } else {
            Failure::new(why)
        })
    }

    async fn cancel(&mut self, undo: Program, _: &CancelContext<'_>) -> Result<(), Failure> {
        let started = Group::start(&undo, 0);
        let mut group = started.map_err(|error| not_started(&undo, error))?;
        let ended = group.run(pending::<Infallible>(), None).await;
        let Ended::Exited(status) = ended.map_err(|error| in_words(&undo, error))?;
        let gone = |code| self.rules.gone.contains(&code);
        if status.success() || status.code().is_some_and(gone) {
            return Ok(());
        }
        Err(Failure::new(ending(&undo, status, &group)))
    }
}

/// An error of the system, not of the program.
enum Broken {
    Start(io::Error),
    Wait(io::Error),
}

/// The failure for a program that could not be started. It is permanent only for errors that say
/// that no process was made and none will be: any other one may come after the start, when the
/// pipes are set up, so the undo has to stay.
fn not_started(program: &Program, error: io::Error) -> Failure {
    let never = matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::ArgumentListTooLong
    ) || error.raw_os_error() == Some(nix::errno::Errno::ENOEXEC as i32);
    let error = in_words(program, error);
    if never {
        Failure::permanent(error)
    } else {
        Failure::new(error)
    }
}

fn in_words(program: &Program, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}: {error}"))
}

/// The text of a failure: the exit code or signal, and the last lines on standard error.
fn ending(program: &Program, status: ExitStatus, group: &Group) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    };
    let words = group.pipes.last_words();
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{program} ended with {how}{colon}{words}")
}
