//! Files of variables as `docker compose` writes them: values may be quoted and hold variables,
//! and a `#` behind a space begins a comment.

use super::super::interpolate::{Variables, nested};
use super::{EnvFileError, Environment, Note};

/// Parses lines of `NAME=value`. Within unquoted and double-quoted values variables are replaced:
/// those of `known`, then those before in the file. A name alone takes the known variable's value,
/// and is left out when there is none. Beside them stands what is odd in the file.
pub(in super::super) fn parse(
    content: &[u8],
    known: &Variables,
) -> Result<(Environment, Vec<Note>), EnvFileError> {
    let text = std::str::from_utf8(content).map_err(|_| EnvFileError::Encoding)?;
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let mut environment = Environment::new();
    let mut notes = Vec::new();
    let mut scope = known.clone();
    let mut rest = text.as_str();
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let (own, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let entry = own.trim_start();
        if entry.is_empty() || entry.starts_with('#') {
            rest = after;
            continue;
        }
        let entry = match entry.strip_prefix("export") {
            Some(name) if name.starts_with(char::is_whitespace) => name.trim_start(),
            _ => entry,
        };
        let separator = entry
            .find(['=', ':', '#'])
            .filter(|at| !entry[*at..].starts_with('#'));
        let Some(at) = separator else {
            let name = entry.split('#').next().unwrap_or_default().trim_end();
            check(name, line)?;
            if let Some(value) = known.get(name) {
                environment.insert(name.to_owned(), Some(value.clone()));
            }
            rest = after;
            continue;
        };
        let name = entry[..at].trim_end();
        check(name, line)?;
        // From here on a quoted value may go on behind the end of the line.
        let value_at = own.len() - entry.len() + at + 1;
        let mut odd = Vec::new();
        let (value, length, lines) = value(&rest[value_at..], line, &scope, &mut odd)?;
        notes.extend(odd.into_iter().map(|message| Note {
            name: name.to_owned(),
            line,
            message,
        }));
        rest = rest.get(value_at + length..).unwrap_or_default();
        let (left, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if !(left.trim().is_empty() || left.trim_start().starts_with('#')) {
            return Err(EnvFileError::Rest(line + lines));
        }
        rest = after;
        line += lines;
        if !known.contains_key(name) {
            scope.insert(name.to_owned(), value.clone());
        }
        environment.insert(name.to_owned(), Some(value));
    }
    Ok((environment, notes))
}

fn check(name: &str, line: usize) -> Result<(), EnvFileError> {
    if name.is_empty() {
        return Err(EnvFileError::NoName(line));
    }
    if name.contains(char::is_whitespace) {
        return Err(EnvFileError::Blank(line));
    }
    Ok(())
}

/// The value that `text` begins with, its length there, and how many line ends are in it.
fn value(
    text: &str,
    line: usize,
    scope: &Variables,
    odd: &mut Vec<String>,
) -> Result<(String, usize, usize), EnvFileError> {
    let mut replaced = |value: &str| {
        let (value, told) =
            nested(value, scope).map_err(|message| EnvFileError::Variable(line, message))?;
        odd.extend(told);
        Ok(value)
    };
    let blanks = text.len() - text.trim_start_matches([' ', '\t']).len();
    let start = &text[blanks..];
    if let Some(inner) = start.strip_prefix('\'') {
        let mut value = String::new();
        let mut characters = inner.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '\'' => {
                    let lines = inner[..index].matches('\n').count();
                    return Ok((value, blanks + index + 2, lines));
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('\'') => value.push('\''),
                    Some(other) => value.extend(['\\', other]),
                    None => break,
                },
                other => value.push(other),
            }
        }
        return Err(EnvFileError::OpenQuote(line));
    }
    if let Some(inner) = start.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = inner.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    let lines = inner[..index].matches('\n').count();
                    return Ok((replaced(&value)?, blanks + index + 2, lines));
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some('$') => value.push_str("$$"),
                    Some(quoted @ ('"' | '\\')) => value.push(quoted),
                    Some(other) => value.extend(['\\', other]),
                    None => break,
                },
                other => value.push(other),
            }
        }
        return Err(EnvFileError::OpenQuote(line));
    }
    let own = start.split('\n').next().unwrap_or_default();
    let (written, _) = own.split_once(" #").unwrap_or((own, ""));
    Ok((replaced(written.trim_end())?, blanks + own.len(), 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(content: &[u8], known: &Variables) -> Result<Environment, EnvFileError> {
        super::parse(content, known).map(|(read, _)| read)
    }

    #[test]
    fn a_sign_of_comments_is_one_behind_a_space() {
        let text = "P=#secret\nQ= #x\nR=a\t#b\nS=a #b\nT=a#b # c\nU='it\\'s' # d\nV='a\\\\'\n\
                    W='\\n'\n";
        let read = parse(text.as_bytes(), &Variables::new()).unwrap();
        let expected: Environment = [
            ("P", "#secret"),
            ("Q", "#x"),
            ("R", "a\t#b"),
            ("S", "a"),
            ("T", "a#b"),
            ("U", "it's"),
            ("V", "a\\\\"),
            ("W", "\\n"),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .into();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_odd_is_told_with_its_line() {
        let text = "A=1\nB=$NONE\nC='$NONE'\nD=\"x\n$1\"\nE=$$\n";
        let (read, notes) = super::parse(text.as_bytes(), &Variables::new()).unwrap();
        assert_eq!(read["D"].as_deref(), Some("x\n$1"));
        let notes: Vec<(&str, usize, bool)> = notes
            .iter()
            .map(|note| {
                let unset = note.message.contains("NONE is not set");
                (note.name.as_str(), note.line, unset)
            })
            .collect();
        assert_eq!(notes, [("B", 2, true), ("D", 4, false)]);
    }

    #[test]
    fn a_file_of_variables_is_read_as_docker_compose_does() {
        let known = Variables::from([("GIVEN".to_owned(), "x".to_owned())]);
        let text = "\u{feff}# note\nA=1 # one\nexport B = two words\r\nC='$A # \"c\"'\n\
                    D=\"${A}-${NONE:-d}\\n\\$A \\\"q\\\"\"\nE=\n F: $B!\nGIVEN\nNONE\n\
                    G=\"a\nb\" # c\nH=a#b\nI=$GIVEN\nGIVEN=own\n";
        let read = parse(text.as_bytes(), &known).unwrap();
        let expected: Environment = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A # \"c\""),
            ("D", "1-d\n$A \"q\""),
            ("E", ""),
            ("F", "two words!"),
            ("G", "a\nb"),
            ("GIVEN", "own"),
            ("H", "a#b"),
            ("I", "x"),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .into();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_malformed_file_of_variables_says_where() {
        let none = Variables::new();
        let fault = |text: &str| parse(text.as_bytes(), &none).unwrap_err();
        assert_eq!(fault("A=1\n=2"), EnvFileError::NoName(2));
        assert_eq!(fault("A B=1"), EnvFileError::Blank(1));
        assert_eq!(fault("A=\"a\nb\"\nB='x"), EnvFileError::OpenQuote(3));
        assert!(matches!(
            fault("\nA=${B:?no}"),
            EnvFileError::Variable(2, _)
        ));
        assert_eq!(parse(b"A=\xff", &none), Err(EnvFileError::Encoding));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[A-C=:#'\"\\\\$\\{\\} \n]{0,24}") {
            let _ = parse(text.as_bytes(), &Variables::new());
        }

        #[test]
        fn a_quoted_value_comes_back(value in "[^'\\\\\r]{0,16}") {
            let text = format!("A='{value}'\nB=2");
            let read = parse(text.as_bytes(), &Variables::new()).unwrap();
            prop_assert_eq!(read["A"].as_deref(), Some(value.as_str()));
            prop_assert_eq!(read["B"].as_deref(), Some("2"));
        }
    }
}
