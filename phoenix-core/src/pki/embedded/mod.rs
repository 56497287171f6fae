//! The embedded CA: a root and intermediates that Phoenix makes and keeps in a directory.
//!
//! The directory (mode 0700) holds `root.pem`, `root-key.pem` and for each intermediate
//! `intermediates/0001/certificate.pem` and `key.pem` beside it (keys PKCS#8, mode 0600). The
//! intermediate with the highest number is the current one and signs leaves; those before it stay
//! for what they have signed. A CA that was made before there could be several intermediates has
//! one in `intermediate.pem` and `intermediate-key.pem`, which counts as number 0. The root's key
//! may be kept elsewhere: it is needed to make another intermediate, never to issue.
//!
//! A CA, and an intermediate in it, is there whole or not at all: its directory is filled under a
//! temporary name beside its place and then renamed, so that a run that is killed leaves nothing
//! that looks like one, and the next one starts afresh. A directory in which something is missing
//! has been damaged by somebody, and is refused rather than mended: a new root would silently
//! break everything that trusts the old one.
//!
//! What the CA issues is in its inventory before anybody gets it.

mod create;
mod error;
mod files;
mod intermediate;
mod rotate;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use self::create::create;
use self::files::{ROOT, ROOT_KEY, io_error, layout, read_certificate, read_key};
use super::bundle::{Above, Bundle};
use super::inventory::{Inventory, IssuedRecord, Record};
use super::issuer::{IssueError, Issuer, IssuerIdentity, RecordError};
use super::key::{FreshKey, PrivateKey};
use super::observed::{ObservedCertificate, is_signed_by};
use super::pem;
use super::request::{CertificateRequest, KeyType};
use super::template::{Validity, leaf_params};
use crate::ground::Deadline;

pub use self::create::CaParameters;
pub use self::error::CaError;
pub use self::intermediate::Intermediate;

/// A root and its intermediates in a directory. Cheap to clone. Only keys of intermediates are
/// kept in memory.
#[derive(Clone)]
pub struct EmbeddedCa {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    root: ObservedCertificate,
    root_der: CertificateDer<'static>,
    root_pem: String,
    has_root_key: bool,
    current: Intermediate,
    /// Oldest first.
    older: Vec<Intermediate>,
    /// What every new leaf has above it.
    above: Arc<Above>,
    identity: IssuerIdentity,
    inventory: Inventory,
}

impl fmt::Debug for EmbeddedCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedCa")
            .field("root", &self.inner.root.subject)
            .field("intermediate", &self.intermediate().subject)
            .finish_non_exhaustive()
    }
}

