//! How a delivered file differs from what it should hold, field by field.
//!
//! Both are PEM texts; what the wanted one holds (a leaf, a chain, a key, a root, or key and
//! chain together) decides what is compared. Texts that are equal byte by byte have no
//! difference, all others have at least one, and no key is ever shown.

use std::fmt;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::key::{KeyError, PrivateKey};
use super::observed::{CertificateError, ObservedCertificate};
use super::pem::{self, PemError};
use super::renewal::{RenewalReason, chain_of_causes};
use super::san::SanDifference;
use super::times::show;
use crate::ground::SecretBytes;

/// A difference between a delivered file and what it should hold. `Display` is for the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveredDifference {
    /// One that is a reason to issue a certificate, too.
    Reason(RenewalReason),
    /// The serial number is another.
    Serial {
        /// What it is, in hexadecimal digits.
        have: String,
        /// What it should be.
        want: String,
    },
    /// Its validity ends at another time.
    NotAfter {
        /// When it ends.
        have: OffsetDateTime,
        /// When it should end.
        want: OffsetDateTime,
    },
    /// The number of certificates is another.
    Length {
        /// How many there are.
        have: usize,
        /// How many there should be.
        want: usize,
    },
    /// A certificate after the first one is another.
    Above {
        /// Its place, from 2.
        place: usize,
        /// What is there.
        have: String,
        /// What should be.
        want: String,
    },
    /// There is a private key, and none should be.
    KeyBeside,
    /// Certificates and key are the wanted ones and written otherwise, or the file should hold
    /// neither.
    Content,
}

impl fmt::Display for DeliveredDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => reason.fmt(f),
            Self::Serial { have, want } => write!(f, "serial is {have}, not {want}"),
            Self::NotAfter { have, want } => {
                write!(f, "valid until {}, not {}", show(have), show(want))
            }
            Self::Length { have, want } => {
                let plural = if *have == 1 { "" } else { "s" };
                write!(f, "has {have} certificate{plural}, not {want}")
            }
            Self::Above { place, have, want } => {
                write!(f, "certificate {place} is {have}, not {want}")
            }
            Self::KeyBeside => f.write_str("has a private key, which does not belong there"),
            Self::Content => f.write_str("its content differs"),
        }
    }
}

impl From<RenewalReason> for DeliveredDifference {
    fn from(reason: RenewalReason) -> Self {
        Self::Reason(reason)
    }
}

/// What a PEM text holds.
struct Held {
    certificates: Vec<ObservedCertificate>,
    key: Option<PrivateKey>,
}

/// Why a text cannot be compared.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Held {
    fn read(text: &[u8]) -> Result<Self, Unreadable> {
        let certificates = match pem::certificates(text) {
            Err(PemError::NoCertificate) => Vec::new(),
            found => found?,
        };
        let key = match pem::key(text) {
            Err(PemError::NoKey) => None,
            found => Some(PrivateKey::from_der(found?.expose())?),
        };
        Ok(Self {
            certificates: certificates
                .iter()
                .map(|der: &CertificateDer<'_>| ObservedCertificate::from_der(der))
                .collect::<Result<_, _>>()?,
            key,
        })
    }
}

