//! What a stage or a pipeline does when things go wrong, one file each.

mod on_stuck;
mod order;
mod rate;
mod recovery;
mod restart;
mod retry;
mod shutdown;

pub use on_stuck::OnStuck;
pub use order::Order;
pub use rate::RateLimit;
pub(crate) use rate::Throttle;
pub use recovery::Recovery;
pub use restart::Restart;
pub use retry::Retry;
pub use shutdown::Shutdown;
