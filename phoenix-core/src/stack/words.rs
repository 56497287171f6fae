//! A command written as one text, split into words as the docker CLI splits it: by blanks, with
//! quotes, backslashes and comments, and without any shell.

/// What is wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsError {
    #[error("a quote is opened and not closed")]
    OpenQuote,
    #[error("nothing follows the last backslash")]
    LoneBackslash,
}

/// Splits `text`. A backslash takes the next character as it is, within double quotes too; a `#`
/// that begins a word begins a comment up to the end of the line.
pub(super) fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(WordsError::OpenQuote)? {
                        '"' => break,
                        '\\' => word.push(characters.next().ok_or(WordsError::LoneBackslash)?),
                        other => word.push(other),
                    }
                }
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(WordsError::OpenQuote)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(characters.next().ok_or(WordsError::LoneBackslash)?),
            '#' if word.is_none() => {
                characters.by_ref().find(|c| *c == '\n');
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_the_docker_cli_does() {
        for (text, expected) in [
            ("", vec![]),
            ("  a\tb\nc ", vec!["a", "b", "c"]),
            (
                r#"sh -c "echo \"x\" \n""#,
                vec!["sh", "-c", r#"echo "x" n"#],
            ),
            (r"a\ b '\c'", vec!["a b", r"\c"]),
            (r#"'' "" x"#, vec!["", "", "x"]),
            (r#"--a="b c"d"#, vec!["--a=b cd"]),
            ("run # all\nof#it", vec!["run", "of#it"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        assert_eq!(split("a 'b"), Err(WordsError::OpenQuote));
        assert_eq!(split("a \"b"), Err(WordsError::OpenQuote));
        assert_eq!(split("a\\"), Err(WordsError::LoneBackslash));
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[^']{0,8}", 0..5)) {
            let text: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split(&text.join(" ")).unwrap(), words);
        }
    }
}
