//! A test's System and its clock.

use std::future::Future;

/// Runs a test in an actix System whose clock stands still: time passes only while everybody on
/// this thread waits for a timer, and then at once. Give your pipeline
/// [`current_arbiter`](crate::Pipeline::current_arbiter), so that it is on this thread.
///
/// ```
/// use std::time::Duration;
/// use batrun::testing::paused;
///
/// // An hour in no time.
/// paused(async { actix::clock::sleep(Duration::from_secs(3600)).await });
/// ```
///
/// Not for `.blocking()` stages and real I/O: the clock runs away from them, and their tasks are
/// late at once. Use [`live`].
///
/// # Panics
/// Within a runtime, and if the operating system refuses what one needs.
pub fn paused<F: Future>(test: F) -> F::Output {
    let runtime = || {
        let built = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        match built {
            Ok(runtime) => runtime,
            Err(error) => panic!("the test needs a runtime: {error}"),
        }
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(test)
}

/// Runs a test in real time, in an actix System: for stages that do real I/O or block.
///
/// # Panics
/// Within a runtime, and if the operating system refuses what one needs.
pub fn live<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(test)
}
