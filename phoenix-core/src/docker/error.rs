//! What can go wrong between Phoenix and an engine, told apart by what is known of the request:
//! not delivered, refused, or sent without an answer.
//!
//! The engine's status codes alone cannot classify a refusal: a stale version and a missing
//! leader are both 500, so [`Refusal`] is read from the message text.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::ground::Elapsed;

/// A boxed source of an error.
pub(super) type Source = Box<dyn StdError + Send + Sync>;

/// A call to an engine that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request never reached the engine: it has not run.
    #[error("{operation} did not reach the Docker engine at {endpoint}: {reason}")]
    NotDelivered {
        /// Where the engine should be.
        endpoint: String,
        /// Method and path.
        operation: String,
        /// Why it was not reached.
        reason: Unreached,
        /// What lay beneath.
        source: Option<Source>,
    },
    /// The engine answered with an error.
    #[error("the Docker engine at {endpoint} refused {operation} ({status}): {message}")]
    Rejected {
        /// Where the engine is.
        endpoint: String,
        /// Method and path.
        operation: String,
        /// HTTP status.
        status: u16,
        /// The engine's message, without the prefix of its internal RPC.
        message: String,
    },
    /// The request was sent and no whole answer came, or it is a write and the engine says that it
    /// got no answer itself ([`Refusal::Unanswered`]): it may have run.
    #[error(
        "{operation} was sent to the Docker engine at {endpoint} but no answer came: it may have run"
    )]
    Ambiguous {
        /// Where the engine is.
        endpoint: String,
        /// Method and path.
        operation: String,
        /// What broke off, how long was waited, or what the engine says.
        source: Source,
    },
    /// The engine's answer is not of the documented shape.
    #[error("the Docker engine at {endpoint} answered {operation} with something unexpected")]
    Decode {
        /// Where the engine is.
        endpoint: String,
        /// Method and path.
        operation: String,
        /// What did not fit.
        source: Source,
    },
    /// The engine is older than the oldest API that Phoenix speaks.
    #[error("the Docker engine at {endpoint} speaks API {found}; Phoenix needs {needed} or newer")]
    TooOld {
        /// Where the engine is.
        endpoint: String,
        /// Its newest API version.
        found: String,
        /// The oldest that Phoenix speaks.
        needed: String,
    },
}

/// Why a request did not reach an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreached {
    /// The unix socket is not there.
    #[error("there is no such socket")]
    NoSocket,
    /// Nothing listens there.
    #[error("the connection was refused")]
    Refused,
    /// The unix socket may not be opened by this user.
    #[error("permission denied")]
    PermissionDenied,
    /// No connection within the deadline.
    #[error("no connection within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The engine's certificate is not issued by the trusted authority.
    #[error("its certificate is not issued by the trusted certificate authority")]
    UnknownAuthority,
    /// The engine's certificate is for other names.
    #[error("its certificate does not cover the name {expected} (it covers {})", list(.presented))]
    NameMismatch {
        /// The name or address that was dialled.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The engine's certificate has expired.
    #[error("its certificate has expired")]
    ServerCertificateExpired,
    /// The engine's certificate is not valid yet.
    #[error("its certificate is not valid yet")]
    ServerCertificateNotYetValid,
    /// The engine's certificate is unusable for another reason.
    #[error("its certificate is not acceptable")]
    ServerCertificateInvalid,
    /// The engine did not accept the client certificate.
    #[error("it does not accept the client certificate ({alert})")]
    ClientCertificateRefused {
        /// The TLS alert.
        alert: String,
    },
    /// What answers does not speak TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The TLS handshake failed in another way.
    #[error("the TLS handshake failed")]
    Tls,
    /// Any other failure to connect.
    #[error("the connection failed")]
    Connect,
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "no name".to_owned()
    } else {
        names.join(", ")
    }
}

