//! The monitor on a socket in the file system, for those who may open its file.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    mount::Mount,
    serve::{At, Running},
    shared::Inner,
};

/// A monitor that serves itself on a socket in the file system; made by
/// [`Monitor::serve_unix`](crate::Monitor::serve_unix). When this is dropped it stops, and its file is removed.
#[must_use = "it stops when this is dropped"]
pub struct ServingUnix {
    path: PathBuf,
    /// The file's device and number: another process may have put one of its own there.
    file: (u64, u64),
    _server: Running,
}

impl ServingUnix {
    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for ServingUnix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingUnix")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for ServingUnix {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Serves on this path.
pub(crate) fn start(
    inner: Arc<Inner>,
    mount: impl Fn() -> Mount + Clone + Send + 'static,
    path: &Path,
) -> io::Result<ServingUnix> {
    make_way(path)?;
    let socket = listen(path)?;
    let file = identity(path)?;
    let (server, _) = Running::start(inner, mount, At::Socket(socket))?;
    log::info!("the monitor serves on the socket {}", path.display());
    Ok(ServingUnix {
        path: path.to_owned(),
        file,
        _server: server,
    })
}

/// A socket that nobody listens on any more may be replaced, and nothing else.
fn make_way(path: &Path) -> io::Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let in_use = |why: &str| {
        let text = format!("{}: {why}; choose another path", path.display());
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    };
    if !there.file_type().is_socket() {
        return in_use("there is a file, and it is no socket");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => in_use("somebody listens on it already"),
    }
}

/// Numbers of this process's folders.
static NTH: AtomicU32 = AtomicU32::new(0);

/// Listens on a socket that only this user may open. It is made in a folder that nobody else may enter, and is put at
/// its path with its rights: there is no moment at which others could connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut folder = path.as_os_str().to_owned();
    let nth = NTH.fetch_add(1, Ordering::Relaxed);
    folder.push(format!(".{}-{nth}", process::id()));
    let folder = PathBuf::from(folder);
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = || {
        let new = folder.join("s");
        let socket = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        Ok(socket)
    };
    let socket = made();
    fs::remove_file(folder.join("s")).ok();
    fs::remove_dir(&folder).ok();
    socket
}
