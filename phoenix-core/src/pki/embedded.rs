//! The embedded CA: a root and an intermediate that Phoenix makes once and keeps in a directory.
//!
//! The directory (mode 0700) holds `root.pem`, `root-key.pem`, `intermediate.pem` and
//! `intermediate-key.pem` (keys PKCS#8, mode 0600), and is there whole or not at all: it is
//! filled under a temporary name beside its place and then renamed, so that a run that is killed
//! leaves nothing that looks like a CA, and the next one starts afresh. A directory in which
//! something is missing has been damaged by somebody, and is refused rather than mended: a new
//! root would silently break everything that trusts the old one.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use rcgen::BasicConstraints;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::bundle::Bundle;
use super::issuer::{IssueError, Issuer, IssuerIdentity};
use super::key::{KeyError, PrivateKey};
use super::observed::{CertificateError, ObservedCertificate, is_signed_by};
use super::pem;
use super::request::{
    CertificateRequest, KeyType, LONGEST_COMMON_NAME, RequestError, check_common_name,
    check_lifetime,
};
use super::template::{Validity, ca_params, leaf_params};
use super::times::{exactly, show};
use crate::ground::{Deadline, SecretBytes, read_optional, write_atomic};

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root-key.pem";
const INTERMEDIATE: &str = "intermediate.pem";
const INTERMEDIATE_KEY: &str = "intermediate-key.pem";
const FILES: [&str; 4] = [ROOT, ROOT_KEY, INTERMEDIATE, INTERMEDIATE_KEY];

/// Added to the root's common name for the intermediate's.
const INTERMEDIATE_SUFFIX: &str = " Intermediate";

/// Ends the name of a directory that is being filled.
const UNFINISHED: &str = ".creating";

/// How the CA is made on first use. Later only [`EmbeddedCa::departures`] looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaParameters {
    /// Common name of the root; the intermediate's is this with ` Intermediate` appended.
    pub common_name: String,
    /// How long the root is valid, in whole seconds.
    pub root_lifetime: Duration,
    /// How long the intermediate is valid, in whole seconds; never longer than the root.
    pub intermediate_lifetime: Duration,
    /// Of both keys.
    pub key_type: KeyType,
}

impl CaParameters {
    /// Validated parameters.
    ///
    /// # Errors
    /// [`CaError::Parameters`] when the name is empty or over 51 characters, or a lifetime out of
    /// bounds; [`CaError::IntermediateOutlivesRoot`].
    pub fn new(
        common_name: impl Into<String>,
        root_lifetime: Duration,
        intermediate_lifetime: Duration,
        key_type: KeyType,
    ) -> Result<Self, CaError> {
        let common_name = common_name.into();
        if common_name.is_empty() {
            return Err(CaError::Parameters(RequestError::Nameless));
        }
        check_common_name(
            &common_name,
            LONGEST_COMMON_NAME - INTERMEDIATE_SUFFIX.len(),
        )
        .map_err(CaError::Parameters)?;
        let root_lifetime = check_lifetime(root_lifetime).map_err(CaError::Parameters)?;
        let intermediate_lifetime =
            check_lifetime(intermediate_lifetime).map_err(CaError::Parameters)?;
        if intermediate_lifetime > root_lifetime {
            return Err(CaError::IntermediateOutlivesRoot {
                intermediate: intermediate_lifetime,
                root: root_lifetime,
            });
        }
        Ok(Self {
            common_name,
            root_lifetime,
            intermediate_lifetime,
            key_type,
        })
    }
}

