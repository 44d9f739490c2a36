//! What is sent, and what comes back: plain data.

use std::fmt;

use awc::http::Uri;

/// An HTTP request, as data.
///
/// Nothing in it is checked before it is sent: a method, URL or header that can't be sent fails the
/// task then. Its `Debug` shows the method and the URL without its query and user info.
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
    /// A request with any method. The URL is an absolute one; a user name and password in it are
    /// not sent.
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

    /// Adds a header. One that is added twice is sent twice.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. What it is, a `Content-Type` header has to say.
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
            // What can't be told apart isn't shown: it may hold a password.
            return f.write_str("(not an absolute URL)");
        };
        if let Some(scheme) = url.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        write!(f, "{host}{}", url.path())
    }
}

/// A response whose body has arrived whole. Its `Debug` shows the status and the body's length.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The status code. What [`then`](super::HttpRequest::then) gets is between 200 and 299.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, in upper or lower case, if it is there and is readable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value)
            .ok()
            .filter(|text| text.is_ascii())
    }

    /// The body as it was sent: nothing is decompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body.
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
