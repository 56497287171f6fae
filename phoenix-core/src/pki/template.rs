//! What the certificates that the embedded CA signs say (RFC 5280).
//!
//! No default of rcgen reaches a certificate: serial numbers are random (its own repeat for the
//! same key), validity is bounded, and usages, key identifiers and basic constraints are set.

use std::time::Duration;

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::issuer::IssueError;
use super::key::PrivateKey;
use super::request::{CertificateRequest, KeyType, Profile};
use super::san::SubjectAltName;

/// How far before its issue a certificate's validity begins, for clocks that are slow.
pub(super) const BACKDATE: time::Duration = time::Duration::minutes(5);

/// From when until when, in whole seconds, since a certificate can say no less.
pub(super) struct Validity {
    /// The first second.
    pub(super) not_before: OffsetDateTime,
    /// The last second.
    pub(super) not_after: OffsetDateTime,
}

impl Validity {
    /// Of what is issued at `now` for `lifetime`.
    pub(super) fn new(now: OffsetDateTime, lifetime: Duration) -> Self {
        let now = now.replace_nanosecond(0).unwrap_or(now);
        Self {
            not_before: now - BACKDATE,
            // Lifetimes are bounded to a century, far from the end of time.
            not_after: now + lifetime,
        }
    }
}

/// Parameters in which nothing dangerous is left at rcgen's default.
fn params(common_name: &str, validity: &Validity) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
    }
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.serial_number = Some(serial_number()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A random positive number that is always encoded in 16 octets.
fn serial_number() -> Result<SerialNumber, IssueError> {
    let mut number = [0; 16];
    rand::fill(&mut number).map_err(|_| IssueError::Randomness)?;
    number[0] = number[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(number.to_vec()))
}

/// Of a CA's certificate.
pub(super) fn ca_params(
    common_name: &str,
    constraints: BasicConstraints,
    now: OffsetDateTime,
    lifetime: Duration,
) -> Result<CertificateParams, IssueError> {
    let mut params = params(common_name, &Validity::new(now, lifetime))?;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Of a leaf, whose validity begins no earlier than that of its issuer.
pub(super) fn leaf_params(
    request: &CertificateRequest,
    validity: &Validity,
    issuer_not_before: OffsetDateTime,
) -> Result<CertificateParams, IssueError> {
    let mut params = params(request.common_name(), validity)?;
    params.not_before = params.not_before.max(issuer_not_before);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if matches!(request.key_type(), KeyType::Rsa2048 | KeyType::Rsa4096) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = extended_key_usages(request.profile());
    params.subject_alt_names = request
        .sans()
        .iter()
        .map(general_name)
        .collect::<Result<_, _>>()
        .map_err(IssueError::Sign)?;
    Ok(params)
}

fn extended_key_usages(profile: Profile) -> Vec<ExtendedKeyUsagePurpose> {
    let mut usages = Vec::new();
    if profile.is_server() {
        usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if profile.is_client() {
        usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    usages
}

/// A request (DER) for exactly these names, signed with `key`. The common name is in it only when
/// it is one of them.
pub(super) fn signing_request(
    request: &CertificateRequest,
    key: &PrivateKey,
) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let common_name = request.common_name();
    if request
        .sans()
        .iter()
        .any(|name| matches!(name, SubjectAltName::Dns(name) if name == common_name))
    {
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
    }
    params.subject_alt_names = request
        .sans()
        .iter()
        .map(general_name)
        .collect::<Result<_, _>>()?;
    Ok(params.serialize_request(key.pair())?.der().to_vec())
}

fn general_name(name: &SubjectAltName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        SubjectAltName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        SubjectAltName::Ip(address) => SanType::IpAddress(*address),
        SubjectAltName::Email(address) => SanType::Rfc822Name(address.as_str().try_into()?),
        SubjectAltName::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
    })
}
