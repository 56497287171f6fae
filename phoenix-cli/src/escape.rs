//! Text from elsewhere, made fit for a terminal.
//!
//! Whatever a guest, a server or a file says may hold escape sequences that move the cursor,
//! rewrite lines or set the clipboard, and characters that reverse what is read. None of them
//! leaves here as it came, whether or not a terminal is on the other end: what is piped is
//! often shown on one later.

use std::borrow::Cow;

/// Whether `c` could do something to a terminal, or to the order in which a line is read.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// `text` on one line: every active character, line breaks among them, is written as an escape.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_active(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// The lines of `text`, without line breaks at its end; tabs are four spaces, everything else
/// that is active is written as an escape.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.trim_end_matches(['\r', '\n']).split('\n').map(|text| {
        line(
            &text
                .strip_suffix('\r')
                .unwrap_or(text)
                .replace('\t', "    "),
        )
        .into_owned()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        assert_eq!(
            line("\u{1b}[2J\u{1b}]52;c;x\u{7}"),
            "\\u{1b}[2J\\u{1b}]52;c;x\\u{7}"
        );
        assert_eq!(line("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(line("a\rb\u{8}c"), "a\\rb\\u{8}c");
        assert_eq!(line("user\u{202e}txt"), "user\\u{202e}txt");
        assert_eq!(line("zwölf 漢字"), "zwölf 漢字");
    }

    #[test]
    fn lines_keep_their_breaks_and_lose_the_last() {
        let text = "one\r\n\ttwo\n\nthree\u{1b}[0m\n\n";
        let split: Vec<String> = lines(text).collect();
        assert_eq!(split, ["one", "    two", "", "three\\u{1b}[0m"]);
    }

    proptest! {
        #[test]
        fn nothing_active_passes(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_active));
            for line in lines(&text) {
                prop_assert!(!line.contains(is_active));
            }
        }
    }
}
