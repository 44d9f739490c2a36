//! The scratch tree and its content.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::Ended;

/// A folder that is the root of a system for the tools. Removed when it is dropped.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// # Errors
    /// The folder can't be made.
    pub(crate) fn plant() -> io::Result<Self> {
        let tree = Tree(tempfile::tempdir()?);
        let etc = tree.root().join("etc");
        fs::create_dir(&etc)?;
        fs::create_dir(tree.homes())?;
        for (name, mode) in [
            ("passwd", 0o644),
            ("group", 0o644),
            ("shadow", 0o600),
            ("gshadow", 0o600),
        ] {
            fs::write(etc.join(name), "")?;
            fs::set_permissions(etc.join(name), fs::Permissions::from_mode(mode))?;
        }
        // The tools read this file and not the system's, so every machine does the same.
        fs::write(
            etc.join("login.defs"),
            "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB no\n",
        )?;
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn homes(&self) -> PathBuf {
        self.root().join("home")
    }

    /// The accounts in the tree, without the tools' backups and lock files.
    ///
    /// # Errors
    /// A file can't be read.
    pub(crate) fn look(&self) -> io::Result<Entries> {
        let mut homes = BTreeSet::new();
        for home in fs::read_dir(self.homes())? {
            homes.insert(home?.file_name().to_string_lossy().into_owned());
        }
        Ok(Entries {
            homes,
            passwd: self.lines("passwd")?,
            shadow: self.lines("shadow")?,
            group: self.lines("group")?,
            gshadow: self.lines("gshadow")?,
        })
    }

    /// The lines of a file in `etc`, by the names they begin with.
    fn lines(&self, file: &str) -> io::Result<Lines> {
        let text = fs::read_to_string(self.root().join("etc").join(file))?;
        let mut lines = Lines::new();
        for line in text.lines() {
            let name = line.split(':').next().unwrap_or(line);
            if lines.insert(name.to_owned(), line.to_owned()).is_some() {
                return Err(io::Error::other(format!("{file} names {name} twice")));
            }
        }
        Ok(lines)
    }
}

type Lines = BTreeMap<String, String>;

/// The content of a tree at one time.
pub(crate) struct Entries {
    homes: BTreeSet<String>,
    passwd: Lines,
    shadow: Lines,
    group: Lines,
    gshadow: Lines,
}

impl Entries {
    /// The differences between the tree afterwards and the one before with the done accounts added.
    /// Empty if all is well.
    pub(crate) fn compare(&self, after: &Entries, ends: &[Ended]) -> Vec<String> {
        let done: BTreeSet<String> = ends
            .iter()
            .filter(|end| end.done)
            .map(|end| end.name.clone())
            .collect();
        let groups: BTreeSet<String> = done.iter().map(|name| format!("{name}-grp")).collect();
        let mut wrong = Vec::new();
        for name in self.homes.union(&done) {
            if !after.homes.contains(name) {
                wrong.push(format!("home/{name} is missing"));
            }
        }
        for name in &after.homes {
            if !self.homes.contains(name) && !done.contains(name) {
                wrong.push(format!("home/{name} is left"));
            }
        }
        for (file, before, after, new) in [
            ("passwd", &self.passwd, &after.passwd, &done),
            ("shadow", &self.shadow, &after.shadow, &done),
            ("group", &self.group, &after.group, &groups),
            ("gshadow", &self.gshadow, &after.gshadow, &groups),
        ] {
            compare(file, before, after, new, &mut wrong);
        }
        for name in &done {
            let gid = after.passwd.get(name).and_then(|line| field(line, 3));
            let group = after.group.get(&format!("{name}-grp"));
            if gid != group.and_then(|line| field(line, 2)) {
                wrong.push(format!("{name}'s group is another one"));
            }
        }
        // Two tools that write at once would take the same number.
        for (file, lines) in [("passwd", &after.passwd), ("group", &after.group)] {
            let ids: BTreeSet<_> = lines.values().map(|line| field(line, 2)).collect();
            if ids.len() != lines.len() {
                wrong.push(format!("two lines of {file} have the same number"));
            }
        }
        wrong
    }
}

fn compare(
    file: &str,
    before: &Lines,
    after: &Lines,
    new: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    for (name, line) in before {
        match after.get(name) {
            None => wrong.push(format!("{file}: {name} was there before and is gone")),
            Some(now) if now != line => wrong.push(format!("{file}: {name} was changed")),
            Some(_) => {}
        }
    }
    for name in new {
        if !after.contains_key(name) {
            wrong.push(format!("{file}: {name} is missing"));
        }
    }
    for name in after.keys() {
        if !before.contains_key(name) && !new.contains(name) {
            wrong.push(format!("{file}: {name} is left"));
        }
    }
}

fn field(line: &str, number: usize) -> Option<&str> {
    line.split(':').nth(number)
}
