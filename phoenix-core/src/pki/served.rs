//! What a TLS server presents, seen without trusting it.
//!
//! The handshake is one of a client that has no certificate and sends no application data. It
//! accepts any chain, but has the server prove that it holds the key of the first certificate:
//! what is returned is what the server can really serve. Nothing else may be concluded from it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::crypto_provider;
use crate::ground::{Deadline, Elapsed};

/// How long saying goodbye may take, which the server need not take note of.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why it is not known what a server presents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServedError {
    /// A server cannot be asked for by this name.
    #[error("`{name}` is neither a DNS name nor an IP address")]
    ServerName {
        /// The name.
        name: String,
    },
    /// No connection to it.
    #[error("cannot connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The handshake failed before the server had presented a certificate and proved that it
    /// holds its key: it may speak another protocol, or know nothing by the name.
    #[error("no TLS handshake with {address}")]
    Handshake {
        /// Host and port.
        address: String,
        /// What was wrong.
        #[source]
        source: io::Error,
    },
    /// The server could not prove that it holds the key of what it presents.
    #[error("{address} did not prove that it holds the key of the certificate that it presents")]
    Unproven {
        /// Host and port.
        address: String,
        /// What was wrong.
        #[source]
        source: rustls::Error,
    },
    /// The deadline passed first.
    #[error("{address} did not present a certificate in time")]
    Elapsed {
        /// Host and port.
        address: String,
        /// How long it was waited.
        #[source]
        source: Elapsed,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificates that the TLS server at `host` (a name or an IP address without brackets) and
/// `port` presents, in its order: its own first, at least that. It is asked for `server_name`, or
/// else for `host`; an IP address is not told to the server. One that wants a client certificate
/// is looked at all the same.
///
/// Asking again is harmless.
///
/// # Errors
/// [`ServedError`].
pub async fn peer_chain(
    host: &str,
    port: u16,
    server_name: Option<&str>,
    deadline: Deadline,
) -> Result<Vec<CertificateDer<'static>>, ServedError> {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let name = server_name.unwrap_or(host);
    let name = ServerName::try_from(name)
        .map_err(|_| ServedError::ServerName {
            name: name.to_owned(),
        })?
        .to_owned();
    let stream = deadline
        .run(TcpStream::connect((host, port)))
        .await
        .map_err(|source| ServedError::Elapsed {
            address: address.clone(),
            source,
        })?
        .map_err(|source| ServedError::Connect {
            address: address.clone(),
            source,
        })?;
    presented(stream, name, address, deadline).await
}

/// The certificates that the server at the other end of `stream` presents.
async fn presented(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    name: ServerName<'static>,
    address: String,
    deadline: Deadline,
) -> Result<Vec<CertificateDer<'static>>, ServedError> {
    let provider = crypto_provider();
    let witness = Arc::new(Witness {
        algorithms: provider.signature_verification_algorithms,
        seen: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ServedError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Witness>::clone(&witness))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let ended = deadline
        .run(TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await;
    let Seen { chain, proof } = witness.take();
    // What comes after the proof, such as the refusal of a client without a certificate, does
    // not matter.
    match proof {
        Some(Ok(())) => {
            if let Ok(Ok(mut stream)) = ended {
                let _ = deadline.at_most(GOODBYE).run(stream.shutdown()).await;
            }
            return Ok(chain);
        }
        Some(Err(source)) => return Err(ServedError::Unproven { address, source }),
        None => {}
    }
    Err(match ended {
        Err(source) => ServedError::Elapsed { address, source },
        Ok(Err(source)) => ServedError::Handshake { address, source },
        // Not without resumption: rustls ends no handshake before the proof.
        Ok(Ok(_)) => ServedError::Handshake {
            address,
            source: io::Error::other("it presented no certificate"),
        },
    })
}

/// What was seen of a server.
#[derive(Debug, Default)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    /// Whether it holds the key, once it said so.
    proof: Option<Result<(), rustls::Error>>,
}

/// Takes down what a server presents, and whether it holds the key.
#[derive(Debug)]
struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Seen>,
}

impl Witness {
    fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn proved(
        &self,
        result: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let proof = result.as_ref().map(|_| ()).map_err(Clone::clone);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.proof = Some(proof);
        result
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.algorithms,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.algorithms,
        ))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "served_tests.rs"]
mod tests;
