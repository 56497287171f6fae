//! Revoking what an embedded CA issued, and the lists that tell others of it (RFC 5280 section 5).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::OffsetDateTime;

use super::embedded::EmbeddedCa;
use super::inventory::{Contents, InventoryEntry, InventoryError, Record, Revocation};
use super::issuer::IssueError;
use super::pem;
use super::request::UnknownChoice;
use super::serial::Serial;
use super::times::show;

/// Why a certificate is revoked (RFC 5280 section 5.3.1). `removeFromCRL` is left out: it is for
/// lists that tell of differences only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason is told.
    #[default]
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// Somebody else may have the CA's key.
    CaCompromise,
    /// The subject's name or affiliation is another now.
    AffiliationChanged,
    /// Another certificate is in its place.
    Superseded,
    /// What it was for is no more.
    CessationOfOperation,
    /// It is on hold.
    CertificateHold,
    /// What it allowed is no longer allowed.
    PrivilegeWithdrawn,
    /// Somebody else may have the key of the attribute authority.
    AaCompromise,
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// Its name, as openssl writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "CACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "AACompromise",
        }
    }

    fn encoded(self) -> rcgen::RevocationReason {
        match self {
            Self::Unspecified => rcgen::RevocationReason::Unspecified,
            Self::KeyCompromise => rcgen::RevocationReason::KeyCompromise,
            Self::CaCompromise => rcgen::RevocationReason::CaCompromise,
            Self::AffiliationChanged => rcgen::RevocationReason::AffiliationChanged,
            Self::Superseded => rcgen::RevocationReason::Superseded,
            Self::CessationOfOperation => rcgen::RevocationReason::CessationOfOperation,
            Self::CertificateHold => rcgen::RevocationReason::CertificateHold,
            Self::PrivilegeWithdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
            Self::AaCompromise => rcgen::RevocationReason::AaCompromise,
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = UnknownChoice;

    /// In either case, as openssl reads it.
    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownChoice {
                kind: "revocation reason",
                text: text.to_owned(),
                choices: Self::ALL.map(Self::as_str).to_vec(),
            })
    }
}

impl serde::Serialize for RevocationReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// This CA has not issued it, or did so before it kept an inventory.
    #[error("this CA's inventory has no certificate with the serial number {serial}")]
    Unknown {
        /// The serial number.
        serial: Serial,
    },
    /// It has been revoked before.
    #[error("{serial} was revoked on {} already ({reason})", show(.at))]
    Already {
        /// The serial number.
        serial: Serial,
        /// When it was revoked.
        at: OffsetDateTime,
        /// Why.
        reason: RevocationReason,
    },
    /// The inventory cannot be read or written.
    #[error("it cannot be recorded")]
    Inventory(#[from] InventoryError),
}

