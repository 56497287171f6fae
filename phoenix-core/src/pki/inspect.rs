//! Certificates of any origin, taken apart for people: what a file or a server holds, whether it
//! is in order, and what it is good for.
//!
//! A file may hold a private key beside its certificates. It is looked at to tell whose it is,
//! and kept nowhere.

use std::fmt;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::observed::{self, CertificateError, ObservedCertificate};
use super::pem::PemError;
use super::request::Profile;
use super::san::SubjectAltName;
use super::times::show;

/// What a certificate may be presented as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Purpose {
    /// A TLS server.
    Server,
    /// A TLS client.
    Client,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Server, Self::Client];

    /// Those of `profile`.
    pub fn of(profile: Profile) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |purpose| match purpose {
            Self::Server => profile.is_server(),
            Self::Client => profile.is_client(),
        })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// Why a certificate is not good for a purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// Nothing is trusted that could have issued it.
    #[error("there is no root to check it against")]
    NoRoot,
    /// No trusted root leads to it.
    #[error("no trusted root leads to it: an intermediate is missing, or the issuer is another")]
    UnknownIssuer,
    /// It, or one above it, has expired.
    #[error("expired on {}", show(.at))]
    Expired {
        /// The last second of the validity.
        at: OffsetDateTime,
    },
    /// It, or one above it, is not valid yet.
    #[error("valid from {} only", show(.from))]
    NotYetValid {
        /// The first second of the validity.
        from: OffsetDateTime,
    },
    /// Its extended key usage is for something else.
    #[error("its extended key usage does not allow it")]
    Usage,
    /// It is the certificate of a CA.
    #[error("it is the certificate of a CA, which nobody can be recognised by")]
    IsCa,
    /// It is signed by a certificate that is no CA's.
    #[error("it is signed by a certificate that is no CA's")]
    IssuerIsNoCa,
    /// A signature in its chain is not that of the issuer: often of another with the same name.
    #[error(
        "a signature in its chain is not by the key of the issuer that it names: it may be \
         another CA of the same name"
    )]
    Signature,
    /// Anything else that rustls' verifier refuses.
    #[error("rustls' verifier refuses it: {0}")]
    Refused(webpki::Error),
}

impl From<webpki::Error> for VerdictError {
    fn from(error: webpki::Error) -> Self {
        let instant = |at: UnixTime| {
            i64::try_from(at.as_secs())
                .ok()
                .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        };
        match &error {
            webpki::Error::CertExpired { not_after, .. } => {
                instant(*not_after).map(|at| Self::Expired { at })
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                instant(*not_before).map(|from| Self::NotYetValid { from })
            }
            webpki::Error::UnknownIssuer => Some(Self::UnknownIssuer),
            webpki::Error::RequiredEkuNotFoundContext(_) => Some(Self::Usage),
            webpki::Error::CaUsedAsEndEntity => Some(Self::IsCa),
            webpki::Error::EndEntityUsedAsCa => Some(Self::IssuerIsNoCa),
            webpki::Error::InvalidSignatureForPublicKey => Some(Self::Signature),
            _ => None,
        }
        .unwrap_or(Self::Refused(error))
    }
}

/// The private key that a file holds beside its certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HeldKey {
    /// There is none.
    None,
    /// That of the first certificate.
    Matches,
    /// That of another certificate.
    Mismatch,
    /// It is encrypted: whose it is cannot be told.
    Encrypted,
    /// It is broken, or of a kind that cannot be used.
    Unusable,
    /// There is more than one.
    Several,
}

/// A name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HeldName {
    /// `DNS`, `IP`, `e-mail`, `URI`, `directory`, `registered id` or `other`.
    pub kind: &'static str,
    /// The name as it stands there; may hold anything.
    pub value: String,
}

/// A certificate, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedCertificate {
    /// What Phoenix looks at elsewhere, too.
    pub observed: ObservedCertificate,
    /// The version of X.509: 3, or a relic.
    pub version: u32,
    /// The kind of its key: `ecdsa-p256`, `rsa-3072`, …
    pub key: String,
    /// How it was signed.
    pub signature_algorithm: String,
    /// All its names, of whatever kind, in their order.
    pub names: Vec<HeldName>,
    /// What its key may do, as RFC 5280 calls it; `None` when it does not say.
    pub key_usages: Option<Vec<&'static str>>,
    /// What it may be presented as, as RFC 5280 calls it, or an object identifier; `None` when it
    /// does not say.
    pub extended_key_usages: Option<Vec<String>>,
    /// Whether its basic constraints make it a CA; `None` when it has none.
    pub ca: Option<bool>,
    /// How many intermediates may stand between it and a leaf, when that is limited.
    pub path_len: Option<u32>,
    der: CertificateDer<'static>,
}

