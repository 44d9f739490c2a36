//! The content of a folder, to compare.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The thing at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file with this content.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to there.
    Link(PathBuf),
    /// A socket, a device or the like.
    Other,
}

/// Everything in a folder and the folders in it, hidden files among them, by its path from there: to
/// compare the folder before a test with the folder after it.
///
/// # Errors
/// If something can't be read.
pub fn tree(folder: impl AsRef<Path>) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let root = folder.as_ref();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let what = if kind.is_dir() {
                folders.push(path.clone());
                Entry::Folder
            } else if kind.is_file() {
                Entry::File(fs::read(&path)?)
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(&path)?)
            } else {
                Entry::Other
            };
            let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.insert(name, what);
        }
    }
    Ok(found)
}
