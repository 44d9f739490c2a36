//! The stages: a directory, a group, a user and a mail.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command as Run, Stdio},
    time::Duration,
};

use batrun::prelude::*;
use batrun_actors::{Command, MakeDirectory, Program};

use crate::people::{Account, STRANGERS, Welcome};

/// The name of the stage whose undo is refused at first.
pub(crate) const GROUP: &str = "group";

/// The exit codes of the tools, by their manuals.
mod exit {
    /// There is no such user or group.
    pub(super) const ABSENT: i32 = 6;
    /// The name is taken: nothing was changed.
    pub(super) const EXISTS: i32 = 9;
    /// Bad usage, a bad value, a number that is taken, no such group: the same again next time. The
    /// other codes are `can't lock` and `can't write`, which may pass.
    pub(super) const PERMANENT: [i32; 4] = [2, 3, 4, 6];
}

/// The paths of the four programs.
pub(crate) struct Tools {
    groupadd: PathBuf,
    groupdel: PathBuf,
    useradd: PathBuf,
    userdel: PathBuf,
}

impl Tools {
    /// # Errors
    /// A program is missing; the text names it and the package to install.
    pub(crate) fn find() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err(
                "groupadd and useradd need root; it changes nothing outside a temporary \
                 folder (try sudo)"
                    .to_owned(),
            );
        }
        Ok(Tools {
            groupadd: find("groupadd")?,
            groupdel: find("groupdel")?,
            useradd: find("useradd")?,
            userdel: find("userdel")?,
        })
    }

    pub(crate) fn within(self, root: &Path) -> Within {
        Within {
            tools: self,
            root: root.to_owned(),
        }
    }
}

/// The path of a program, if it knows `--prefix`.
fn find(name: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A plain user's search path lacks the folders of system tools, and sudo may keep it.
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("there is no {name}; Debian has it in the package passwd"))?;
    let help = Run::new(&found)
        .arg("--help")
        .output()
        .map_err(|error| format!("{}: {error}", found.display()))?;
    let help = [help.stdout, help.stderr].concat();
    match String::from_utf8_lossy(&help).contains("--prefix") {
        true => Ok(found),
        false => Err(format!(
            "{} knows no --prefix; the one of the Debian package passwd does",
            found.display()
        )),
    }
}

/// The programs, at work in a tree of their own.
pub(crate) struct Within {
    tools: Tools,
    root: PathBuf,
}

impl Within {
    fn program(&self, tool: &Path) -> Program {
        Program::new(tool).arg("--prefix").arg(&self.root)
    }

    /// A stage that creates the user's own group.
    pub(crate) fn group(&self) -> Work<impl Stage<Input = Account, Output = Account>> {
        let add = self.program(&self.tools.groupadd);
        let delete = self.program(&self.tools.groupdel);
        Command::new(move |account: &Account| add.clone().arg(account.group()))
            .cancel_with(move |account: &Account| delete.clone().arg(account.group()))
            .untouched([exit::EXISTS])
            .permanent(exit::PERMANENT)
            .gone([exit::ABSENT])
            .named(GROUP)
            .retry(lock_retry())
            // No retries: `groupdel` waits for locks by itself, and while a user has the group only
            // the rollback's second round can delete it.
            .cancel_retry(Retry::none())
    }

    /// A stage that creates the user, whose directory exists already.
    pub(crate) fn user(&self) -> Work<impl Stage<Input = Account, Output = Account>> {
        let add = self.program(&self.tools.useradd);
        let delete = self.program(&self.tools.userdel);
        Command::new(move |account: &Account| {
            add.clone()
                .args(["--no-create-home", "--home-dir"])
                .arg(format!("/home/{}", account.name))
                .arg("--gid")
                .arg(account.group())
                .arg("--comment")
                .arg(&account.full_name)
                .arg(&account.name)
        })
        .cancel_with(move |account: &Account| delete.clone().arg(&account.name))
        .untouched([exit::EXISTS])
        .permanent(exit::PERMANENT)
        .gone([exit::ABSENT])
        .named("user")
        .retry(lock_retry())
    }

    /// Makes a group and a user that have to be there after the run as well.
    ///
    /// # Errors
    /// A program failed; the text names it.
    pub(crate) fn make_strangers(&self) -> Result<(), String> {
        let (group, user) = STRANGERS;
        self.make(&self.tools.groupadd, &[group])?;
        self.make(&self.tools.groupadd, &["users"])?;
        self.make(
            &self.tools.useradd,
            &["--no-create-home", "--gid", "users", user],
        )
    }

    fn make(&self, tool: &Path, args: &[&str]) -> Result<(), String> {
        let status = Run::new(tool)
            .arg("--prefix")
            .arg(&self.root)
            .args(args)
            .stdin(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{}: {status}", tool.display())),
            Err(error) => Err(format!("{}: {error}", tool.display())),
        }
    }
}

/// Retries for a lock. They have no need of a long pause: a tool has waited about 15 s for it
/// already.
fn lock_retry() -> Retry {
    Retry::exponential(3).min_delay(Duration::from_millis(200))
}

/// A stage that makes the directory. It fails if the directory exists, which keeps a name to one
/// task.
pub(crate) fn directory(homes: PathBuf) -> Work<impl Stage<Input = Account, Output = Account>> {
    MakeDirectory::new(move |account: &Account| homes.join(&account.name))
        .mode(0o700)
        .named("directory")
}

/// A stage in place of a mail to the new user. It is the last step; some tasks fail and some hang
/// here.
pub(crate) fn welcome() -> Work<impl Stage<Input = Account, Output = ()>> {
    stage_fn(
        "welcome",
        async |account: Account, _: &TaskContext<'_, ()>| match account.welcome {
            Welcome::Ok => Ok(()),
            Welcome::Bounces => Err(Failure::permanent("the mail bounced")),
            Welcome::Hangs => std::future::pending().await,
        },
    )
    .into_work()
}
