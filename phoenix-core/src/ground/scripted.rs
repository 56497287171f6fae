//! An HTTPS server for tests that answers as a script says, byte for byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Trust;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The fields of a form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body)
            .into_owned()
            .collect()
    }

    /// The value of a query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.line.split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// What the server does about a request.
pub(crate) enum Reply {
    /// These bytes; the connection stays open.
    Raw(Vec<u8>),
    /// These bytes; the connection is closed.
    Last(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
    /// No answer ever.
    Silence,
}

impl Reply {
    /// An answer with a body of JSON.
    pub(crate) fn json(status: &str, body: &str) -> Self {
        Self::Raw(
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json;charset=UTF-8\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        )
    }

    /// An answer without body or length, after which the connection is closed.
    pub(crate) fn bare(status: &str) -> Self {
        Self::Last(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").into_bytes())
    }
}

type Script = dyn Fn(usize, &Received) -> Reply + Send + Sync;

/// The server; it ends with the test's runtime.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: Vec<u8>,
    pub(crate) fingerprint: [u8; 32],
    received: Arc<Mutex<Vec<Received>>>,
}

impl Scripted {
    /// Starts a server that answers by `script`, which is told the number of the request, from 0.
    pub(crate) async fn start(
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("config");
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, made.cert.der()).as_ref());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let server = Self {
            address: listener.local_addr().expect("address"),
            ca_pem: made.cert.pem().into_bytes(),
            fingerprint,
            received: Arc::default(),
        };
        let script: Arc<Script> = Arc::new(script);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let received = Arc::clone(&server.received);
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                let received = Arc::clone(&received);
                let number = connection;
                connection += 1;
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        serve(&mut stream, number, &*script, &received).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("https://{}", self.address).parse().expect("url")
    }

    /// Trust by the server's own certificate as the only CA.
    pub(crate) fn by_ca(&self) -> Trust {
        Trust::CaPem(self.ca_pem.clone())
    }

    /// Trust by its fingerprint.
    pub(crate) fn by_fingerprint(&self) -> Trust {
        Trust::Fingerprint(self.fingerprint)
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("lock").clone()
    }

    /// How many requests so far had a line that holds `fragment`.
    pub(crate) fn count(&self, fragment: &str) -> usize {
        let received = self.received();
        received
            .iter()
            .filter(|r| r.line.contains(fragment))
            .count()
    }
}

async fn serve(
    stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    connection: usize,
    script: &Script,
    received: &Mutex<Vec<Received>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read(stream, &mut buffer, connection).await {
        let number = {
            let mut received = received.lock().expect("lock");
            received.push(request.clone());
            received.len() - 1
        };
        match script(number, &request) {
            Reply::Raw(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                let _ = stream.flush().await;
            }
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
        }
    }
}

async fn read(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).expect("ascii head");
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().expect("length"));
    while buffer.len() < end + 4 + length {
        more(stream, buffer).await?;
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(Received {
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body,
        connection,
    })
}

async fn more(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
