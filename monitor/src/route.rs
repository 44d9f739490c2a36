//! A route of the API.

use crate::{
    access::Action,
    answer::{Refused, Reply},
    call::Call,
};

/// The way in which a route is answered.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// At once.
    Now(Handler),
    /// On a thread that may wait: it walks over all tasks, or runs code of the application's.
    Apart(Handler),
    /// With a stream.
    Stream,
}

pub(crate) type Handler = fn(&Call) -> Result<Reply, Refused>;

/// A route.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    /// Changes something, and is a POST; none is a GET.
    pub(crate) action: Option<Action>,
    pub(crate) run: Run,
    pub(crate) about: &'static str,
    /// The parameters of its query, or the fields of its body.
    pub(crate) takes: &'static [&'static str],
}
