//! What can become of a request to Portainer.

use std::fmt;

use crate::ground::{Elapsed, UntrustedServer};

/// A request to Portainer did not end with an answer that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortainerError {
    /// It did not reach the server.
    #[error("{call} was not delivered to Portainer")]
    NotDelivered {
        /// Method and path.
        call: String,
        /// Why.
        source: Unsent,
    },
    /// The server's certificate is not the one expected. Nothing was sent.
    #[error("{call} was not sent to Portainer")]
    Untrusted {
        /// Method and path.
        call: String,
        /// What the server presented.
        source: UntrustedServer,
    },
    /// It may have been carried out; its answer was lost.
    #[error("{call} may have been carried out by Portainer, its answer was lost")]
    Ambiguous {
        /// Method and path.
        call: String,
        /// How the answer was lost.
        source: LostReply,
    },
    /// The instance locked itself, for it had no admin within five minutes of its start. It must
    /// be restarted.
    #[error("Portainer locked itself because no admin was set in time; restart it")]
    LockedOut,
    /// User or password are wrong. Trying again without change leads to a ban.
    #[error("Portainer refused user or password of {user:?}")]
    WrongPassword {
        /// The user.
        user: String,
    },
    /// Too many logins came from this address: refused for an hour, or until a restart.
    #[error("Portainer refuses logins from this address for an hour, after too many of them")]
    Banned,
    /// A password or token is not text, which it must be in JSON and in a header.
    #[error("the {0} is not usable text")]
    NotText(&'static str),
    /// The server refused or failed, and said so.
    #[error("{call} was rejected by Portainer: {refusal}")]
    Rejected {
        /// Method and path.
        call: String,
        /// What it said.
        refusal: Refusal,
    },
    /// It was carried out, but the answer is not of the form expected.
    #[error("{call} was answered by Portainer in an unexpected form")]
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
pub enum Unsent {
    /// No connection.
    #[error("no connection")]
    Connect(#[source] reqwest::Error),
    /// The deadline passed before it was sent.
    #[error(transparent)]
    Deadline(#[from] Elapsed),
}

/// How an answer was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LostReply {
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[source] reqwest::Error),
    /// The deadline passed while waiting.
    #[error(transparent)]
    Deadline(#[from] Elapsed),
}

/// What Portainer said when it refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Its sentence; some errors are plain text, which stands here too.
    pub message: String,
    /// The cause, where it gives one.
    pub details: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)?;
        if !self.details.is_empty() && self.details != self.message {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl PortainerError {
    /// Whether Portainer does not accept who asks.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::WrongPassword { .. })
            || self.refusal().is_some_and(|refusal| refusal.status == 401)
    }

    /// Whether Portainer could not be reached, or gave no answer in time.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::NotDelivered { .. } | Self::Untrusted { .. } | Self::Ambiguous { .. }
        )
    }

    /// Whether nothing acted on the request for certain, and sending it again may help.
    #[must_use]
    pub fn is_not_delivered(&self) -> bool {
        matches!(self, Self::NotDelivered { .. })
    }

    /// Whether the request may have been carried out although no answer says so.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous { .. } | Self::Decode { .. })
    }

    /// What the server said, when it rejected the request.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Rejected { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}
