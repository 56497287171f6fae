//! HTTPS clients that recognise their server in one of three ways, and what a failed request says
//! about its delivery.
//!
//! Such a client follows no redirect (a redirected request would carry its credentials elsewhere),
//! uses no proxy and keeps no cookie. It speaks HTTP/1.1 over TLS only.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use rustls::crypto::aws_lc_rs as provider;
use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::key_proof::{Judge, judging_client};

/// How long a TCP connection and its TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a TLS server is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// By a chain to one of these CA certificates (PEM) and its name. No other root is accepted.
    CaPem(Vec<u8>),
    /// By the SHA-256 of its own certificate (DER), whatever its name, issuer or expiry: what
    /// Proxmox VE shows as the fingerprint of a node. The server still has to prove that it holds
    /// the key.
    Fingerprint([u8; 32]),
    /// By a chain to a root that the operating system trusts, and its name.
    System,
}

/// A client cannot be made from what was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The CA file is not PEM.
    #[error("the CA certificates are not PEM")]
    NotPem(#[source] rustls_pki_types::pem::Error),
    /// The CA file holds no certificate.
    #[error("no certificate among the CA certificates")]
    NoCertificate,
    /// The TLS settings were refused.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be made, such as from an unusable CA certificate.
    #[error("the HTTPS client cannot be made")]
    Client(#[source] reqwest::Error),
    /// The address is not `https://`: credentials would travel in clear.
    #[error("{0} is not an https:// address without credentials, query and fragment")]
    Address(String),
}

/// The server is not the one that was to be reached. Nothing was sent to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UntrustedServer {
    /// Its certificate has another fingerprint.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintMismatch),
    /// Its certificate was refused: unknown issuer, another name, expired.
    #[error("the server's certificate is not trusted: {0}")]
    Certificate(String),
}

/// A server presented another certificate than the pinned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FingerprintMismatch {
    /// The pinned SHA-256.
    pub expected: [u8; 32],
    /// The SHA-256 of what the server presented.
    pub found: [u8; 32],
}

impl fmt::Display for FingerprintMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the server's certificate has the fingerprint {}, expected was {}",
            colons(&self.found),
            colons(&self.expected)
        )
    }
}

impl Error for FingerprintMismatch {}

/// `AA:BB:…`, as Proxmox VE and openssl print a fingerprint.
fn colons(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

impl Trust {
    /// A client builder with this trust and the settings named above.
    ///
    /// # Errors
    /// [`TrustError`] when the CA certificates are unusable.
    pub(crate) fn client(&self) -> Result<reqwest::ClientBuilder, TrustError> {
        let builder = reqwest::Client::builder()
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("phoenix/", env!("CARGO_PKG_VERSION")));
        Ok(match self {
            Self::CaPem(pem) => {
                let roots = CertificateDer::pem_slice_iter(pem)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(TrustError::NotPem)?
                    .into_iter()
                    .map(|der| reqwest::Certificate::from_der(&der).map_err(TrustError::Client))
                    .collect::<Result<Vec<_>, _>>()?;
                if roots.is_empty() {
                    return Err(TrustError::NoCertificate);
                }
                builder.tls_certs_only(roots)
            }
            Self::Fingerprint(expected) => {
                let judge = PinnedLeaf {
                    expected: *expected,
                };
                let provider = Arc::new(provider::default_provider());
                let config = judging_client(provider, Arc::new(judge)).map_err(TrustError::Tls)?;
                builder.tls_backend_preconfigured(config)
            }
            Self::System => builder,
        })
    }
}

/// Checks that `url` is an https address that a path can be appended to.
pub(crate) fn require_https(url: &url::Url) -> Result<(), TrustError> {
    let plain = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain {
        return Ok(());
    }
    let mut shown = url.clone();
    // Both fail only for URLs that cannot hold credentials anyway.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.set_query(None);
    Err(TrustError::Address(shown.to_string()))
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct PinnedLeaf {
    expected: [u8; 32],
}

impl Judge for PinnedLeaf {
    fn presented(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let mut found = [0; 32];
        found.copy_from_slice(digest::digest(&digest::SHA256, end_entity).as_ref());
        if constant_time::verify_slices_are_equal(&found, &self.expected).is_ok() {
            return Ok(());
        }
        let mismatch = FingerprintMismatch {
            expected: self.expected,
            found,
        };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            OtherError(Arc::new(mismatch)),
        )))
    }
}

/// What a request that got no answer says about its delivery.
pub(crate) enum Delivery {
    /// The server was not the right one; nothing was sent.
    Untrusted(UntrustedServer),
    /// No byte of it reached a server.
    NotDelivered,
    /// It may have reached the server.
    Ambiguous,
}

/// Sorts a failure to send a request or to receive its answer.
pub(crate) fn delivery(error: &reqwest::Error) -> Delivery {
    if error.is_builder() {
        return Delivery::NotDelivered;
    }
    if !error.is_connect() {
        return Delivery::Ambiguous;
    }
    match error.source().and_then(refused_certificate) {
        Some(refused) => Delivery::Untrusted(untrusted(refused)),
        None => Delivery::NotDelivered,
    }
}

fn refused_certificate<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(refused)) = error.downcast_ref() {
        return Some(refused);
    }
    // An io::Error passes over the error it wraps when asked for its source.
    if let Some(inner) = error.downcast_ref().and_then(io::Error::get_ref) {
        return refused_certificate(inner);
    }
    error.source().and_then(refused_certificate)
}

fn untrusted(refused: &CertificateError) -> UntrustedServer {
    if let CertificateError::Other(OtherError(other)) = refused
        && let Some(mismatch) = other.downcast_ref::<FingerprintMismatch>()
    {
        return UntrustedServer::Fingerprint(mismatch.clone());
    }
    UntrustedServer::Certificate(refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_https_address_is_accepted() {
        for refused in [
            "http://pve:8006",
            "https://root:secret@pve:8006",
            "https://pve:8006/?a=b",
            "ftp://pve",
        ] {
            let error = require_https(&refused.parse().expect("url")).expect_err(refused);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        require_https(&"https://pve:8006".parse().expect("url")).expect("accepted");
    }

    #[test]
    fn a_ca_without_certificates_is_refused() {
        for pem in [&b""[..], b"hello"] {
            let error = Trust::CaPem(pem.to_vec()).client().expect_err("refused");
            assert!(matches!(error, TrustError::NoCertificate), "{error}");
        }
    }
}
