//! Requests and responses as plain data.

use std::fmt;

use awc::http::Uri;

/// An HTTP request, as data.
///
/// Nothing in it is checked before it is sent: a method, URL or header that can't be sent is then a
/// permanent failure. Its `Debug` shows the method and the URL without query and user info, because
/// the rest may hold secrets.
///
/// ```
/// use batrun_actors::Request;
///
/// let request = Request::post("http://localhost:8080/orders")
///     .header("Content-Type", "application/json")
///     .body(r#"{"item": 7}"#);
/// assert_eq!(format!("{request:?}"), "POST http://localhost:8080/orders");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    /// A request with any method. The URL has to be absolute, with `http`; a user name and password
    /// in it are not sent.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Request::new("GET", url)
    }

    /// A `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Request::new("POST", url)
    }

    /// A `PUT`.
    pub fn put(url: impl Into<String>) -> Self {
        Request::new("PUT", url)
    }

    /// A `PATCH`.
    pub fn patch(url: impl Into<String>) -> Self {
        Request::new("PATCH", url)
    }

    /// A `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Request::new("DELETE", url)
    }

    /// Adds a header. A header that is added twice is sent twice.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. No `Content-Type` is added for it: set one with [`header`](Self::header).
    /// Default: no body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(other, _)| other.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method)?;
        let url = self.url.parse::<Uri>().ok();
        let Some((url, authority)) = url.as_ref().and_then(|url| Some((url, url.authority()?)))
        else {
            // Its parts can't be told apart, and one of them may be a password.
            return f.write_str("(not an absolute URL)");
        };
        if let Some(scheme) = url.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        write!(f, "{host}{}", url.path())
    }
}

/// A response whose body has arrived completely. Its `Debug` shows the status and the body's
/// length, no contents.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The status code. In [`then`](super::HttpRequest::then) it is between 200 and 299.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in upper or lower case. `None` if there is none, or if its
    /// value isn't ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value)
            .ok()
            .filter(|text| text.is_ascii())
    }

    /// The body as the server sent it: nothing is decompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
}
