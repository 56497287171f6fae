//! How a step failed, in a form that can be shown and serialised.

use serde::Serialize;

pub(crate) use crate::ground::causes as chain;

/// A failed step: what went wrong, where, and, for a program in a guest, how it ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// Whether the target refused, or could not be reached.
    pub class: FailureClass,
    /// What went wrong, naming what and where, followed by its causes.
    pub message: String,
    /// The guest concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// How the program in the guest ended, when one was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramEnd>,
    /// What the operator can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a program in a guest ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ProgramEnd {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its exit code, when it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i64>,
    /// `exit code 3`, `killed by signal 9`, `outcome unknown: …`, `not started`.
    pub end: String,
    /// The end of what it wrote to stderr.
    pub stderr: String,
}

impl ProgramEnd {
    /// A program that ended as `end` says, with neither exit code nor signal.
    pub fn new(command: Vec<String>, end: impl Into<String>, stderr: impl Into<String>) -> Self {
        Self {
            command,
            exit_code: None,
            signal: None,
            end: end.into(),
            stderr: stderr.into(),
        }
    }
}

/// The class of a failure decides the exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureClass {
    /// Something was refused, failed, or was rolled back.
    Failed,
    /// A target could not be reached, or did not answer in time.
    Unreachable,
}

impl Failure {
    /// A failure of `class` with the message of `error` and of everything that caused it.
    pub fn new(class: FailureClass, error: &dyn std::error::Error) -> Self {
        Self::message(class, chain(error))
    }

    /// A failure with a message of its own.
    pub fn message(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            guest: None,
            program: None,
            hint: None,
        }
    }

    /// The same failure, in `guest`.
    #[must_use]
    pub fn in_guest(mut self, guest: impl Into<String>) -> Self {
        self.guest = Some(guest.into());
        self
    }

    /// The same failure, with what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure, with `context` before its message.
    #[must_use]
    pub fn context(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
