//! Calls that take many values at once, made of values that come one by one.

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, oneshot};

/// Hands a call whatever came during the call before it. Must be made on a runtime.
pub struct Gather<T>(mpsc::UnboundedSender<(T, Waiting)>);

/// Those who want to know when the call has returned.
type Waiting = Option<oneshot::Sender<()>>;

impl<T: Send + 'static> Gather<T> {
    /// With at most `most` values a call.
    pub fn new<F, C>(most: usize, call: C) -> Self
    where
        C: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let (sender, mut values) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut gathered = Vec::new();
            while values.recv_many(&mut gathered, most).await > 0 {
                let (values, waiting): (Vec<T>, Vec<Waiting>) = gathered.drain(..).unzip();
                if let Err(error) = call(values).await {
                    eprintln!("{error:#}");
                    // The run has failed: nobody would ever hear of these values.
                    std::process::exit(1);
                }
                for waiting in waiting.into_iter().flatten() {
                    waiting.send(()).ok();
                }
            }
        });
        Gather(sender)
    }

    /// Leaves a value for the next call.
    pub fn leave(&self, value: T) -> anyhow::Result<()> {
        self.0
            .send((value, None))
            .map_err(|_| anyhow!("the run is over"))
    }

    /// Returns once the call with this value has returned.
    pub async fn put(&self, value: T) -> anyhow::Result<()> {
        let (sender, done) = oneshot::channel();
        self.0
            .send((value, Some(sender)))
            .map_err(|_| anyhow!("the run is over"))?;
        done.await.context("the run is over")
    }
}
