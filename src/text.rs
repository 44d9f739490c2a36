//! Text of the user's on its way to a terminal or a log.

use std::borrow::Cow;

/// The text on one line, with nothing in it that a terminal takes for a command: an error may carry
/// what a stranger has sent.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_unsafe(letter) {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    Cow::Owned(line)
}

/// The beginning of the text that has at most this many bytes, cut between two characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Control characters, and those that turn the direction of what follows or begin another line.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}')
        || ('\u{202A}'..='\u{202E}').contains(&letter)
        || ('\u{2066}'..='\u{2069}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f11_control_characters_are_escaped_and_nothing_else_is() {
        assert_eq!(one_line("Grüße, \"世界\" \\n"), "Grüße, \"世界\" \\n");
        assert_eq!(
            one_line("no\u{1b}[2J\r\nINFO all is well\u{9b}1m\u{202e}x\u{2028}"),
            r"no\u{1b}[2J\r\nINFO all is well\u{9b}1m\u{202e}x\u{2028}"
        );
    }
}
