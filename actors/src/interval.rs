//! A producer that makes a task at each tick of a clock.

use std::time::Duration;

use batrun::{Failure, Intake, Producer};
use tokio::time::{Instant, sleep_until};

/// A producer that makes a task once in each period: a schedule, a heartbeat, a poll.
///
/// The closure makes a task's context from the tick's number. Ticks are counted from 0 along the
/// clock: tick `n` is due at the start plus `n` times the period. A tick that passes while the
/// pipeline has no room is skipped, and its number with it, so a pipeline that was full doesn't get
/// a burst of tasks afterwards; the one that waited for room is submitted late.
///
/// It goes on until the pipeline shuts down, or for as long as [`times`](Self::times) says. Timers
/// have a resolution of a millisecond, so with a shorter period ticks are skipped.
///
/// # Errors
/// A period of zero is a permanent failure of the producer, and no task is submitted.
///
/// # Cancel safety
/// Shutting the pipeline down ends it during its wait; a tick that waits for room is then dropped.
///
/// ```
/// use std::time::Duration;
/// use batrun::prelude::*;
/// use batrun_actors::{Interval, inspect};
///
/// let report = actix_rt::System::new().block_on(
///     Pipeline::new("ticks")
///         .producer(Interval::every(Duration::from_millis(5), |tick| tick).times(3))
///         .stage(inspect("show", |tick: &u64| println!("tick {tick}")))
///         .run(),
/// )?;
/// assert_eq!(report.counts.done, 3);
/// # Ok::<(), batrun::Error>(())
/// ```
pub struct Interval<F> {
    period: Duration,
    make: F,
    first_after: Duration,
    times: Option<u64>,
    timeout: Option<Duration>,
}

impl<F> Interval<F> {
    /// Makes a task at once, and then one in each period. The closure gets the tick's number,
    /// counted from 0.
    pub fn every<C>(period: Duration, make: F) -> Self
    where
        F: FnMut(u64) -> C,
    {
        Interval {
            period,
            make,
            first_after: Duration::ZERO,
            times: None,
            timeout: None,
        }
    }

    /// Sets the time from the pipeline's start to the first task. Default: zero, so at once.
    pub fn first_after(mut self, delay: Duration) -> Self {
        self.first_after = delay;
        self
    }

    /// Ends the producer after this many tasks; skipped ticks don't count. Default: no end.
    pub fn times(mut self, tasks: u64) -> Self {
        self.times = Some(tasks);
        self
    }

    /// Sets each task's deadline, counted from its acceptance. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<C, F> Producer<C> for Interval<F>
where
    C: Send + 'static,
    F: FnMut(u64) -> C + Send + 'static,
{
    async fn produce(mut self, tasks: Intake<C>) -> Result<(), Failure> {
        if self.period.is_zero() {
            return Err(Failure::permanent("the interval's period is zero"));
        }
        let mut tick = 0;
        let mut due = Instant::now().checked_add(self.first_after);
        let mut submitted = 0;
        while self.times.is_none_or(|times| submitted < times) {
            let Some(at) = due else {
                // The next tick is later than the clock can express: it never comes.
                return std::future::pending().await;
            };
            sleep_until(at).await;
            let accepted = tasks.submit((self.make)(tick)).timeout(self.timeout).await;
            if let Err(refused) = accepted {
                return Err(refused.into_failure());
            }
            submitted += 1;
            let periods = periods(at.elapsed(), self.period);
            tick += periods;
            due = times(self.period, periods).and_then(|on| at.checked_add(on));
        }
        Ok(())
    }
}

/// Number of periods from a tick to the next one that isn't past, at least 1.
fn periods(late: Duration, period: Duration) -> u64 {
    let periods = late.as_nanos().div_ceil(period.as_nanos()).max(1);
    u64::try_from(periods).unwrap_or(u64::MAX)
}

/// `None` if the product is too long for a `Duration`.
fn times(period: Duration, periods: u64) -> Option<Duration> {
    let nanos = period.as_nanos().checked_mul(periods.into())?;
    let second = Duration::from_secs(1).as_nanos();
    let seconds = u64::try_from(nanos / second).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % second).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use batrun::{prelude::*, report::Report};

