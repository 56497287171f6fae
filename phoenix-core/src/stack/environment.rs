//! The environment of a service: files named under `env_file`, then what stands under
//! `environment`.
//!
//! Invariants: a later source wins; nothing is ever taken from the environment of the Phoenix
//! process; a value that is written as empty stays empty, unless docker's ways are asked for.

mod dotenv;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::ground::document::{Cursor, Map, Node, Value};

use super::findings::{Findings, children, entry, map_mut, text_node};
use super::interpolate::Variables;
use super::options::{Dialect, LoadOptions};
use super::reading::{boolean, fields, pairs, text};
use super::{habits, load};

/// Variables by name; one without a value takes away the image's.
type Environment = BTreeMap<String, Option<String>>;

/// What is wrong in a file of variables, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvFileError {
    /// No name.
    NoName(usize),
    /// A blank within a name.
    Blank(usize),
    /// A keyword of shells, which this form of the file does not know.
    Export(usize),
    /// An open quote.
    OpenQuote(usize),
    /// Something behind a quoted value.
    Rest(usize),
    /// A variable within a value that cannot be replaced.
    Variable(usize, String),
    /// Octets that are no text.
    Encoding,
}

impl EnvFileError {
    /// The line that it is in, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::NoName(line)
            | Self::Blank(line)
            | Self::Export(line)
            | Self::OpenQuote(line)
            | Self::Rest(line)
            | Self::Variable(line, _) => Some(*line),
            Self::Encoding => None,
        }
    }

    /// What is wrong, without the line.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::NoName(_) => "no name stands before the `=`",
            Self::Blank(_) => "a blank in the variable's name",
            Self::Export(_) => "`export` is not known here; write NAME=value",
            Self::OpenQuote(_) => "a quote is opened and not closed",
            Self::Rest(_) => "something stands behind the closing quote",
            Self::Variable(_, message) => message,
            Self::Encoding => "the file is not UTF-8",
        }
    }
}

impl fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line() {
            write!(f, "line {line}: ")?;
        }
        f.write_str(self.message())
    }
}

impl std::error::Error for EnvFileError {}

/// What is odd in a file of variables, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// The variable.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) message: String,
}

/// The variables in the `content` of a file: lines of `NAME=value`, as the `dialect` writes them.
/// `known` are the variables that a name without a value takes its value from.
///
/// # Errors
/// What is wrong in the file, and in which line.
pub fn read_variables(
    content: &[u8],
    dialect: Dialect,
    known: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EnvFileError> {
    Ok(given(match dialect {
        Dialect::Swarm => parse(content, known)?,
        Dialect::Compose => dotenv::parse(content, known)?.0,
    }))
}

/// As [`read_variables`] in the compose dialect, and what is odd in the file.
pub(super) fn read_dotenv(
    content: &[u8],
    known: &Variables,
) -> Result<(Variables, Vec<Note>), EnvFileError> {
    let (read, notes) = dotenv::parse(content, known)?;
    Ok((given(read), notes))
}

fn given(environment: Environment) -> Variables {
    let variables = environment.into_iter();
    variables
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Reads the environment of the service at `at`. A name without a value takes the value of the
/// declared variable of that name.
pub(super) fn environment(
    at: &Cursor<'_>,
    directory: &Path,
    options: &LoadOptions,
) -> Option<Environment> {
    let variables = options.variables();
    let value = |at: &Cursor<'_>, name: &str, value: Option<String>| {
        if !options.as_docker() {
            return value.or_else(|| variables.get(name).cloned());
        }
        let taken = habits::environment_value(name, value.clone(), variables);
        if value.is_some() && taken != value {
            at.warn(format!(
                "docker takes the variable {name} of its own environment for the empty value"
            ));
        }
        taken
    };
    let mut environment = Environment::new();
    let mut complete = true;
    if let Some(at) = at.child("env_file") {
        for file in env_files(&at, options)? {
            let path = directory.join(file.path);
            if !file.required && !path.exists() {
                continue;
            }
            match env_file(&file.at, &path, file.path, file.dialect, variables) {
                Some(read) => environment.extend(
                    read.into_iter()
                        .map(|(name, own)| (name.clone(), value(&file.at, &name, own))),
                ),
                None => complete = false,
            }
        }
    }
    if let Some(at) = at.child("environment") {
        for (name, own) in pairs(&at)? {
            let value = value(&at, &name, own);
            environment.insert(name, value);
        }
    }
    complete.then_some(environment)
}

/// Puts what services have from files under their `environment`, so that another file can be
/// merged over it: docker reads the files of variables before it merges.
pub(super) fn resolve(
    root: &mut Node,
    directory: &Path,
    options: &LoadOptions,
    findings: &mut Findings,
) {
    let resolved = findings.read(root, |reader| {
        let services = reader.root().child("services")?;
        let mut resolved: BTreeMap<String, Environment> = BTreeMap::new();
        for (key, _, service) in services.entries()? {
            if service.child("env_file").is_some() || service.child("environment").is_some() {
                resolved.insert(key.to_owned(), environment(&service, directory, options)?);
            }
        }
        Some(resolved)
    });
    let mut resolved = resolved.unwrap_or_default();
    for (key, service) in children(root, "services") {
        let (Some(environment), Some(service)) = (resolved.remove(key), map_mut(service)) else {
            continue;
        };
        let file = service.remove("env_file");
        let written = service.get("environment").map(|node| node.position);
        let Some(position) = written.or(file.map(|entry| entry.value.position)) else {
            continue;
        };
        let variables: Map = environment
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Some(value) => text_node(value, position),
                    None => Node::new(Value::Null, position),
                };
                entry(&name, value)
            })
            .collect();
        service.put(entry(
            "environment",
            Node::new(Value::Map(variables), position),
        ));
    }
}

