//! Certificates from an ACME server (RFC 8555).
//!
//! What holds here:
//!
//! * Making an [`Acme`] contacts nobody. The account is made with the first order and kept in one
//!   file of mode 0600; an account that the server lost is made again.
//! * Every certificate has a fresh key that never leaves this process; the request has exactly
//!   the names that were asked for. The server decides the lifetime and the common name, and
//!   mostly the usages.
//! * Names are proven by one declared challenge: http-01, which Phoenix answers itself while
//!   orders are pending, or dns-01 through a [`DnsHook`]. What was set is cleared whatever
//!   becomes of the order, even when nobody waits for it any more.
//! * What comes back is completed with one of the known roots and checked before it is used.
//!
//! A renewal is a new order. An order whose last answer was lost may have made a certificate that
//! nobody has; ordering again is harmless, but counts against the server's limits.

mod account;
mod error;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod order;
mod responder;
mod transport;

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use instant_acme::ChallengeType;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use self::account::{Accounts, external_key};
use self::order::{Ended, Proofs};
use self::transport::Transport;
use super::bundle::{Bundle, BundleError};
use super::issuer::{IssueError, Issuer, IssuerIdentity};
use super::key::PrivateKey;
use super::observed::{ObservedCertificate, fingerprint, is_signed_by};
use super::pem;
use super::request::CertificateRequest;
use super::san::SanDifference;
use super::template::signing_request;
use crate::ground::{Deadline, SecretBytes, Trust};

pub use self::error::AcmeError;
pub use self::responder::ResponderError;

/// How long an order may take without what dns-01 adds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the commands of a hook may take in one order.
const HOOK_PATIENCE: Duration = Duration::from_secs(120);

/// Why a [`DnsHook`] failed.
pub type HookError = Box<dyn StdError + Send + Sync>;

/// A TXT record that proves a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxtRecord {
    /// Its name, without a final dot: `_acme-challenge.a.lan`. That of a wildcard is that of the
    /// name without the star, so that several values may be set for one name at once.
    pub name: String,
    /// Its value: 43 characters of base64url. No secret.
    pub value: String,
}

impl TxtRecord {
    fn new(name: &str, value: String) -> Self {
        let name = name.strip_prefix("*.").unwrap_or(name);
        Self {
            name: format!("_acme-challenge.{name}"),
            value,
        }
    }
}

/// Sets and clears TXT records for dns-01. Called from several orders at once.
#[async_trait]
pub trait DnsHook: fmt::Debug + Send + Sync {
    /// Sets `record` beside those of the same name that are set already.
    ///
    /// # Errors
    /// Why it is not certain that the record is set. It is cleared nevertheless.
    async fn set(&self, record: &TxtRecord, deadline: Deadline) -> Result<(), HookError>;

    /// Clears exactly `record`, which may not be there.
    ///
    /// # Errors
    /// Why it may still be there.
    async fn clear(&self, record: &TxtRecord, deadline: Deadline) -> Result<(), HookError>;
}

/// How an ACME server is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeKind {
    /// By an HTTP answer.
    Http01,
    /// By a DNS record.
    Dns01,
}

impl ChallengeKind {
    fn wire(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::Dns01 => ChallengeType::Dns01,
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        })
    }
}

/// What proves names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChallengeSolver {
    /// Phoenix answers at this address while orders are pending.
    Http01 {
        /// Where the server's requests to port 80 of the names arrive.
        listen: SocketAddr,
    },
    /// Records are set through a hook.
    Dns01 {
        /// What sets them.
        hook: Arc<dyn DnsHook>,
        /// How long a record takes to be seen everywhere.
        propagation: Duration,
    },
}

impl ChallengeSolver {
    /// The challenge that it answers.
    #[must_use]
    pub fn kind(&self) -> ChallengeKind {
        match self {
            Self::Http01 { .. } => ChallengeKind::Http01,
            Self::Dns01 { .. } => ChallengeKind::Dns01,
        }
    }
}

/// Which ACME server, and who we are there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcmeSettings {
    /// The URL of its directory.
    pub directory: url::Url,
    /// How the server is recognised.
    pub trust: Trust,
    /// The roots (PEM) that its certificates may lead to; those of `trust` when absent.
    pub roots: Option<Vec<u8>>,
    /// Where the CA reaches the operator: `mailto:` URLs.
    pub contact: Vec<String>,
    /// Identifier and key (base64url) of an account at the CA to bind to.
    pub external_account: Option<(String, SecretBytes)>,
    /// The file that keeps the account with its key. Its directory is made, with mode 0700.
    pub account: PathBuf,
}

