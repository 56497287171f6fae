//! A stand-in for Portainer CE 2.21.4. **A fake**: it may stand in for Portainer only because its
//! image cannot be had where the tests run. It goes by the real image's name in the lab's registry,
//! so that compose files, flags, volumes, secrets and health checks are those of the real one.
//!
//! Faithful, as read in the source of 2.23: status and instance id (a new volume is a new
//! instance), the administrator from a file or by the API, the lock-out of an instance left open,
//! sessions that die with the process, API keys, the ban on eager callers, the cookie that breaks
//! later writes, environments that are created only when their target really answers (an engine
//! by `/_ping` and `/info` with the given TLS files, an agent by `/ping`), what `-H` does once
//! there is an administrator, which TLS flags are for the server (`--sslcert`, `--sslkey`) and
//! which are for the host of `-H`, statuses, and bodies in JSON or plain text.
//!
//! Not imitated: stacks, the proxy to environments, Kubernetes, Azure and edge environments,
//! teams, roles and users beside the administrator, signatures toward agents, periodic snapshots,
//! `--admin-password` (a bcrypt hash), the tunnel's protocol (its port only accepts), the user
//! interface. What is missing answers 404 in text, or is refused as a flag.

mod access;
mod answer;
mod api;
mod environments;
mod flags;
mod store;
mod target;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use flags::Options;

/// The version it claims to be.
pub const VERSION: &str = "2.21.4";

