//! Answers: values as JSON, and refusals with a text that says what to do.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::{Value, json};

/// A request that is not carried out, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    error: Cow<'static, str>,
    /// The number of tasks that a filter takes now.
    count: Option<usize>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, error: impl Into<Cow<'static, str>>) -> Self {
        Refused {
            status,
            code,
            error: error.into(),
            count: None,
        }
    }

    pub(crate) fn forbidden(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", error)
    }

    pub(crate) fn not_found(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    pub(crate) fn bad_request(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error)
    }

    pub(crate) fn too_large() -> Self {
        let error = "send at most 64 KB";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_request", error)
    }

    pub(crate) fn method() -> Self {
        let error = "only GET, HEAD and POST are answered";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad_request", error)
    }

    pub(crate) fn conflict(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", error)
    }

    pub(crate) fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    pub(crate) fn too_many(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", error)
    }

    /// The pipeline has ended.
    pub(crate) fn gone(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::GONE, "gone", error)
    }

    pub(crate) fn unavailable(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error)
    }

    pub(crate) fn response(self) -> HttpResponse {
        let mut body = json!({ "error": self.error, "code": self.code });
        if let (Some(count), Value::Object(fields)) = (self.count, &mut body) {
            fields.insert("count".to_owned(), count.into());
        }
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::SERVICE_UNAVAILABLE
        {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        response.json(body)
    }
}

/// An answer that may be made on any thread.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
    /// The name of the file that a browser makes of it, in plain letters.
    pub(crate) file: Option<String>,
}

impl Reply {
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Refused> {
        Self::status(StatusCode::OK, value)
    }

    pub(crate) fn status(status: StatusCode, value: &impl Serialize) -> Result<Self, Refused> {
        let body = serde_json::to_vec(value);
        let body = body.map_err(|error| {
            Refused::unavailable(format!("the answer can't be written: {error}"))
        })?;
        Ok(Reply {
            status,
            ..Self::of("application/json", body)
        })
    }

    pub(crate) fn of(kind: &'static str, body: Vec<u8>) -> Self {
        Reply {
            status: StatusCode::OK,
            kind,
            body,
            file: None,
        }
    }

    pub(crate) fn response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type(self.kind);
        if let Some(file) = self.file {
            let attachment = format!("attachment; filename=\"{file}\"");
            response.insert_header((header::CONTENT_DISPOSITION, attachment));
        }
        response.body(self.body)
    }
}
