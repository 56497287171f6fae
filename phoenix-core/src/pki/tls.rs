//! TLS with bundles: configurations for rustls that trust what they are given and nothing else.
//!
//! The cryptographic provider is always named, never the process-wide default, which a program
//! that uses this library may have set to something else or not at all.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::bundle::Bundle;
use super::pem::{self, PemError};
use crate::ground::SecretBytes;

/// Why no TLS configuration can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The roots are no PEM certificates.
    #[error("the trusted certificates cannot be read")]
    Roots(#[source] PemError),
    /// A root is broken.
    #[error("a trusted certificate is broken")]
    Root(#[source] rustls::Error),
    /// The chain is no PEM certificates.
    #[error("the certificate chain cannot be read")]
    Chain(#[source] PemError),
    /// The key is no PEM private key.
    #[error("the private key cannot be read: it is no PEM of an unencrypted private key")]
    Key,
    /// rustls refuses the identity, most likely because key and certificate do not match.
    #[error("the certificate cannot be used with its key")]
    Identity(#[source] rustls::Error),
    /// rustls refuses the protocol versions or the client roots.
    #[error("TLS cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a TLS server or client presents: a chain, leaf first, and its key.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsIdentity {
    /// Reads a chain (leaf first) and its key (PKCS#8, PKCS#1 or SEC1) from PEM.
    ///
    /// # Errors
    /// [`TlsError::Chain`] or [`TlsError::Key`]. Whether they match is found out when they are
    /// used.
    pub fn from_pem(chain: &[u8], key: &SecretBytes) -> Result<Self, TlsError> {
        Ok(Self {
            chain: pem::certificates(chain).map_err(TlsError::Chain)?,
            key: PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| TlsError::Key)?,
        })
    }
}

impl From<&Bundle> for TlsIdentity {
    fn from(bundle: &Bundle) -> Self {
        Self {
            chain: bundle.chain_der(),
            key: bundle.key_der(),
        }
    }
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({} certificates)", self.chain.len())
    }
}

/// The cryptographic provider of every configuration made here.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates in `pem`, at least one, as trusted roots.
///
/// # Errors
/// [`TlsError::Roots`] or [`TlsError::Root`]; no certificate is passed over.
pub fn root_store(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(pem).map_err(TlsError::Roots)? {
        roots.add(certificate).map_err(TlsError::Root)?;
    }
    Ok(roots)
}

/// A client that trusts servers below `roots` and presents `identity` when it is asked to.
///
/// # Errors
/// [`TlsError::Identity`] when key and certificate do not match.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<TlsIdentity>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots);
    match identity {
        Some(TlsIdentity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(TlsError::Identity),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// A server that presents `identity` and, when given `client_roots`, lets in only clients with a
/// certificate below them.
///
/// # Errors
/// [`TlsError::Identity`] when key and certificate do not match; [`TlsError::Setup`] when
/// `client_roots` is empty.
pub fn server_config(
    identity: TlsIdentity,
    client_roots: Option<RootCertStore>,
) -> Result<ServerConfig, TlsError> {
    let provider = crypto_provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match client_roots {
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(setup)?,
        ),
        None => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Identity)
}

fn setup(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Setup(Box::new(error))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
