//! Where a redirect leads.

use hyper::{
    Method, Uri,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
        CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHORIZATION,
    },
};
use iri_string::types::{UriAbsoluteStr, UriReferenceStr};

use super::sending::Message;
use super::{Response, message::Body, sending};

/// The message that the response to one asks for. `None` if it is no redirect, leads nowhere, or
/// leads from `https` to `http`.
pub(super) fn next(message: &Message, response: &Response) -> Option<Message> {
    let method = &message.method;
    let (method, same) = match response.status {
        // The web's habit, which RFC 9110 allows.
        301 | 302 if *method == Method::POST => (Method::GET, false),
        303 if *method == Method::HEAD => (Method::HEAD, false),
        303 => (Method::GET, false),
        301 | 302 | 307 | 308 => (method.clone(), true),
        _ => return None,
    };
    let url = resolve(&message.url, response.header("Location")?)?;
    match (message.url.scheme_str()?, url.scheme_str()?) {
        ("http", "http" | "https") | ("https", "https") => {}
        _ => return None,
    }
    let mut headers = message.headers.clone();
    if !same {
        for name in [
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
            CONTENT_LENGTH,
            CONTENT_LOCATION,
            CONTENT_TYPE,
        ] {
            headers.remove(name);
        }
    }
    let elsewhere =
        message.url.scheme() != url.scheme() || message.url.authority() != url.authority();
    if elsewhere {
        // Meant for the first server only.
        for name in [AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
    }
    let body = if same {
        message.body.clone()
    } else {
        Body::None
    };
    Some(Message {
        method,
        url,
        headers,
        body,
    })
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let base = base.to_string();
    let base = UriAbsoluteStr::new(&base).ok()?;
    let location = UriReferenceStr::new(location).ok()?;
    let url = location.resolve_against(base).to_string();
    sending::without_user(&url.parse().ok()?)
}
