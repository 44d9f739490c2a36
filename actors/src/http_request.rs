//! A stage that sends an HTTP request; its undo sends another.

mod message;
mod call;
mod undo;
mod tls;
mod body;
mod stream;
mod connect;
mod client;
mod sending;
mod redirect;
mod unpack;
mod exchange;
mod errors;
mod worker;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{sync::Arc, time::Duration};

use batrun::{Failure, IntoWork, Retry, Work};

use client::Wire;

pub use call::HttpCall;
pub use client::HttpVersion;
pub use message::{Request, Response};
pub use tls::{Tls, TlsError};
pub use undo::HttpRequestUndo;
pub use worker::HttpRequestWorker;

type Make<I> = Arc<dyn Fn(&I, &HttpCall<'_>) -> Request + Send + Sync>;
type Then<I, O> = Arc<dyn Fn(I, Response) -> Result<O, Failure> + Send + Sync>;

/// A stage that sends an HTTP request; its undo sends another that takes it back.
///
/// Closures make the requests from the context. The context goes on unchanged, unless
/// [`then`](Self::then) makes something of it and the response. Each worker has connections of its
/// own and keeps them alive between tasks.
///
/// It speaks HTTP/1.1, over `http` and `https`, and HTTP/2 where an `https` server offers it; see
/// [`tls`](Self::tls) and [`http_version`](Self::http_version). [Redirects](Self::redirects),
/// [proxies](Self::proxies_from_environment) and [packed responses](Self::decompress) are left alone
/// unless you say otherwise. Interim answers (100, 102, 103) are skipped. A large request body can
/// be [streamed from a file](Request::body_from_file); a response's is gathered in memory.
///
/// # Errors
/// A status of 200 to 299 is success.
///
/// - May be tried again: the statuses 408, 425, 429, 500, 502, 503 and 504 (unless
///   [`retryable`](Self::retryable) says otherwise), a connection that isn't made or breaks, a
///   response that is cut off or can't be unpacked, and one that isn't complete within
///   [`limit`](Self::limit).
/// - Permanent: any other status, 3xx included, the body of a success that is larger than
///   [`largest`](Self::largest), a server whose certificate isn't trusted, and a request that can't
///   be sent at all.
///
/// The status of a refusal counts even if its body is too large or cut off. Errors name the request's
/// method and URL, without query and user info.
///
/// A `Retry-After` header is not honoured: the stage's [`retry`](IntoWork::retry) policy decides
/// how long to wait.
///
/// # Idempotency keys
/// Each request carries an `Idempotency-Key` header, unless it has one of its own. Its value is the
/// [task's key](batrun::TaskContext::key): the same for each attempt, until an undo of this stage has run.
/// The undo's request carries that key with `/cancel` after it, the same for each of its attempts.
/// A byte that a header can't contain is written as `%` and two hexadecimal digits. Keys are unique
/// within one run of a pipeline only: if the server remembers them for longer, give the run a
/// [prefix](Self::key_prefix). A closure that needs the key itself, for a URL or a body, gets it with
/// [`new_with_call`](Self::new_with_call) and [`cancel_with_call`](Self::cancel_with_call).
///
/// After a failure that may have had an effect, such as a response that didn't come in time, there are
/// two ways to another attempt. Without more, the undo runs and the next attempt has a new key: that
/// asks nothing of the server but the undo's request. With [`key_until_known`](Self::key_until_known)
/// the request is sent again with the same key and nothing is undone: for a server that, given a key
/// that it has seen, answers as it did before instead of acting twice.
///
/// # Undo
/// With [`cancel_with`](Self::cancel_with), the undo is registered before the request is sent. It
/// is withdrawn only if the server surely didn't act: the request could not be sent, no connection
/// was made, the status is one of the [`untouched`](Self::untouched) ones, or the server said over
/// HTTP/2 that it refused the request unseen (`REFUSED_STREAM`). Any other error leaves it, because
/// the server may have acted. So the undo's request must be one that the server accepts for a thing
/// that doesn't exist ([`gone`](Self::gone)), and must name the thing by something that is known
/// beforehand, such as a number that the client chose, or the key.
///
/// With a journal, the undo's request is kept in it, headers and body included: see
/// [`HttpRequestUndo`].
///
/// # Sent once
/// An attempt sends its request once, and another time only for a redirect, or if a connection that
/// was kept alive turns out to be closed before a byte of the request was written to it: then the
/// request goes to a new connection. One that was written, even in part, is never repeated within an
/// attempt, whatever its method, unless [`key_until_known`](Self::key_until_known) says so.
///
/// # Cancel safety
/// A request that was sent may take effect even if nobody waits for the response. So with
/// `cancel_with`, a task that is late or cancelled waits for the response, up to `limit`; then its
/// undo runs. A delay of `key_until_known` isn't waited for, and no request follows it. Without it (a `GET`, say), the request is dropped at once and its connection closed;
/// over HTTP/2, where other requests may share it, the request is reset.
///
/// # Answers before the request is read
/// A server may refuse a large request (403, 413) before it has read all of it. That status is the
/// answer, even if the server closes the connection meanwhile and writing fails, and the rest of the
/// request is not sent. TCP sets a limit: a server that closes with something unread makes its
/// system send a reset, and a reset that overtakes the answer, or meets a system that drops what it
/// has received on one, destroys the answer. Linux keeps what came before the reset; elsewhere the
/// attempt may then fail as one whose connection broke. After an early success the rest of the
/// request is sent in the background, as long as the server reads it and the stage lives.
///
/// # Limits
/// - A request whose response didn't come in time, or whose connection broke, may still be at work
///   in the server when the undo's request arrives, and take effect after it. The client can't
///   tell; let the server refuse a key whose `/cancel` it has seen, or make `limit` longer than the
///   server's own.
/// - A body that ends with its connection (no `Content-Length`, no chunks) and whose connection ends
///   early can't be told from a complete one over `http`.
/// - A connection that isn't made within 5 s counts as refused, TLS and a proxy's tunnel included.
/// - An answer over HTTP/1.1 may have 100 headers, of about 400 KiB in all.
///
/// ```no_run
/// use batrun::prelude::*;
/// use batrun_actors::{HttpRequest, Request};
///
/// #[derive(Clone)]
/// struct Order { number: u64, item: String }
///
/// # async fn run() -> Result<(), batrun::Error> {
/// let url = |order: &Order| format!("http://orders.local/orders/{}", order.number);
/// let place = HttpRequest::new(move |order: &Order| Request::put(url(order)).body(order.item.as_str()))
///     .cancel_with(move |order| Request::delete(url(order)))
///     .untouched([409, 422]);
/// let report = Pipeline::new("orders")
///     .producer(from_iter([Order { number: 1, item: "tea".to_owned() }]))
///     .stage(place.workers(4).retry(Retry::exponential(3)))
///     .run()
///     .await?;
/// # Ok(()) }
/// ```
pub struct HttpRequest<I, O = I> {
    request: Make<I>,
    cancel: Option<Make<I>>,
    then: Then<I, O>,
    rules: Rules,
    wire: Wire,
}

#[derive(Clone)]
struct Rules {
    largest: usize,
    limit: Duration,
    gone: Arc<[u16]>,
    untouched: Arc<[u16]>,
    retryable: Arc<dyn Fn(u16) -> bool + Send + Sync>,
    key_prefix: Arc<str>,
    key_until_known: Option<Retry>,
}

impl<I: 'static> HttpRequest<I> {
    /// A stage that sends the request that `request` makes from a task's context. The closure is
    /// called once in each attempt.
    pub fn new(request: impl Fn(&I) -> Request + Send + Sync + 'static) -> Self {
        Self::new_with_call(move |input, _| request(input))
    }

    /// [`new`](Self::new) with a closure that also gets the [call](HttpCall): for a request that has
    /// the idempotency key in its URL or body.
    ///
    /// ```
    /// use batrun_actors::{HttpRequest, Request};
    ///
    /// let pay = HttpRequest::new_with_call(|cents: &u64, call| {
    ///         Request::put(format!("http://bank.local/payments/{}", call.key())).body(cents.to_string())
    ///     })
    ///     .cancel_with_call(|_, call| {
    ///         Request::delete(format!("http://bank.local/payments/{}", call.key()))
    ///     });
    /// # let _ = pay;
    /// ```
    pub fn new_with_call(
        request: impl Fn(&I, &HttpCall<'_>) -> Request + Send + Sync + 'static,
    ) -> Self {
        HttpRequest {
            request: Arc::new(request),
            cancel: None,
            then: Arc::new(|context, _| Ok(context)),
            rules: Rules {
                largest: 1 << 20,
                limit: Duration::from_secs(30),
                gone: [404, 410].into(),
                untouched: [].into(),
                retryable: Arc::new(|status| {
                    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
                }),
                key_prefix: "".into(),
                key_until_known: None,
            },
            wire: Wire::default(),
        }
    }
}

impl<I, O> HttpRequest<I, O> {
    /// Sets the request that takes the first one back. The closure is called, and the undo
    /// registered, before the stage's request is sent. Default: no undo.
    pub fn cancel_with(self, request: impl Fn(&I) -> Request + Send + Sync + 'static) -> Self {
        self.cancel_with_call(move |input, _| request(input))
    }

    /// [`cancel_with`](Self::cancel_with) with a closure that also gets the [call](HttpCall), whose
    /// key is that of the request that is taken back.
    pub fn cancel_with_call(
        mut self,
        request: impl Fn(&I, &HttpCall<'_>) -> Request + Send + Sync + 'static,
    ) -> Self {
        self.cancel = Some(Arc::new(request));
        self
    }

    /// Makes the stage's output from the context and the [`Response`], after a status of 200 to
    /// 299. Default: the context goes on unchanged.
    ///
    /// # Errors
    /// A failure of the closure is the attempt's, although the request has succeeded: its undo
    /// runs.
    pub fn then<P>(
        self,
        then: impl Fn(I, Response) -> Result<P, Failure> + Send + Sync + 'static,
    ) -> HttpRequest<I, P> {
        HttpRequest {
            request: self.request,
            cancel: self.cancel,
            then: Arc::new(then),
            rules: self.rules,
            wire: self.wire,
        }
    }

    /// Maximum size of a response's body, in bytes. A larger one, of a success, is a permanent
    /// failure, and its connection is closed. Default: 1 MiB.
    pub fn largest(mut self, bytes: usize) -> Self {
        self.rules.largest = bytes;
        self
    }

    /// Maximum time for a request, from the connection to the end of the response's body. A task
    /// that is late waits that long at most. It holds for the undo's request, too, which has the
    /// stage's [`cancel_timeout`](IntoWork::cancel_timeout) besides. Default: 30 s.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.rules.limit = limit;
        self
    }

    /// Sets the statuses by which the server says, to the undo's request, that there is nothing to
    /// take back. They count as success, as 200 to 299 do. Default: 404 and 410.
    pub fn gone(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.rules.gone = statuses.into_iter().collect();
        self
    }

    /// Sets the statuses by which the server says that it did nothing (409 or 422, say): the undo
    /// is withdrawn. The attempt fails all the same. Default: none.
    pub fn untouched(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.rules.untouched = statuses.into_iter().collect();
        self
    }

    /// Sets the statuses after which another attempt makes sense, in place of those
    /// [above](Self#errors): the closure returns `true` for them. It is asked about failures only,
    /// of the stage's request and of the undo's.
    pub fn retryable(mut self, retryable: impl Fn(u16) -> bool + Send + Sync + 'static) -> Self {
        self.rules.retryable = Arc::new(retryable);
        self
    }

    /// Sets the beginning of idempotency keys. For a server that remembers keys, choose one that no
    /// other run of the program uses. Default: empty.
    pub fn key_prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.rules.key_prefix = prefix.into();
        self
    }

    /// Sends a request whose effect is unknown again with the same idempotency key, until the server
    /// says what became of it or `retry` is used up. Its undo stays registered meanwhile, and runs in
    /// the task's rollback only. Default: the request is sent once in an attempt; between two attempts
    /// the undo runs, and the next has a new key. That is the default because a server that doesn't
    /// know keys would act twice, and be asked to take it back once.
    ///
    /// An effect is unknown after a failure that may be [tried again](Self#errors) and doesn't show
    /// that the server did nothing: no complete response, a connection that broke, a status such as
    /// 503 that isn't [`untouched`](Self::untouched). From then on the undo isn't withdrawn any more,
    /// and a connection that can't be made is tried again, too. It is known with a success, and with
    /// a status that isn't worth another attempt. A server that answers 409 while it is still at work
    /// on a request with that key needs [`retryable`](Self::retryable) to say so.
    ///
    /// The failure of an attempt whose effect remained unknown is permanent: another attempt would
    /// have a new key. So the stage's [`retry`](IntoWork::retry) is left with failures that surely had
    /// no effect. `retry` here counts anew in each attempt. A delay that would outlast the task's
    /// deadline is not begun. The stage's [`timeout`](IntoWork::timeout), if there is one, is for the
    /// whole attempt: when it passes, and after a crash of a process with a journal, the undo runs
    /// before the next attempt, which has a new key.
    ///
    /// Without [`cancel_with`](Self::cancel_with) this changes nothing: no undo runs, and the stage's
    /// `retry` has the same key anyway.
    pub fn key_until_known(mut self, retry: Retry) -> Self {
        self.rules.key_until_known = Some(retry);
        self
    }

    /// Sets the servers that are trusted over `https`, and the client's certificate. Default:
    /// [`Tls::system_roots`].
    pub fn tls(mut self, tls: Tls) -> Self {
        self.wire.set_tls(tls);
        self
    }

    /// Sets the version of HTTP. Default: [`HttpVersion::Negotiated`].
    pub fn http_version(mut self, version: HttpVersion) -> Self {
        self.wire.version = version;
        self
    }

    /// Maximum number of redirects that are followed for a request. Default: 0, so that a 301 is an
    /// answer like any other, and a permanent failure.
    ///
    /// A `POST` goes on as a `GET` without a body after 301 and 302, and any request does after 303;
    /// 307 and 308 have the whole request sent again, with its key. If a redirect leads to another
    /// server, the headers `Authorization`, `Cookie`, `Host` and `Proxy-Authorization` are left out;
    /// others are sent to it, so don't follow redirects with a secret in a header of your own. None
    /// is followed from `https` to `http`. More redirects than this are a permanent failure. A
    /// server that redirects may have acted, so after the first redirect an undo is never withdrawn
    /// because of a connection that isn't made.
    pub fn redirects(mut self, most: u32) -> Self {
        self.wire.redirects = most;
        self
    }

    /// Goes through the proxies that the environment names, as `curl` does: in `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `ALL_PROXY`, except for the hosts in `NO_PROXY`. Each may be an `http` or a
    /// `socks5` proxy. The variables are read when a worker sends its first request. Default: no
    /// proxy.
    pub fn proxies_from_environment(mut self) -> Self {
        self.wire.proxies = true;
        self
    }

    /// Asks for responses that are packed with gzip, and unpacks them; [`largest`](Self::largest)
    /// then limits the body as it was before. The response's headers `Content-Encoding` and
    /// `Content-Length` are left out where it was unpacked. Default: nothing is unpacked.
    pub fn decompress(mut self) -> Self {
        self.wire.decompress = true;
        self
    }
}

impl<I, O> Clone for HttpRequest<I, O> {
    fn clone(&self) -> Self {
        HttpRequest {
            request: self.request.clone(),
            cancel: self.cancel.clone(),
            then: self.then.clone(),
            rules: self.rules.clone(),
            wire: self.wire.clone(),
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> IntoWork for HttpRequest<I, O> {
    type Stage = HttpRequestWorker<I, O>;

    fn into_work(self) -> Work<Self::Stage> {
        Work::with("HttpRequest", move || HttpRequestWorker {
            plan: self.clone(),
            client: None,
        })
    }
}