    use super::*;

    /// Runs on a clock that stands still while anything can run, and else jumps to the next timer.
    fn run(
        interval: Interval<fn(u64) -> u64>,
        work: fn(u64) -> Duration,
    ) -> (Report, Vec<(u64, Duration)>) {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap()
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let report = actix_rt::System::with_tokio_rt(runtime).block_on(async move {
            let start = Instant::now();
            Pipeline::new("ticks")
                .producer(interval)
                .stage(stage_fn(
                    "work",
                    async move |tick: u64, _: &TaskContext<'_, ()>| {
                        keep.lock().unwrap().push((tick, start.elapsed()));
                        tokio::time::sleep(work(tick)).await;
                        Ok(())
                    },
                ))
                .max_in_flight(1)
                .current_arbiter()
                .run()
                .await
                .unwrap()
        });
        let seen = seen.lock().unwrap().clone();
        (report, seen)
    }

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    /// The ticks with their times in whole seconds: the pipeline's own timers take some
    /// milliseconds.
    fn rounded(seen: &[(u64, Duration)]) -> Vec<(u64, u64)> {
        seen.iter()
            .map(|(tick, at)| (*tick, at.as_secs()))
            .collect()
    }

    #[test]
    fn a_task_each_period() {
        let interval = Interval::every(seconds(10), (|tick| tick) as fn(u64) -> u64);
        let (report, seen) = run(interval.times(3), |_| Duration::ZERO);
        assert_eq!(rounded(&seen), [(0, 0), (1, 10), (2, 20)]);
        assert!(report.producer_errors.is_empty(), "{report}");
    }

    #[test]
    fn the_first_one_can_be_later() {
        let interval = Interval::every(seconds(10), (|tick| tick) as fn(u64) -> u64);
        let (_, seen) = run(interval.first_after(seconds(7)).times(2), |_| {
            Duration::ZERO
        });
        assert_eq!(rounded(&seen), [(0, 7), (1, 17)]);
    }

    #[test]
    fn missed_ticks_are_skipped() {
        // Tick 1 waits until tick 0 is done, at 35: then 2 and 3 are past.
        let interval = Interval::every(seconds(10), (|tick| tick) as fn(u64) -> u64);
        let (_, seen) = run(interval.times(4), |tick| match tick {
            0 => seconds(35),
            _ => Duration::ZERO,
        });
        assert_eq!(rounded(&seen), [(0, 0), (1, 35), (4, 40), (5, 50)]);
    }

    #[test]
    fn a_task_may_be_late() {
        let interval = Interval::every(seconds(10), (|tick| tick) as fn(u64) -> u64);
        let interval = interval.times(2).timeout(seconds(5));
        let (report, _) = run(interval, |tick| seconds(tick * 60));
        assert_eq!((report.counts.done, report.counts.timed_out), (1, 1));
    }

    #[test]
    fn a_period_of_zero_is_refused() {
        let interval = Interval::every(Duration::ZERO, (|tick| tick) as fn(u64) -> u64);
        let (report, seen) = run(interval, |_| Duration::ZERO);
        assert!(seen.is_empty());
        let error = report.producer_errors[0].failure.to_string();
        assert_eq!(error, "the interval's period is zero");
    }

    #[test]
    fn far_ticks_are_not_too_far_for_the_arithmetic() {
        assert_eq!(periods(Duration::ZERO, seconds(3)), 1);
        assert_eq!(periods(seconds(3), seconds(3)), 1);
        assert_eq!(periods(seconds(7), seconds(3)), 3);
        assert_eq!(times(Duration::MAX, u64::MAX), None);
        assert_eq!(
            times(Duration::from_millis(1_500), 3),
            Some(Duration::from_millis(4_500))
        );
    }
}
