//! The stage itself: what a worker does with a task, and with its undo.

use batrun::{CancelContext, Failure, Stage, TaskContext};
use tokio::time::sleep;

use super::{
    HttpCall, HttpRequest, HttpRequestUndo, Request, Response, Rules,
    client::Client,
    exchange::{self, Broken},
};

/// An [`HttpRequest`] with the connections of one worker. A pipeline makes one for each worker; a
/// program has no use for it.
pub struct HttpRequestWorker<I, O> {
    pub(super) plan: HttpRequest<I, O>,
    pub(super) client: Option<Client>,
}

/// A request that did not succeed.
struct Missed {
    failure: Failure,
    /// `true` if the server surely did nothing, so that there is nothing to take back.
    untouched: bool,
}

impl<I, O> HttpRequestWorker<I, O> {
    async fn exchange(&mut self, request: &Request, key: &str) -> Result<Response, Broken> {
        let Rules { limit, largest, .. } = self.plan.rules;
        let wire = &self.plan.wire;
        let client = self.client.get_or_insert_with(|| Client::new(wire));
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

    /// Sends the request, whose undo is registered: once, or until its effect is known.
    ///
    /// # Cancel safety
    /// The task's deadline and cancel wait for a request that is sent, and for no delay.
    async fn act(
        &mut self,
        request: &Request,
        key: &str,
        task: &TaskContext<'_, HttpRequestUndo>,
    ) -> Result<Response, Missed> {
        // One that may have acted is enough: the answer to a later one says nothing about it.
        let mut untouched = true;
        let mut sent = 1;
        loop {
            let (failure, by_this) = match task.shield(self.exchange(request, key)).await {
                Ok(response) if response.is_success() => return Ok(response),
                Ok(Response { status, .. }) => (
                    self.refused(request, status),
                    self.plan.rules.untouched.contains(&status),
                ),
                Err(broken) => (broken.failure, !broken.sent),
            };
            untouched &= by_this;
            let retry = self.plan.rules.key_until_known;
            let Some(retry) = retry.filter(|_| !untouched && failure.is_retryable()) else {
                return Err(Missed { failure, untouched });
            };
            let delay = retry.delay(sent);
            let in_time = task.time_left().is_none_or(|left| delay < left);
            // A future is dropped only where it waits, and a delay may be none.
            if sent > retry.retries() || !in_time || task.is_stopping() {
                let times = if sent == 1 { "time" } else { "times" };
                let text = format!(
                    "{failure}; sent {sent} {times} with one key, and its effect is unknown"
                );
                let failure = Failure::permanent(text);
                return Err(Missed { failure, untouched });
            }
            sleep(delay).await;
            sent += 1;
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
        let key = format!("{}{}", self.plan.rules.key_prefix, task.key());
        let key = header_text(&key);
        let call = HttpCall {
            key: &key,
            task: task.task_id(),
            attempt: task.attempt(),
        };
        let request = (self.plan.request)(&input, &call);
        let Some(cancel) = &self.plan.cancel else {
            let answer = self.exchange(&request, &key).await;
            let response = answer.map_err(|broken| broken.failure)?;
            if !response.is_success() {
                return Err(self.refused(&request, response.status));
            }
            return (self.plan.then)(input, response);
        };

        let undo = HttpRequestUndo {
            request: cancel(&input, &call),
            key: format!("{key}/cancel"),
        };
        let undo = task.on_cancel(undo).await?;
        match self.act(&request, &key, task).await {
            Ok(response) => (self.plan.then)(input, response),
            Err(Missed { failure, untouched }) => {
                if untouched {
                    undo.withdraw().await?;
                }
                Err(failure)
            }
        }
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

/// A key as a header can contain it: visible ASCII, and any other byte as `%` and two digits.
fn header_text(key: &str) -> String {
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
