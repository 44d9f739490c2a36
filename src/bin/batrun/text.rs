//! What people read.

use std::time::Duration;

use comfy_table::{Table, presets};

/// How much of a value is shown in a table.
const WIDEST: usize = 60;

/// Without anything that a terminal would obey: keys, values and errors come from anywhere.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' || is_direction(letter) {
            clean.extend(letter.escape_default());
        } else {
            clean.push(letter);
        }
    }
    clean
}

/// Whether it changes the direction in which what follows is shown.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// For a cell: in one line, and no longer than is good for a table.
pub(crate) fn short(text: &str) -> String {
    let text = clean(text).replace('\n', " ");
    if text.chars().count() <= WIDEST {
        return text;
    }
    let mut cut: String = text.chars().take(WIDEST - 1).collect();
    cut.push('…');
    cut
}

/// What there may be, or a dash.
pub(crate) fn or_dash(text: Option<impl AsRef<str>>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| short(text.as_ref()))
}

/// What is left to a deadline.
pub(crate) fn left(left: Option<Duration>) -> String {
    match left {
        None => "-".to_owned(),
        Some(Duration::ZERO) => "over".to_owned(),
        Some(left) => {
            let seconds = left.as_secs();
            match seconds {
                0..60 => format!("{:.1} s", left.as_secs_f64()),
                60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
                3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
                _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
            }
        }
    }
}

/// A table with these columns and no lines.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns);
    table
}

/// A number of things.
pub(crate) fn count(number: usize, one: &str, more: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {more}"),
    }
}
