//! What a TLS server presents, seen without trusting it.
//!
//! The handshake is one of a client that has no certificate and sends no application data. It
//! accepts any chain, but has the server prove that it holds the key of the first certificate:
//! what is returned is what the server can really serve. Nothing else may be concluded from it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls::crypto_provider;
use crate::ground::{Deadline, Elapsed, Judge, judging_client};

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
    let witness = Arc::new(Witness::default());
    let judge: Arc<dyn Judge> = Arc::<Witness>::clone(&witness);
    let mut config = judging_client(crypto_provider(), judge).map_err(ServedError::Setup)?;
    config.resumption = Resumption::disabled();
    let ended = deadline
        .run(TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await;
    let Seen { chain, proof } = std::mem::take(&mut *witness.seen());
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
#[derive(Debug, Default)]
struct Witness {
    seen: Mutex<Seen>,
}

impl Witness {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judge for Witness {
    fn presented(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        self.seen().chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Ok(())
    }

    fn proved(&self, outcome: Result<(), rustls::Error>) {
        self.seen().proof = Some(outcome);
    }
}

#[cfg(test)]
#[path = "served_tests.rs"]
mod tests;
