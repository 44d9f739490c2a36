//! The description of the API, made from its routes.

use crate::{
    answer::{Refused, Reply},
    call::Call,
};

pub(crate) fn document(_call: &Call) -> Result<Reply, Refused> {
    Err(Refused::unavailable("not yet"))
}
