//! Metrics.

use crate::{
    answer::{Refused, Reply},
    call::Call,
};

pub(crate) fn metrics(_call: &Call) -> Result<Reply, Refused> {
    Err(Refused::unavailable("not yet"))
}