/// How the delivered text `found` differs from `wanted`, always in the same order: the times of
/// its first certificate, the certificate's fields, those above it, and the key.
#[must_use]
pub fn delivered_differences(
    found: &SecretBytes,
    wanted: &SecretBytes,
    now: OffsetDateTime,
) -> Vec<DeliveredDifference> {
    if found == wanted {
        return Vec::new();
    }
    let want = match Held::read(wanted.expose()) {
        Ok(held) if held.key.is_some() || !held.certificates.is_empty() => held,
        _ => return vec![DeliveredDifference::Content],
    };
    let unreadable = |error: &dyn std::error::Error| {
        vec![DeliveredDifference::from(RenewalReason::Unreadable {
            problem: chain_of_causes(error),
        })]
    };
    let have = match Held::read(found.expose()) {
        Ok(held) => held,
        Err(error) => return unreadable(&error),
    };
    if have.certificates.is_empty() && !want.certificates.is_empty() {
        return unreadable(&PemError::NoCertificate);
    }
    if have.key.is_none() && want.key.is_some() {
        return unreadable(&PemError::NoKey);
    }
    let mut differences = Vec::new();
    if let (Some(have), Some(want)) = (have.certificates.first(), want.certificates.first()) {
        fields(have, want, now, &mut differences);
    }
    above(&have.certificates, &want.certificates, &mut differences);
    match (&have.key, &want.key) {
        (Some(_), None) => differences.push(DeliveredDifference::KeyBeside),
        (Some(key), Some(wanted)) => {
            // Beside a certificate it is that one's key or nobody's.
            let right = match have.certificates.first() {
                Some(leaf) if !want.certificates.is_empty() => &leaf.public_key,
                _ => wanted.public_key(),
            };
            if key.public_key() != right {
                differences.push(RenewalReason::KeyMismatch.into());
                if let (have, Some(want)) = (key.key_type(), wanted.key_type())
                    && have != Some(want)
                {
                    differences.push(RenewalReason::KeyType { have, want }.into());
                }
            }
        }
        (None, _) => {}
    }
    if differences.is_empty() {
        differences.push(DeliveredDifference::Content);
    }
    differences
}

/// How a certificate differs from the one that should be in its place.
fn fields(
    have: &ObservedCertificate,
    want: &ObservedCertificate,
    now: OffsetDateTime,
    differences: &mut Vec<DeliveredDifference>,
) {
    if have.fingerprint == want.fingerprint {
        return;
    }
    if now > have.not_after {
        differences.push(
            RenewalReason::Expired {
                at: have.not_after,
                ago: (now - have.not_after).unsigned_abs(),
            }
            .into(),
        );
    } else if now < have.not_before {
        let from = have.not_before;
        differences.push(RenewalReason::NotYetValid { from }.into());
    }
    if have.serial != want.serial {
        differences.push(DeliveredDifference::Serial {
            have: have.serial.clone(),
            want: want.serial.clone(),
        });
    }
    if have.not_after != want.not_after {
        differences.push(DeliveredDifference::NotAfter {
            have: have.not_after,
            want: want.not_after,
        });
    }
    if have.common_name != want.common_name {
        differences.push(
            RenewalReason::CommonName {
                have: have.common_name.clone().unwrap_or_default(),
                want: want.common_name.clone().unwrap_or_default(),
            }
            .into(),
        );
    }
    let names = SanDifference::between(&have.sans, &want.sans);
    if !names.is_empty() {
        differences.push(RenewalReason::Names(names).into());
    }
    if let Some(wanted) = want.profile
        && have.profile != Some(wanted)
    {
        let (have, want) = (have.profile, wanted);
        differences.push(RenewalReason::Profile { have, want }.into());
    }
    if let Some(wanted) = want.key_type
        && have.key_type != Some(wanted)
    {
        let (have, want) = (have.key_type, wanted);
        differences.push(RenewalReason::KeyType { have, want }.into());
    }
    if (&have.issuer, &have.authority_key_id) != (&want.issuer, &want.authority_key_id) {
        let by = |certificate: &ObservedCertificate| match &certificate.authority_key_id {
            Some(id) => format!("{} (key {})", certificate.issuer, hex::encode(id)),
            None => certificate.issuer.clone(),
        };
        let (have, want) = (by(have), by(want));
        differences.push(RenewalReason::IssuerChanged { have, want }.into());
    }
}

/// How the certificates after the first one differ.
fn above(
    have: &[ObservedCertificate],
    want: &[ObservedCertificate],
    differences: &mut Vec<DeliveredDifference>,
) {
    if have.len() != want.len() {
        differences.push(DeliveredDifference::Length {
            have: have.len(),
            want: want.len(),
        });
        return;
    }
    let named = |certificate: &ObservedCertificate| {
        format!("{} (serial {})", certificate.subject, certificate.serial)
    };
    for (index, (have, want)) in have.iter().zip(want).enumerate().skip(1) {
        if have.fingerprint != want.fingerprint {
            differences.push(DeliveredDifference::Above {
                place: index + 1,
                have: named(have),
                want: named(want),
            });
        }
    }
}

#[cfg(test)]
#[path = "delivered_tests.rs"]
mod tests;
