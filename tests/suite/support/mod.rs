//! Helpers that the suite's tests share, an idea a file.

mod clock;
mod drops;
mod gate;
#[cfg(feature = "journal")]
mod journal;
mod notes;
mod quiet;
mod stages;

pub use clock::{AT_MOST, DRAIN, live, ms, since, sleep, still, until};
pub use drops::{ErrorWithDrop, Gauge, Held};
pub use gate::{Gate, Keeper, gate};
#[cfg(feature = "journal")]
pub use journal::{echo, echo_hanging_at, journal_path, on_disk};
pub use notes::{Notes, summary};
pub use quiet::quietly;
pub use stages::{Do, act, acting, noted};