impl InspectedCertificate {
    /// Takes a certificate apart.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let observed = ObservedCertificate::from_der(&der)?;
        let certificate = observed::parse(&der)?;
        // Reading it as an observed one has refused extensions that cannot be parsed.
        let constraints = certificate.basic_constraints().ok().flatten();
        Ok(Self {
            version: certificate.version().0.saturating_add(1),
            key: key_kind(&observed, certificate.public_key()),
            signature_algorithm: short_name(&certificate.signature_algorithm.algorithm),
            names: held_names(&certificate),
            key_usages: key_usages(&certificate),
            extended_key_usages: extended_key_usages(&certificate),
            ca: constraints.as_ref().map(|constraints| constraints.value.ca),
            path_len: constraints.and_then(|constraints| constraints.value.path_len_constraint),
            observed,
            der,
        })
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

/// The certificates of a file or of a server, at least one, the first of which is meant to be
/// the leaf.
#[derive(Debug, Clone)]
pub struct CertificateFile {
    certificates: Vec<InspectedCertificate>,
    key: HeldKey,
}

impl CertificateFile {
    /// Reads the certificates in `content`, PEM or DER, and the private key beside them, when it
    /// is there: PKCS#8, PKCS#1 or SEC1, or one that is encrypted.
    ///
    /// # Errors
    /// [`CertificateError`]; no certificate is passed over.
    pub fn read(content: &[u8]) -> Result<Self, CertificateError> {
        // DER begins with a SEQUENCE whose length takes more than an octet; no text does.
        if let [0x30, 0x80..=0xff, ..] = content {
            return Self::of(vec![content.to_vec().into()]);
        }
        let (text, mut encrypted) = without_encrypted_keys(content);
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
            let (kind, der) = section.map_err(|_| CertificateError::Pem(PemError::Malformed))?;
            match kind {
                SectionKind::Certificate => certificates.push(CertificateDer::from(der)),
                SectionKind::PrivateKey => keys.push(PrivateKeyDer::Pkcs8(der.into())),
                SectionKind::RsaPrivateKey => keys.push(PrivateKeyDer::Pkcs1(der.into())),
                SectionKind::EcPrivateKey => keys.push(PrivateKeyDer::Sec1(der.into())),
                _ => {}
            }
        }
        let mut file = Self::of(certificates)?;
        encrypted += keys.len();
        file.key = match (encrypted, &keys[..]) {
            (0, _) => HeldKey::None,
            (1, []) => HeldKey::Encrypted,
            (1, [key]) => held(key, file.leaf()),
            _ => HeldKey::Several,
        };
        for key in &mut keys {
            zeroize::Zeroize::zeroize(key);
        }
        Ok(file)
    }

