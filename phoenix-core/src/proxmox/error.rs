//! What can become of a request, and what the server's prose means.
//!
//! Proxmox VE answers nearly every failure with status 500 and a sentence: what went wrong is
//! told apart by that sentence, loosely, for its wording changes between versions.

use std::collections::BTreeMap;
use std::fmt;

use crate::ground::{Elapsed, UntrustedServer};

/// A request did not end with an answer that can be used.
///
/// Says truthfully whether the request was delivered: only what was not delivered, or rejected
/// before it acted, may be sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It did not reach the node that would have acted on it. Safe to send again.
    #[error("{call} was not delivered")]
    NotDelivered {
        /// Method and path.
        call: String,
        /// Why.
        source: Undelivered,
    },
    /// The server is not the one expected. Nothing was sent, not even the token.
    #[error("{call} was not sent")]
    Untrusted {
        /// Method and path.
        call: String,
        /// What the server presented.
        source: UntrustedServer,
    },
    /// The token was refused (401). The reason is the server's only text: `No ticket`,
    /// `Authentication failed!`.
    #[error("{call}: the API token was refused: {reason}")]
    Unauthorized {
        /// Method and path.
        call: String,
        /// The reason phrase.
        reason: String,
    },
    /// The server refused or failed, and said so.
    #[error("{call} was rejected: {rejection}")]
    Rejected {
        /// Method and path.
        call: String,
        /// What it said.
        rejection: Rejection,
    },
    /// It may have been carried out; nobody can tell. Never repeated blindly.
    #[error("{call} may have been carried out, its answer was lost")]
    Ambiguous {
        /// Method and path.
        call: String,
        /// How the answer was lost.
        source: LostAnswer,
    },
    /// It was carried out, but the answer is not of the form expected.
    #[error("{call} was answered in an unexpected form")]
    Decode {
        /// Method and path.
        call: String,
        /// Where the form differs.
        source: serde_json::Error,
    },
}

/// Why a request was not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Undelivered {
    /// No connection to the API server.
    #[error("no connection to the server")]
    Connect(#[source] reqwest::Error),
    /// The API server could not reach the node that the request is for (status 595).
    #[error("the server cannot reach the node: {0}")]
    Node(String),
    /// The deadline passed before it was sent.
    #[error(transparent)]
    Deadline(#[from] Elapsed),
}

/// How an answer was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LostAnswer {
    /// The connection broke, or was closed without an answer.
    #[error("the connection broke")]
    Connection(#[source] reqwest::Error),
    /// The deadline passed while waiting.
    #[error(transparent)]
    Deadline(#[from] Elapsed),
    /// The API server lost the node or its own worker (status 596 and above, after 30 s without an
    /// answer among others).
    #[error("the server lost the node: {status} {reason}")]
    Proxy {
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// The host stopped waiting for the guest's agent, which carries the command out all the same.
    #[error("the guest's agent did not answer in time: {0}")]
    AgentTimeout(String),
}

/// What the server said when it refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The status: HTTP's, or the one inside an answer of the form `extjs`. Mostly 500.
    pub status: u16,
    /// The server's sentence, without its newline.
    pub message: String,
    /// What is wrong with single parameters, by their names.
    pub errors: BTreeMap<String, String>,
}

/// What a [`Rejection`] means, as far as its text tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The token lacks a privilege (403). Says nothing about whether the object exists.
    Permission,
    /// The VM does not run on the node asked.
    GuestNotRunning,
    /// The agent does not answer: not installed, booting, off, or busy with another call. Nothing
    /// was sent to it but a ping.
    AgentNotRunning,
    /// The VM's configuration has no `agent`.
    AgentNotConfigured,
    /// The agent's own configuration in the guest forbids the command.
    AgentCommandDisabled,
    /// The agent does not know the process: its result was fetched before, or the agent restarted.
    UnknownProcess,
    /// The VM is not on the node asked, or does not exist.
    GuestNotFound,
    /// No such task on the node asked.
    NoSuchTask,
    /// The file or the program does not exist in the guest.
    NoSuchFile,
    /// The configuration is locked by another operation.
    Locked,
    /// It runs already.
    AlreadyRunning,
    /// Anything else; the message says what.
    Other,
}

impl Rejection {
    /// What the text means.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        let text = self.message.to_lowercase();
        let has = |fragment: &str| text.contains(fragment);
        let task = self.errors.get("upid");
        if self.status == 403 || has("permission check failed") {
            RejectionKind::Permission
        } else if has("agent is not running") {
            RejectionKind::AgentNotRunning
        } else if has("no qemu guest agent configured") {
            RejectionKind::AgentNotConfigured
        } else if has("has been disabled") || has("command is not allowed") {
            RejectionKind::AgentCommandDisabled
        } else if has("invalid parameter 'pid'") || (has("pid") && has("does not exist")) {
            RejectionKind::UnknownProcess
        } else if has("no such task") || task.is_some_and(|e| e.contains("no such task")) {
            RejectionKind::NoSuchTask
        } else if has("configuration file") && has("does not exist") {
            RejectionKind::GuestNotFound
        } else if has("no such file or directory") {
            RejectionKind::NoSuchFile
        } else if has("already running") {
            RejectionKind::AlreadyRunning
        } else if has("not running") {
            RejectionKind::GuestNotRunning
        } else if has("is locked") || has("can't lock file") {
            RejectionKind::Locked
        } else {
            RejectionKind::Other
        }
    }

    /// Whether the server does not know the parameter `name`, being older than it.
    #[must_use]
    pub fn does_not_know(&self, name: &str) -> bool {
        self.errors
            .get(name)
            .is_some_and(|error| error.contains("not defined in schema"))
    }

    /// Whether the host gave up on the agent after the command had been sent to it.
    pub(super) fn is_agent_timeout(&self) -> bool {
        let text = self.message.to_lowercase();
        text.contains("qga command") && text.contains("timeout")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)?;
        for (parameter, error) in &self.errors {
            write!(f, "; {parameter}: {}", error.trim_end())?;
        }
        Ok(())
    }
}

