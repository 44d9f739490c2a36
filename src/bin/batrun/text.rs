//! Texts and tables for people.

use std::time::Duration;

use comfy_table::{Table, presets};

/// The width of a cell, in characters. Longer texts are cut.
const MAX_CELL: usize = 60;

/// The text without anything that a terminal would obey: keys, values and errors may come from
/// strangers.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' || is_direction(letter) {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// Returns true for characters that change the direction of the text after them, which could
/// disguise a name.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text as a table's cell: escaped, on one line, and cut to the width of a cell.
pub(crate) fn cell(text: &str) -> String {
    let text = escaped(text).replace('\n', " ");
    if text.chars().count() <= MAX_CELL {
        return text;
    }
    let mut cut: String = text.chars().take(MAX_CELL - 1).collect();
    cut.push('…');
    cut
}

/// The text as a table's cell, or a dash if there is none.
pub(crate) fn cell_or_dash(text: Option<impl AsRef<str>>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| cell(text.as_ref()))
}

/// The time to a deadline, in two units at most.
pub(crate) fn time_left(left: Option<Duration>) -> String {
    match left {
        None => "-".to_owned(),
        Some(Duration::ZERO) => "over".to_owned(),
        Some(left) => time(left),
    }
}

/// A time, in two units at most.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A size, in the largest unit of which there is one.
#[cfg(feature = "postgres")]
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A table with these columns, without lines.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns);
    table
}

/// A number and its noun.
pub(crate) fn count(number: usize, one: &str, more: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {more}"),
    }
}
