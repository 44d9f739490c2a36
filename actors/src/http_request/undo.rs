//! The undo of a request, as data that a journal can keep.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::{Request, message::Body};
use crate::layout::Layout;

/// The undo of an [`HttpRequest`](super::HttpRequest): the request that takes it back, with its
/// idempotency key.
///
/// Its `Debug` shows the request's method and URL, without query and user info, because reports
/// print it.
///
/// # In a journal
/// A pipeline with a journal keeps all of it in the journal's file, as it is: the whole URL, each
/// header (an `Authorization`, say) and the body; of a body from a file only the path. So whoever
/// can read the journal can read them, until the task's outcome is dropped. Where that is too much,
/// leave the secret out of the undo, and let the server or a proxy know the client by its
/// [certificate](crate::Tls::identity).
///
/// It is stored with the number of its layout, now 1. A version of this crate that doesn't know the
/// number refuses it instead of sending something else.
#[derive(Clone)]
pub struct HttpRequestUndo {
    pub(super) request: Request,
    pub(super) key: String,
}

impl fmt::Debug for HttpRequestUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

/// Layout 1.
#[derive(Serialize)]
struct Written<'a> {
    layout: Layout<1>,
    method: &'a str,
    url: &'a str,
    headers: &'a [(String, String)],
    body: Option<&'a Bytes>,
    file: Option<&'a Path>,
    key: &'a str,
}

/// Layout 1, as it is read.
#[derive(Deserialize)]
struct Read {
    #[serde(rename = "layout")]
    _layout: Layout<1>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<ByteBuf>,
    file: Option<PathBuf>,
    key: String,
}

impl Serialize for HttpRequestUndo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Request {
            method,
            url,
            headers,
            body,
        } = &self.request;
        let (body, file) = match body {
            Body::None => (None, None),
            Body::Bytes(bytes) => (Some(Bytes::new(bytes)), None),
            Body::File(path) => (None, Some(path.as_path())),
        };
        let layout = Layout;
        let key = &self.key;
        Written {
            layout,
            method,
            url,
            headers,
            body,
            file,
            key,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HttpRequestUndo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Read::deserialize(deserializer)?;
        let body = match (read.body, read.file) {
            (_, Some(path)) => Body::File(path),
            (Some(bytes), None) => Body::Bytes(bytes.into_vec().into()),
            (None, None) => Body::None,
        };
        Ok(HttpRequestUndo {
            request: Request {
                method: read.method,
                url: read.url,
                headers: read.headers,
                body,
            },
            key: read.key,
        })
    }
}