impl AcmeSettings {
    /// A server without external accounts, whose certificates lead to the roots of `trust`.
    pub fn new(directory: url::Url, trust: Trust, account: impl Into<PathBuf>) -> Self {
        Self {
            directory,
            trust,
            roots: None,
            contact: Vec::new(),
            external_account: None,
            account: account.into(),
        }
    }
}

/// An ACME server as an [`Issuer`]. Cheap to clone.
#[derive(Clone)]
pub struct Acme {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    accounts: Accounts,
    solver: ChallengeSolver,
    roots: Vec<CertificateDer<'static>>,
    identity: IssuerIdentity,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme")
            .field("directory", &self.inner.accounts.directory)
            .field("solver", &self.inner.solver)
            .finish_non_exhaustive()
    }
}

impl Acme {
    /// Contacts nobody and writes nothing.
    ///
    /// # Errors
    /// [`AcmeError`] when the settings are unusable.
    pub fn new(settings: AcmeSettings, solver: ChallengeSolver) -> Result<Self, AcmeError> {
        let directory = settings.directory.to_string();
        let transport = crate::ground::require_https(&settings.directory)
            .and_then(|()| Transport::new(&settings.trust))
            .map_err(|source| AcmeError::Trust {
                directory: directory.clone(),
                source,
            })?;
        let roots = roots(&settings, &directory)?;
        let external = settings
            .external_account
            .map(|(key_id, key)| external_key(&key_id, &key))
            .transpose()?
            .map(Arc::new);
        let host = settings.directory.host_str().unwrap_or_default();
        let identity = IssuerIdentity {
            wider_profiles: true,
            own_lifetimes: true,
            own_subjects: true,
            ..IssuerIdentity::new(
                format!("ACME server {host}"),
                roots.iter().map(|der| fingerprint(der)).collect(),
            )
        };
        Ok(Self {
            inner: Arc::new(Inner {
                transport,
                accounts: Accounts::new(directory, settings.contact, external, settings.account),
                solver,
                roots,
                identity,
            }),
        })
    }
}

impl Acme {
    /// Looks whether the server answers with a directory. Changes nothing there.
    ///
    /// # Errors
    /// [`IssueError`] when it does not, or not in time.
    pub async fn probe(&self, deadline: Deadline) -> Result<(), IssueError> {
        let inner = &self.inner;
        deadline
            .run(inner.transport.directory(&inner.accounts.directory))
            .await?
            .map_err(|source| AcmeError::Request {
                doing: "looking up its directory",
                source,
            })?;
        Ok(())
    }
}

fn roots(
    settings: &AcmeSettings,
    directory: &str,
) -> Result<Vec<CertificateDer<'static>>, AcmeError> {
    let none = |source: Option<Box<dyn StdError + Send + Sync>>| AcmeError::NoRoots {
        directory: directory.to_owned(),
        source,
    };
    let given = match (&settings.roots, &settings.trust) {
        (Some(given), _) | (None, Trust::CaPem(given)) => Some(given),
        (None, Trust::Fingerprint(_)) => return Err(none(None)),
        (None, _) => None,
    };
    let found = match given {
        Some(given) => {
            let found = pem::certificates(given).map_err(|error| none(Some(error.into())))?;
            for der in &found {
                ObservedCertificate::from_der(der).map_err(|error| none(Some(error.into())))?;
            }
            found
        }
        // Among the system's there may be some that nobody can read.
        None => rustls_native_certs::load_native_certs()
            .certs
            .into_iter()
            .filter(|der| ObservedCertificate::from_der(der).is_ok())
            .collect(),
    };
    if found.is_empty() {
        return Err(none(None));
    }
    Ok(found)
}

