//! The textual encoding of keys and certificates (RFC 7468), read and written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::ground::SecretBytes;

/// Octets that become one line of 64 characters.
const LINE: usize = 48;

/// Why a text is not the PEM that was expected. Never quotes the text, which may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A section has no end, a wrong label or is not base64.
    #[error("malformed PEM")]
    Malformed,
    /// There is no certificate in it.
    #[error("no PEM certificate")]
    NoCertificate,
    /// There is no private key in it.
    #[error("no PEM private key")]
    NoKey,
    /// There is more than one private key in it.
    #[error("more than one PEM private key")]
    SeveralKeys,
    /// There is an encrypted private key in it.
    #[error("an encrypted private key, which is not supported")]
    EncryptedKey,
}

/// `der` as a PEM section.
pub(super) fn encode(label: &str, der: &[u8]) -> SecretBytes {
    SecretBytes::new(section(label, der))
}

/// A certificate as a PEM section.
pub(super) fn encode_certificate(der: &[u8]) -> String {
    // ASCII through and through, so that nothing is ever replaced.
    String::from_utf8(section("CERTIFICATE", der)).unwrap_or_default()
}

/// The characters go straight to their place, so that no copy of a key stays behind.
fn section(label: &str, der: &[u8]) -> Vec<u8> {
    let frame = 2 * label.len() + "-----BEGIN -----\n-----END -----\n".len();
    // Of its final size from the start: growing would leave copies too.
    let size = frame + characters(der.len()) + der.len().div_ceil(LINE);
    let mut text = Vec::with_capacity(size);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    for chunk in der.chunks(LINE) {
        let start = text.len();
        text.resize(start + characters(chunk.len()), 0);
        // There is exactly the room that it takes.
        let _ = STANDARD.encode_slice(chunk, &mut text[start..]);
        text.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    text
}

/// How many characters so many octets become in base64.
fn characters(octets: usize) -> usize {
    octets.div_ceil(3) * 4
}

/// A revocation list as a PEM section.
pub(super) fn encode_crl(der: &[u8]) -> String {
    String::from_utf8_lossy(encode("X509 CRL", der).expose()).into_owned()
}

/// What a PEM text holds.
struct Sections {
    /// Certificates in their order.
    certificates: Vec<CertificateDer<'static>>,
    /// PKCS#8 private keys in their order.
    keys: Vec<SecretBytes>,
}

/// The PKCS#8 keys and certificates in `text`; other sections are passed over.
fn sections(text: &[u8]) -> Result<Sections, PemError> {
    let mut sections = Sections {
        certificates: Vec::new(),
        keys: Vec::new(),
    };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| PemError::Malformed)?;
        match kind {
            SectionKind::Certificate => sections.certificates.push(der.into()),
            SectionKind::PrivateKey => sections.keys.push(SecretBytes::new(der)),
            // So that it is wiped although it is not wanted.
            SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                drop(SecretBytes::new(der));
            }
            _ => {}
        }
    }
    Ok(sections)
}

/// The certificates in `text`, at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates = sections(text)?.certificates;
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(certificates)
}

/// The one private key (PKCS#8, as DER) in `text`.
pub(super) fn key(text: &[u8]) -> Result<SecretBytes, PemError> {
    one_key(sections(text)?.keys, text)
}

/// How a private key in a PEM text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyEncoding {
    /// PKCS#8 in the clear.
    Pkcs8,
    /// PKCS#8, encrypted.
    Encrypted,
    /// An elliptic curve's (SEC1).
    Sec1,
    /// RSA's (PKCS#1).
    Pkcs1,
}

/// The one private key in `text` of whatever encoding, as DER.
pub(super) fn any_key(text: &[u8]) -> Result<(KeyEncoding, SecretBytes), PemError> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| PemError::Malformed)?;
        let der = SecretBytes::new(der);
        match kind {
            SectionKind::PrivateKey => keys.push((KeyEncoding::Pkcs8, der)),
            SectionKind::EcPrivateKey => keys.push((KeyEncoding::Sec1, der)),
            SectionKind::RsaPrivateKey => keys.push((KeyEncoding::Pkcs1, der)),
            _ => {}
        }
    }
    // The reader of sections passes over this kind.
    let mut rest = text;
    while let Some(begin) = position(rest, BEGIN_ENCRYPTED) {
        rest = &rest[begin + BEGIN_ENCRYPTED.len()..];
        let end = position(rest, END_ENCRYPTED).ok_or(PemError::Malformed)?;
        let base64: Zeroizing<Vec<u8>> = Zeroizing::new(
            rest[..end]
                .iter()
                .copied()
                .filter(|octet| !octet.is_ascii_whitespace())
                .collect(),
        );
        let der = STANDARD.decode(&*base64).map_err(|_| PemError::Malformed)?;
        keys.push((KeyEncoding::Encrypted, SecretBytes::new(der)));
        rest = &rest[end + END_ENCRYPTED.len()..];
    }
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(_), false) => Err(PemError::SeveralKeys),
        (None, _) => Err(PemError::NoKey),
    }
}

const BEGIN_ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";

fn position(text: &[u8], marker: &[u8]) -> Option<usize> {
    text.windows(marker.len())
        .position(|window| window == marker)
}

/// The one private key and the certificates, at least one, in `text`.
pub(super) fn key_and_certificates(
    text: &[u8],
) -> Result<(SecretBytes, Vec<CertificateDer<'static>>), PemError> {
    let Sections { certificates, keys } = sections(text)?;
    let key = one_key(keys, text)?;
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok((key, certificates))
}

fn one_key(mut keys: Vec<SecretBytes>, text: &[u8]) -> Result<SecretBytes, PemError> {
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(_), false) => Err(PemError::SeveralKeys),
        (None, _) => Err(if position(text, BEGIN_ENCRYPTED).is_some() {
            PemError::EncryptedKey
        } else {
            PemError::NoKey
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(der in prop::collection::vec(any::<u8>(), 1..300)) {
            let text = encode("PRIVATE KEY", &der);
            let shown = text.expose_str().expect("ASCII").to_owned();
            prop_assert!(shown.lines().all(|line| line.len() <= 64));
            prop_assert!(shown.ends_with("-----END PRIVATE KEY-----\n"));
            let text_of_its_size = section("PRIVATE KEY", &der);
            prop_assert_eq!(text_of_its_size.len(), text_of_its_size.capacity());
            prop_assert_eq!(key(text.expose()), Ok(SecretBytes::new(der.clone())));
            let certificate = encode_certificate(&der);
            prop_assert_eq!(
                certificates(certificate.as_bytes()),
                Ok(vec![CertificateDer::from(der)])
            );
        }
    }

    #[test]
    fn what_is_missing_or_doubled_is_told_apart() {
        let text = |label| encode(label, b"content").expose().to_vec();
        assert_eq!(key(b""), Err(PemError::NoKey));
        assert_eq!(key(&text("EC PRIVATE KEY")), Err(PemError::NoKey));
        assert_eq!(
            key(&text("ENCRYPTED PRIVATE KEY")),
            Err(PemError::EncryptedKey)
        );
        assert_eq!(
            key(&[text("PRIVATE KEY"), text("PRIVATE KEY")].concat()),
            Err(PemError::SeveralKeys)
        );
        assert_eq!(certificates(b"text"), Err(PemError::NoCertificate));
        assert_eq!(
            certificates(b"-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n"),
            Err(PemError::Malformed)
        );
        assert_eq!(
            certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
            Err(PemError::Malformed)
        );
    }
}