    /// The certificates of `chain`, such as a server presents.
    ///
    /// # Errors
    /// [`CertificateError`], also for an empty chain.
    pub fn of(chain: Vec<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        if chain.is_empty() {
            return Err(CertificateError::Pem(PemError::NoCertificate));
        }
        let single = chain.len() == 1;
        let certificates = chain
            .into_iter()
            .enumerate()
            .map(|(index, der)| {
                InspectedCertificate::from_der(der).map_err(|error| match error {
                    CertificateError::Malformed { problem } if !single => {
                        CertificateError::Malformed {
                            problem: format!("number {}: {problem}", index + 1),
                        }
                    }
                    other => other,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            certificates,
            key: HeldKey::None,
        })
    }

    /// All certificates in their order.
    #[must_use]
    pub fn certificates(&self) -> &[InspectedCertificate] {
        &self.certificates
    }

    /// The first certificate.
    #[must_use]
    pub fn leaf(&self) -> &InspectedCertificate {
        // There is at least one.
        &self.certificates[0]
    }

    /// The private key beside the certificates.
    #[must_use]
    pub fn key(&self) -> HeldKey {
        self.key
    }

    /// The certificate that ends first, with its place among them: what comes after its end is
    /// moot for all.
    #[must_use]
    pub fn first_to_end(&self) -> (usize, &InspectedCertificate) {
        let mut first = (0, self.leaf());
        for (index, certificate) in self.certificates.iter().enumerate() {
            if certificate.observed.not_after < first.1.observed.not_after {
                first = (index, certificate);
            }
        }
        first
    }

    /// The place of the first certificate that did not issue the one before it; `None` when each
    /// did, as TLS wants it. Says nothing about signatures.
    #[must_use]
    pub fn out_of_order(&self) -> Option<usize> {
        self.certificates
            .windows(2)
            .position(|pair| !claims(&pair[0].observed, &pair[1].observed))
            .map(|index| index + 1)
    }

    /// The self-signed certificates among them.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.certificates
            .iter()
            .filter(|certificate| certificate.observed.is_self_issued())
            .map(|certificate| certificate.der.clone())
            .collect()
    }

    /// Whether rustls' verifier would accept the first certificate for `purpose` at `now`, from a
    /// peer that presents the others with it, to one who trusts those of `roots` alone that are
    /// valid then.
    ///
    /// # Errors
    /// [`VerdictError`] with why not.
    pub fn verdict(
        &self,
        purpose: Purpose,
        roots: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<(), VerdictError> {
        match purpose {
            Purpose::Server => self.verify(KeyUsage::server_auth(), roots, now),
            Purpose::Client => self.verify(KeyUsage::client_auth(), roots, now),
        }
    }

    fn verify(
        &self,
        usage: impl ExtendedKeyUsageValidator,
        roots: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<(), VerdictError> {
        // Unlike rustls' verifier, which never looks at the validity of what it trusts.
        let mut moot = VerdictError::NoRoot;
        let mut anchors: Vec<TrustAnchor<'_>> = Vec::with_capacity(roots.len());
        for der in roots {
            let root = ObservedCertificate::from_der(der)
                .map_err(|_| VerdictError::Refused(webpki::Error::BadDer))?;
            if now > root.not_after {
                moot = VerdictError::Expired { at: root.not_after };
            } else if now < root.not_before {
                moot = VerdictError::NotYetValid {
                    from: root.not_before,
                };
            } else {
                anchors.push(webpki::anchor_from_trusted_cert(der)?);
            }
        }
        if anchors.is_empty() {
            return Err(moot);
        }
        let above: Vec<CertificateDer<'_>> = self.certificates[1..]
            .iter()
            .map(|certificate| certificate.der.clone())
            .collect();
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        EndEntityCert::try_from(&self.leaf().der)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &above,
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
                usage,
                None,
                None,
            )
            .map(|_| ())
            .map_err(Into::into)
    }

    /// Whether the first certificate is valid for `name`.
    #[must_use]
    pub fn covers(&self, name: &SubjectAltName) -> bool {
        self.leaf().observed.sans.iter().any(|san| san.covers(name))
    }
}

/// Whether `certificate` names `issuer` as its issuer; identifiers count where both have them.
fn claims(certificate: &ObservedCertificate, issuer: &ObservedCertificate) -> bool {
    let ids = certificate
        .authority_key_id
        .as_ref()
        .zip(issuer.subject_key_id.as_ref());
    certificate.issuer_der == issuer.subject_der && ids.is_none_or(|(have, want)| have == want)
}

/// Whose key it is.
fn held(key: &PrivateKeyDer<'_>, leaf: &InspectedCertificate) -> HeldKey {
    let Ok(key) = any_supported_type(key) else {
        return HeldKey::Unusable;
    };
    let Some(public) = key.public_key() else {
        return HeldKey::Unusable;
    };
    match SubjectPublicKeyInfo::from_der(&public) {
        Ok((_, public)) if *public.subject_public_key.data == *leaf.observed.public_key => {
            HeldKey::Matches
        }
        Ok(_) => HeldKey::Mismatch,
        Err(_) => HeldKey::Unusable,
    }
}

/// `text` without private keys that are encrypted, whose sections are no plain PEM, and how many
/// there were.
fn without_encrypted_keys(text: &[u8]) -> (Zeroizing<Vec<u8>>, usize) {
    let mut kept = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut encrypted = 0;
    let mut inside = false;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let begins = line.starts_with(b"-----BEGIN ");
        let locked = line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || lines
                .peek()
                .is_some_and(|next| next.starts_with(b"Proc-Type:"));
        if begins {
            inside = locked;
            encrypted += usize::from(locked);
        }
        if !inside {
            kept.extend_from_slice(line);
        }
        if line.starts_with(b"-----END ") {
            inside = false;
        }
    }
    (kept, encrypted)
}

fn short_name(oid: &Oid<'_>) -> String {
    oid2sn(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

fn key_kind(observed: &ObservedCertificate, key: &SubjectPublicKeyInfo<'_>) -> String {
    if let Some(known) = observed.key_type {
        return known.to_string();
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("rsa-{}", rsa.key_size()),
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref();
            curve.and_then(|curve| curve.as_oid().ok()).map_or_else(
                || "ecdsa".to_owned(),
                |curve| format!("ecdsa {}", short_name(&curve)),
            )
        }
        _ => short_name(&key.algorithm.algorithm),
    }
}

fn held_names(certificate: &X509Certificate<'_>) -> Vec<HeldName> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .map(|name| {
            let (kind, value) = match name {
                GeneralName::DNSName(name) => ("DNS", (*name).to_owned()),
                GeneralName::RFC822Name(name) => ("e-mail", (*name).to_owned()),
                GeneralName::URI(uri) => ("URI", (*uri).to_owned()),
                GeneralName::IPAddress(octets) => (
                    "IP",
                    observed::address(octets)
                        .map_or_else(|| hex::encode(octets), |address| address.to_string()),
                ),
                GeneralName::DirectoryName(name) => ("directory", name.to_string()),
                GeneralName::RegisteredID(oid) => ("registered id", oid.to_id_string()),
                GeneralName::OtherName(oid, _) => ("other", oid.to_id_string()),
                _ => ("other", "of a kind that is not shown".to_owned()),
            };
            HeldName { kind, value }
        })
        .collect()
}

fn key_usages(certificate: &X509Certificate<'_>) -> Option<Vec<&'static str>> {
    let usage = certificate.key_usage().ok().flatten()?.value;
    let all = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    Some(
        all.into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect(),
    )
}

fn extended_key_usages(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let usage = certificate.extended_key_usage().ok().flatten()?.value;
    let all = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    Some(
        all.into_iter()
            .filter(|(has, _)| *has)
            .map(|(_, name)| name.to_owned())
            .chain(usage.other.iter().map(Oid::to_id_string))
            .collect(),
    )
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
