//! Texts as PostgreSQL keeps them: it has no NUL.

use std::borrow::Cow;

/// A text without NUL: `\0` stands for it, and `\\` for a backslash.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', '\\']) {
        return text.into();
    }
    text.replace('\\', "\\\\").replace('\0', "\\0").into()
}

/// The text that was [`escaped`]. Another backslash is one: a person has written it.
pub(super) fn unescaped(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letters.peek().filter(|_| letter == '\\');
        let stands_for = match escaped {
            Some('0') => Some('\0'),
            Some('\\') => Some('\\'),
            _ => None,
        };
        if stands_for.is_some() {
            letters.next();
        }
        whole.push(stands_for.unwrap_or(letter));
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_comes_back_as_it_was(text in "[a\\\\0\0ü]*") {
            let kept = escaped(&text);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(unescaped(&kept), text);
        }
    }

    #[test]
    fn most_texts_stay_as_they_are() {
        assert!(matches!(escaped("order 7, ü"), Cow::Borrowed("order 7, ü")));
    }
}
