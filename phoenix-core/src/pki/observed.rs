//! What a certificate says, read back from its bytes.
//!
//! Reading is tolerant where issuing is strict: a foreign certificate may have names that a
//! [`SubjectAltName`] would not be parsed from, and is still to be compared and shown.

use std::net::IpAddr;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::pem::{self, PemError};
use super::request::{KeyType, Profile};
use super::san::SubjectAltName;

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is no PEM certificate.
    #[error("the certificate cannot be read")]
    Pem(#[source] PemError),
    /// It is no X.509 certificate, or has extensions that cannot be.
    #[error("the certificate is malformed: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedCertificate {
    /// The subject's first common name.
    pub common_name: Option<String>,
    /// The subject, readable.
    pub subject: String,
    /// The issuer, readable.
    pub issuer: String,
    /// The names of a kind that [`SubjectAltName`] knows, in their order, DNS names lower-case.
    pub sans: Vec<SubjectAltName>,
    /// The number of names of other kinds (directory names, registered ids…).
    pub other_names: usize,
    /// What it may be used for; `None` when it does not say serverAuth or clientAuth.
    pub profile: Option<Profile>,
    /// The kind of its key, when [`KeyType`] knows it.
    pub key_type: Option<KeyType>,
    /// The serial number in lower-case hexadecimal digits, as it is encoded.
    pub serial: String,
    /// The first second of its validity.
    pub not_before: OffsetDateTime,
    /// The last second of its validity.
    pub not_after: OffsetDateTime,
    /// The identifier of its key.
    pub subject_key_id: Option<Vec<u8>>,
    /// The identifier of the key that signed it.
    pub authority_key_id: Option<Vec<u8>>,
    /// The SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// Whether it may sign certificates: a CA by its basic constraints, and by its key usage
    /// where it has one.
    pub is_ca: bool,
    /// How many intermediates may be between it and a leaf, when it is a CA's and says so.
    pub(super) path_length: Option<u32>,
    /// The content of its public key's bit string.
    pub(super) public_key: Vec<u8>,
    /// The subject's DER.
    pub(super) subject_der: Vec<u8>,
    /// The issuer's DER.
    pub(super) issuer_der: Vec<u8>,
}

impl ObservedCertificate {
    /// Reads a certificate from its DER.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let (sans, other_names) = names(&certificate)?;
        let (subject_key_id, authority_key_id) = key_ids(&certificate);
        let subject_public_key = certificate.public_key();
        Ok(Self {
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            subject: shown(certificate.subject()),
            issuer: shown(certificate.issuer()),
            sans,
            other_names,
            profile: profile(&certificate)?,
            key_type: key_type(subject_public_key),
            serial: hex::encode(certificate.raw_serial()),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            subject_key_id,
            authority_key_id,
            fingerprint: fingerprint(der),
            is_ca: is_ca(&certificate)?,
            path_length: certificate
                .basic_constraints()
                .map_err(|_| malformed("its basic constraints"))?
                .and_then(|constraints| constraints.value.path_len_constraint),
            public_key: subject_public_key.subject_public_key.data.to_vec(),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let certificates = pem::certificates(pem).map_err(CertificateError::Pem)?;
        let first: &CertificateDer<'_> = certificates
            .first()
            .ok_or(CertificateError::Pem(PemError::NoCertificate))?;
        Self::from_der(first)
    }

    /// The SHA-256 of its DER in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint_hex(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// Whether `issuer` claims to have signed it: name and key identifiers match. Says nothing
    /// about the signature.
    #[must_use]
    pub fn names_issuer(&self, issuer: &Self) -> bool {
        self.issuer_der == issuer.subject_der
            && self.authority_key_id.is_some()
            && self.authority_key_id == issuer.subject_key_id
    }

    /// Whether subject and issuer are the same.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }
}

/// The SHA-256 of `der`.
pub(super) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    fingerprint
}

/// Whether the key of `issuer` signed `certificate`, both DER.
pub(super) fn is_signed_by(certificate: &[u8], issuer: &[u8]) -> Result<bool, CertificateError> {
    let issuer = parse(issuer)?;
    Ok(parse(certificate)?
        .verify_signature(Some(issuer.public_key()))
        .is_ok())
}

fn malformed(problem: impl ToString) -> CertificateError {
    CertificateError::Malformed {
        problem: problem.to_string(),
    }
}

