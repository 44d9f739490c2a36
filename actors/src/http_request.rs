//! A stage that sends an HTTP request; its undo sends another.

mod exchange;
mod message;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use awc::Client;
use batrun::{CancelContext, Failure, IntoWork, Stage, TaskContext, Work};

pub use message::{Request, Response};

type Make<I> = Arc<dyn Fn(&I) -> Request + Send + Sync>;
type Then<I, O> = Arc<dyn Fn(I, Response) -> Result<O, Failure> + Send + Sync>;

/// A stage that sends an HTTP request; its undo sends another that takes it back.
///
/// Closures make the requests from the context. The context goes on unchanged, unless
/// [`then`](Self::then) makes something of it and the response. Each worker has connections of its
/// own and keeps them alive between tasks. HTTP/1.1 only; redirects are not followed.
///
/// # Errors
/// A status of 200 to 299 is success.
///
/// - May be tried again: the statuses 408, 425, 429, 500, 502, 503 and 504 (unless
///   [`retryable`](Self::retryable) says otherwise), a connection that isn't made or breaks, and a
///   response that isn't complete within [`limit`](Self::limit).
/// - Permanent: any other status, 3xx included, a response larger than [`largest`](Self::largest),
///   and a request that can't be sent at all.
///
/// A `Retry-After` header is not honoured: the stage's [`retry`](IntoWork::retry) policy decides
/// how long to wait.
///
/// # Idempotency keys
/// Each request carries an `Idempotency-Key` header, unless it has one of its own. Its value is the
/// [task's key](TaskContext::key): the same for each attempt, until an undo of this stage has run.
/// The undo's request carries that key with `/cancel` after it, the same for each of its attempts.
/// A byte that a header can't contain is written as `%` and two hexadecimal digits. Keys are unique
/// within one run of a pipeline only: if the server remembers them for longer, give the run a
/// [prefix](Self::key_prefix).
///
/// # Undo
/// With [`cancel_with`](Self::cancel_with), the undo is registered before the request is sent. It
/// is withdrawn only if the server surely didn't act: the request could not be sent, no connection
/// was made, or the status is one of the [`untouched`](Self::untouched) ones. Any other error
/// leaves it, because the server may have acted. So the undo's request must be one that the server
/// accepts for a thing that doesn't exist ([`gone`](Self::gone)), and must name the thing by
/// something that is known beforehand, such as a number that the client chose.
///
/// # Cancel safety
/// A request that was sent may take effect even if nobody waits for the response. So with
/// `cancel_with`, a task that is late or cancelled waits for the response, up to `limit`; then its
/// undo runs. Without it (a `GET`, say), the request is dropped at once and its connection closed.
///
/// # Limits
/// - A request whose response didn't come in time, or whose connection broke, may still be at work
///   in the server when the undo's request arrives, and take effect after it. The client can't
///   tell; let the server refuse a key whose `/cancel` it has seen, or make `limit` longer than the
///   server's own.
/// - No `https`: put a proxy in front, or try one of `awc`'s features for TLS in the program's own
///   manifest, which nobody has tested here.
/// - A body in chunks whose connection ends early can't be told from a complete one.
/// - A connection that isn't made within 5 s counts as refused.
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
}

#[derive(Clone)]
struct Rules {
    largest: usize,
    limit: Duration,
    gone: Arc<[u16]>,
    untouched: Arc<[u16]>,
    retryable: Arc<dyn Fn(u16) -> bool + Send + Sync>,
    key_prefix: Arc<str>,
}

impl<I: 'static> HttpRequest<I> {
    /// A stage that sends the request that `request` makes from a task's context. The closure is
    /// called once in each attempt.
    pub fn new(request: impl Fn(&I) -> Request + Send + Sync + 'static) -> Self {
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
            },
        }
    }
}

impl<I, O> HttpRequest<I, O> {
    /// Sets the request that takes the first one back. The closure is called, and the undo
    /// registered, before the stage's request is sent. Default: no undo.
    pub fn cancel_with(mut self, request: impl Fn(&I) -> Request + Send + Sync + 'static) -> Self {
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
        }
    }

    /// Maximum size of a response's body, in bytes. A larger one is a permanent failure, and its
    /// connection is closed. Default: 1 MiB.
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
}

impl<I, O> Clone for HttpRequest<I, O> {
    fn clone(&self) -> Self {
        HttpRequest {
            request: self.request.clone(),
            cancel: self.cancel.clone(),
            then: self.then.clone(),
            rules: self.rules.clone(),
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

/// An [`HttpRequest`] with the connections of one worker, which can't leave its thread. A pipeline
/// makes one for each worker; a program has no use for it.
pub struct HttpRequestWorker<I, O> {
    plan: HttpRequest<I, O>,
    client: Option<Client>,
}

/// The undo of an [`HttpRequest`]: the request that takes it back, with its idempotency key.
///
/// Its `Debug` shows the request's method and URL, without query and user info, because reports
/// print it.
#[derive(Clone)]
pub struct HttpRequestUndo {
    request: Request,
    key: String,
}

impl fmt::Debug for HttpRequestUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

impl<I, O> HttpRequestWorker<I, O> {
    async fn exchange(
        &mut self,
        request: &Request,
        key: &str,
    ) -> Result<Response, exchange::Broken> {
        let Rules { limit, largest, .. } = self.plan.rules;
        let client = self.client.get_or_insert_with(exchange::client);
        exchange::exchange(client, request, key, limit, largest).await
    }

    fn refused(&self, request: &Request, status: u16) -> Failure {
        let text = format!("{request:?}: the server answered with status {status}");
        if (self.plan.rules.retryable)(status) {
            Failure::new(text)
        } else {
            Failure::permanent(text)
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Stage for HttpRequestWorker<I, O> {
    type Input = I;
    type Output = O;
    type Undo = HttpRequestUndo;

    async fn run(
        &mut self,
        input: I,
        task: &TaskContext<'_, HttpRequestUndo>,
    ) -> Result<O, Failure> {
        let request = (self.plan.request)(&input);
        let key = format!("{}{}", self.plan.rules.key_prefix, task.key());
        let key = exchange::header_text(&key);
        let Some(cancel) = &self.plan.cancel else {
            let answer = self.exchange(&request, &key).await;
            let response = answer.map_err(|broken| broken.failure)?;
            if !response.is_success() {
                return Err(self.refused(&request, response.status));
            }
            return (self.plan.then)(input, response);
        };

        let undo = HttpRequestUndo {
            request: cancel(&input),
            key: format!("{key}/cancel"),
        };
        let undo = task.on_cancel(undo).await?;
        let (failure, untouched) = match task.shield(self.exchange(&request, &key)).await {
            Ok(response) if response.is_success() => return (self.plan.then)(input, response),
            Ok(Response { status, .. }) => (
                self.refused(&request, status),
                self.plan.rules.untouched.contains(&status),
            ),
            Err(broken) => (broken.failure, !broken.sent),
        };
        if untouched {
            undo.withdraw().await?;
        }
        Err(failure)
    }

    async fn cancel(
        &mut self,
        HttpRequestUndo { request, key }: HttpRequestUndo,
        _: &CancelContext<'_>,
    ) -> Result<(), Failure> {
        let answer = self.exchange(&request, &key).await;
        let response = answer.map_err(|broken| broken.failure)?;
        if response.is_success() || self.plan.rules.gone.contains(&response.status) {
            return Ok(());
        }
        Err(self.refused(&request, response.status))
    }
}
