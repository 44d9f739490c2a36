//! One request and its response, over awc.

use std::{pin::pin, time::Duration};

use awc::{
    Client,
    error::{ConnectError, SendRequestError},
    http::Method,
};
use batrun::Failure;
use futures::StreamExt;

use super::{Request, Response};

pub(super) const KEY: &str = "Idempotency-Key";

/// Why there is no response.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// `true` if the server may have got the request, so that it has to be taken back.
    pub(super) sent: bool,
}

impl Broken {
    fn sent(failure: Failure) -> Self {
        Broken {
            failure,
            sent: true,
        }
    }
}

/// A client for the calling thread: its connections can't leave it.
pub(super) fn client() -> Client {
    // awc's own timeout ends at the response's head; the stage's limit includes the body.
    Client::builder()
        .disable_redirects()
        .disable_timeout()
        .finish()
}

/// Sends a request and reads the complete response.
///
/// # Cancel safety
/// If the future is dropped, the connection is closed. The server may have got the request by then.
pub(super) async fn exchange(
    client: &Client,
    request: &Request,
    key: &str,
    limit: Duration,
    largest: usize,
) -> Result<Response, Broken> {
    match tokio::time::timeout(limit, send(client, request, key, largest)).await {
        Ok(result) => result,
        Err(_) => {
            let why = format!("{request:?}: no complete response within the limit of {limit:?}");
            Err(Broken::sent(Failure::new(why)))
        }
    }
}

async fn send(
    client: &Client,
    request: &Request,
    key: &str,
    largest: usize,
) -> Result<Response, Broken> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| Broken {
        failure: Failure::permanent(format!("{request:?}: {error}")),
        sent: false,
    })?;
    let bodiless = method == Method::HEAD;
    let needs_length = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
    let mut message = client.request(method, request.url.as_str()).no_decompress();
    for (name, value) in &request.headers {
        message = message.append_header((name.as_str(), value.as_str()));
    }
    if !request.has_header(KEY) {
        message = message.append_header((KEY, key));
    }
    let answer = match &request.body {
        Some(body) => message.send_body(body.clone()),
        // Some servers refuse these methods without a `Content-Length`.
        None if needs_length => message.send_body(Vec::new()),
        None => message.send(),
    };
    let answer = answer.await.map_err(|error| broken(request, &error))?;

    let status = answer.status().as_u16();
    let headers: Vec<_> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let mut chunks = pin!(answer);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Broken::sent(Failure::new(format!(
                "{request:?}: the response's body can't be read: {error}"
            )))
        })?;
        if chunk.len() > largest - response.body.len() {
            let why = format!("{request:?}: the response's body is larger than {largest} bytes");
            return Err(Broken::sent(Failure::permanent(why)));
        }
        response.body.extend_from_slice(&chunk);
    }
    if !bodiless && is_cut_off(&response) {
        let why = format!("{request:?}: the connection ended before the response's body did");
        return Err(Broken::sent(Failure::new(why)));
    }
    Ok(response)
}

/// `true` if the body is shorter than its `Content-Length`. It has to be checked here because awc
/// takes the end of a connection for the end of the body.
fn is_cut_off(response: &Response) -> bool {
    let announced = response
        .header("Content-Length")
        .and_then(|length| length.parse::<usize>().ok());
    let has_body =
        ![204, 304].contains(&response.status) && response.header("Transfer-Encoding").is_none();
    has_body && announced.is_some_and(|length| response.body.len() < length)
}

fn broken(request: &Request, error: &SendRequestError) -> Broken {
    use ConnectError::{Io, NoRecords, Resolver, SslIsNotSupported, Timeout, Unresolved};
    use SendRequestError::{Connect, Http, Url};
    let hopeless = matches!(error, Url(_) | Http(_) | Connect(SslIsNotSupported));
    // `Connect(Disconnected)` is not among them: awc also says it of a connection that ended after
    // the request, before the response.
    let unsent = hopeless
        || matches!(
            error,
            Connect(Io(_) | NoRecords | Resolver(_) | Timeout | Unresolved)
        );
    let text = format!("{request:?}: {error}");
    Broken {
        failure: if hopeless {
            Failure::permanent(text)
        } else {
            Failure::new(text)
        },
        sent: !unsent,
    }
}

/// A key as a header can contain it: visible ASCII, and any other byte as `%` and two digits.
pub(super) fn header_text(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
