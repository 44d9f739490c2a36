//! Numbers and times as people read them.

use std::time::Duration;

/// A number with a thin space each three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration with two significant digits or so: 870 ns, 3.4 ms, 12 s, 5 min 20 s, 3 h 5 min.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        let (large, small, first, second) = match seconds {
            s if s >= 86_400 => (s / 86_400, s % 86_400 / 3_600, "d", "h"),
            s if s >= 3_600 => (s / 3_600, s % 3_600 / 60, "h", "min"),
            s => (s / 60, s % 60, "min", "s"),
        };
        return match small {
            0 => format!("{large} {first}"),
            small => format!("{large} {first} {small} {second}"),
        };
    }
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = usize::from(value < 10.0 && unit != "ns");
    format!("{value:.digits$} {unit}")
}
