//! One request and its response, over hyper.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use batrun::Failure;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Version,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use hyper_util::client::legacy::connect::capture_connection;

use super::{
    Request, Response,
    body::Outgoing,
    client::Client,
    errors, redirect,
    sending::{self, Message},
    stream::Brake,
    unpack::{Gathering, Unfit},
};

/// Why there is no response.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// `true` if the server may have got the request, so that it has to be taken back.
    pub(super) sent: bool,
}

impl Broken {
    pub(super) fn sent(failure: Failure) -> Self {
        let sent = true;
        Broken { failure, sent }
    }

    pub(super) fn unsent(failure: Failure) -> Self {
        let sent = false;
        Broken { failure, sent }
    }
}

/// Sends a request and reads the complete response.
///
/// # Cancel safety
/// If the future is dropped, the connection is closed (over HTTP/2, the request is). The server may
/// have got the request by then.
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

/// Sends the request, and those that redirects ask for.
async fn send(
    client: &Client,
    request: &Request,
    key: &str,
    largest: usize,
) -> Result<Response, Broken> {
    let message = sending::message(request, key, client.decompress);
    let mut message = message.map_err(|failure| Broken::unsent(rename(request, failure)))?;
    let mut answers = 0;
    loop {
        let response = hop(client, request, &message, largest).await;
        let response = response.map_err(|broken| Broken {
            // A server that redirects may have acted before.
            sent: broken.sent || answers > 0,
            ..broken
        })?;
        if client.redirects == 0 {
            return Ok(response);
        }
        let Some(next) = redirect::next(&message, &response) else {
            return Ok(response);
        };
        if answers == client.redirects {
            let text = format!("{request:?}: more than {answers} redirects");
            return Err(Broken::sent(Failure::permanent(text)));
        }
        answers += 1;
        message = next;
    }
}

/// Sends one message and reads its response.
async fn hop(
    client: &Client,
    request: &Request,
    message: &Message,
    largest: usize,
) -> Result<Response, Broken> {
    let named = |failure: Failure| rename(request, failure);
    if let (Some("https"), Some(why)) = (message.url.scheme_str(), &client.no_tls) {
        let text = format!("{request:?}: {why}");
        return Err(Broken::unsent(Failure::permanent(text)));
    }
    let body = Outgoing::open(&message.body).await;
    let body = body.map_err(|failure| Broken::unsent(named(failure)))?;
    let ended = body.ended();
    let sending = message.with(body, &client.proxies);
    let mut sending = sending.map_err(|failure| Broken::unsent(named(failure)))?;
    let connection = capture_connection(&mut sending);
    let answer = client.http.request(sending).await;
    let answer = answer.map_err(|error| errors::broken(request, &error))?;

    // Other requests may share a connection of HTTP/2.
    let alone = answer.version() != Version::HTTP_2;
    let brake = answer.extensions().get::<Brake>().cloned();
    let brake = brake.filter(|_| alone).unwrap_or_default();
    let result = receive(client, request, answer, largest).await;
    let useless = match &result {
        // The server has refused the request and needn't read the rest of it.
        Ok(response) => !response.is_success() && is_unsent(&ended, &brake),
        Err(_) => true,
    };
    if useless && alone {
        if let Some(connection) = &*connection.connection_metadata() {
            // It must not be found in the pool before it has noticed.
            connection.poison();
        }
        brake.cut();
    }
    result
}

/// `true` if the request has not been sent completely.
fn is_unsent(ended: &AtomicBool, brake: &Brake) -> bool {
    !ended.load(Ordering::Relaxed) || brake.is_stuck()
}

async fn receive(
    client: &Client,
    request: &Request,
    answer: hyper::Response<Incoming>,
    largest: usize,
) -> Result<Response, Broken> {
    let (head, mut incoming) = answer.into_parts();
    let gzip = client.decompress && is_gzip(&head.headers);
    let mut response = Response {
        status: head.status.as_u16(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    match gather(&mut incoming, gzip, largest).await {
        Ok(body) => response.body = body,
        // The status says enough: nobody looks at the body of a refusal.
        Err(_) if !response.is_success() => {}
        Err(Unread::Lost(error)) => {
            let why = format!(
                "{request:?}: the response's body can't be read: {}",
                errors::text(&error)
            );
            return Err(Broken::sent(Failure::new(why)));
        }
        Err(Unread::Unfit(Unfit::Damaged(error))) => {
            let why = format!("{request:?}: the response's body can't be unpacked: {error}");
            return Err(Broken::sent(Failure::new(why)));
        }
        Err(Unread::Unfit(Unfit::TooLarge)) => {
            let why = format!("{request:?}: the response's body is larger than {largest} bytes");
            return Err(Broken::sent(Failure::permanent(why)));
        }
    }
    let unpacked = gzip && !response.body.is_empty();
    let headers = head.headers.iter();
    // They describe the body as it was sent.
    let headers = headers
        .filter(|(name, _)| !unpacked || (*name != CONTENT_ENCODING && *name != CONTENT_LENGTH));
    response.headers = headers
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    Ok(response)
}

enum Unread {
    Lost(hyper::Error),
    Unfit(Unfit),
}

async fn gather(incoming: &mut Incoming, gzip: bool, largest: usize) -> Result<Vec<u8>, Unread> {
    let mut gathering = Gathering::new(gzip, largest);
    let mut empty = true;
    while let Some(frame) = incoming.frame().await {
        let Ok(piece) = frame.map_err(Unread::Lost)?.into_data() else {
            // Trailers.
            continue;
        };
        empty &= piece.is_empty();
        gathering.add(&piece).map_err(Unread::Unfit)?;
    }
    if empty {
        // The answer to a HEAD, say, which has the headers of a body and none.
        return Ok(Vec::new());
    }
    gathering.finish().map_err(Unread::Unfit)
}

fn is_gzip(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING);
    encoding.is_some_and(|name| {
        name.as_bytes().eq_ignore_ascii_case(b"gzip")
            || name.as_bytes().eq_ignore_ascii_case(b"x-gzip")
    })
}

fn rename(request: &Request, failure: Failure) -> Failure {
    let text = format!("{request:?}: {failure}");
    if failure.is_retryable() {
        Failure::new(text)
    } else {
        Failure::permanent(text)
    }
}
