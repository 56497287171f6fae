//! What can go wrong with a lab.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Why the lab could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Debian packages are missing and this user may not install them.
    #[error("packages are missing; run: {command}")]
    MissingPackages {
        /// The command that installs them.
        command: String,
    },
    /// This machine cannot hold a lab.
    #[error("{0}")]
    Unsuitable(String),
    /// A file, socket or process operation failed.
    #[error("{what}")]
    Io {
        /// What was attempted, with its path.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A program ended otherwise than with 0.
    #[error("{what} ended with {status}: {stderr}")]
    Program {
        /// What was run.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// A server could not be talked to.
    #[error("{what}")]
    Wire {
        /// The request.
        what: String,
        /// The transport's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server answered with another status than was hoped for.
    #[error("{what}: {status} {message}")]
    Refused {
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// Something did not happen in time.
    #[error("{what} not within {allowed:?}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        allowed: Duration,
    },
    /// A stored description or an answer is not of the expected shape.
    #[error("{0}")]
    Malformed(String),
}

impl LabError {
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {what} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// The HTTP status, where a server refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The message with those of all its sources.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}
