//! Log lines. The logger is the program's code: it may panic, and must not take an actor along.
//!
//! A line stays one line, whatever is in the errors that it tells of.
//!
//! The level is looked at first, so that a line that nobody reads costs one comparison.

macro_rules! line_of {
    ($level:ident, $($line:tt)+) => {
        if $crate::logging::is_on(::log::Level::$level) {
            $crate::panic_guard::log_quietly(|| {
                let line = ::std::fmt::format(::std::format_args!($($line)+));
                let line = $crate::text::one_line(&line);
                ::log::log!(::log::Level::$level, "{line}");
            });
        }
    };
}

macro_rules! error {
    ($($line:tt)+) => { $crate::logging::line_of!(Error, $($line)+) };
}

macro_rules! warning {
    ($($line:tt)+) => { $crate::logging::line_of!(Warn, $($line)+) };
}

macro_rules! info {
    ($($line:tt)+) => { $crate::logging::line_of!(Info, $($line)+) };
}

macro_rules! debug {
    ($($line:tt)+) => { $crate::logging::line_of!(Debug, $($line)+) };
}

pub(crate) use {debug, error, info, line_of, warning};

/// Lines of this level may be read by somebody. Doesn't ask the logger, whose answer is its code.
#[inline(always)]
pub(crate) fn is_on(level: log::Level) -> bool {
    level <= log::STATIC_MAX_LEVEL && level <= log::max_level()
}