/// What kind of refusal an engine's message stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The object changed since its version was read: read again, then write again.
    UpdateOutOfSequence,
    /// The swarm's managers have no leader (too few are online).
    NoLeader,
    /// Leadership was lost while the write was in flight: it may have been stored.
    LostLeadership,
    /// The manager is starting or cannot reach the others yet.
    ManagerPreparing,
    /// The engine could not dial the manager it forwards to.
    Unavailable,
    /// The engine passed the request on, and got no answer in time or lost the connection: it may
    /// have run. A write that ends so is an [`EngineError::Ambiguous`].
    Unanswered,
    /// The engine is no manager of a swarm.
    NotAManager,
    /// The swarm's state on this engine is encrypted and locked.
    Locked,
    /// The node's swarm certificates have expired.
    CertificatesExpired,
    /// The engine belongs to a swarm already (or has joined one halfway).
    AlreadyInSwarm,
    /// The join timed out but goes on in the background.
    JoinContinues,
    /// The object is used by another.
    InUse,
    /// The content of a secret or config would change, which it cannot.
    ContentDiffers,
    /// There is no such object.
    NotFound,
    /// An object of that name exists.
    Conflict,
    /// None of these.
    Other,
}

impl Refusal {
    /// Reads the kind from the status and the message.
    #[must_use]
    pub fn classify(status: u16, message: &str) -> Self {
        let has = |text: &str| message.contains(text);
        if has("update out of sequence") {
            Self::UpdateOutOfSequence
        } else if has("does not have a leader") {
            Self::NoLeader
        } else if has("lost leader status") {
            Self::LostLeadership
        } else if has("Manager is being prepared") {
            Self::ManagerPreparing
        } else if has("will continue in the background") {
            Self::JoinContinues
        } else if has("already part of a swarm") {
            Self::AlreadyInSwarm
        } else if has("Swarm is encrypted") {
            Self::Locked
        } else if has("Swarm certificates have expired") {
            Self::CertificatesExpired
        } else if has("not a swarm manager") || has("not part of a swarm") {
            Self::NotAManager
        } else if has("only updates to Labels are allowed") {
            Self::ContentDiffers
        } else if has("name conflicts with an existing object") {
            // Of a network it is a 500.
            Self::Conflict
        } else if has("is in use") || has("has active endpoints") {
            Self::InUse
        } else if is_unanswered(&has) {
            Self::Unanswered
        } else {
            match status {
                404 => Self::NotFound,
                409 => Self::Conflict,
                503 => Self::Unavailable,
                _ => Self::Other,
            }
        }
    }

    /// Whether it is this manager that cannot, and the request has not run: another may.
    #[must_use]
    pub fn is_of_the_manager(self) -> bool {
        matches!(
            self,
            Self::NoLeader
                | Self::ManagerPreparing
                | Self::Unavailable
                | Self::NotAManager
                | Self::Locked
                | Self::CertificatesExpired
        )
    }

    /// Whether the same request may succeed shortly, unchanged.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::NoLeader
                | Self::LostLeadership
                | Self::ManagerPreparing
                | Self::Unavailable
                | Self::Unanswered
        )
    }
}

/// Whether a message tells of a call between managers that may have arrived. One that was never
/// dialled through has not, whatever the code.
fn is_unanswered(has: &impl Fn(&str) -> bool) -> bool {
    let dialled = !has("dialing") && !has("transport: dial") && !has(": dial ");
    let unanswered = [
        "context deadline exceeded",
        "transport is closing",
        "closing transport",
        "error reading from server",
        "code = DeadlineExceeded",
        "code = Unavailable",
    ];
    dialled && unanswered.into_iter().any(has)
}

