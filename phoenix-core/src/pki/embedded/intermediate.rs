//! An intermediate of a CA, and its key as soon as it is needed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustls_pki_types::CertificateDer;

use super::error::CaError;
use super::files::{Place, parse_key, read_certificate, read_key};
use crate::ground::SecretBytes;
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::observed::ObservedCertificate;
use crate::pki::pem;
use crate::pki::stored_key;

/// What signs with an intermediate's key.
pub(in crate::pki) type Signer = rcgen::Issuer<'static, PrivateKey>;

/// An intermediate of an [`EmbeddedCa`](super::EmbeddedCa), the current one or one before it.
pub struct Intermediate {
    pub(super) number: u32,
    pub(super) certificate: ObservedCertificate,
    pub(super) der: CertificateDer<'static>,
    /// The file of its certificate.
    pub(super) path: PathBuf,
    key_path: PathBuf,
    place: Place,
    passphrase: Option<SecretBytes>,
    /// Its name and key, parsed once: issuing must not pay for it again.
    signer: OnceLock<Signer>,
    opening: Mutex<()>,
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediate")
            .field("number", &self.number)
            .field("subject", &self.certificate.subject)
            .finish_non_exhaustive()
    }
}

impl Intermediate {
    /// Reads the certificate.
    pub(super) fn read(
        directory: &Path,
        place: Place,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, CaError> {
        let path = directory.join(&place.certificate);
        let (der, certificate) = read_certificate(&path)?;
        Ok(Self {
            number: place.number,
            certificate,
            der,
            path,
            key_path: directory.join(&place.key),
            place,
            passphrase: passphrase.cloned(),
            signer: OnceLock::new(),
            opening: Mutex::default(),
        })
    }

    /// Its number: a higher one was made later.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its certificate says.
    #[must_use]
    pub fn certificate(&self) -> &ObservedCertificate {
        &self.certificate
    }

    /// Its certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode_certificate(&self.der)
    }

    /// What signs with its key, which is read when it is first needed.
    pub(in crate::pki) fn signer(&self) -> Result<&Signer, IssueError> {
        self.open()
            .map_err(|error| IssueError::CaKey(Box::new(error)))
    }

    /// Reads the key now when it is in the clear, so that a broken one is found early; whether
    /// it is. One that is encrypted costs too much for a mere look.
    pub(super) fn open_if_clear(&self) -> Result<bool, CaError> {
        if stored_key::is_encrypted(&read_key(&self.key_path)?) {
            return Ok(false);
        }
        self.open().map(|_| true)
    }

    /// The name of its key's file in the CA's directory.
    pub(super) fn key_name(&self) -> &str {
        &self.place.key
    }

    /// The name of its certificate's file in the CA's directory.
    pub(super) fn certificate_name(&self) -> &str {
        &self.place.certificate
    }

    /// Reads the key unless that has been done.
    pub(super) fn open(&self) -> Result<&Signer, CaError> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = self.signer.get() {
            return Ok(signer);
        }
        let text = read_key(&self.key_path)?;
        let key = parse_key(&self.key_path, &text, self.passphrase.as_ref())?;
        if self.certificate.public_key != key.public_key() {
            return Err(CaError::KeyMismatch {
                key: self.key_path.clone(),
                certificate: self.place.certificate.clone(),
            });
        }
        let signer =
            rcgen::Issuer::from_ca_cert_der(&self.der, key).map_err(|_| CaError::Unfit {
                path: self.path.clone(),
                problem: "has contents that this program cannot sign under",
            })?;
        Ok(self.signer.get_or_init(|| signer))
    }
}