impl RequestError {
    /// Whether nothing acted on the request for certain, and sending it again may help.
    #[must_use]
    pub fn is_not_delivered(&self) -> bool {
        matches!(self, Self::NotDelivered { .. })
    }

    /// Whether the request may have been carried out although no answer says so.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }

    /// Whether the deadline passed.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(
            self,
            Self::NotDelivered {
                source: Undelivered::Deadline(_),
                ..
            } | Self::Ambiguous {
                source: LostAnswer::Deadline(_),
                ..
            }
        )
    }

    /// What the server said, when it rejected the request.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected { rejection, .. } => Some(rejection),
            _ => None,
        }
    }

    /// What the rejection means, when it is one.
    #[must_use]
    pub fn rejection_kind(&self) -> Option<RejectionKind> {
        self.rejection().map(Rejection::kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, message: &str) -> RejectionKind {
        Rejection {
            status,
            message: message.to_owned(),
            errors: BTreeMap::new(),
        }
        .kind()
    }

    #[test]
    fn the_servers_sentences_are_understood() {
        use RejectionKind as K;
        for (message, expected) in [
            ("QEMU guest agent is not running", K::AgentNotRunning),
            ("Qemu guest agent is not running", K::AgentNotRunning),
            ("No QEMU guest agent configured", K::AgentNotConfigured),
            ("VM 102 is not running", K::GuestNotRunning),
            ("CT 100 not running", K::GuestNotRunning),
            ("VM 100 already running", K::AlreadyRunning),
            ("Agent error: Invalid parameter 'pid'", K::UnknownProcess),
            ("Agent error: PID 77 does not exist", K::UnknownProcess),
            (
                "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist",
                K::GuestNotFound,
            ),
            (
                "Agent error: failed to open file '/x' (mode: 'r'): No such file or directory",
                K::NoSuchFile,
            ),
            (
                "Agent error: Command guest-exec has been disabled: the command is not allowed",
                K::AgentCommandDisabled,
            ),
            ("VM is locked (clone)", K::Locked),
            (
                "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
                K::Locked,
            ),
            ("something else", K::Other),
        ] {
            assert_eq!(kind(500, message), expected, "{message}");
        }
        assert_eq!(kind(403, "Permission check failed"), K::Permission);
    }

    #[test]
    fn a_missing_task_is_told_by_its_parameter() {
        let rejection = Rejection {
            status: 400,
            message: "Parameter verification failed.".into(),
            errors: [("upid".to_owned(), "no such task".to_owned())].into(),
        };
        assert_eq!(rejection.kind(), RejectionKind::NoSuchTask);
        assert_eq!(
            rejection.to_string(),
            "400 Parameter verification failed.; upid: no such task"
        );
    }
}