impl EngineError {
    /// The kind of refusal, when the engine refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Rejected {
                status, message, ..
            } => Some(Refusal::classify(*status, message)),
            _ => None,
        }
    }

    /// Whether the engine refused in the given way.
    #[must_use]
    pub fn is(&self, refusal: Refusal) -> bool {
        self.refusal() == Some(refusal)
    }

    /// Whether asking the same again (a read) may succeed shortly.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotDelivered { reason, .. } => {
                matches!(
                    reason,
                    Unreached::NoSocket
                        | Unreached::Refused
                        | Unreached::TimedOut(_)
                        | Unreached::Connect
                )
            }
            Self::Ambiguous { .. } => true,
            Self::Rejected { .. } => self.refusal().is_some_and(Refusal::is_transient),
            Self::Decode { .. } | Self::TooOld { .. } => false,
        }
    }

    /// Whether the engine could not be reached, or gave no answer in time.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotDelivered { .. } | Self::Ambiguous { .. })
    }

    /// Whether the request may have run although it failed here.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
            || self.is(Refusal::LostLeadership)
            || self.is(Refusal::Unanswered)
    }
}

/// What an engine says of a write that it passed on and got no answer to.
#[derive(Debug, thiserror::Error)]
#[error("the engine got none itself ({status}): {message}")]
pub(super) struct Unanswered {
    pub(super) status: u16,
    pub(super) message: String,
}

/// Removes the prefix that the engine's internal RPC puts before a message.
pub(super) fn without_rpc_prefix(message: &str) -> &str {
    match message.split_once(" desc = ") {
        Some((head, tail)) if head.starts_with("rpc error: code = ") => tail,
        _ => message,
    }
    .trim()
}

/// Why a request did not get an answer, before it is put in words for a caller.
#[derive(Debug)]
pub(super) enum Fault {
    /// It never reached the engine.
    NotDelivered(Unreached, Option<Source>),
    /// It was sent.
    Ambiguous(Source),
}

impl Fault {
    /// From an error of the HTTP client. `connected`: whether a connection was there to send on.
    pub(super) fn from_client(
        error: impl StdError + Send + Sync + 'static,
        connected: bool,
    ) -> Self {
        let reason = unreached(&error);
        match reason {
            // A certificate alert ends the handshake on the engine's side: under TLS 1.3 it comes
            // only after this side believes the handshake done, but the request was never read.
            Some(reason @ Unreached::ClientCertificateRefused { .. }) => {
                Self::NotDelivered(reason, Some(Box::new(error)))
            }
            reason if !connected => {
                Self::NotDelivered(reason.unwrap_or(Unreached::Connect), Some(Box::new(error)))
            }
            _ => Self::Ambiguous(Box::new(error)),
        }
    }

    /// From a deadline that passed.
    pub(super) fn from_elapsed(elapsed: Elapsed, connected: bool) -> Self {
        if connected {
            Self::Ambiguous(Box::new(elapsed))
        } else {
            Self::NotDelivered(Unreached::TimedOut(elapsed.allowed), None)
        }
    }

    pub(super) fn into_error(self, endpoint: &impl fmt::Display, operation: &str) -> EngineError {
        let endpoint = endpoint.to_string();
        let operation = operation.to_owned();
        match self {
            Self::NotDelivered(reason, source) => EngineError::NotDelivered {
                endpoint,
                operation,
                reason,
                source,
            },
            Self::Ambiguous(source) => EngineError::Ambiguous {
                endpoint,
                operation,
                source,
            },
        }
    }
}

fn unreached(error: &(dyn StdError + 'static)) -> Option<Unreached> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(from_tls(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // `source()` of an `io::Error` skips the error it wraps.
            if let Some(tls) = io
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return Some(from_tls(tls));
            }
            match io.kind() {
                io::ErrorKind::NotFound => return Some(Unreached::NoSocket),
                io::ErrorKind::ConnectionRefused => return Some(Unreached::Refused),
                io::ErrorKind::PermissionDenied => return Some(Unreached::PermissionDenied),
                _ => {}
            }
        }
        next = error.source();
    }
    None
}

