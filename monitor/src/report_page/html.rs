//! Elements of a page. Every text is escaped here, and nowhere else.

use std::{
    fmt::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A page that is being written.
pub(super) struct Html {
    text: String,
}

/// Characters of a text that are shown.
const MOST: usize = 2_000;

impl Html {
    /// A page with its head, and an open `main`. It may load nothing and run nothing.
    pub(super) fn page(title: &str, style: &str) -> Self {
        let mut page = Html {
            text: "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                   <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
                   <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                   <meta name=\"color-scheme\" content=\"light dark\">\n"
                .to_owned(),
        };
        page.element("title", "", title);
        page.text.push_str("<style>\n");
        page.text.push_str(style);
        page.text.push_str("</style>\n</head>\n<body>\n<main>\n");
        page
    }

    pub(super) fn end(mut self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        self.element("footer", "note", &format!("batrun {version}"));
        self.text.push_str("</main>\n</body>\n</html>\n");
        self.text
    }

    pub(super) fn open(&mut self, tag: &str, class: &str) {
        match class.is_empty() {
            true => self.raw(format_args!("<{tag}>")),
            false => self.raw(format_args!("<{tag} class=\"{class}\">")),
        }
    }

    pub(super) fn close(&mut self, tag: &str) {
        self.raw(format_args!("</{tag}>\n"));
    }

    /// An element with a text, which may be anybody's.
    pub(super) fn element(&mut self, tag: &str, class: &str, text: &str) {
        self.open(tag, class);
        self.text(text);
        self.close(tag);
    }

    /// A section with its heading, still open.
    pub(super) fn section(&mut self, heading: &str) {
        self.open("section", "card");
        self.element("h2", "", heading);
    }

    /// The first column heads the rows.
    pub(super) fn table(&mut self, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        self.text
            .push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
        for head in heads {
            self.raw(format_args!("<th scope=\"col\">"));
            self.text(head);
            self.text.push_str("</th>");
        }
        self.text.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.text.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let (open, close) = match at {
                    0 => ("<th scope=\"row\">", "</th>"),
                    _ => ("<td>", "</td>"),
                };
                self.text.push_str(open);
                self.text(cell);
                self.text.push_str(close);
            }
            self.text.push_str("</tr>\n");
        }
        self.text.push_str("</tbody></table></div>\n");
    }

    /// Text of this crate's own, numbers at most.
    pub(super) fn raw(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = self.text.write_fmt(text);
    }

    /// Anybody's text: what has a meaning in HTML is escaped, and control characters and those that turn the
    /// direction of text are shown as in source code.
    pub(super) fn text(&mut self, text: &str) {
        let mut letters = text.chars();
        for letter in letters.by_ref().take(MOST) {
            match letter {
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '&' => self.text.push_str("&amp;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                '\n' => self.text.push('\n'),
                letter if is_hidden(letter) => {
                    self.raw(format_args!("{}", letter.escape_unicode()))
                }
                letter => self.text.push(letter),
            }
        }
        if letters.next().is_some() {
            self.text.push_str(" …");
        }
    }
}

fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text of the user's code, which may panic.
pub(super) fn guarded(value: &impl fmt::Display) -> String {
    let shown = catch_unwind(AssertUnwindSafe(|| value.to_string()));
    shown.unwrap_or_else(|_| "(its text panicked)".to_owned())
}
