//! The environment of a service: files named under `env_file`, then what stands under
//! `environment`.
//!
//! Invariants: a later source wins; nothing is ever taken from the environment of the Phoenix
//! process; a value that is written as empty stays empty.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ground::document::{Cursor, Fields};

use super::interpolate::Variables;
use super::reading::{one_or_more, pairs};

/// Variables by name; one without a value takes away the image's.
type Environment = BTreeMap<String, Option<String>>;

/// What is wrong in a file of variables, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvFileError {
    #[error("line {0}: no name stands before the `=`")]
    NoName(usize),
    #[error("line {0}: a blank in the variable's name")]
    Blank(usize),
    #[error("the file is not UTF-8")]
    Encoding,
}

/// Reads the environment of the service in `map`. A name without a value takes the value of the
/// declared variable of that name.
pub(super) fn environment(
    map: &Fields<'_>,
    directory: &Path,
    variables: &Variables,
) -> Option<Environment> {
    let mut environment = Environment::new();
    let mut complete = true;
    if let Some(at) = map.get("env_file") {
        for file in one_or_more(&at)? {
            match env_file(&at, &directory.join(&file), &file, variables) {
                Some(read) => environment.extend(read),
                None => complete = false,
            }
        }
    }
    if let Some(at) = map.get("environment") {
        for (name, value) in pairs(&at)? {
            let value = value.or_else(|| variables.get(&name).cloned());
            environment.insert(name, value);
        }
    }
    complete.then_some(environment)
}

fn env_file(
    at: &Cursor<'_>,
    path: &Path,
    name: &str,
    variables: &Variables,
) -> Option<Environment> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) => {
            at.refuse(format!(
                "the file {} cannot be read: {error}",
                path.display()
            ));
            return None;
        }
    };
    match parse(&content, variables) {
        Ok(environment) => Some(environment),
        Err(error) => {
            at.refuse(format!("in {name}: {error}"));
            None
        }
    }
}

/// Parses lines of `NAME=value`: no quotes, no variables, `#` at the beginning of a line only. A
/// name alone takes the declared variable's value, and is left out when there is none.
pub(super) fn parse(content: &[u8], variables: &Variables) -> Result<Environment, EnvFileError> {
    let text = std::str::from_utf8(content).map_err(|_| EnvFileError::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut environment = Environment::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), variables.get(line.trim_end()).cloned()),
        };
        if name.is_empty() {
            return Err(EnvFileError::NoName(index + 1));
        }
        if name.contains(char::is_whitespace) {
            return Err(EnvFileError::Blank(index + 1));
        }
        if value.is_some() {
            environment.insert(name.to_owned(), value);
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_line_by_line() {
        let variables = Variables::from([("GIVEN".to_owned(), "x".to_owned())]);
        let text = "\u{feff}# note\n  A=1\nB=\"q\" # no comment \n\nC=\nGIVEN\nNONE\nA=2=3\r\n";
        let read = parse(text.as_bytes(), &variables).unwrap();
        let expected = [
            ("A", "2=3"),
            ("B", "\"q\" # no comment "),
            ("C", ""),
            ("GIVEN", "x"),
        ];
        let expected: Environment = expected
            .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
            .into();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_malformed_file_of_variables_says_where() {
        let none = Variables::new();
        assert_eq!(parse(b"A=1\n=2", &none), Err(EnvFileError::NoName(2)));
        assert_eq!(parse(b"A B=1", &none), Err(EnvFileError::Blank(1)));
        assert_eq!(parse(b"A=\xff", &none), Err(EnvFileError::Encoding));
    }
}
