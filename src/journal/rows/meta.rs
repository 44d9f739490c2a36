//! The table `word`: facts about the journal itself, each a name and a value.

use crate::journal::checksum::Checksum;

/// The name of the pipeline whose journal it is.
pub(crate) const PIPELINE: &str = "pipeline";

/// A random number, so that no other journal has the same keys. Journals made before there was one have none:
/// keys of tasks in flight must stay the same.
pub(crate) const ID: &str = "id";

/// The highest task number that was ever given out, once the outcome that shows it is dropped.
pub(crate) const LAST_TASK: &str = "last task";

/// The way in which the last process ended: [`ON_PURPOSE`], or anything else after a kill.
pub(crate) const ENDED: &str = "ended";
pub(crate) const ON_PURPOSE: &str = "on purpose";
/// The value of [`ENDED`] while a process runs, so that it is what a kill leaves.
pub(crate) const STILL_RUNNING: &str = "no";

/// The checksum of such a row.
pub(crate) fn meta_checksum(name: &str, value: &str) -> u32 {
    Checksum::of("word")
        .bytes(name.as_bytes())
        .bytes(value.as_bytes())
        .finish()
}