/// Why there is no usable CA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A CA cannot be made like this.
    #[error("the CA cannot be made like this")]
    Parameters(#[source] RequestError),
    /// The intermediate would be valid longer than the root.
    #[error(
        "the intermediate's lifetime ({}) is longer than the root's ({})",
        exactly(*.intermediate), exactly(*.root)
    )]
    IntermediateOutlivesRoot {
        /// The intermediate's lifetime.
        intermediate: Duration,
        /// The root's lifetime.
        root: Duration,
    },
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Something is in the CA's place that is no directory.
    #[error("{} is in the place of the CA's directory", .path.display())]
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
    /// Others than the owner can read a key, or enter the directory.
    #[error(
        "{} has mode {:04o} and others may have read the CA's keys: if nobody did, run chmod go= \
         on it",
        .path.display(), .mode
    )]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some of the CA's files are missing.
    #[error(
        "the CA in {} lacks {}: restore the directory from a backup, or move it away to start a \
         new CA that nothing trusts yet",
        .directory.display(), .missing.join(", ")
    )]
    Incomplete {
        /// The CA's directory.
        directory: PathBuf,
        /// The names of the missing files.
        missing: Vec<&'static str>,
    },
    /// The CA's directory holds something else and no CA.
    #[error("{} holds {found} but no CA: the CA needs a directory of its own", .directory.display())]
    Foreign {
        /// The CA's directory.
        directory: PathBuf,
        /// One of the things it holds.
        found: String,
    },
    /// A certificate of the CA cannot be read.
    #[error("{} is not usable", .path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// A key of the CA cannot be read.
    #[error("{} is not usable", .path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A certificate of the CA is not what it must be.
    #[error("{} {problem}", .path.display())]
    Unfit {
        /// Its file.
        path: PathBuf,
        /// What it is or is not.
        problem: &'static str,
    },
    /// A key does not belong to its certificate.
    #[error("{} is not the key of {certificate}", .key.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The name of the certificate's file.
        certificate: &'static str,
    },
    /// A certificate of the CA has expired.
    #[error("{} expired on {}", .path.display(), show(.at))]
    Expired {
        /// Its file.
        path: PathBuf,
        /// The last second of its validity.
        at: OffsetDateTime,
    },
    /// A certificate of the CA is not valid yet: most likely the clock is wrong.
    #[error(
        "{} is valid from {} only, and it is {} here: is the clock right?",
        .path.display(), show(.from), show(.now)
    )]
    NotYetValid {
        /// Its file.
        path: PathBuf,
        /// The first second of its validity.
        from: OffsetDateTime,
        /// What the clock says.
        now: OffsetDateTime,
    },
    /// No key or certificate could be made for a new CA.
    #[error("the CA could not be made")]
    Create(#[source] IssueError),
}

/// A root and an intermediate CA in a directory. Cheap to clone. Only the intermediate's key is
/// kept in memory.
#[derive(Clone)]
pub struct EmbeddedCa {
    inner: Arc<Inner>,
}

struct Inner {
    root: ObservedCertificate,
    root_der: CertificateDer<'static>,
    root_pem: String,
    intermediate: ObservedCertificate,
    intermediate_der: CertificateDer<'static>,
    /// The intermediate's name and key, parsed once: issuing must not pay for it again.
    issuer: rcgen::Issuer<'static, PrivateKey>,
    identity: IssuerIdentity,
}

