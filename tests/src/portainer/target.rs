//! Reaching an environment for real: a Docker engine or an agent.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::store::Tls;

/// Time for everything that a look at an environment takes.
const LIMIT: Duration = Duration::from_secs(3);

/// An answer of the other side.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Asks an agent who it is: its version.
pub(super) async fn ping_agent(url: &str, tls: &Tls) -> Result<String, String> {
    // The scheme is https whatever the URL says.
    let tls = Tls {
        enabled: true,
        ..tls.clone()
    };
    let failed = |reason| {
        format!(
            "Get \"{}/ping\": {reason}",
            url.replacen("tcp://", "https://", 1)
        )
    };
    let answer = get(url, &tls, "/ping").await.map_err(failed)?;
    if answer.status != StatusCode::NO_CONTENT {
        return Err(format!(
            "Failed request with status {}",
            answer.status.as_u16()
        ));
    }
    let header = |name| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let version = header("portainer-agent").ok_or("Version Header is missing")?;
    let platform = header("portainer-agent-platform").ok_or("Agent Platform Header is missing")?;
    if platform == "0" {
        return Err("Agent platform is invalid".to_owned());
    }
    Ok(version.to_owned())
}

/// Whether anything answers `/_ping` (an engine) or, being an agent, says so in a header.
pub(super) async fn ping(url: &str, tls: &Tls) -> Result<bool, String> {
    let answer = get(url, tls, "/_ping").await?;
    Ok(answer.headers.contains_key("portainer-agent"))
}

/// Asks an engine how it is, and makes a snapshot of the answer.
pub(super) async fn snapshot(url: &str, tls: &Tls) -> Result<Value, String> {
    let failed = |reason| format!("error during connect: Get \"{url}/info\": {reason}");
    for path in ["/_ping", "/info"] {
        let answer = get(url, tls, path).await.map_err(failed)?;
        if !answer.status.is_success() {
            return Err(format!(
                "Error response from daemon: {}",
                answer.status.as_u16()
            ));
        }
        if path == "/info" {
            let info: Value =
                serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            return Ok(json!({
                "Time": OffsetDateTime::now_utc().unix_timestamp(),
                "DockerVersion": info["ServerVersion"],
                "Swarm": info["Swarm"]["ControlAvailable"] == json!(true),
                "NodeCount": info["Swarm"]["Nodes"],
                "TotalCPU": info["NCPU"], "TotalMemory": info["MemTotal"],
                "ContainerCount": info["Containers"],
                "RunningContainerCount": info["ContainersRunning"],
                "StoppedContainerCount": info["ContainersStopped"],
                "ImageCount": info["Images"],
            }));
        }
    }
    Err("no information".to_owned())
}

async fn get(url: &str, tls: &Tls, path: &str) -> Result<Answer, String> {
    match timeout(LIMIT, get_unlimited(url, tls, path)).await {
        Ok(result) => result,
        Err(_) => {
            let text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            Err(text.to_owned())
        }
    }
}

async fn get_unlimited(url: &str, tls: &Tls, path: &str) -> Result<Answer, String> {
    if let Some(socket) = url.strip_prefix("unix://") {
        let dial = |error| format!("dial unix {socket}: {error}");
        let stream = UnixStream::connect(socket).await.map_err(dial)?;
        return exchange(stream, "docker", path).await;
    }
    let address = url
        .split_once("://")
        .map_or(url, |(_, address)| address)
        .trim_end_matches('/');
    let dial = |error| format!("dial tcp {address}: {error}");
    let stream = TcpStream::connect(address).await.map_err(dial)?;
    if !tls.enabled {
        return exchange(stream, address, path).await;
    }
    let config = client_config(tls)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("tls: {error}"))?;
    exchange(stream, address, path).await
}

async fn exchange<S>(stream: S, host: &str, path: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| cause(&error))?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let result = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| cause(&error))?;
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| cause(&error))?
            .to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    };
    let result = result.await;
    driver.abort();
    result
}

/// The innermost reason, which is where TLS says why.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn client_config(tls: &Tls) -> Result<rustls::ClientConfig, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?;
    let builder = if tls.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(path) = &tls.ca {
            let pem =
                fs::read(path).map_err(|error| format!("open {}: {error}", path.display()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| text(&error))?;
                roots.add(certificate).map_err(|error| text(&error))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let read = |path: &std::path::Path| {
        fs::read(path).map_err(|error| format!("open {}: {error}", path.display()))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| "tls: failed to find any PEM data in key input")?;
    let chain = chain.map_err(|_| "tls: failed to find any PEM data in certificate input")?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| text(&error))
}

/// `InsecureSkipVerify`: any certificate, as long as the other side holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
