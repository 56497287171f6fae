//! A private key with the certificates that go with it.
//!
//! A bundle is stored as one PEM file of mode 0600 (key, leaf, intermediates, root), written
//! beside its place and renamed over it: after a crash there is the old bundle or the new one,
//! never a new key beside an old certificate.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage};

use super::key::{FreshKey, KeyError, PrivateKey};
use super::observed::{CertificateError, ObservedCertificate};
use super::pem::{self, PemError};
use super::request::{CertificateRequest, Profile};
use super::san::SubjectAltName;
use super::times::show;
use crate::ground::{SecretBytes, read_optional, write_atomic};

/// Why a text or file is no bundle, or cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written; what was there before still is.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can read the file with the key.
    #[error("{} has mode {:04o}: others may have read its key", .path.display(), .mode)]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not the PEM that was expected.
    #[error("the bundle is broken")]
    Pem(#[source] PemError),
    /// The key is broken.
    #[error("the bundle is broken")]
    Key(#[source] KeyError),
    /// A certificate is broken.
    #[error("the bundle is broken")]
    Certificate(#[source] CertificateError),
    /// The last certificate is no root.
    #[error("the bundle is broken: its last certificate is no root")]
    NoRoot,
}

/// Why a bundle does not fit its purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The private key is not that of the leaf.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A certificate has expired.
    #[error("the certificate of {subject} expired on {}", show(.at))]
    Expired {
        /// Whose.
        subject: String,
        /// The last second of its validity.
        at: OffsetDateTime,
    },
    /// A certificate is not valid yet.
    #[error("the certificate of {subject} is valid from {} only", show(.from))]
    NotYetValid {
        /// Whose.
        subject: String,
        /// The first second of its validity.
        from: OffsetDateTime,
    },
    /// No chain from the leaf to the root that is good for the purpose.
    #[error("the chain does not verify for a TLS {purpose}")]
    Chain {
        /// `server` or `client`.
        purpose: &'static str,
        /// What rustls' verifier said.
        #[source]
        source: webpki::Error,
    },
    /// The leaf is not valid for a name.
    #[error("the certificate is not valid for {name}")]
    NameNotCovered {
        /// The name.
        name: SubjectAltName,
    },
    /// The leaf says something else than it was to say.
    #[error("the certificate's {what} is not what it was to be")]
    Differs {
        /// What it says otherwise.
        what: &'static str,
    },
}

/// The certificates above a leaf, which many leaves share.
pub(super) struct Above {
    intermediates: Vec<(CertificateDer<'static>, ObservedCertificate)>,
    /// The intermediates as PEM.
    intermediates_pem: String,
    root: ObservedCertificate,
    root_der: CertificateDer<'static>,
}

impl Above {
    /// Reads `intermediates` (the leaf's issuer first) and the root above them.
    pub(super) fn new(
        intermediates: Vec<CertificateDer<'static>>,
        root_der: CertificateDer<'static>,
    ) -> Result<Self, BundleError> {
        let root = observe(&root_der)?;
        if !root.is_self_issued() {
            return Err(BundleError::NoRoot);
        }
        Ok(Self {
            intermediates_pem: intermediates
                .iter()
                .map(|der| pem::encode_certificate(der))
                .collect(),
            intermediates: intermediates
                .into_iter()
                .map(|der| observe(&der).map(|observed| (der, observed)))
                .collect::<Result<_, _>>()?,
            root,
            root_der,
        })
    }
}

fn observe(der: &CertificateDer<'_>) -> Result<ObservedCertificate, BundleError> {
    ObservedCertificate::from_der(der).map_err(BundleError::Certificate)
}

/// A private key, its certificate (the leaf), the intermediates and the root.
///
/// `Debug` shows no key.
#[derive(Clone)]
pub struct Bundle {
    key_der: SecretBytes,
    key_public: Vec<u8>,
    leaf: ObservedCertificate,
    leaf_der: CertificateDer<'static>,
    above: Arc<Above>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("subject", &self.leaf.subject)
            .field("serial", &self.leaf.serial)
            .field("not_after", &show(&self.leaf.not_after))
            .field("issuer", &self.leaf.issuer)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    pub(super) fn new(
        key: &PrivateKey,
        leaf_der: CertificateDer<'static>,
        intermediates: Vec<CertificateDer<'static>>,
        root_der: CertificateDer<'static>,
    ) -> Result<Self, BundleError> {
        // In this order, so that what is wrong above is told first.
        let above = Arc::new(Above::new(intermediates, root_der)?);
        Ok(Self {
            key_der: key.to_der(),
            key_public: key.public_key().to_vec(),
            leaf: observe(&leaf_der)?,
            leaf_der,
            above,
        })
    }

    /// What was just issued for a fresh key below certificates that have been read before.
    pub(super) fn issued(
        key: FreshKey,
        leaf_der: CertificateDer<'static>,
        above: &Arc<Above>,
    ) -> Result<Self, BundleError> {
        let (key_der, key_public) = key.into_parts();
        Ok(Self {
            key_der,
            key_public,
            leaf: observe(&leaf_der)?,
            leaf_der,
            above: above.clone(),
        })
    }

    /// A bundle of a key (PKCS#8 PEM), a chain (leaf first, then the intermediates) and a root.
    ///
    /// # Errors
    /// [`BundleError`] when one of them cannot be read. Whether they fit is for
    /// [`Bundle::check`] to say.
    pub fn from_parts(
        key_pem: &SecretBytes,
        chain_pem: &[u8],
        root_pem: &[u8],
    ) -> Result<Self, BundleError> {
        let key = PrivateKey::from_pem(key_pem.expose()).map_err(BundleError::Key)?;
        let mut chain = pem::certificates(chain_pem).map_err(BundleError::Pem)?;
        let mut roots = pem::certificates(root_pem).map_err(BundleError::Pem)?;
        let leaf = chain.remove(0);
        Self::new(&key, leaf, chain, roots.remove(0))
    }

    /// Reads what [`Bundle::to_pem`] gives: one key, and the leaf, the intermediates and the root
    /// in this order.
    ///
    /// # Errors
    /// [`BundleError`] when something is missing or broken.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleError> {
        let (key, mut chain) = pem::key_and_certificates(pem).map_err(BundleError::Pem)?;
        let key = PrivateKey::from_der(key.expose()).map_err(BundleError::Key)?;
        let leaf = chain.remove(0);
        let root = chain.pop().ok_or(BundleError::NoRoot)?;
        Self::new(&key, leaf, chain, root)
    }

    /// The whole bundle as PEM: key, leaf, intermediates, root.
    #[must_use]
    pub fn to_pem(&self) -> SecretBytes {
        self.joined(&self.root_pem())
    }

    /// Key, leaf and intermediates as PEM: what some servers want in one file.
    #[must_use]
    pub fn combined_pem(&self) -> SecretBytes {
        self.joined("")
    }

    fn joined(&self, rest: &str) -> SecretBytes {
        let (key, chain) = (self.key_pem(), self.chain_pem());
        // Of its final size from the start: growing would leave copies of the key behind.
        let mut text = Vec::with_capacity(key.len() + chain.len() + rest.len());
        text.extend_from_slice(key.expose());
        text.extend_from_slice(chain.as_bytes());
        text.extend_from_slice(rest.as_bytes());
        SecretBytes::new(text)
    }

    /// The bundle stored at `path`, or `None` when nothing is.
    ///
    /// # Errors
    /// [`BundleError`]. A file whose key others can read is refused, so that it is renewed.
    pub fn load(path: &Path) -> Result<Option<Self>, BundleError> {
        let failed = |source| BundleError::Read {
            path: path.to_owned(),
            source,
        };
        let Some(content) = read_optional(path).map_err(failed)? else {
            return Ok(None);
        };
        let content = SecretBytes::new(content);
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(BundleError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        Self::from_pem(content.expose()).map(Some)
    }

    /// Stores the bundle at `path` (mode 0600) in one step; the directory must exist.
    ///
    /// # Errors
    /// [`BundleError::Write`]; what was there before still is.
    pub fn save(&self, path: &Path) -> Result<(), BundleError> {
        write_atomic(path, self.to_pem().expose(), 0o600).map_err(|source| BundleError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The private key as PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> SecretBytes {
        pem::encode("PRIVATE KEY", self.key_der.expose())
    }

    /// The leaf alone as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::encode_certificate(&self.leaf_der)
    }

    /// The leaf, then the intermediates, as PEM: what a server or client presents.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        let mut chain = self.certificate_pem();
        chain.push_str(&self.above.intermediates_pem);
        chain
    }

    /// The root as PEM: what peers trust.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem::encode_certificate(&self.above.root_der)
    }

    /// What the leaf says.
    #[must_use]
    pub fn leaf(&self) -> &ObservedCertificate {
        &self.leaf
    }

    /// What the intermediates say, the leaf's issuer first.
    pub fn intermediates(&self) -> impl Iterator<Item = &ObservedCertificate> {
        self.above
            .intermediates
            .iter()
            .map(|(_, observed)| observed)
    }

    /// What the root says.
    #[must_use]
    pub fn root(&self) -> &ObservedCertificate {
        &self.above.root
    }

    /// The leaf, then the intermediates, as DER.
    #[must_use]
    pub fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![self.leaf_der.clone()];
        chain.extend(self.intermediates_der());
        chain
    }

    /// The private key as DER.
    #[must_use]
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.expose().to_vec()).into()
    }

    fn intermediates_der(&self) -> Vec<CertificateDer<'static>> {
        self.above
            .intermediates
            .iter()
            .map(|(der, _)| der.clone())
            .collect()
    }

    /// Whether the bundle fits together and is good for `profile` and all of `names` at `now`:
    /// the key is the leaf's, every certificate is valid, and rustls' verifier finds a chain to
    /// the bundle's own root for each purpose of the profile.
    ///
    /// # Errors
    /// The first [`CheckError`] found.
    pub fn check(
        &self,
        profile: Profile,
        names: &[SubjectAltName],
        now: OffsetDateTime,
    ) -> Result<(), CheckError> {
        if !self.key_matches() {
            return Err(CheckError::KeyMismatch);
        }
        self.check_chain(profile, now)?;
        self.check_names(names)
    }

    /// Whether the leaf says exactly what `request` asks for, of the key that the bundle holds
    /// and as coming from `issuer`, from `not_before` to `not_after`.
    ///
    /// This is for what this program has just signed itself, with a key that was found to be the
    /// issuer's beforehand, as the issuer's certificate was found to lead to the root. What is
    /// left to go wrong is what the certificate says, and that is compared whole; verifying the
    /// signature would only repeat, at twice the price, what the same library just computed.
    /// What comes from elsewhere is for [`Bundle::check`].
    pub(super) fn check_issued(
        &self,
        request: &CertificateRequest,
        issuer: &ObservedCertificate,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<(), CheckError> {
        if !self.key_matches() {
            return Err(CheckError::KeyMismatch);
        }
        let leaf = &self.leaf;
        let common_name = leaf.common_name.as_deref().unwrap_or_default();
        for (is, what) in [
            (common_name == request.common_name(), "common name"),
            (
                leaf.sans == request.sans() && leaf.other_names == 0,
                "list of subject alternative names",
            ),
            (leaf.profile == Some(request.profile()), "profile"),
            (leaf.key_type == Some(request.key_type()), "key type"),
            (
                (leaf.not_before, leaf.not_after) == (not_before, not_after),
                "validity",
            ),
            (!leaf.is_ca, "kind"),
            (leaf.names_issuer(issuer), "issuer"),
        ] {
            if !is {
                return Err(CheckError::Differs { what });
            }
        }
        Ok(())
    }

    /// The last second at which the leaf and everything above it is valid: what the leaf's own
    /// end says is moot once a certificate above it ends sooner.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.intermediates()
            .chain([self.root()])
            .map(|certificate| certificate.not_after)
            .fold(self.leaf.not_after, OffsetDateTime::min)
    }

    /// What the leaf may be used for, when that is `profile` and more.
    #[must_use]
    pub fn wider_than(&self, profile: Profile) -> Option<Profile> {
        let have = self.leaf.profile?;
        (have == Profile::Peer && profile != Profile::Peer).then_some(have)
    }

    /// Whether the private key is that of the leaf.
    #[must_use]
    pub fn key_matches(&self) -> bool {
        self.key_public == self.leaf.public_key
    }

    /// The part of [`Bundle::check`] about times, signatures and purposes.
    ///
    /// # Errors
    /// See there.
    pub fn check_chain(&self, profile: Profile, now: OffsetDateTime) -> Result<(), CheckError> {
        let certificates = std::iter::once(&self.leaf)
            .chain(self.intermediates())
            .chain(std::iter::once(self.root()));
        for certificate in certificates {
            if now > certificate.not_after {
                return Err(CheckError::Expired {
                    subject: certificate.subject.clone(),
                    at: certificate.not_after,
                });
            }
            if now < certificate.not_before {
                return Err(CheckError::NotYetValid {
                    subject: certificate.subject.clone(),
                    from: certificate.not_before,
                });
            }
        }
        if profile.is_server() {
            self.verify("server", KeyUsage::server_auth(), now)?;
        }
        if profile.is_client() {
            self.verify("client", KeyUsage::client_auth(), now)?;
        }
        Ok(())
    }

    fn verify(
        &self,
        purpose: &'static str,
        usage: impl ExtendedKeyUsageValidator,
        now: OffsetDateTime,
    ) -> Result<(), CheckError> {
        let failed = |source| CheckError::Chain { purpose, source };
        let anchors: [TrustAnchor<'_>; 1] =
            [webpki::anchor_from_trusted_cert(&self.above.root_der).map_err(failed)?];
        let since_epoch = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let leaf = EndEntityCert::try_from(&self.leaf_der).map_err(failed)?;
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &self.intermediates_der(),
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(since_epoch)),
            usage,
            None,
            None,
        )
        .map(|_| ())
        .map_err(failed)
    }

    /// The part of [`Bundle::check`] about names: each is covered by one of the leaf's, and
    /// rustls' verifier agrees wherever a client could ask for it and should be answered.
    fn check_names(&self, names: &[SubjectAltName]) -> Result<(), CheckError> {
        let leaf = EndEntityCert::try_from(&self.leaf_der).map_err(|source| CheckError::Chain {
            purpose: "server",
            source,
        })?;
        for name in names {
            let mut covering = self
                .leaf
                .sans
                .iter()
                .filter(|san| san.covers(name))
                .peekable();
            let covered = covering.peek().is_some();
            let only_with_caveat = covering.all(|san| san.caveat().is_some());
            let agreed = only_with_caveat
                || name
                    .server_name()
                    .is_none_or(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok());
            if !covered || !agreed {
                return Err(CheckError::NameNotCovered { name: name.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
