//! The way to an engine: HTTP/1.1 over a unix socket or over TLS with a client certificate.
//!
//! Certificates and keys come as bytes and stay in memory. An engine is recognised by exactly
//! the authority it was given: no root of the operating system is trusted beside it.
//!
//! Reads share kept-alive connections. Every write has a connection of its own, so that a stale
//! kept-alive connection can never leave a write in doubt.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::error::{Fault, Unreached};
use crate::ground::{Deadline, SecretBytes};

const IDLE: Duration = Duration::from_secs(20);

/// Who an engine must be and who Phoenix is to it, all PEM, all in memory.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate authority (one or more certificates) of the engine's certificate.
    pub ca_pem: Vec<u8>,
    /// The client certificate, then its intermediates.
    pub cert_chain_pem: Vec<u8>,
    /// The client's private key.
    pub key: SecretBytes,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

/// A TLS identity that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The host is neither a DNS name nor an IP address.
    #[error("{host:?} is neither a host name nor an IP address")]
    Host {
        /// The text.
        host: String,
    },
    /// The PEM of the certificate authority holds no certificate, or a broken one.
    #[error("no usable CA certificate in the PEM")]
    Authority {
        /// What did not fit; absent when there was no certificate at all.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The PEM of the client certificate holds no certificate, or a broken one.
    #[error("no usable client certificate in the PEM")]
    Certificate {
        /// What did not fit; absent when there was no certificate at all.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The private key is not PEM of a supported kind.
    #[error("no usable private key in the PEM")]
    Key,
    /// The private key does not belong to the client certificate, or its kind is not supported.
    #[error("the client certificate and the private key cannot be used together")]
    Mismatch {
        /// What TLS says.
        source: rustls::Error,
    },
}

fn certificates(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Option<Box<dyn std::error::Error + Send + Sync>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Some(error.into()))?;
    if found.is_empty() {
        return Err(None);
    }
    Ok(found)
}

fn client_config(identity: &TlsIdentity) -> Result<ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in
        certificates(&identity.ca_pem).map_err(|source| IdentityError::Authority { source })?
    {
        roots
            .add(certificate)
            .map_err(|error| IdentityError::Authority {
                source: Some(error.into()),
            })?;
    }
    let chain = certificates(&identity.cert_chain_pem)
        .map_err(|source| IdentityError::Certificate { source })?;
    // The parser's error could quote the key: it is dropped.
    let key =
        PrivateKeyDer::from_pem_slice(identity.key.expose()).map_err(|_| IdentityError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| IdentityError::Mismatch { source })?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|source| IdentityError::Mismatch { source })?;
    // Each connection proves both sides anew.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Opens connections to one engine, whatever URI it is asked for.
#[derive(Clone)]
enum Dialer {
    Unix(Arc<PathBuf>),
    Tls {
        host: Arc<str>,
        port: u16,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// An open connection.
struct Wire(Pin<Box<dyn Stream>>);

impl Wire {
    /// A write that failed because the peer hung up: its last word (a TLS alert) may still be
    /// unread, and says more than "broken pipe".
    fn last_word(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut scratch = [0; 64];
        let mut buffer = ReadBuf::new(&mut scratch);
        match self.0.as_mut().poll_read(cx, &mut buffer) {
            Poll::Ready(Err(word))
                if word
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>()) =>
            {
                word
            }
            _ => error,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.0.as_mut().poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.last_word(cx, error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.0.as_mut().poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.last_word(cx, error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let stream: Pin<Box<dyn Stream>> = match dialer {
                Self::Unix(path) => Box::pin(UnixStream::connect(path.as_path()).await?),
                Self::Tls {
                    host,
                    port,
                    name,
                    config,
                } => {
                    let stream = TcpStream::connect((&*host, port)).await?;
                    stream.set_nodelay(true)?;
                    Box::pin(TlsConnector::from(config).connect(name, stream).await?)
                }
            };
            Ok(TokioIo::new(Wire(stream)))
        })
    }
}

/// The HTTP client of one engine.
pub(super) struct Transport {
    reads: Client<Dialer, Full<Bytes>>,
    writes: Client<Dialer, Full<Bytes>>,
    authority: String,
}

impl Transport {
    pub(super) fn unix(path: PathBuf) -> Self {
        Self::new(Dialer::Unix(Arc::new(path)), "docker".to_owned())
    }

    pub(super) fn tls(
        host: &str,
        port: u16,
        identity: &TlsIdentity,
    ) -> Result<Self, IdentityError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| IdentityError::Host {
            host: host.to_owned(),
        })?;
        let config = Arc::new(client_config(identity)?);
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let dialer = Dialer::Tls {
            host: host.into(),
            port,
            name,
            config,
        };
        Ok(Self::new(dialer, authority))
    }

    fn new(dialer: Dialer, authority: String) -> Self {
        let reads = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(dialer.clone());
        let writes = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(dialer);
        Self {
            reads,
            writes,
            authority,
        }
    }

    /// The authority that stands in request URIs (and so in `Host`).
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends `request` and waits for the answer's head. `connect`: how long connecting may take.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<Response<Incoming>, Fault> {
        let client = match *request.method() {
            Method::GET | Method::HEAD => &self.reads,
            _ => &self.writes,
        };
        let connection = capture_connection(&mut request);
        let unconnected = async {
            let Some(limit) = connect else {
                return std::future::pending().await;
            };
            tokio::time::sleep(limit).await;
            if connection.connection_metadata().is_some() {
                std::future::pending::<()>().await;
            }
            limit
        };
        let answer = tokio::select! {
            biased;
            answer = deadline.run(client.request(request)) => answer,
            // Without a connection nothing was sent.
            limit = unconnected => {
                return Err(Fault::NotDelivered(Unreached::TimedOut(limit), None));
            }
        };
        let connected = connection.connection_metadata().is_some();
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let connected = connected && !error.is_connect();
                Err(Fault::from_client(error, connected))
            }
            Err(elapsed) => Err(Fault::from_elapsed(elapsed, connected)),
        }
    }
}
