//! Errors as texts without secrets, and the answer to whether the server may have got the request.

use std::error::Error;

use batrun::Failure;
use hyper_util::client::legacy;

use super::{Request, connect::UnknownProxy, exchange::Broken};
use crate::chain::{chain, find, is_distrust};

pub(super) fn broken(request: &Request, error: &legacy::Error) -> Broken {
    let text = format!("{request:?}: {}", text(error));
    if error.is_connect() {
        let hopeless = find::<UnknownProxy>(error).is_some() || is_distrust(error);
        return Broken::unsent(if hopeless {
            Failure::permanent(text)
        } else {
            Failure::new(text)
        });
    }
    // RFC 9113, 8.7: the server says that it did not look at the request.
    let refused = find::<h2::Error>(error).is_some_and(|error| {
        error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    });
    if refused {
        Broken::unsent(Failure::new(text))
    } else {
        Broken::sent(Failure::new(text))
    }
}

/// The error with all its sources.
pub(super) fn text(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = find::<hyper::Error>(error) {
        if error.is_incomplete_message() {
            return "the server closed the connection before its answer was complete".to_owned();
        }
        if error.is_parse() {
            return format!("the answer is not HTTP that can be understood: {error}");
        }
    }
    let mut text = String::new();
    for error in chain(error) {
        let part = error.to_string();
        if text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}
