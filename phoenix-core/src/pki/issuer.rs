//! What answers a certificate request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::acme::AcmeError;
use super::bundle::{Bundle, BundleError, CheckError};
use super::embedded::CaError;
use super::inventory::InventoryError;
use super::key::KeyError;
use super::request::CertificateRequest;
use super::serial::{Serial, SerialError};
use super::step_ca::StepCaError;
use super::times::{exactly, show};
use crate::ground::{Deadline, Elapsed};

/// Something that issues certificates below one root.
#[async_trait]
pub trait Issuer: fmt::Debug + Send + Sync {
    /// Issues a certificate with a fresh key, and checks that what came is what was asked for.
    ///
    /// Issuing again is harmless, but every call makes another certificate.
    ///
    /// # Errors
    /// [`IssueError`]; no certificate is to be used then.
    async fn issue(
        &self,
        request: &CertificateRequest,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError>;

    /// Issues anew what `current` was issued for, with a fresh key. An issuer that lets a
    /// certificate vouch for its own renewal does so where `current` allows it; the others, and
    /// this default, issue as ever.
    ///
    /// # Errors
    /// [`IssueError`]; `current` is as good as before then.
    async fn renew(
        &self,
        request: &CertificateRequest,
        current: &Bundle,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        let _ = current;
        self.issue(request, deadline).await
    }

    /// Who issues: a bundle from another issuer is renewed. Known without contacting anybody.
    fn identity(&self) -> &IssuerIdentity;

    /// The last second that a certificate issued now could be valid; `None` when that is not
    /// known beforehand.
    fn latest_not_after(&self) -> Option<OffsetDateTime>;

    /// Tells the issuer that the certificate with `serial` (lower-case hex) now lies at `place`,
    /// readable and without secrets. An issuer that keeps no inventory, like this default, does
    /// nothing with it. Telling it twice is harmless.
    ///
    /// # Errors
    /// [`RecordError`]; the certificate is delivered all the same.
    async fn delivered(&self, serial: &str, place: &str) -> Result<(), RecordError> {
        let _ = (serial, place);
        Ok(())
    }

    /// How long one certificate may take. An issuer that waits for others, such as for a record
    /// to spread through DNS, says more than this default of a minute.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Who issues certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerIdentity {
    /// The name of the issuing certificate, readable.
    pub name: String,
    /// The SHA-256 of the DER of each root that its certificates may lead to.
    pub roots: Vec<[u8; 32]>,
    /// The identifiers of the keys that sign leaves; empty when any below a root will do.
    pub key_ids: Vec<Vec<u8>>,
    /// Whether a certificate that is good for more than it was asked for will do: some servers
    /// decide that by themselves.
    pub wider_profiles: bool,
    /// Whether the issuer decides how long a certificate lives, whatever was asked for.
    pub own_lifetimes: bool,
    /// The certificates that it has revoked, as far as it knows without contacting anybody, and
    /// since when.
    pub revoked: Arc<BTreeMap<Serial, OffsetDateTime>>,
    /// Whether the issuer decides what the subject's common name is, whatever was asked for: many
    /// ACME servers leave it out or choose one of the names.
    pub own_subjects: bool,
}

impl IssuerIdentity {
    /// An issuer whose certificates lead to one of `roots` (SHA-256 of their DER), through any
    /// intermediate, and are exactly what was asked for.
    pub fn new(name: impl Into<String>, roots: Vec<[u8; 32]>) -> Self {
        Self {
            name: name.into(),
            roots,
            key_ids: Vec::new(),
            wider_profiles: false,
            own_lifetimes: false,
            revoked: Arc::default(),
            own_subjects: false,
        }
    }

    /// Whether `bundle` claims to come from this issuer. Says nothing about signatures.
    #[must_use]
    pub fn issued(&self, bundle: &Bundle) -> bool {
        let leaf = bundle.leaf();
        self.roots.contains(&bundle.root().fingerprint)
            && (self.key_ids.is_empty()
                || leaf
                    .authority_key_id
                    .as_ref()
                    .is_some_and(|id| self.key_ids.contains(id)))
    }
}

impl fmt::Display for IssuerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.roots[..] {
            [root] => write!(f, " (root SHA-256 {}…)", hex::encode(&root[..8])),
            _ => Ok(()),
        }
    }
}

/// Why an issuer did not record what became of a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// What was named is no serial number.
    #[error("the serial number is not usable")]
    Serial(#[from] SerialError),
    /// The inventory could not be written.
    #[error("it cannot be recorded")]
    Inventory(#[from] InventoryError),
    /// The task that records was cancelled.
    #[error("recording was cancelled")]
    Cancelled,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The certificate would outlive the CA that signs it.
    #[error(
        "a lifetime of {} ends on {}, but the CA's own certificate ends on {}",
        exactly(*.lifetime), show(.wanted), show(.latest)
    )]
    LifetimeExceedsCa {
        /// The lifetime that was asked for.
        lifetime: Duration,
        /// When the certificate would end.
        wanted: OffsetDateTime,
        /// When the CA's certificate ends.
        latest: OffsetDateTime,
    },
    /// The CA's own certificate is not valid at this time.
    #[error("the CA's certificate is valid from {} to {}, and it is {}",
        show(.not_before), show(.not_after), show(.now))]
    CaNotValidNow {
        /// The beginning of its validity.
        not_before: OffsetDateTime,
        /// The end of its validity.
        not_after: OffsetDateTime,
        /// The time of asking.
        now: OffsetDateTime,
    },
    /// The CA's key cannot be used.
    #[error("the CA's key cannot be used")]
    CaKey(#[source] Box<CaError>),
    /// No key could be made.
    #[error("no key for the certificate")]
    Key(#[source] KeyError),
    /// The operating system gives no randomness.
    #[error("no randomness for a serial number")]
    Randomness,
    /// The library that encodes and signs certificates refused.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
    /// What was issued cannot be read.
    #[error("the issued certificate cannot be read")]
    Unreadable(#[source] BundleError),
    /// What was issued is not what was asked for.
    #[error("the issued certificate is not what was asked for")]
    Unfit(#[source] CheckError),
    /// The inventory cannot be written, and nothing is issued unrecorded.
    #[error("the certificate could not be recorded")]
    Unrecorded(#[source] InventoryError),
    /// An ACME server issued nothing.
    #[error("the ACME server issued no certificate")]
    Acme(#[from] AcmeError),
    /// The deadline passed first.
    #[error("no certificate was issued in time")]
    Elapsed(#[from] Elapsed),
    /// A step-ca server issued nothing.
    #[error(transparent)]
    StepCa(#[from] StepCaError),
    /// The task that made the key and signed was cancelled.
    #[error("issuing was cancelled")]
    Cancelled,
}
