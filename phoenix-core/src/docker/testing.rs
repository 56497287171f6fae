//! A scripted engine for tests: an HTTP server in this process, on a unix socket or behind
//! mutual TLS on loopback.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::engine::Engine;
use super::transport::TlsIdentity;
use crate::ground::{Deadline, SecretBytes};

/// A deadline that no passing test reaches.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A request as the engine saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Without the API version.
    pub(crate) path: String,
    /// Decoded pairs.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How many of the same method and path came before.
    pub(crate) nth: usize,
}

impl Seen {
    pub(crate) fn operation(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What the engine answers.
pub(crate) enum Reply {
    /// This.
    With(u16, String),
    /// Nothing: the connection is closed.
    Nothing,
    /// Nothing, and the connection stays open.
    Silence,
}

pub(crate) fn ok(body: &Value) -> Reply {
    Reply::With(200, body.to_string())
}

pub(crate) fn refused(status: u16, message: &str) -> Reply {
    Reply::With(
        status,
        serde_json::json!({ "message": message }).to_string(),
    )
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct State {
    script: Box<Script>,
    api: &'static str,
    seen: Mutex<Vec<Seen>>,
}

/// The scripted engine; stops when dropped.
pub(crate) struct Scripted {
    state: Arc<State>,
    server: JoinHandle<()>,
    _directory: Option<tempfile::TempDir>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Scripted {
    fn state(
        api: &'static str,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Arc<State> {
        Arc::new(State {
            script: Box::new(script),
            api,
            seen: Mutex::new(Vec::new()),
        })
    }

    /// On a unix socket, speaking API 1.45.
    pub(crate) fn unix(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Self, Engine) {
        Self::unix_speaking("1.45", script)
    }

    pub(crate) fn unix_speaking(
        api: &'static str,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> (Self, Engine) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("socket");
        let state = Self::state(api, script);
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        let scripted = Self {
            state,
            server,
            _directory: Some(directory),
        };
        (scripted, Engine::unix(path))
    }

    /// Behind mutual TLS; returns its port.
    pub(crate) async fn tls(
        config: ServerConfig,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Self::state("1.45", script);
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, shared).await;
                    }
                });
            }
        });
        let scripted = Self {
            state,
            server,
            _directory: None,
        };
        (scripted, port)
    }

    /// All requests but pings.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("lock").clone()
    }

    /// Method and path of all requests but pings.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.seen().iter().map(Seen::operation).collect()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let full = |status: u16, body: String| {
        Response::builder()
            .status(status)
            .header("Api-Version", state.api)
            .body(Full::new(Bytes::from(body)))
            .expect("response")
    };
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if path == "/_ping" {
        return Ok(full(200, "OK".to_owned()));
    }
    let (version, path) = path[1..].split_once('/').expect("a versioned path");
    let newest = crate::docker::ApiVersion::NEWEST.to_string();
    let spoken = if state.api == "1.53" {
        &newest
    } else {
        state.api
    };
    assert_eq!(version, format!("v{spoken}"), "{path}");
    let method = head.method.to_string();
    let path = format!("/{path}");
    let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
    let seen = {
        let mut all = state.seen.lock().expect("lock");
        let seen = Seen {
            nth: all
                .iter()
                .filter(|seen| seen.method == method && seen.path == path)
                .count(),
            query: url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
            method,
            path,
            headers: head.headers,
            body,
        };
        all.push(seen.clone());
        seen
    };
    match (state.script)(&seen) {
        Reply::With(status, body) => Ok(full(status, body)),
        Reply::Nothing => Err(NoAnswer),
        Reply::Silence => std::future::pending().await,
    }
}

/// A certificate authority, and what it issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf certificate and its key, PEM.
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("issuer"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn server(&self, names: &[&str]) -> Leaf {
        self.server_until(names, rcgen::date_time_ymd(2099, 1, 1))
    }

    pub(crate) fn server_until(&self, names: &[&str], not_after: time::OffsetDateTime) -> Leaf {
        self.leaf(names, ExtendedKeyUsagePurpose::ServerAuth, not_after)
    }

    pub(crate) fn client(&self) -> Leaf {
        let not_after = rcgen::date_time_ymd(2099, 1, 1);
        self.leaf(&["phoenix"], ExtendedKeyUsagePurpose::ClientAuth, not_after)
    }

    fn leaf(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        not_after: time::OffsetDateTime,
    ) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("params");
        params.extended_key_usages = vec![usage];
        params.not_after = not_after;
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server that presents `leaf` and takes clients of this authority.
    pub(crate) fn server_config(&self, leaf: &Leaf) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .expect("verifier");
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("leaf")],
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("key"),
            )
            .expect("config")
    }

    /// A client of `leaf` that trusts this authority.
    pub(crate) fn identity(&self, leaf: &Leaf) -> TlsIdentity {
        TlsIdentity {
            ca_pem: self.pem().into_bytes(),
            cert_chain_pem: leaf.certificate.clone().into_bytes(),
            key: SecretBytes::from(leaf.key.clone()),
        }
    }
}
