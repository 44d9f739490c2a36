//! A stage that sends an HTTP request, and takes it back with another.

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

/// A stage that sends an HTTP request; its cancel sends another that takes it back.
///
/// The requests are made of the context by closures. The context goes on as it came, unless
/// [`then`](Self::then) makes something of it and the response. Each worker has connections of its
/// own and keeps them alive between tasks. HTTP/1.1 only; no redirects are followed.
///
/// # Which answers are failures
/// A status of 200 to 299 is success. 408, 425, 429, 500, 502, 503 and 504 are failures that
/// another attempt may not meet, unless [`retryable`](Self::retryable) says otherwise, and so is a
/// connection that isn't made or breaks, and a [`limit`](Self::limit) that has passed. Any other
/// status, 3xx too, is permanent, and so is what can't be sent at all. A `Retry-After` header is
/// not honoured: how long to wait is up to the stage's [`retry`](IntoWork::retry) policy.
///
/// # Idempotency keys
/// Each request carries an `Idempotency-Key` header, unless it has one of its own. It is the
/// [task's key](TaskContext::key): the same for each attempt, until an undo of this stage was
/// cancelled. The cancel's is that key and `/cancel`, the same for each of its attempts. A byte
/// that a header can't hold is written as `%` and two digits. Keys are unique within one run of a
/// pipeline only: where the server remembers them for longer, give the run a
/// [prefix](Self::key_prefix).
///
/// # Taking back
/// With [`cancel_with`](Self::cancel_with), the undo is registered before the request is sent. It
/// is withdrawn only where the server surely didn't act: the request could not be sent, no
/// connection was made, or the status is one of those [`untouched`](Self::untouched) names. Any
/// other error leaves it, because the server may have acted; so the cancel must be something that
/// the server accepts for what doesn't exist ([`gone`](Self::gone)), and must name what it takes
/// back by something that is known beforehand, such as a number that the client chose.
///
/// # Deadlines
/// A request that was sent may take effect whether somebody waits for the answer or not. So with
/// `cancel_with` a task that is late or cancelled waits for the answer, up to `limit`; then
/// the cancel is sent. Without it (a `GET`, say) the request is dropped at once and its connection
/// closed.
///
/// # Limits
/// A request whose answer didn't come in time, or whose connection broke, may still be at work at
/// the server when the cancel arrives there, and take effect after it. Nothing on this side can
/// tell; let the server refuse a key whose cancel it has seen, or make `limit` longer than the
/// server's own.
///
/// No `https`: put a proxy in front, or try one of `awc`'s features for TLS in the program's own
/// manifest, which nobody has tested here. A body in chunks whose connection ends early can't be told
/// from a whole one. A connection that isn't made within 5 s counts as refused.
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
    /// Sends what `request` makes of a context.
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
    /// What takes the request back: made before the request is sent, and sent when the task is
    /// rolled back.
    pub fn cancel_with(mut self, request: impl Fn(&I) -> Request + Send + Sync + 'static) -> Self {
        self.cancel = Some(Arc::new(request));
        self
    }

    /// What goes on to the next stage, made of the context and the response to a request that
    /// succeeded. A failure here is the attempt's.
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

    /// How large the body of a response may be, in bytes: 1 MiB unless told otherwise. One that is
    /// larger is a permanent failure, and its connection is closed.
    pub fn largest(mut self, bytes: usize) -> Self {
        self.rules.largest = bytes;
        self
    }

    /// How long a request may take, from the connection to the end of the response's body, and how
    /// long a task that is late may wait for it: 30 s unless told otherwise. For the cancel, too,
    /// which has the stage's [`cancel_timeout`](IntoWork::cancel_timeout) besides.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.rules.limit = limit;
        self
    }

    /// The statuses by which the server says that there is nothing to take back, so that the cancel
    /// has succeeded: 404 and 410 unless told otherwise.
    pub fn gone(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.rules.gone = statuses.into_iter().collect();
        self
    }

    /// The statuses by which the server says that it did nothing (409 or 422, say), so that nothing
    /// is to be taken back: none unless told otherwise.
    pub fn untouched(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.rules.untouched = statuses.into_iter().collect();
        self
    }

    /// Which statuses another attempt may not meet, instead of those [above](Self), for the cancel,
    /// too. Asked for those that are no success.
    pub fn retryable(mut self, retryable: impl Fn(u16) -> bool + Send + Sync + 'static) -> Self {
        self.rules.retryable = Arc::new(retryable);
        self
    }

    /// What idempotency keys begin with: nothing unless told otherwise. Something that no other run
    /// of the program has, for servers that remember keys.
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

/// An [`HttpRequest`] with the connections of one worker, which can't leave its thread.
pub struct HttpRequestWorker<I, O> {
    plan: HttpRequest<I, O>,
    client: Option<Client>,
}

/// What takes an [`HttpRequest`] back. Its `Debug` shows the request's method and URL, without
/// query and user info.
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
        let text = format!("{request:?}: answered with status {status}");
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