impl fmt::Debug for EmbeddedCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedCa")
            .field("root", &self.inner.root.subject)
            .field("intermediate", &self.inner.intermediate.subject)
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
        let metadata = match fs::metadata(directory) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("look at", directory)(error)),
        };
        if !metadata.is_dir() {
            return Err(CaError::NotADirectory {
                path: directory.to_owned(),
            });
        }
        let present = |name: &&str| directory.join(name).symlink_metadata().is_ok();
        let missing: Vec<_> = FILES.into_iter().filter(|name| !present(name)).collect();
        if missing.len() == FILES.len() {
            return match first_entry(directory)? {
                None => Ok(None),
                Some(found) => Err(CaError::Foreign {
                    directory: directory.to_owned(),
                    found,
                }),
            };
        }
        refuse_exposed(directory)?;
        if !missing.is_empty() {
            return Err(CaError::Incomplete {
                directory: directory.to_owned(),
                missing,
            });
        }
        Self::read(directory, now).map(Some)
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

    fn read(directory: &Path, now: OffsetDateTime) -> Result<Self, CaError> {
        let root_key = read_key(&directory.join(ROOT_KEY))?;
        let key = read_key(&directory.join(INTERMEDIATE_KEY))?;
        let (root_der, root) = read_certificate(&directory.join(ROOT))?;
        let (intermediate_der, intermediate) = read_certificate(&directory.join(INTERMEDIATE))?;

        let unfit = |name: &str, problem| CaError::Unfit {
            path: directory.join(name),
            problem,
        };
        for (name, certificate) in [(ROOT, &root), (INTERMEDIATE, &intermediate)] {
            if !certificate.is_ca {
                return Err(unfit(name, "is no CA's certificate"));
            }
            if certificate.subject_key_id.is_none() {
                return Err(unfit(name, "has no subject key identifier"));
            }
        }
        let signed = |name: &str, der: &[u8]| {
            is_signed_by(der, &root_der).map_err(|source| CaError::Certificate {
                path: directory.join(name),
                source,
            })
        };
        if !root.is_self_issued() || !signed(ROOT, &root_der)? {
            return Err(unfit(ROOT, "is not signed with its own key"));
        }
        if !intermediate.names_issuer(&root) || !signed(INTERMEDIATE, &intermediate_der)? {
            return Err(unfit(INTERMEDIATE, "is not signed by root.pem"));
        }
        for (certificate, observed, key_name, key) in [
            (ROOT, &root, ROOT_KEY, &root_key),
            (INTERMEDIATE, &intermediate, INTERMEDIATE_KEY, &key),
        ] {
            if observed.public_key != key.public_key() {
                return Err(CaError::KeyMismatch {
                    key: directory.join(key_name),
                    certificate,
                });
            }
        }
        for (name, certificate) in [(ROOT, &root), (INTERMEDIATE, &intermediate)] {
            if now > certificate.not_after {
                return Err(CaError::Expired {
                    path: directory.join(name),
                    at: certificate.not_after,
                });
            }
            if now < certificate.not_before {
                return Err(CaError::NotYetValid {
                    path: directory.join(name),
                    from: certificate.not_before,
                    now,
                });
            }
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(&intermediate_der, key).map_err(|_| {
            unfit(
                INTERMEDIATE,
                "has contents that this program cannot sign under",
            )
        })?;
        let identity = IssuerIdentity {
            key_ids: intermediate.subject_key_id.iter().cloned().collect(),
            ..IssuerIdentity::new(&intermediate.subject, vec![root.fingerprint])
        };
        Ok(Self {
            inner: Arc::new(Inner {
                root_pem: pem::encode_certificate(&root_der),
                root,
                root_der,
                intermediate,
                intermediate_der,
                issuer,
                identity,
            }),
        })
    }

    /// What the root's certificate says.
    #[must_use]
    pub fn root(&self) -> &ObservedCertificate {
        &self.inner.root
    }

    /// What the intermediate's certificate says.
    #[must_use]
    pub fn intermediate(&self) -> &ObservedCertificate {
        &self.inner.intermediate
    }

    /// The root's certificate as PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.inner.root_pem
    }

    /// The intermediate's certificate as PEM.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        pem::encode_certificate(&self.inner.intermediate_der)
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
            ("intermediate", &self.inner.intermediate),
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

    /// Issues a certificate with a fresh key at the time `now`, valid from five minutes earlier
    /// to `now` plus the lifetime, and checks it.
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
        let Inner {
            intermediate,
            intermediate_der,
            root_der,
            issuer,
            ..
        } = &*self.inner;
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
        let key = PrivateKey::generate(request.key_type()).map_err(IssueError::Key)?;
        let params = leaf_params(request, &validity, intermediate.not_before)?;
        let leaf = params
            .signed_by(key.pair(), issuer)
            .map_err(IssueError::Sign)?;
        let bundle = Bundle::new(
            &key,
            leaf.into(),
            vec![intermediate_der.clone()],
            root_der.clone(),
        )
        .map_err(IssueError::Unreadable)?;
        bundle
            .check(request.profile(), request.sans(), now)
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
        Some(self.inner.intermediate.not_after)
    }
}