/// Why it did not start: what the original would end with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The file of `--admin-password-file`.
    #[error("failed getting admin password file")]
    AdminPasswordFile(#[source] io::Error),
    /// A password that cannot be hashed.
    #[error("failed hashing admin password")]
    AdminPassword(#[source] io::Error),
    /// The data directory.
    #[error("failed opening store")]
    Store(#[source] io::Error),
    /// The URL of `-H`.
    #[error("failed validating flags: {0}")]
    Flags(&'static str),
    /// The server's certificate.
    #[error("failed initializing key pair: {0}")]
    Certificate(String),
    /// An address.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running instance. It ends when dropped.
pub struct Portainer {
    https: SocketAddr,
    http: Option<SocketAddr>,
    tunnel: SocketAddr,
    certificate: String,
    failure: oneshot::Receiver<String>,
    serving: JoinSet<()>,
}

/// Starts an instance.
///
/// # Errors
/// Whatever would end the original: a missing password file, a bad certificate, a taken port.
pub async fn start(options: Options) -> Result<Portainer, StartError> {
    check_host(options.host.as_deref())?;
    let store = store::Store::open(&options.data).map_err(StartError::Store)?;
    let change = store.change(|data| {
        data.http_disabled = options.http_disabled || (data.http_disabled && !options.http_enabled);
        data.http_disabled
    });
    let http_disabled = change.map_err(StartError::Store)?;
    let folder = store.folder("certs");
    let supplied = options.sslcert.as_deref().zip(options.sslkey.as_deref());
    let (certificate, key) = key_pair(&folder, supplied)?;
    let acceptor = acceptor(&certificate, &key)?;
    let instance = Arc::new(api::Instance {
        store,
        sessions: access::Sessions::new().map_err(StartError::Store)?,
        attempts: access::Attempts::new(options.attempts),
        started: tokio::time::Instant::now(),
        init_timeout: options.init_timeout,
        administrator: Notify::new(),
        creating: tokio::sync::Mutex::new(()),
    });
    if let Some(path) = &options.admin_password_file {
        let password = fs::read_to_string(path).map_err(StartError::AdminPasswordFile)?;
        let password = password.strip_suffix('\n').unwrap_or(&password);
        let added = instance.add_administrator("admin", password);
        match added.map_err(StartError::AdminPassword)? {
            Some(_) => tracing::info!("created admin user with the given password."),
            None => tracing::info!("instance already has an administrator user defined"),
        }
    }

    let tunnel = listen(&format!("{}:{}", options.tunnel_addr, options.tunnel_port)).await?;
    let https = listen(&flags::listen_address(&options.bind_https)).await?;
    let http = match http_disabled {
        true => None,
        false => Some(listen(&flags::listen_address(&options.bind)).await?),
    };
    let (fail, failure) = oneshot::channel();
    let mut serving = JoinSet::new();
    let mut addresses = Vec::new();
    for (listener, acceptor) in [(Some(https), Some(acceptor)), (http, None)] {
        let Some((listener, address)) = listener else {
            continue;
        };
        addresses.push(address);
        serving.spawn(accept(listener, acceptor, Arc::clone(&instance)));
    }
    let tunnel_address = tunnel.1;
    serving.spawn(hold(tunnel.0));
    serving.spawn(async move {
        instance.administrator.notified().await;
        if let Err(error) = environments::create_primary(&instance, &options).await {
            // Nobody listening means that the instance is ending anyway.
            let _ = fail.send(format!("failed initializing environment: {error}"));
        }
    });
    Ok(Portainer {
        https: addresses[0],
        http: addresses.get(1).copied(),
        tunnel: tunnel_address,
        certificate,
        failure,
        serving,
    })
}

impl Portainer {
    /// Where HTTPS is served.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// Where plain HTTP is served, unless it is disabled.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where the tunnel server accepts.
    pub fn tunnel(&self) -> SocketAddr {
        self.tunnel
    }

    /// The served certificate chain.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Waits until something happens that would end the original.
    pub async fn failed(&mut self) -> String {
        match (&mut self.failure).await {
            Ok(reason) => reason,
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends it.
    pub async fn shutdown(mut self) {
        self.serving.shutdown().await;
    }
}

impl fmt::Debug for Portainer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Portainer")
            .field("https", &self.https)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

fn check_host(host: Option<&str>) -> Result<(), StartError> {
    let Some(host) = host else { return Ok(()) };
    match host.strip_prefix("unix://") {
        Some(socket) if Path::new(socket).exists() => Ok(()),
        Some(_) => Err(StartError::Flags(
            "Unable to locate Unix socket or named pipe",
        )),
        None if host.starts_with("tcp://") => Ok(()),
        None => Err(StartError::Flags(
            "Invalid environment protocol: Portainer only supports unix://, npipe:// or tcp://",
        )),
    }
}

/// The supplied pair, copied; else the one kept; else a new self-signed one, which is kept.
fn key_pair(
    folder: &Path,
    supplied: Option<(&Path, &Path)>,
) -> Result<(String, String), StartError> {
    let kept: (PathBuf, PathBuf) = (folder.join("cert.pem"), folder.join("key.pem"));
    let text = |path: &Path, error: io::Error| {
        StartError::Certificate(format!("open {}: {error}", path.display()))
    };
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| text(path, error));
    let (certificate, key) = match supplied {
        Some((certificate, key)) => (read(certificate)?, read(key)?),
        None if kept.0.exists() && kept.1.exists() => return Ok((read(&kept.0)?, read(&kept.1)?)),
        None => self_signed().map_err(|error| StartError::Certificate(error.to_string()))?,
    };
    for (path, content) in [(&kept.0, &certificate), (&kept.1, &key)] {
        store::write_private(path, content.as_bytes()).map_err(|error| text(path, error))?;
    }
    Ok((certificate, key))
}

fn self_signed() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(["localhost".to_owned(), "0.0.0.0".to_owned()])?;
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(5 * 365);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, StartError> {
    let refused = |error: &dyn fmt::Display| StartError::Certificate(error.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| refused(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| refused(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refused(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen {
        address: address.to_owned(),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    instance: Arc<api::Instance>,
) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            connections.spawn(connect(
                stream,
                peer,
                acceptor.clone(),
                Arc::clone(&instance),
            ));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(
    mut stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    instance: Arc<api::Instance>,
) {
    let Some(acceptor) = acceptor else {
        return converse(stream, peer, instance).await;
    };
    let mut first = [0];
    // 0x16 begins a TLS handshake.
    if matches!(stream.peek(&mut first).await, Ok(1)) && first[0] != 0x16 {
        let text =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        // A client that is gone needs no answer; bytes left unread would reset the connection.
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(text).await;
        let _ = stream.shutdown().await;
        return;
    }
    if let Ok(stream) = acceptor.accept(stream).await {
        converse(stream, peer, instance).await;
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, instance: Arc<api::Instance>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| api::serve(Arc::clone(&instance), request, peer.ip()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new());
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}

/// Accepts and keeps, as a tunnel server whose clients never say anything.
async fn hold(listener: TcpListener) {
    let mut held = Vec::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    }
}
