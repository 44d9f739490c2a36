//! Requests and responses as plain data.

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use hyper::Uri;

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
    pub(super) body: Body,
}

/// The body of a [`Request`].
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Bytes(Bytes),
    /// The contents of this file, as they are when the request is sent.
    File(PathBuf),
}

impl Request {
    /// A request with any method but `CONNECT`. The URL has to be absolute, with `http` or `https`,
    /// and with any character that a URL can't contain written as `%` and two hexadecimal digits. A
    /// user name and password in it are not sent: set the header `Authorization`.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Body::None,
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

    /// Adds a header. A header that is added twice is sent twice. `Content-Length` and
    /// `Transfer-Encoding` follow from the body: a request that sets them otherwise is not sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. No `Content-Type` is added for it: set one with [`header`](Self::header).
    /// Default: no body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(Bytes::from(body.into()));
        self
    }

    /// Sets the body to the contents of a file, which is opened anew for each attempt and read while
    /// it is sent, 64 KiB at a time. Its length is that at the opening: what is added to the file
    /// later is not sent, and a file that becomes shorter meanwhile fails the attempt.
    ///
    /// A path that doesn't exist, isn't a file or may not be read is a permanent failure, before
    /// anything is sent; other errors of the disk may be tried again. All of them name the file. In
    /// a pipeline with a journal, the file of an undo's request is kept as its path, which has to be
    /// UTF-8, and not with its contents.
    pub fn body_from_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.body = Body::File(path.into());
        self
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

    /// The body as the server sent it: nothing is decompressed, unless the stage is told to
    /// [`decompress`](super::HttpRequest::decompress).
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