/// The content of a new CA's files.
fn generate(
    parameters: &CaParameters,
    now: OffsetDateTime,
) -> Result<[(&'static str, SecretBytes, u32); 4], IssueError> {
    let root_key = PrivateKey::generate(parameters.key_type).map_err(IssueError::Key)?;
    let mut root_params = ca_params(
        &parameters.common_name,
        BasicConstraints::Unconstrained,
        now,
        parameters.root_lifetime,
    )?;
    // A self-signed certificate needs none (RFC 5280 section 4.2.1.1).
    root_params.use_authority_key_identifier_extension = false;
    let root = root_params
        .self_signed(root_key.pair())
        .map_err(IssueError::Sign)?;

    let key = PrivateKey::generate(parameters.key_type).map_err(IssueError::Key)?;
    let intermediate = ca_params(
        &format!("{}{INTERMEDIATE_SUFFIX}", parameters.common_name),
        BasicConstraints::Constrained(0),
        now,
        parameters.intermediate_lifetime,
    )?
    .signed_by(
        key.pair(),
        &rcgen::Issuer::from_params(&root_params, root_key.pair()),
    )
    .map_err(IssueError::Sign)?;
    Ok([
        (ROOT_KEY, root_key.to_pem(), 0o600),
        (ROOT, root.pem().into(), 0o644),
        (INTERMEDIATE_KEY, key.to_pem(), 0o600),
        (INTERMEDIATE, intermediate.pem().into(), 0o644),
    ])
}

/// Makes a CA in `directory`, which does not exist or is empty. `false` when another process was
/// faster.
fn create(
    directory: &Path,
    parameters: &CaParameters,
    now: OffsetDateTime,
) -> Result<bool, CaError> {
    let name = directory
        .file_name()
        .ok_or_else(|| CaError::NotADirectory {
            path: directory.to_owned(),
        })?;
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(io_error("make", parent))?;
    let prefix = format!(".{}.", name.to_string_lossy());
    remove_unfinished(parent, &prefix)?;

    let files = generate(parameters, now).map_err(CaError::Create)?;
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| CaError::Create(IssueError::Randomness))?;
    let unfinished = parent.join(format!("{prefix}{}{UNFINISHED}", hex::encode(random)));
    let result = fill_and_rename(&unfinished, directory, &files).and_then(|()| {
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(io_error("write", parent))
    });
    match result {
        Ok(()) => Ok(true),
        Err(error) => {
            // It may be gone or renamed; what stays behind is removed by the next attempt.
            let _ = fs::remove_dir_all(&unfinished);
            let lost_the_race = matches!(
                &error,
                CaError::Io { source, .. }
                    if source.kind() == io::ErrorKind::DirectoryNotEmpty
            );
            if lost_the_race { Ok(false) } else { Err(error) }
        }
    }
}

fn fill_and_rename(
    unfinished: &Path,
    directory: &Path,
    files: &[(&'static str, SecretBytes, u32)],
) -> Result<(), CaError> {
    DirBuilder::new()
        .mode(0o700)
        .create(unfinished)
        .map_err(io_error("make", unfinished))?;
    for (name, content, mode) in files {
        let path = unfinished.join(name);
        write_atomic(&path, content.expose(), *mode).map_err(io_error("write", &path))?;
    }
    fs::rename(unfinished, directory).map_err(io_error("put a CA into", directory))
}

/// Removes what earlier attempts left when they were killed: keys that nothing was signed with.
fn remove_unfinished(parent: &Path, prefix: &str) -> Result<(), CaError> {
    for entry in fs::read_dir(parent).map_err(io_error("list", parent))? {
        let path = entry.map_err(io_error("list", parent))?.path();
        let unfinished = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(UNFINISHED));
        if unfinished {
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    move |source| CaError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn first_entry(directory: &Path) -> Result<Option<String>, CaError> {
    let mut names = fs::read_dir(directory)
        .map_err(io_error("list", directory))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io_error("list", directory))?;
    names.sort();
    Ok(names.into_iter().next())
}

fn refuse_exposed(path: &Path) -> Result<(), CaError> {
    let mode = fs::metadata(path)
        .map_err(io_error("look at", path))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CaError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<SecretBytes, CaError> {
    read_optional(path)
        .and_then(|content| content.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map(SecretBytes::new)
        .map_err(io_error("read", path))
}

fn read_key(path: &Path) -> Result<PrivateKey, CaError> {
    refuse_exposed(path)?;
    PrivateKey::from_pem(read_file(path)?.expose()).map_err(|source| CaError::Key {
        path: path.to_owned(),
        source,
    })
}

fn read_certificate(
    path: &Path,
) -> Result<(CertificateDer<'static>, ObservedCertificate), CaError> {
    let unusable = |source| CaError::Certificate {
        path: path.to_owned(),
        source,
    };
    let mut certificates = pem::certificates(read_file(path)?.expose())
        .map_err(|source| unusable(CertificateError::Pem(source)))?;
    if certificates.len() > 1 {
        return Err(CaError::Unfit {
            path: path.to_owned(),
            problem: "holds more than one certificate",
        });
    }
    let der = certificates.remove(0);
    let observed = ObservedCertificate::from_der(&der).map_err(unusable)?;
    Ok((der, observed))
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