impl Inner {
    /// One order from beginning to end, with everything taken back that was set up for it.
    async fn order(
        &self,
        request: &CertificateRequest,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        let mut proofs = Proofs::default();
        let outcome = deadline
            .run(self.attempt(request, &mut proofs, deadline))
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()));
        proofs.clear(&self.solver).await;
        match (outcome, proofs.objections.pop_first()) {
            // What the server objected to says more than that time was up.
            (Err(IssueError::Elapsed(_)), Some((name, problem))) => {
                Err(IssueError::Acme(AcmeError::NotProven {
                    name,
                    kind: self.solver.kind(),
                    problem,
                }))
            }
            (outcome, _) => outcome,
        }
    }

    async fn attempt(
        &self,
        request: &CertificateRequest,
        proofs: &mut Proofs,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        let identifiers = order::identifiers(request.sans(), self.solver.kind())?;
        let key_type = request.key_type();
        let key = tokio::task::spawn_blocking(move || PrivateKey::generate(key_type))
            .await
            .map_err(|_| IssueError::Cancelled)?
            .map_err(IssueError::Key)?;
        let signed = signing_request(request, &key).map_err(IssueError::Sign)?;
        let transport = self.transport.fork();
        let account = self.accounts.open(&transport, None).await?;
        let mut order = match order::begin(&account, &transport, &identifiers, deadline).await {
            Err(Ended::AccountLost(lost)) => {
                tracing::warn!(account = lost, "the ACME server lost the account");
                let account = self.accounts.open(&transport, Some(&lost)).await?;
                order::begin(&account, &transport, &identifiers, deadline).await
            }
            other => other,
        }?;
        order::prove(&mut order, &self.solver, proofs, deadline).await?;
        let chain = order::finish(&mut order, &signed, deadline).await?;
        self.complete(&key, &chain, request, OffsetDateTime::now_utc())
    }

    /// The bundle of what came back, checked.
    fn complete(
        &self,
        key: &PrivateKey,
        chain: &str,
        request: &CertificateRequest,
        now: OffsetDateTime,
    ) -> Result<Bundle, IssueError> {
        let unreadable = |error| IssueError::Unreadable(BundleError::Pem(error));
        let chain = pem::certificates(chain.as_bytes()).map_err(unreadable)?;
        // Some servers send the root along.
        let mut certificates = chain.into_iter();
        let leaf = certificates.next();
        let rest = certificates.filter(|der| !self.roots.contains(der));
        let mut chain: Vec<_> = leaf.into_iter().chain(rest).collect();
        let last_issuer = chain
            .last()
            .and_then(|der| ObservedCertificate::from_der(der).ok())
            .map(|certificate| certificate.issuer)
            .unwrap_or_default();
        let signers: Vec<&CertificateDer<'static>> = self
            .roots
            .iter()
            .filter(|root| {
                chain
                    .iter()
                    .any(|der| is_signed_by(der, root).unwrap_or(false))
            })
            .collect();
        let leaf = chain.remove(0);
        let mut refused = None;
        for root in signers {
            let bundle = Bundle::new(key, leaf.clone(), chain.clone(), root.clone())
                .map_err(IssueError::Unreadable)?;
            match bundle.check(request.profile(), request.sans(), now) {
                Ok(()) => {
                    let difference = SanDifference::between(&bundle.leaf().sans, request.sans());
                    if difference.is_empty() {
                        return Ok(bundle);
                    }
                    return Err(AcmeError::OtherNames {
                        difference: difference.to_string(),
                    }
                    .into());
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(match refused {
            Some(error) => IssueError::Unfit(error),
            None => AcmeError::UnknownRoot {
                issuer: last_issuer,
                roots: self.roots.len(),
            }
            .into(),
        })
    }
}

impl From<Ended> for IssueError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Failed(error) => Self::Acme(error),
            Ended::Elapsed(elapsed) => Self::Elapsed(elapsed),
            Ended::AccountLost(account) => Self::Acme(AcmeError::Refused {
                doing: "ordering",
                problem: format!("it does not know the account {account} that it just made"),
            }),
        }
    }
}

#[async_trait]
impl Issuer for Acme {
    async fn issue(
        &self,
        request: &CertificateRequest,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        // On its own, so that records are cleared even when nobody waits any more.
        tokio::spawn(async move { inner.order(&request, deadline).await })
            .await
            .map_err(|_| IssueError::Cancelled)?
    }

    fn identity(&self) -> &IssuerIdentity {
        &self.inner.identity
    }

    fn latest_not_after(&self) -> Option<OffsetDateTime> {
        None
    }

    fn patience(&self) -> Duration {
        match &self.inner.solver {
            ChallengeSolver::Http01 { .. } => PATIENCE,
            ChallengeSolver::Dns01 { propagation, .. } => PATIENCE + HOOK_PATIENCE + *propagation,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
