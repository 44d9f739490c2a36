//! A program to be run, as data.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::process;

/// A program with its arguments and surroundings, not yet run.
///
/// Arguments go to the program as they are: there is no shell that could take them for something
/// else. Its `Debug` and its failures show the program's name only, because arguments, variables
/// and input may hold secrets. (Other users of the machine can see a running program's arguments:
/// put a secret into [`stdin`](Self::stdin).)
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
    /// A program by its name, to be found on the `PATH`, or by its path. A relative path together
    /// with [`current_dir`](Self::current_dir) is ambiguous: use an absolute one.
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

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The folder it runs in: this process's unless told otherwise.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// One more environment variable, beside those of this process.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// It gets no variables of this process, only those of [`env`](Self::env).
    pub fn env_clear(mut self) -> Self {
        self.cleared = true;
        self
    }

    /// What it can read from its standard input: nothing unless told otherwise. A program that
    /// doesn't read all of it has not failed for that.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into().into());
        self
    }

    pub(super) fn input(&self) -> Option<Arc<[u8]>> {
        self.stdin.clone()
    }

    /// The leader of a process group of its own, with pipes for whatever it says.
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
