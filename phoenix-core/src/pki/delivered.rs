//! How a delivered file differs from what it should hold, field by field.
//!
//! Both are PEM texts; what the wanted one holds (a leaf, a chain, a key, a root, or key and
//! chain together) decides what is compared. Texts that are equal byte by byte have no
//! difference, all others have at least one, and no key is ever shown.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::key::{KeyError, PrivateKey};
use super::observed::{CertificateError, ObservedCertificate};
use super::pem::{self, PemError};
use super::reason::RenewalReason;
use super::san::SanDifference;
use crate::ground::{SecretBytes, causes};

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
) -> Vec<RenewalReason> {
    if found == wanted {
        return Vec::new();
    }
    let want = match Held::read(wanted.expose()) {
        Ok(held) if held.key.is_some() || !held.certificates.is_empty() => held,
        _ => return vec![RenewalReason::Content],
    };
    let unreadable = |error: &dyn std::error::Error| {
        vec![RenewalReason::Unreadable {
            problem: causes(error),
        }]
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
        (Some(_), None) => differences.push(RenewalReason::KeyBeside),
        (Some(key), Some(wanted)) => {
            // Beside a certificate it is that one's key or nobody's.
            let right = match have.certificates.first() {
                Some(leaf) if !want.certificates.is_empty() => &leaf.public_key,
                _ => wanted.public_key(),
            };
            if key.public_key() != right {
                differences.push(RenewalReason::KeyMismatch);
                if let (have, Some(want)) = (key.key_type(), wanted.key_type())
                    && have != Some(want)
                {
                    differences.push(RenewalReason::KeyType { have, want });
                }
            }
        }
        (None, _) => {}
    }
    if differences.is_empty() {
        differences.push(RenewalReason::Content);
    }
    differences
}

/// How a certificate differs from the one that should be in its place.
fn fields(
    have: &ObservedCertificate,
    want: &ObservedCertificate,
    now: OffsetDateTime,
    differences: &mut Vec<RenewalReason>,
) {
    if have.fingerprint == want.fingerprint {
        return;
    }
    if now > have.not_after {
        differences.push(RenewalReason::Expired {
            at: have.not_after,
            ago: (now - have.not_after).unsigned_abs(),
        });
    } else if now < have.not_before {
        let from = have.not_before;
        differences.push(RenewalReason::NotYetValid { from });
    }
    if have.serial != want.serial {
        differences.push(RenewalReason::Serial {
            have: have.serial.clone(),
            want: want.serial.clone(),
        });
    }
    if have.not_after != want.not_after {
        differences.push(RenewalReason::NotAfter {
            have: have.not_after,
            want: want.not_after,
        });
    }
    if have.common_name != want.common_name {
        differences.push(RenewalReason::CommonName {
            have: have.common_name.clone().unwrap_or_default(),
            want: want.common_name.clone().unwrap_or_default(),
        });
    }
    let names = SanDifference::between(&have.sans, &want.sans);
    if !names.is_empty() {
        differences.push(RenewalReason::Names(names));
    }
    if let Some(wanted) = want.profile
        && have.profile != Some(wanted)
    {
        let (have, want) = (have.profile, wanted);
        differences.push(RenewalReason::Profile { have, want });
    }
    if let Some(wanted) = want.key_type
        && have.key_type != Some(wanted)
    {
        let (have, want) = (have.key_type, wanted);
        differences.push(RenewalReason::KeyType { have, want });
    }
    if (&have.issuer, &have.authority_key_id) != (&want.issuer, &want.authority_key_id) {
        let by = |certificate: &ObservedCertificate| match &certificate.authority_key_id {
            Some(id) => format!("{} (key {})", certificate.issuer, hex::encode(id)),
            None => certificate.issuer.clone(),
        };
        let (have, want) = (by(have), by(want));
        differences.push(RenewalReason::IssuerChanged { have, want });
    }
}

/// How the certificates after the first one differ.
fn above(
    have: &[ObservedCertificate],
    want: &[ObservedCertificate],
    differences: &mut Vec<RenewalReason>,
) {
    if have.len() != want.len() {
        differences.push(RenewalReason::Length {
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
            differences.push(RenewalReason::Above {
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