/// The one certificate in `der`.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(malformed("bytes after its end"));
    }
    Ok(certificate)
}

/// A name, readable. One that is nothing but a common name, as nearly all are, needs no look into
/// a register of attributes.
fn shown(name: &X509Name<'_>) -> String {
    let mut attributes = name.iter_attributes();
    let only = attributes.next().filter(|_| attributes.next().is_none());
    only.filter(|attribute| *attribute.attr_type() == oid_registry::OID_X509_COMMON_NAME)
        .and_then(|attribute| attribute.as_str().ok())
        .map_or_else(|| name.to_string(), |name| format!("CN={name}"))
}

fn names(
    certificate: &X509Certificate<'_>,
) -> Result<(Vec<SubjectAltName>, usize), CertificateError> {
    let mut sans = Vec::new();
    let mut others = 0;
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| malformed("its subject alternative names"))?;
    for name in extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => {
                sans.push(SubjectAltName::Dns(name.to_ascii_lowercase()));
            }
            GeneralName::RFC822Name(name) => sans.push(SubjectAltName::Email((*name).to_owned())),
            GeneralName::URI(uri) => sans.push(SubjectAltName::Uri((*uri).to_owned())),
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(address) => sans.push(SubjectAltName::Ip(address)),
                None => others += 1,
            },
            _ => others += 1,
        }
    }
    Ok((sans, others))
}

/// An IP address as a certificate encodes it.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

fn profile(certificate: &X509Certificate<'_>) -> Result<Option<Profile>, CertificateError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| malformed("its extended key usage"))?;
    Ok(usage.and_then(
        |usage| match (usage.value.server_auth, usage.value.client_auth) {
            (true, true) => Some(Profile::Peer),
            (true, false) => Some(Profile::Server),
            (false, true) => Some(Profile::Client),
            (false, false) => None,
        },
    ))
}

fn is_ca(certificate: &X509Certificate<'_>) -> Result<bool, CertificateError> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| malformed("its basic constraints"))?;
    let usage = certificate
        .key_usage()
        .map_err(|_| malformed("its key usage"))?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca)
        && usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

fn key_type(key: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    if key.algorithm.algorithm == oid_registry::OID_SIG_ED25519 {
        return Some(KeyType::Ed25519);
    }
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) => match rsa.key_size() {
            2048 => Some(KeyType::Rsa2048),
            4096 => Some(KeyType::Rsa4096),
            _ => None,
        },
        PublicKey::EC(_) => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            if curve == oid_registry::OID_EC_P256 {
                Some(KeyType::EcdsaP256)
            } else if curve == oid_registry::OID_NIST_EC_P384 {
                Some(KeyType::EcdsaP384)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// The identifiers of the certificate's own key and of the one that signed it.
fn key_ids(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut subject = None;
    let mut authority = None;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for der in [&b""[..], b"certificate", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(matches!(
                ObservedCertificate::from_der(der),
                Err(CertificateError::Malformed { .. })
            ));
        }
        assert_eq!(
            ObservedCertificate::from_pem(b"nothing"),
            Err(CertificateError::Pem(PemError::NoCertificate))
        );
    }

    #[test]
    fn a_foreign_certificate_is_read_though_its_names_would_not_be_issued() {
        let mut params = rcgen::CertificateParams::default();
        let dns = |name: &str| rcgen::SanType::DnsName(name.try_into().expect("IA5"));
        params.subject_alt_names = vec![
            dns("My_Host"),
            rcgen::SanType::OtherName((vec![1, 2, 3], "x".into())),
            rcgen::SanType::URI("urn:x".try_into().expect("IA5")),
        ];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("signed");
        let observed = ObservedCertificate::from_der(certificate.der()).expect("read");
        assert_eq!(
            observed.sans,
            [
                SubjectAltName::Dns("my_host".into()),
                SubjectAltName::Uri("urn:x".into())
            ]
        );
        assert_eq!(observed.other_names, 1);
        assert_eq!(observed.profile, None);
        assert!(!observed.is_ca);
        assert!(observed.is_self_issued());
        let whole = parse(certificate.der()).expect("read");
        assert_eq!(observed.subject, whole.subject().to_string());
        let longer = [certificate.der().as_ref(), b"x"].concat();
        ObservedCertificate::from_der(&longer).expect_err("bytes after its end");
    }
}