/// A file of variables that a service names.
struct EnvFile<'d> {
    at: Cursor<'d>,
    path: &'d str,
    required: bool,
    dialect: Dialect,
}

/// One file, or a list of them; in the compose dialect also in long form.
fn env_files<'d>(at: &Cursor<'d>, options: &LoadOptions) -> Option<Vec<EnvFile<'d>>> {
    let read = |item: &Cursor<'d>| {
        let file = |path| EnvFile {
            at: item.clone(),
            path,
            required: true,
            dialect: options.dialect,
        };
        if options.dialect == Dialect::Swarm || !matches!(item.node().value, Value::Map(_)) {
            return text(item).map(file);
        }
        let map = fields(item, &["path", "required", "format"], &[])?;
        let mut file = file(text(&map.required("path")?)?);
        if let Some(at) = map.get("required") {
            file.required = boolean(&at)?;
        }
        if let Some(at) = map.get("format") {
            at.word(&[("raw", ())])?;
            file.dialect = Dialect::Swarm;
        }
        Some(file)
    };
    match at.node().value {
        Value::List(_) => at.items()?.iter().map(read).collect(),
        _ => Some(vec![read(at)?]),
    }
}

fn env_file(
    at: &Cursor<'_>,
    path: &Path,
    name: &str,
    dialect: Dialect,
    variables: &Variables,
) -> Option<Environment> {
    let content = match load::content(path) {
        Ok(content) => content,
        Err(error) => {
            at.refuse(format!(
                "the file {} cannot be read: {error}",
                path.display()
            ));
            return None;
        }
    };
    let read = match dialect {
        Dialect::Swarm => parse(&content, variables).map(|read| (read, Vec::new())),
        Dialect::Compose => dotenv::parse(&content, variables),
    };
    match read {
        Ok((environment, notes)) => {
            for Note { line, message, .. } in notes {
                at.warn(format!("in {name}: line {line}: {message}"));
            }
            Some(environment)
        }
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
            return Err(match name.split_whitespace().next() {
                Some("export") => EnvFileError::Export(index + 1),
                _ => EnvFileError::Blank(index + 1),
            });
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
        assert_eq!(parse(b"export A=1", &none), Err(EnvFileError::Export(1)));
        assert_eq!(parse(b"A=\xff", &none), Err(EnvFileError::Encoding));
    }
}
