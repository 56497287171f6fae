//! The embedded CA: a root and intermediates that Phoenix makes and keeps in a directory.
//!
//! The directory (mode 0700) holds `root.pem`, `root-key.pem` and for each intermediate
//! `intermediates/0001/certificate.pem` and `key.pem` beside it (keys PKCS#8, encrypted when there
//! is a passphrase, mode 0600). The
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
mod import;
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
use self::files::{ROOT, ROOT_KEY, io_error, layout, parse_key, read_certificate, read_key};
use super::bundle::{Above, Bundle};
use super::inventory::{Inventory, IssuedRecord, Record};
use super::issuer::{IssueError, Issuer, IssuerIdentity, RecordError};
use super::key::FreshKey;
use super::observed::{ObservedCertificate, is_signed_by};
use super::pem;
use super::request::{CertificateRequest, KeyType};
use super::stored_key;
use super::template::{Validity, leaf_params};
use super::times::about;
use crate::ground::{Deadline, SecretBytes};

pub use self::create::CaParameters;
pub use self::error::CaError;
pub use self::import::ImportedCa;
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
    has_passphrase: bool,
    /// The names of the root's and the current intermediate's key files, when not encrypted.
    in_the_clear: Vec<String>,
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
        Self::observe_with_at(directory, None, now)
    }

    /// [`EmbeddedCa::observe`] of a CA whose keys may be encrypted with `passphrase`. It is
    /// used, and found to be wrong, when something is signed: that takes a good part of a second
    /// the first time.
    ///
    /// # Errors
    /// See there.
    pub fn observe_with(
        directory: &Path,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Option<Self>, CaError> {
        Self::observe_with_at(directory, passphrase, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::observe_with`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn observe_with_at(
        directory: &Path,
        passphrase: Option<&SecretBytes>,
        now: OffsetDateTime,
    ) -> Result<Option<Self>, CaError> {
        let Some(ca) = Self::read(directory, passphrase)? else {
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
        let passphrase = parameters.passphrase.as_ref();
        if let Some(ca) = Self::observe_with_at(directory, passphrase, now)? {
            return Ok((ca, false));
        }
        let created = create(directory, parameters, now)?;
        match Self::observe_with_at(directory, passphrase, now)? {
            Some(ca) => Ok((ca, created)),
            None => Err(io_error("find what was just made in", directory)(
                io::ErrorKind::NotFound.into(),
            )),
        }
    }

    /// Puts a CA that was made elsewhere into `directory`, which must be empty or not there, with
    /// its keys encrypted with `passphrase` when there is one. Everything that is needed to sign
    /// is checked before anything is written. Killed at any point, this leaves the whole CA or
    /// nothing.
    ///
    /// # Errors
    /// [`CaError`], which names the part that cannot be used.
    pub fn import(
        directory: &Path,
        imported: &ImportedCa,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, CaError> {
        Self::import_at(directory, imported, passphrase, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::import`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn import_at(
        directory: &Path,
        imported: &ImportedCa,
        passphrase: Option<&SecretBytes>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        import::import(directory, imported, passphrase, now)
    }

    /// Makes another intermediate below the root of the CA in `directory`, which signs from then
    /// on, and gives the CA with it. What earlier ones have signed stays valid. It is valid for
    /// `lifetime`, or without one as long as the current one was, but never longer than the root.
    /// Killed at any point, this leaves the CA with or without a whole new intermediate. Called by
    /// two at once, one of them may fail, and the CA has a new one all the same.
    ///
    /// Blocks while a key is generated, which may take seconds for RSA.
    ///
    /// `passphrase` is that of the keys. Keys that are in the clear are encrypted with it, too.
    ///
    /// # Errors
    /// [`CaError`], in particular [`CaError::NoRootKey`]; the CA signs as before then.
    pub fn rotate(
        directory: &Path,
        lifetime: Option<Duration>,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, CaError> {
        Self::rotate_at(directory, lifetime, passphrase, OffsetDateTime::now_utc())
    }

    /// [`EmbeddedCa::rotate`] as if it were `now`.
    ///
    /// # Errors
    /// See there.
    pub fn rotate_at(
        directory: &Path,
        lifetime: Option<Duration>,
        passphrase: Option<&SecretBytes>,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        rotate::rotate(directory, lifetime, passphrase, now)
    }

    /// Encrypts all keys of the CA in `directory` with `new`, or has them in the clear when it
    /// is absent. `old` is what those are encrypted with that are. Nothing is written before all
    /// could be read. Each file is whole at any time; called again after an interruption, this
    /// goes on with what is left.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn reencrypt(
        directory: &Path,
        old: Option<&SecretBytes>,
        new: Option<&SecretBytes>,
    ) -> Result<(), CaError> {
        rotate::reencrypt(directory, old, new)
    }

    /// Reads and checks all but the times.
    fn read(directory: &Path, passphrase: Option<&SecretBytes>) -> Result<Option<Self>, CaError> {
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
        let mut in_the_clear = Vec::new();
        if layout.has_root_key {
            let path = directory.join(ROOT_KEY);
            let text = read_key(&path)?;
            if !stored_key::is_encrypted(&text) {
                let key = parse_key(&path, &text, None)?;
                if root.public_key != key.public_key() {
                    return Err(CaError::KeyMismatch {
                        key: path,
                        certificate: ROOT.to_owned(),
                    });
                }
                in_the_clear.push(ROOT_KEY.to_owned());
            }
        }
        let intermediate = |place| {
            let read = Intermediate::read(directory, place, passphrase)?;
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
        if current.open_if_clear()? {
            in_the_clear.push(current.key_name().to_owned());
        }
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
                has_passphrase: passphrase.is_some(),
                in_the_clear,
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

    /// The end of whatever ends first: a foreign intermediate may outlive its root.
    fn latest(&self) -> OffsetDateTime {
        self.intermediate().not_after.min(self.inner.root.not_after)
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

    /// Whether the root's key is there and not encrypted.
    #[must_use]
    pub fn is_root_key_in_the_clear(&self) -> bool {
        self.is_in_the_clear(ROOT_KEY)
    }

    /// Whether the current intermediate's key is not encrypted.
    #[must_use]
    pub fn is_signing_key_in_the_clear(&self) -> bool {
        self.is_in_the_clear(self.inner.current.key_name())
    }

    fn is_in_the_clear(&self, name: &str) -> bool {
        self.inner.in_the_clear.iter().any(|clear| clear == name)
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

    /// What an operator must know of long before it hurts, readable: that a certificate of the CA
    /// nears its end, when leaves live for up to `longest_leaf`, and that a key is not encrypted
    /// although there is a passphrase.
    #[must_use]
    pub fn warnings(&self, now: OffsetDateTime, longest_leaf: Duration) -> Vec<String> {
        let mut warnings = Vec::new();
        let near = |certificate: &ObservedCertificate| {
            let life = certificate.not_after - certificate.not_before;
            let life = Duration::try_from(life).unwrap_or_default();
            certificate.not_after - now < (life / 10).max(longest_leaf.saturating_mul(2))
        };
        let ends = |certificate: &ObservedCertificate| {
            let left = Duration::try_from(certificate.not_after - now).unwrap_or_default();
            format!(
                "ends on {}, in {}",
                certificate.not_after.date(),
                about(left)
            )
        };
        if near(&self.inner.root) {
            warnings.push(format!(
                "the root {}: make a new CA in another directory in time, and have it trusted \
                 beside this one",
                ends(&self.inner.root)
            ));
        }
        let intermediate = self.intermediate();
        if near(intermediate) && intermediate.not_after < self.inner.root.not_after {
            warnings.push(format!(
                "the intermediate {}, and nothing that it signs outlives it: run `phoenix ca \
                 rotate`{}",
                ends(intermediate),
                if self.inner.has_root_key {
                    ""
                } else {
                    " with the root's key in its place"
                }
            ));
        }
        if self.inner.has_passphrase && !self.inner.in_the_clear.is_empty() {
            warnings.push(format!(
                "{} not encrypted although a passphrase is configured: `phoenix ca rotate` \
                 encrypts them",
                match &self.inner.in_the_clear[..] {
                    [name] => format!("{name} is"),
                    names => format!("{} are", names.join(" and ")),
                }
            ));
        }
        warnings
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
        if validity.not_after > self.latest() {
            return Err(IssueError::LifetimeExceedsCa {
                lifetime: request.lifetime(),
                wanted: validity.not_after,
                latest: self.latest(),
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
        Some(self.latest())
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
