//! In which order a task's undos are cancelled.

/// In which order a task's undos are cancelled, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// First registered, first cancelled.
    #[default]
    Fifo,
    /// Last registered, first cancelled.
    Lifo,
}
