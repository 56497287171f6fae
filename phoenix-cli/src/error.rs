//! Why a command was not carried out, for people and for programs.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use phoenix_core::ground::causes;
use phoenix_core::ground::document::Problem;
use phoenix_core::sync::{FORMAT_VERSION, Failure};
use serde::Serialize;

use crate::escape;
use crate::exit::Exit;
use crate::render::{self, Layout, Severity};

/// What standard input is called where a file of this content would be named.
pub(crate) const STANDARD_INPUT: &str = "<stdin>";

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// How the process ends because of it.
    pub(crate) exit: Exit,
    /// Whether the programs that read stdout know already.
    pub(crate) said: bool,
    message: String,
    hint: Option<String>,
    problems: Vec<Problem>,
    input: Option<String>,
    failure: Option<Box<Failure>>,
}

impl CommandError {
    /// An error with a message of its own.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            said: false,
            message: message.into(),
            hint: None,
            problems: Vec::new(),
            input: None,
            failure: None,
        }
    }

    /// An error with the messages of `error` and of everything that caused it.
    pub(crate) fn from_error(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, causes(error))
    }

    /// What is wrong in documents.
    pub(crate) fn of_problems(problems: Vec<Problem>) -> Self {
        Self {
            problems,
            ..Self::new(Exit::Usage, "the site file cannot be used")
        }
    }

    /// The same error, with another message.
    pub(crate) fn because(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same error, where documents were read from standard input and this was there.
    pub(crate) fn with_input(mut self, input: Option<&str>) -> Self {
        self.input = input.map(str::to_owned);
        self
    }

    /// A failure, while doing `what`.
    pub(crate) fn of_failure(what: impl Into<String>, failure: Failure) -> Self {
        Self {
            failure: Some(Box::new(failure.clone())),
            ..Self::new(Exit::of_failure(&failure), what)
        }
    }

    /// The same error, with what the operator can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with what the operator can do where nothing else says it.
    pub(crate) fn or_hint(mut self, hint: &str) -> Self {
        if self.problems.is_empty() && self.failure.is_none() {
            self.hint = Some(hint.to_owned());
        }
        self
    }

    /// The same error, when stdout holds it already.
    pub(crate) fn said(mut self) -> Self {
        self.said = true;
        self
    }

    /// The error for people.
    pub(crate) fn text(&self, layout: &Layout) -> String {
        let mut text = if self.problems.is_empty() {
            let mut text = String::new();
            for (index, line) in escape::lines(&self.message).enumerate() {
                if index == 0 {
                    text.push_str(&layout.paint(Layout::BAD, "error:"));
                    text.push(' ');
                } else {
                    text.push_str("       ");
                }
                text.push_str(&line);
                text.push('\n');
            }
            text
        } else {
            let input = self.input.as_deref();
            let mut text = problems(layout, Severity::Error, &self.problems, input);
            text.push_str(&render::count(self.problems.len(), 0));
            text.push('\n');
            text
        };
        if let Some(failure) = &self.failure {
            text.push_str(&render::details(layout, failure));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&render::hint(layout, hint));
        }
        text
    }

    /// The error for programs.
    pub(crate) fn document(&self) -> impl Serialize + '_ {
        Document {
            event: "error",
            format: FORMAT_VERSION,
            exit_code: self.exit.code(),
            message: &self.message,
            problems: listed(Severity::Error, &self.problems),
            failure: self.failure.as_deref(),
            hint: self.hint.as_deref(),
        }
    }

    /// What is wrong in documents.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

#[derive(Serialize)]
struct Document<'a> {
    event: &'static str,
    format: u32,
    exit_code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// A problem in JSON.
#[derive(Serialize)]
pub(crate) struct Listed<'a> {
    severity: &'static str,
    file: std::borrow::Cow<'a, str>,
    line: u32,
    column: u32,
    path: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offending: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<&'a str>,
}

/// Problems as they stand in JSON.
pub(crate) fn listed(severity: Severity, problems: &[Problem]) -> Vec<Listed<'_>> {
    problems
        .iter()
        .map(|problem| Listed {
            severity: match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            file: problem.source.to_string_lossy(),
            line: problem.position.line,
            column: problem.position.column,
            path: &problem.path,
            message: &problem.message,
            offending: problem.offending.as_deref(),
            suggestion: problem.suggestion.as_deref(),
        })
        .collect()
}

/// Problems for people, each with the line it is about, an empty line after each. `input`: what
/// was read from standard input.
pub(crate) fn problems(
    layout: &Layout,
    severity: Severity,
    problems: &[Problem],
    input: Option<&str>,
) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let mut files: HashMap<&Path, Option<String>> = HashMap::new();
    let mut text = String::new();
    for problem in problems {
        let path: &Path = &problem.source;
        let content = files.entry(path).or_insert_with(|| match input {
            Some(text) if path == Path::new(STANDARD_INPUT) => Some(text.to_owned()),
            _ => std::fs::read_to_string(path).ok(),
        });
        let shown = path.strip_prefix(&here).unwrap_or(path).to_string_lossy();
        text.push_str(&render::problem(
            layout,
            severity,
            problem,
            &shown,
            content.as_deref(),
        ));
        text.push('\n');
    }
    text
}