impl EmbeddedCa {
    /// The CA in `directory`, or `None` when there is none yet. Changes nothing.
    ///
    /// Reads a few small files and checks them, by the system's clock too.
    ///
    /// # Errors
    /// [`CaError`] when there is something that is no usable CA.
    pub fn observe(directory: &Path) -> Result<Option<Self>, CaError> {
        Self::observe_at(directory, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::observe`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn observe_at(directory: &Path, now: OffsetDateTime) -> Result<Option<Self>, CaError> {
        let Some(ca) = Self::read(directory)? else {
            return Ok(None);
        };
        ca.check_root_time(now)?;
        let current = &ca.inner.current;
        check_time(&current.path, &current.certificate, now)?;
        Ok(Some(ca))
    }

    /// The CA in `directory`, made from `parameters` when there is none yet; whether it was made
    /// comes with it. Killed at any point and called again, this ends with one whole CA.
    ///
    /// Blocks while keys are generated, which may take seconds for RSA.
    ///
    /// # Errors
    /// [`CaError`]; an existing CA is never changed.
    pub fn open_or_create(
        directory: &Path,
        parameters: &CaParameters,
    ) -> Result<(Self, bool), CaError> {
        Self::open_or_create_at(directory, parameters, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::open_or_create`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn open_or_create_at(
        directory: &Path,
        parameters: &CaParameters,
        now: OffsetDateTime,
    ) -> Result<(Self, bool), CaError> {
        if let Some(ca) = Self::observe_at(directory, now)? {
            return Ok((ca, false));
        }
        let created = create(directory, parameters, now)?;
        match Self::observe_at(directory, now)? {
            Some(ca) => Ok((ca, created)),
            None => Err(io_error("find what was just made in", directory)(
                io::ErrorKind::NotFound.into(),
            )),
        }
    }

    /// Makes another intermediate below the root of the CA in `directory`, which signs from then
    /// on, and gives the CA with it. What earlier ones have signed stays valid. It is valid for
    /// `lifetime`, or without one as long as the current one was, but never longer than the root.
    /// Killed at any point, this leaves the CA with or without a whole new intermediate; called
    /// by two at once, both end with one that is new.
    ///
    /// Blocks while a key is generated, which may take seconds for RSA.
    ///
    /// # Errors
    /// [`CaError`], in particular [`CaError::NoRootKey`]; the CA is as before then.
    pub fn rotate(directory: &Path, lifetime: Option<Duration>) -> Result<Self, CaError> {
        Self::rotate_at(directory, lifetime, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::rotate`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn rotate_at(
        directory: &Path,
        lifetime: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        rotate::rotate(directory, lifetime, now)
    }

    /// Reads and checks all but the times.
    fn read(directory: &Path) -> Result<Option<Self>, CaError> {
        let Some(layout) = layout(directory)? else {
            return Ok(None);
        };
        let root_path = directory.join(ROOT);
        let (root_der, root) = read_certificate(&root_path)?;
        check_ca(&root_path, &root)?;
        if !root.is_self_issued() || !is_signed(&root_path, &root_der, &root_der)? {
            return Err(CaError::Unfit {
                path: root_path,
                problem: "is not signed with its own key",
            });
        }
        if layout.has_root_key {
            let path = directory.join(ROOT_KEY);
            let text = read_key(&path)?;
            let key = PrivateKey::from_pem(text.expose()).map_err(|source| CaError::Key {
                path: path.clone(),
                source,
            })?;
            if root.public_key != key.public_key() {
                return Err(CaError::KeyMismatch {
                    key: path,
                    certificate: ROOT.to_owned(),
                });
            }
        }
        let intermediate = |place| {
            let read = Intermediate::read(directory, place)?;
            check_ca(&read.path, &read.certificate)?;
            if !read.certificate.names_issuer(&root)
                || !is_signed(&read.path, &read.der, &root_der)?
            {
                return Err(CaError::Unfit {
                    path: read.path,
                    problem: "is not signed by root.pem",
                });
            }
            Ok(read)
        };
        let older = layout
            .older
            .into_iter()
            .map(intermediate)
            .collect::<Result<_, _>>()?;
        let current = intermediate(layout.current)?;
        current.open()?;
        let above = Above::new(vec![current.der.clone()], root_der.clone()).map_err(|_| {
            CaError::Unfit {
                path: root_path,
                problem: "is no root",
            }
        })?;
        let inventory = Inventory::of(directory);
        let identity = IssuerIdentity {
            revoked: Arc::new(inventory.revoked().map_err(CaError::Inventory)?),
            // What an earlier intermediate signed is to be renewed below this one.
            key_ids: current.certificate.subject_key_id.iter().cloned().collect(),
            ..IssuerIdentity::new(&current.certificate.subject, vec![root.fingerprint])
        };
        Ok(Some(Self {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                root_pem: pem::encode_certificate(&root_der),
                root,
                root_der,
                has_root_key: layout.has_root_key,
                current,
                older,
                above: Arc::new(above),
                identity,
                inventory,
            }),
        }))
    }

    fn check_root_time(&self, now: OffsetDateTime) -> Result<(), CaError> {
        check_time(&self.inner.directory.join(ROOT), &self.inner.root, now)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// What the root's certificate says.
    #[must_use]
    pub fn root(&self) -> &ObservedCertificate {
        &self.inner.root
    }

    /// What the current intermediate's certificate says.
    #[must_use]
    pub fn intermediate(&self) -> &ObservedCertificate {
        &self.inner.current.certificate
    }

    /// All intermediates, oldest first; the last one is the current one.
    pub fn intermediates(&self) -> impl Iterator<Item = &Intermediate> {
        self.inner
            .older
            .iter()
            .chain(std::iter::once(&self.inner.current))
    }

    fn intermediate_number(&self) -> u32 {
        self.inner.current.number
    }

    /// The root's certificate as PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.inner.root_pem
    }

    /// The current intermediate's certificate as PEM.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.inner.current.pem()
    }

    /// Whether the root's key is there, without which no intermediate can be made.
    #[must_use]
    pub fn has_root_key(&self) -> bool {
        self.inner.has_root_key
    }

    /// How this CA departs from `parameters`, readable; empty when it does not. An existing CA is
    /// never changed, so that each is worth a warning.
    #[must_use]
    pub fn departures(&self, parameters: &CaParameters) -> Vec<String> {
        let mut departures = Vec::new();
        let common_name = self.inner.root.common_name.as_deref().unwrap_or_default();
        if common_name != parameters.common_name {
            departures.push(format!(
                "common name is `{common_name}`, not `{}`",
                parameters.common_name
            ));
        }
        for (what, certificate) in [
            ("root", &self.inner.root),
            ("intermediate", self.intermediate()),
        ] {
            if certificate.key_type != Some(parameters.key_type) {
                departures.push(format!(
                    "{what} key is {}, not {}",
                    certificate
                        .key_type
                        .map_or("of another kind", KeyType::as_str),
                    parameters.key_type
                ));
            }
        }
        departures
    }

    /// What was issued and what became of it.
    pub(super) fn records(&self) -> &Inventory {
        &self.inner.inventory
    }

    /// Issues a certificate with a fresh key at the time `now`, valid from five minutes earlier
    /// to `now` plus the lifetime, checks it, and records it in the inventory.
    ///
    /// Blocks while the key is generated, which may take seconds for RSA;
    /// [`Issuer::issue`] does this on a thread of its own.
    ///
    /// # Errors
    /// [`IssueError`]; in particular [`IssueError::LifetimeExceedsCa`], before anything is done.
    pub fn issue_at(
        &self,
        request: &CertificateRequest,
        now: OffsetDateTime,
    ) -> Result<Bundle, IssueError> {
        let bundle = self.sign_at(request, now)?;
        IssuedRecord::new(bundle.leaf(), request)
            .and_then(|issued| self.records().append(&Record::Issued(issued)))
            .map_err(IssueError::Unrecorded)?;
        Ok(bundle)
    }

    /// [`EmbeddedCa::issue_at`] without the record, and so without touching the disk. Only to
    /// measure and to test what signing does: such a certificate cannot be revoked.
    ///
    /// # Errors
    /// [`IssueError`].
    #[doc(hidden)]
    pub fn sign_at(
        &self,
        request: &CertificateRequest,
        now: OffsetDateTime,
    ) -> Result<Bundle, IssueError> {
        let Inner { current, above, .. } = &*self.inner;
        let intermediate = &current.certificate;
        if now < intermediate.not_before || now > intermediate.not_after {
            return Err(IssueError::CaNotValidNow {
                not_before: intermediate.not_before,
                not_after: intermediate.not_after,
                now,
            });
        }
        let validity = Validity::new(now, request.lifetime());
        if validity.not_after > intermediate.not_after {
            return Err(IssueError::LifetimeExceedsCa {
                lifetime: request.lifetime(),
                wanted: validity.not_after,
                latest: intermediate.not_after,
            });
        }
        let signer = current.signer()?;
        let key = FreshKey::generate(request.key_type()).map_err(IssueError::Key)?;
        let params = leaf_params(request, &validity, intermediate.not_before)?;
        let leaf = params.signed_by(&key, signer).map_err(IssueError::Sign)?;
        let bundle = Bundle::issued(key, leaf.into(), above).map_err(IssueError::Unreadable)?;
        bundle
            .check_issued(request, intermediate, params.not_before, params.not_after)
            .map_err(IssueError::Unfit)?;
        Ok(bundle)
    }
}

#[async_trait]
impl Issuer for EmbeddedCa {
    async fn issue(
        &self,
        request: &CertificateRequest,
        deadline: Deadline,
    ) -> Result<Bundle, IssueError> {
        let (ca, request) = (self.clone(), request.clone());
        let issued =
            tokio::task::spawn_blocking(move || ca.issue_at(&request, OffsetDateTime::now_utc()));
        deadline
            .run(issued)
            .await?
            .map_err(|_| IssueError::Cancelled)?
    }

    fn identity(&self) -> &IssuerIdentity {
        &self.inner.identity
    }

    fn latest_not_after(&self) -> Option<OffsetDateTime> {
        Some(self.inner.current.certificate.not_after)
    }

    async fn delivered(&self, serial: &str, place: &str) -> Result<(), RecordError> {
        let now = OffsetDateTime::now_utc();
        let record = Record::Delivered {
            serial: serial.parse()?,
            place: place.to_owned(),
            at: now.replace_nanosecond(0).unwrap_or(now),
        };
        let ca = self.clone();
        tokio::task::spawn_blocking(move || ca.records().append(&record))
            .await
            .map_err(|_| RecordError::Cancelled)??;
        Ok(())
    }
}

/// Whether `certificate` is one of a CA that can be named by what it signs.
fn check_ca(path: &Path, certificate: &ObservedCertificate) -> Result<(), CaError> {
    let problem = if !certificate.is_ca {
        "is no CA's certificate"
    } else if certificate.subject_key_id.is_none() {
        "has no subject key identifier"
    } else {
        return Ok(());
    };
    Err(CaError::Unfit {
        path: path.to_owned(),
        problem,
    })
}

fn is_signed(path: &Path, certificate: &[u8], issuer: &[u8]) -> Result<bool, CaError> {
    is_signed_by(certificate, issuer).map_err(|source| CaError::Certificate {
        path: path.to_owned(),
        source,
    })
}

fn check_time(
    path: &Path,
    certificate: &ObservedCertificate,
    now: OffsetDateTime,
) -> Result<(), CaError> {
    if now > certificate.not_after {
        return Err(CaError::Expired {
            path: path.to_owned(),
            at: certificate.not_after,
        });
    }
    if now < certificate.not_before {
        return Err(CaError::NotYetValid {
            path: path.to_owned(),
            from: certificate.not_before,
            now,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
