//! The streams of samples: a bounded number of them, each for a bounded time. A slow reader gets only the newest
//! sample, because nothing is queued for it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::{sync::watch, time};

use crate::{access::Access, answer::Refused, sample::Sampled};

/// Streams at once.
const MOST: usize = 32;
/// A stream ends after this time; the page then opens another one.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    since: BTreeMap<u64, Instant>,
}

/// A place among them.
struct Place {
    streams: Streams,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.with(|open| open.since.remove(&self.number));
    }
}

impl Streams {
    fn with<T>(&self, change: impl FnOnce(&mut Open) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count(&self) -> usize {
        self.with(|open| open.since.len())
    }

    /// A reader that has stopped reading keeps its connection, but not its place.
    fn enter(&self, now: Instant) -> Result<Place, Refused> {
        self.with(|open| {
            open.since
                .retain(|_, since| now.saturating_duration_since(*since) < LIFE);
            if open.since.len() >= MOST {
                return Err(Refused::unavailable(
                    "32 streams are open already; ask for api/v1/pipelines now and then instead",
                ));
            }
            open.last += 1;
            open.since.insert(open.last, now);
            Ok(Place {
                streams: self.clone(),
                number: open.last,
            })
        })
    }

    /// A stream of samples: the first at once, then one in so many milliseconds.
    pub(crate) fn open(
        &self,
        first: Arc<Sampled>,
        newest: watch::Receiver<Arc<Sampled>>,
        every: u64,
        access: Access,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, Refused> {
        let reader = Reader {
            _place: self.enter(Instant::now())?,
            until: time::Instant::now() + LIFE,
            newest,
            every,
            access,
            last: first.at,
            first: Some(first),
            over: false,
        };
        Ok(stream::unfold(reader, async |mut reader| {
            let event = reader.next().await?;
            Some((Ok(event), reader))
        }))
    }
}

struct Reader {
    _place: Place,
    until: time::Instant,
    newest: watch::Receiver<Arc<Sampled>>,
    every: u64,
    access: Access,
    first: Option<Arc<Sampled>>,
    last: u64,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let sampled = match self.first.take() {
            Some(first) => Some(first),
            None => time::timeout_at(self.until, self.changed())
                .await
                .ok()
                .flatten(),
        };
        match sampled.filter(|sampled| !sampled.closed) {
            Some(sampled) => {
                self.last = sampled.at;
                self.newest.mark_unchanged();
                self.over = sampled.over;
                let mut event = self.event("sample", &sampled.text(&self.access));
                if self.over {
                    event.extend(self.event("bye", b"{}"));
                }
                Some(event.into())
            }
            None => {
                self.over = true;
                Some(self.event("bye", b"{}").into())
            }
        }
    }

    /// The next sample that is due; none if there will be no more.
    async fn changed(&mut self) -> Option<Arc<Sampled>> {
        loop {
            let newest = self.newest.borrow_and_update().clone();
            // Ticks are never exactly a second apart.
            if newest.closed || newest.at + 100 >= self.last + self.every && newest.at > self.last {
                return Some(newest);
            }
            self.newest.changed().await.ok()?;
        }
    }

    /// The text has no line breaks: it is JSON.
    fn event(&self, name: &str, data: &[u8]) -> Vec<u8> {
        let mut event = format!("event: {name}\ndata: ").into_bytes();
        event.extend_from_slice(data);
        event.extend_from_slice(b"\n\n");
        event
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn sampled(at: u64) -> Arc<Sampled> {
        Arc::new(Sampled {
            at,
            ..Sampled::default()
        })
    }

    #[tokio::test]
    async fn d2_a_slow_reader_gets_the_newest_sample_and_no_other() {
        let (sender, newest) = watch::channel(sampled(1_000));
        let streams = Streams::default();
        let events = streams
            .open(sampled(1_000), newest, 1_000, Access::look())
            .ok()
            .unwrap();
        let mut events = Box::pin(events);
        let mut next =
            async || String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert!(
            next()
                .await
                .starts_with("event: sample\ndata: {\"now\":1000,")
        );
        for at in 2..=1_000 {
            sender.send_replace(sampled(at * 1_000));
        }
        assert!(next().await.contains("\"now\":1000000,"));
        // One that was closed meanwhile says so at once.
        sender.send_replace(Arc::new(Sampled {
            closed: true,
            ..Sampled::default()
        }));
        assert_eq!(next().await, "event: bye\ndata: {}\n\n");
        assert!(events.next().await.is_none());
        drop(events);
        assert_eq!(streams.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_its_time() {
        let (_sender, newest) = watch::channel(sampled(1_000));
        let streams = Streams::default();
        let events = streams
            .open(sampled(1_000), newest, 1_000, Access::look())
            .ok()
            .unwrap();
        let all: Vec<_> = events.collect().await;
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn d2_the_thirty_third_stream_has_no_place_until_one_is_free() {
        let (streams, now) = (Streams::default(), Instant::now());
        let mut places: Vec<_> = (0..MOST).filter_map(|_| streams.enter(now).ok()).collect();
        assert_eq!((places.len(), streams.count()), (MOST, MOST));
        assert!(streams.enter(now).is_err());
        places.pop();
        assert!(streams.enter(now).is_ok());
        // Those that nobody reads any more don't keep others out.
        places.truncate(MOST);
        assert!(streams.enter(now + LIFE).is_ok());
    }
}
