//! Policies of stages and pipelines: retries, rate limits, the order of undos, the end.
//!
//! | policy | of | set with | default |
//! |---|---|---|---|
//! | [`Retry`] | a stage's attempts | [`retry`](crate::IntoWork::retry) | no retry |
//! | [`Retry`] | its undos | [`cancel_retry`](crate::IntoWork::cancel_retry) | 3 retries |
//! | [`RateLimit`] | its attempts | [`rate_limit`](crate::IntoWork::rate_limit) | no limit |
//! | [`OnStuck`] | undos that fail for good | [`on_stuck`](crate::IntoWork::on_stuck) | the others still run |
//! | [`Restart`] | values that can't be built | [`restart`](crate::IntoWork::restart) | 100 ms to 30 s |
//! | [`Order`] | a task's undos | [`Pipeline::order`](crate::Pipeline::order) | first registered first |
//! | [`Recovery`] | the tasks in a journal | `Pipeline::recovery` | they go on |
//! | [`Shutdown`] | the end | [`shutdown`](crate::PipelineHandle::shutdown) | |

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
