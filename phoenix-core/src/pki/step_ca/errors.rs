//! Why a step-ca server issued nothing.

use std::fmt;
use std::time::Duration;

use super::jwe::JweError;
use super::token::JwkError;
use crate::ground::Elapsed;
use crate::ground::{TrustError, UntrustedServer};
use crate::pki::Profile;
use crate::pki::times::exactly;

/// Why a step-ca server issued nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepCaError {
    /// No HTTPS client can be made for the URL.
    #[error("step-ca cannot be asked")]
    Client(#[source] TrustError),
    /// No byte of the request reached a server.
    #[error("step-ca at {url} cannot be reached: is it running and listening there?")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server is not below the root, or has another name.
    #[error(
        "the server at {url} is not the step-ca that is meant: its certificate must lead to the \
         root with the declared fingerprint and name `{host}` (the host of the URL must be among \
         the CA's `dnsNames`)"
    )]
    Untrusted {
        /// The server.
        url: String,
        /// The URL's host.
        host: String,
        /// What was refused.
        #[source]
        source: UntrustedServer,
    },
    /// The request may have been answered, and the answer was lost.
    #[error(
        "the answer of step-ca at {url} to request {request_id} was lost: if it issued a \
         certificate, nobody has its key, and issuing again is harmless"
    )]
    Lost {
        /// The server.
        url: String,
        /// The request's identifier.
        request_id: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("step-ca at {url} did not answer in time")]
    Elapsed {
        /// The server.
        url: String,
        /// The deadline.
        #[source]
        source: Elapsed,
    },
    /// The server has no root with the fingerprint.
    #[error(
        "step-ca at {url} has no root with the fingerprint {expected}: compare it with that of \
         the CA's root_ca.crt"
    )]
    NoSuchRoot {
        /// The server.
        url: String,
        /// What was asked for.
        expected: String,
    },
    /// The server handed out another root than it was asked for.
    #[error(
        "the server at {url} handed out a root with the fingerprint {found} where {expected} was \
         asked for: somebody else answers in its place"
    )]
    Fingerprint {
        /// The server.
        url: String,
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// The server refused, with a reason.
    #[error("step-ca refused to {action} (status {status}, request {request_id}): {message}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
        /// The request's identifier, as in the server's log.
        request_id: String,
    },
    /// The server accepts no token, and never says why.
    #[error("{0}")]
    Unauthorized(Box<Unauthorized>),
    /// An answer makes no sense.
    #[error("step-ca at {url} answered with {problem}: is it a step-ca?")]
    Malformed {
        /// The server.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// No provisioner is declared for a profile.
    #[error("no provisioner is declared for certificates of profile {profile}")]
    NoProvisioner {
        /// The profile.
        profile: Profile,
    },
    /// The server has no such provisioner.
    #[error(
        "step-ca has no JWK provisioner `{name}`; it has {}",
        if .present.is_empty() { "none".to_owned() } else { .present.join(", ") }
    )]
    UnknownProvisioner {
        /// What was looked for.
        name: String,
        /// The names of those of type JWK.
        present: Vec<String>,
    },
    /// The provisioner's private key is kept elsewhere.
    #[error("step-ca hands out no encrypted key of the provisioner `{name}`")]
    NoEncryptedKey {
        /// The provisioner.
        name: String,
    },
    /// The provisioner's key cannot be decrypted.
    #[error("the key of the provisioner `{name}` cannot be used")]
    Key {
        /// The provisioner.
        name: String,
        /// Why.
        #[source]
        source: JweError,
    },
    /// The provisioner's key is decrypted, but cannot sign.
    #[error("the key of the provisioner `{name}` cannot sign: {problem}")]
    Signer {
        /// The provisioner.
        name: String,
        /// Why.
        problem: String,
    },
    /// step-ca always names a certificate: it cannot leave out what was not asked for.
    #[error(
        "step-ca cannot issue a certificate without {missing}: it would put the other in its \
         place. Declare it"
    )]
    Nameless {
        /// `a common name` or `SANs`.
        missing: &'static str,
    },
    /// The lifetime is longer than the server grants. Nothing was sent.
    #[error(
        "a lifetime of {} is longer than the {} that {limited_by}: shorten the certificate's \
         lifetime, or raise both the CA's maxTLSCertDuration and `max_lifetime`",
        exactly(*.lifetime), exactly(*.limit)
    )]
    TooLong {
        /// What was asked for.
        lifetime: Duration,
        /// The longest.
        limit: Duration,
        /// Who says so.
        limited_by: String,
    },
    /// The lifetime is shorter than the server grants. Nothing was sent.
    #[error(
        "a lifetime of {} is shorter than the {} that the provisioner `{name}` grants at least: \
         lengthen the certificate's lifetime, or lower the CA's minTLSCertDuration",
        exactly(*.lifetime), exactly(*.limit)
    )]
    TooShort {
        /// What was asked for.
        lifetime: Duration,
        /// The shortest.
        limit: Duration,
        /// The provisioner.
        name: String,
    },
    /// The certificate is good for something else, or for more than may be accepted.
    #[error(
        "step-ca issued a certificate that is good for {}, not {wanted}: give the provisioner \
         `{name}` a template with that extKeyUsage alone{}",
        .got.map_or("nothing", Profile::as_str),
        if *.got == Some(Profile::Peer) { ", or set `strict: false`" } else { "" }
    )]
    Purpose {
        /// What was asked for.
        wanted: Profile,
        /// What came.
        got: Option<Profile>,
        /// The provisioner.
        name: String,
    },
    /// The certificate has other names.
    #[error("step-ca issued a certificate with other names than were asked for: {difference}")]
    Names {
        /// Lost and gained names.
        difference: String,
    },
}

impl StepCaError {
    pub(super) fn signer(name: &str, error: &JwkError) -> Self {
        Self::Signer {
            name: name.to_owned(),
            problem: error.to_string(),
        }
    }

    /// Whether the server could not be asked, or its answer did not come.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Elapsed { .. }
        )
    }
}

/// What can be found out here about a token that the server did not accept: its answer is the
/// same for every reason, and the real one is in its log only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unauthorized {
    /// The request's identifier, as in the server's log (of step-ca 0.26 or later).
    pub request_id: String,
    /// By how many seconds the clock here is ahead of the server's; negative when it is behind.
    /// `None` when the server did not say what time it is.
    pub skew_seconds: Option<i64>,
    /// The provisioner that was to sign.
    pub provisioner: String,
    /// The identifier of its key.
    pub key_id: String,
    /// The audience of the token.
    pub audience: String,
}

/// The server's tolerance of wrong times, in seconds.
const LEEWAY_SECONDS: i64 = 60;

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "step-ca accepted neither of two fresh tokens (status 401, request {}), and says why \
             in its own log only. ",
            self.request_id
        )?;
        match self.skew_seconds {
            Some(skew) if skew.abs() >= LEEWAY_SECONDS => write!(
                f,
                "The clock here is {} seconds {} the server's, and it tolerates {LEEWAY_SECONDS}: \
                 set the clocks right",
                skew.abs(),
                if skew > 0 { "ahead of" } else { "behind" }
            ),
            skew => {
                match skew {
                    Some(skew) => write!(f, "The clocks differ by {} seconds only. ", skew.abs())?,
                    None => f.write_str("The server's clock is not known. ")?,
                }
                write!(
                    f,
                    "Is the host of {} among the CA's `dnsNames` (a wildcard does not count), \
                     and does the CA run with the provisioner `{}` and its key {} still?",
                    self.audience, self.provisioner, self.key_id
                )
            }
        }
    }
}
