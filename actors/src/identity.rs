//! Recognises a file or a directory, also after a restart.

use std::{fs::Metadata, time::SystemTime};

use serde::{Deserialize, Serialize};

/// The properties that tell a file or a directory from any other one at the same path.
///
/// An inode's number may be used again once its file is gone, so the time of its birth counts as
/// well, where the file system keeps one. Without it the device counts: its number may be another
/// one after a reboot, and nothing is then recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: Option<u64>,
    inode: Option<u64>,
    born: Option<SystemTime>,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (device, inode) = {
            use std::os::unix::fs::MetadataExt;
            (Some(metadata.dev()), Some(metadata.ino()))
        };
        #[cfg(not(unix))]
        let (device, inode) = (None, None);
        Identity {
            device,
            inode,
            born: metadata.created().ok().filter(is_kept),
        }
    }

    /// `true` if this is what was at hand when the identity was taken.
    pub(crate) fn is_of(&self, metadata: &Metadata) -> bool {
        let now = Identity::of(metadata);
        let same_birth = match (self.born, now.born) {
            (Some(then), Some(now)) => then == now,
            _ => self.device == now.device,
        };
        self.inode == now.inode && same_birth
    }

    /// Of a file system that keeps no time of birth, on a device with another number.
    #[cfg(test)]
    pub(crate) fn on_another_device(self) -> Self {
        Identity {
            device: self.device.map_or(Some(1), |device| Some(!device)),
            born: None,
            ..self
        }
    }

    /// `true` if this is surely something else: it was born at another time. Where the file system
    /// keeps no such time, nobody can tell.
    pub(crate) fn is_surely_not(&self, metadata: &Metadata) -> bool {
        match (self.born, Identity::of(metadata).born) {
            (Some(then), Some(now)) => then != now,
            _ => false,
        }
    }
}

/// `true` for times that serde can keep.
pub(crate) fn is_kept(time: &SystemTime) -> bool {
    *time >= SystemTime::UNIX_EPOCH
}
