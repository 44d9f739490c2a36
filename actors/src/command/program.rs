//! A program that is yet to be run, as data.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::process;

use crate::kept::{self, Bytes, Name};

/// The number of the layout in which a journal keeps a program: another one for each that reads
/// differently.
const LAYOUT: u32 = 1;

/// A program with its arguments, folder, variables and input, not yet run.
///
/// It is also the undo of [`Command`](super::Command): data, so that a rollback can run it again.
///
/// Arguments reach the program unchanged, because no shell is involved that could read anything
/// else into them. `Debug` and failures show the program's name only, because arguments, variables
/// and input may hold secrets. Other users of the machine can see a running program's arguments, so
/// put a secret into [`stdin`](Self::stdin). A journal keeps all of an undo, secrets included, until
/// its task has ended.
///
/// ```
/// use batrun_actors::Program;
///
/// let program = Program::new("useradd").arg("--create-home").arg("ada").env("LC_ALL", "C");
/// assert_eq!(format!("{program:?}"), "run useradd");
/// ```
#[derive(Clone)]
pub struct Program {
    program: OsString,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    cleared: bool,
    stdin: Option<Arc<[u8]>>,
}

impl Program {
    /// A program by its name, to be found on the `PATH`, or by its path. It is looked for when it
    /// is run, not before. A relative path together with [`current_dir`](Self::current_dir) is
    /// ambiguous: use an absolute one.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Program {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            folder: None,
            variables: Vec::new(),
            cleared: false,
            stdin: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets the folder that the program runs in. Default: this process's.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Adds or replaces an environment variable. The program also gets those of this process,
    /// unless [`env_clear`](Self::env_clear) is set.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Keeps this process's environment variables from the program: it gets those of
    /// [`env`](Self::env) only.
    pub fn env_clear(mut self) -> Self {
        self.cleared = true;
        self
    }

    /// Sets the bytes that the program can read from its standard input. A program that doesn't
    /// read all of them has not failed for that. Default: an empty input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into().into());
        self
    }

    pub(super) fn input(&self) -> Option<Arc<[u8]>> {
        self.stdin.clone()
    }

    /// The command as tokio starts it: the leader of a new process group, with pipes for its
    /// outputs.
    pub(super) fn prepare(&self) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.args).process_group(0);
        if self.cleared {
            command.env_clear();
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .stdin(match self.stdin {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A program in a journal.
#[derive(Serialize, Deserialize)]
struct Layout1 {
    program: Name<OsString>,
    args: Vec<Name<OsString>>,
    folder: Option<Name<PathBuf>>,
    variables: Vec<(Name<OsString>, Name<OsString>)>,
    cleared: bool,
    stdin: Option<Bytes>,
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = self.clone();
        let pair = |(name, value)| (Name(name), Name(value));
        let layout = Layout1 {
            program: Name(all.program),
            args: all.args.into_iter().map(Name).collect(),
            folder: all.folder.map(Name),
            variables: all.variables.into_iter().map(pair).collect(),
            cleared: all.cleared,
            stdin: all.stdin.map(Bytes),
        };
        kept::serialize::<LAYOUT, _>(&layout, serializer)
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: Layout1 = kept::deserialize::<LAYOUT, _, _>(deserializer)?;
        let pair = |(name, value): (Name<_>, Name<_>)| (name.0, value.0);
        Ok(Program {
            program: all.program.0,
            args: all.args.into_iter().map(|arg| arg.0).collect(),
            folder: all.folder.map(|folder| folder.0),
            variables: all.variables.into_iter().map(pair).collect(),
            cleared: all.cleared,
            stdin: all.stdin.map(|bytes| bytes.0),
        })
    }
}

impl fmt::Display for Program {
    /// The program's name or path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.program.display().fmt(f)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {self}")
    }
}
