//! A request as it is sent: checked, with the headers that it needs.

use std::error::Error;

use batrun::Failure;
use hyper::{
    HeaderMap, Method, Uri,
    header::{
        ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
    },
};

use super::{
    Request,
    body::Outgoing,
    connect::{self, Proxies},
    message::Body,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) struct Message {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// Checks a request and adds its key.
///
/// # Errors
/// A permanent failure: it can't be sent.
pub(super) fn message(request: &Request, key: &str, decompress: bool) -> Result<Message, Failure> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(permanent)?;
    if method == Method::CONNECT {
        return Err(Failure::permanent(
            "CONNECT asks for no answer: use another method",
        ));
    }
    let url = request.url.parse().ok().as_ref().and_then(without_user);
    let Some(url) = url else {
        let text = "the URL has to be absolute, with http or https, and with what it can't contain \
                    written as % and two digits";
        return Err(Failure::permanent(text));
    };
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(Failure::permanent(
            "the URL's scheme has to be http or https",
        ));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let name = name.map_err(|_| Failure::permanent("a header's name can't be sent"))?;
        let Ok(value) = HeaderValue::from_str(value) else {
            let text = format!("the value of the header {name} can't be sent");
            return Err(Failure::permanent(text));
        };
        headers.append(name, value);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Failure::permanent(
            "Transfer-Encoding can't be set: it follows from the body",
        ));
    }
    if !headers.contains_key(KEY) {
        headers.insert(KEY, HeaderValue::from_str(key).map_err(permanent)?);
    }
    if decompress && !headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(Message {
        method,
        url,
        headers,
        body: request.body.clone(),
    })
}

impl Message {
    /// The message with its body, as hyper sends it.
    ///
    /// # Errors
    /// A permanent failure: the request names another length than the body has.
    pub(super) fn with(
        &self,
        body: Outgoing,
        proxies: &Proxies,
    ) -> Result<hyper::Request<Outgoing>, Failure> {
        let length = HeaderValue::from(body.left());
        let named = self.headers.get_all(CONTENT_LENGTH);
        if named.iter().any(|named| *named != length) {
            let text = "Content-Length is set to another number than the body's: leave it out";
            return Err(Failure::permanent(text));
        }
        // Some servers refuse these methods without one.
        let needs_length = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        let has_body = body.left() > 0;
        let mut sending = hyper::Request::new(body);
        *sending.method_mut() = self.method.clone();
        *sending.uri_mut() = self.url.clone();
        *sending.headers_mut() = self.headers.clone();
        if has_body || needs_length {
            sending.headers_mut().insert(CONTENT_LENGTH, length);
        }
        if let Some(user) = connect::proxy_authorization(proxies, &self.url) {
            sending.headers_mut().insert(PROXY_AUTHORIZATION, user);
        }
        Ok(sending)
    }
}

fn permanent(error: impl Error + Send + Sync + 'static) -> Failure {
    Failure::permanent(error)
}

/// The URL without a user name and password. `None` if it isn't absolute.
pub(super) fn without_user(url: &Uri) -> Option<Uri> {
    let authority = url.authority()?.as_str();
    let Some((_, host)) = authority.rsplit_once('@') else {
        return Some(url.clone());
    };
    let mut parts = url.clone().into_parts();
    parts.authority = Some(host.parse().ok()?);
    Uri::from_parts(parts).ok()
}
