//! The order in which a task's undos run.

/// The order in which a task's undos run, one at a time. Set with
/// [`Pipeline::order`](crate::Pipeline::order).
///
/// Default: [`Fifo`](Self::Fifo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of registration.
    #[default]
    Fifo,
    /// The last registered first: for pipelines where an early effect guards the later ones (a name,
    /// a lock, a parent directory).
    Lifo,
}