fn from_tls(error: &rustls::Error) -> Unreached {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer | Certificate::BadSignature => Unreached::UnknownAuthority,
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                Unreached::ServerCertificateExpired
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                Unreached::ServerCertificateNotYetValid
            }
            Certificate::NotValidForNameContext {
                expected,
                presented,
            } => Unreached::NameMismatch {
                expected: expected.to_str().into_owned(),
                presented: presented.clone(),
            },
            _ => Unreached::ServerCertificateInvalid,
        },
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            // A signature that does not verify: an authority of the same name with another key.
            | Alert::DecryptError
            | Alert::AccessDenied
            | Alert::NoCertificate
            | Alert::CertificateRequired => Unreached::ClientCertificateRefused {
                alert: format!("{alert:?}"),
            },
            _ => Unreached::Tls,
        },
        rustls::Error::InvalidMessage(_) => Unreached::NotTls,
        _ => Unreached::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_from_the_text_not_the_status() {
        let cases = [
            (500, "update out of sequence", Refusal::UpdateOutOfSequence),
            (
                500,
                "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.",
                Refusal::NoLeader,
            ),
            (
                500,
                "raft: failed to process the request: node lost leader status",
                Refusal::LostLeadership,
            ),
            (
                503,
                "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.",
                Refusal::ManagerPreparing,
            ),
            (
                503,
                "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.",
                Refusal::NotAManager,
            ),
            (
                503,
                "Swarm is encrypted and needs to be unlocked before it can be used.",
                Refusal::Locked,
            ),
            (
                503,
                "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.",
                Refusal::AlreadyInSwarm,
            ),
            (
                503,
                "Timeout was reached before node joined. The attempt to join the swarm will continue in the background.",
                Refusal::JoinContinues,
            ),
            (
                400,
                "secret 's' is in use by the following service: st_web",
                Refusal::InUse,
            ),
            (
                409,
                "remove v: volume is in use - [0123456789ab]",
                Refusal::InUse,
            ),
            (
                400,
                "port '8080' is already in use by service 'q_pa' (ID) as an ingress port",
                Refusal::Other,
            ),
            (409, "secret s1 already exists", Refusal::Conflict),
            (
                500,
                "name conflicts with an existing object",
                Refusal::Conflict,
            ),
            (404, "node X not found", Refusal::NotFound),
            (
                500,
                "constraint expected one operator from ==, !=",
                Refusal::Other,
            ),
            (
                503,
                "connection error: desc = \"transport: dial\"",
                Refusal::Unavailable,
            ),
            (500, "context deadline exceeded", Refusal::Unanswered),
            (
                500,
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
                Refusal::Unanswered,
            ),
            (
                503,
                "rpc error: code = Unavailable desc = transport is closing",
                Refusal::Unanswered,
            ),
            (
                503,
                "rpc error: code = Unavailable desc = error reading from server: EOF",
                Refusal::Unanswered,
            ),
            (
                500,
                "could not update: rpc error: code = Unavailable desc = closing transport due to: connection error",
                Refusal::Unanswered,
            ),
            // What was never dialled through has not arrived.
            (
                503,
                "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp 10.0.0.1:2377: connect: connection refused\"",
                Refusal::Unavailable,
            ),
            (
                503,
                "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp 10.0.0.1:2377: context deadline exceeded\"",
                Refusal::Unavailable,
            ),
            // The state of the swarm goes before how it was told.
            (
                500,
                "rpc error: code = DeadlineExceeded desc = raft: failed to process the request: node lost leader status",
                Refusal::LostLeadership,
            ),
            (
                500,
                "rpc error: code = Unknown desc = something else",
                Refusal::Other,
            ),
        ];
        for (status, message, kind) in cases {
            assert_eq!(Refusal::classify(status, message), kind, "{message}");
        }
        assert!(!Refusal::Other.is_transient());
        assert!(!Refusal::UpdateOutOfSequence.is_transient());
        assert!(Refusal::NoLeader.is_transient());
        // A read may be repeated, and a write is another matter.
        assert!(Refusal::Unanswered.is_transient());
        assert!(!Refusal::Unanswered.is_of_the_manager());
    }

    #[test]
    fn the_prefix_of_the_internal_rpc_is_removed() {
        assert_eq!(
            without_rpc_prefix("rpc error: code = Unknown desc = update out of sequence"),
            "update out of sequence"
        );
        assert_eq!(without_rpc_prefix("a desc = b"), "a desc = b");
    }
}
