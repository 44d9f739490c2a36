//! The failures that a journal survives.

/// The failures that a journal survives. Default: [`Power`](Self::Power).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A loss of power: each commit is synced to the disk before anything follows from it.
    ///
    /// Does not survive a disk that says it has synced and has not.
    #[default]
    Power,
    /// A kill of the process, at any instant: each commit is handed to the operating system, which
    /// writes it in its own time.
    ///
    /// Does not survive a loss of power, or a crash of the system, in full: the journal stays
    /// consistent, but its last commits may be missing. Tasks that were accepted may then be gone,
    /// and work that was done may be done again.
    Process,
}