/// Why there is no revocation list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// The list would be valid for no time at all.
    #[error("a revocation list must be valid for at least a second")]
    NoTime,
    /// The inventory cannot be read or written.
    #[error("what was revoked is not known")]
    Inventory(#[from] InventoryError),
    /// The key of an intermediate cannot be used.
    #[error("a revocation list could not be signed")]
    Key(#[source] IssueError),
    /// The library that encodes and signs lists refused.
    #[error("the revocation list of {issuer} could not be signed")]
    Sign {
        /// The certificate that was to sign it.
        issuer: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// What one intermediate has revoked, signed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crl {
    /// The subject of the intermediate, readable.
    pub issuer: String,
    /// The identifier of its key, in hexadecimal digits.
    pub issuer_key_id: String,
    /// Higher than that of every earlier list of this intermediate.
    pub number: u64,
    /// When it was signed.
    pub this_update: OffsetDateTime,
    /// When another one should have taken its place.
    pub next_update: OffsetDateTime,
    /// How many certificates it has.
    pub revoked: usize,
    /// Its DER.
    pub der: Vec<u8>,
}

impl Crl {
    /// As PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode_crl(&self.der)
    }
}

impl EmbeddedCa {
    /// Every certificate that was issued, in that order, with what became of it. Reads the whole
    /// inventory.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub fn inventory(&self) -> Result<Vec<InventoryEntry>, InventoryError> {
        self.records().entries()
    }

    /// Records that the certificate with `serial` is revoked from `at`, and returns what is known
    /// of it. Certificates that are stored are due for renewal once the CA is opened again;
    /// others learn of it from the next [`EmbeddedCa::crls`].
    ///
    /// # Errors
    /// [`RevokeError`]; nothing has changed then.
    pub fn revoke(
        &self,
        serial: &Serial,
        reason: RevocationReason,
        at: OffsetDateTime,
    ) -> Result<InventoryEntry, RevokeError> {
        let at = at.replace_nanosecond(0).unwrap_or(at);
        self.records().append_with(|contents| {
            let mut entry = contents
                .entries
                .into_iter()
                .rfind(|entry| entry.issued.serial == *serial)
                .ok_or_else(|| RevokeError::Unknown {
                    serial: serial.clone(),
                })?;
            if let Some(Revocation { reason, at }) = entry.revoked {
                return Err(RevokeError::Already {
                    serial: serial.clone(),
                    at,
                    reason,
                });
            }
            entry.revoked = Some(Revocation { reason, at });
            let record = Record::Revoked {
                serial: serial.clone(),
                reason,
                at,
            };
            Ok((vec![record], entry))
        })
    }

    /// The revocation lists at the time `now`, good for `valid_for` (whole seconds): one of each
    /// intermediate that has issued something and is still valid, in the order of the
    /// intermediates. Their numbers are recorded before they are returned, so that no two lists
    /// of an intermediate ever have the same.
    ///
    /// # Errors
    /// [`CrlError`].
    pub fn crls(&self, now: OffsetDateTime, valid_for: Duration) -> Result<Vec<Crl>, CrlError> {
        if valid_for.as_secs() == 0 {
            return Err(CrlError::NoTime);
        }
        let this_update = now.replace_nanosecond(0).unwrap_or(now);
        let next_update = this_update + Duration::from_secs(valid_for.as_secs());
        self.records().append_with(|contents| {
            let Contents {
                entries,
                crl_numbers,
            } = contents;
            let mut records = Vec::new();
            let mut crls = Vec::new();
            for intermediate in self.intermediates() {
                let certificate = intermediate.certificate();
                let Some(key_id) = &certificate.subject_key_id else {
                    continue;
                };
                let issuer_key_id = hex::encode(key_id);
                let mut issued = entries
                    .iter()
                    .filter(|entry| entry.issued.issuer_key_id == issuer_key_id)
                    .peekable();
                if issued.peek().is_none() || now > certificate.not_after {
                    continue;
                }
                let number = crl_numbers.get(&issuer_key_id).map_or(1, |last| last + 1);
                let revoked_certs: Vec<_> = issued.filter_map(revoked_certificate).collect();
                let revoked = revoked_certs.len();
                let signed = CertificateRevocationListParams {
                    this_update,
                    next_update,
                    crl_number: SerialNumber::from(number),
                    issuing_distribution_point: None,
                    revoked_certs,
                    key_identifier_method: KeyIdMethod::PreSpecified(key_id.clone()),
                }
                .signed_by(intermediate.signer().map_err(CrlError::Key)?)
                .map_err(|source| CrlError::Sign {
                    issuer: certificate.subject.clone(),
                    source,
                })?;
                records.push(Record::Crl {
                    issuer_key_id: issuer_key_id.clone(),
                    number,
                    at: this_update,
                });
                crls.push(Crl {
                    issuer: certificate.subject.clone(),
                    issuer_key_id,
                    number,
                    this_update,
                    next_update,
                    revoked,
                    der: signed.der().to_vec(),
                });
            }
            Ok((records, crls))
        })
    }
}

fn revoked_certificate(entry: &InventoryEntry) -> Option<RevokedCertParams> {
    entry
        .revoked
        .map(|Revocation { reason, at }| RevokedCertParams {
            serial_number: SerialNumber::from(entry.issued.serial.octets()),
            revocation_time: at,
            reason_code: Some(reason.encoded()),
            invalidity_date: None,
        })
}

#[cfg(test)]
#[path = "revocation_tests.rs"]
mod tests;
