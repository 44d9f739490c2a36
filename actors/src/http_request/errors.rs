//! What went wrong, as a text without secrets, and whether the server may have got the request.

use std::{error::Error, io, iter};

use batrun::Failure;
use hyper_util::client::legacy;

use super::{Request, connect::UnknownProxy, exchange::Broken};

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

/// `true` if the server is not the one that it has to be, which another attempt won't change.
fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented, UnsupportedNameType};
    matches!(
        find::<rustls::Error>(error),
        Some(InvalidCertificate(_) | NoCertificatesPresented | UnsupportedNameType)
    )
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

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The error and all its sources. The source of an error that is within an `io::Error` is not that
/// one's source, but that of the one within.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        let within = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .map(|error| error as &(dyn Error + 'static));
        within.or_else(|| error.source())
    })
    // Some error may be its own source.
    .take(32)
}
