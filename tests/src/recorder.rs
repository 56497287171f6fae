//! A proxy in front of an engine that writes down what it is asked.
//!
//! Invariants: every request goes to the engine as it came and every answer comes back as it was;
//! a request is recorded, with its answer, before the client has the answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::{LabError, Result};

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path without the API's version and without the query.
    pub path: String,
    /// The whole target, with version and query.
    pub target: String,
    /// The request's body.
    pub body: Bytes,
    /// The answer's status; 0 where the engine could not be asked.
    pub status: u16,
    /// The answer's body.
    pub answer: Bytes,
}

impl Exchange {
    /// The request's body as JSON; `Null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

type Record = Arc<Mutex<Vec<Exchange>>>;

/// A recording proxy at a unix socket. It ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    socket: PathBuf,
    record: Record,
    server: JoinHandle<()>,
}

impl Recorder {
    /// Listens at `socket` for the engine at `engine`.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn start(socket: impl Into<PathBuf>, engine: impl Into<PathBuf>) -> Result<Self> {
        let (socket, engine): (PathBuf, Arc<Path>) = (socket.into(), engine.into().into());
        let listener = UnixListener::bind(&socket).map_err(LabError::io("bind", &socket))?;
        let record = Record::default();
        let server = tokio::spawn(serve(listener, engine, record.clone()));
        Ok(Self {
            socket,
            record,
            server,
        })
    }

    /// The address as a docker client takes it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What was asked since the last call, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Exchange> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut record)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
        // It may be gone with its folder.
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(listener: UnixListener, engine: Arc<Path>, record: Record) {
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (engine, record) = (engine.clone(), record.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (engine, record) = (engine.clone(), record.clone());
                async move { forward(request, &engine, &record).await }
            });
            // A client that goes away ends its connection.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn forward(
    request: http::Request<Incoming>,
    engine: &Path,
    record: &Record,
) -> io::Result<http::Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = parts
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let mut exchange = Exchange {
        method: parts.method.to_string(),
        path: without_version(parts.uri.path()).to_owned(),
        target,
        body: body.clone(),
        status: 0,
        answer: Bytes::new(),
    };
    let answered = ask(engine, parts, body).await;
    if let Ok(answer) = &answered {
        exchange.status = answer.status().as_u16();
        exchange.answer = answer.body().clone();
    }
    record
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(exchange);
    Ok(answered?.map(Full::new))
}

async fn ask(
    engine: &Path,
    mut parts: http::request::Parts,
    body: Bytes,
) -> io::Result<http::Response<Bytes>> {
    let stream = UnixStream::connect(engine).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    // Both ends frame the body themselves.
    for header in ["connection", "transfer-encoding", "content-length"] {
        parts.headers.remove(header);
    }
    let request = http::Request::from_parts(parts, Full::new(body));
    let answer = async {
        let (mut parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        for header in ["connection", "transfer-encoding", "content-length"] {
            parts.headers.remove(header);
        }
        Ok::<_, hyper::Error>(http::Response::from_parts(parts, body))
    }
    .await;
    driver.abort();
    answer.map_err(io::Error::other)
}

/// `/v1.45/info` as `/info`.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v") else {
        return path;
    };
    match rest.split_once('/') {
        Some((version, _))
            if !version.is_empty() && version.chars().all(|c| c.is_ascii_digit() || c == '.') =>
        {
            &rest[version.len()..]
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Endpoint, Payload};

    #[test]
    fn a_path_is_told_from_its_version() {
        for (path, without) in [
            ("/v1.45/info", "/info"),
            ("/v1.45/services/create", "/services/create"),
            ("/info", "/info"),
            ("/volumes/x", "/volumes/x"),
            ("/v1.45", "/v1.45"),
            ("/_ping", "/_ping"),
        ] {
            assert_eq!(without_version(path), without);
        }
    }

    /// An engine that answers every request with its own words and a status of its length.
    async fn echo(listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: http::Request<Incoming>| {
                let method = request.method().clone();
                let target = request.uri().to_string();
                let agent = request.headers().get("user-agent").cloned();
                let body = request.into_body().collect().await?.to_bytes();
                let said = format!("{method} {target} {agent:?} {}", body.len());
                let answer = http::Response::builder()
                    .status(if body.is_empty() { 200 } else { 409 })
                    .header("api-version", "1.45")
                    .body(Full::new(Bytes::from(said)));
                Ok::<_, hyper::Error>(answer.expect("an answer"))
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    }

    #[tokio::test]
    async fn requests_and_answers_pass_and_are_recorded() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = folder.path().join("engine.sock");
        let server = tokio::spawn(echo(UnixListener::bind(&engine).expect("bind")));
        let recorder = Recorder::start(folder.path().join("proxy.sock"), &engine).expect("start");
        let proxy = Endpoint::Unix(folder.path().join("proxy.sock"));
        let answer = proxy.send("GET", "/v1.45/info?a=b", Payload::Empty).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("api-version"), Some("1.45"));
        assert_eq!(&answer.body[..], b"GET /v1.45/info?a=b None 0");
        let wish = serde_json::json!({ "Name": "a" });
        let payload = Payload::Json(wish.clone());
        let answer = proxy.send("POST", "/v1.45/services/create", payload).await;
        assert_eq!(answer.expect("an answer").status, 409);
        let record = recorder.take();
        let told: Vec<(&str, &str, u16)> = record
            .iter()
            .map(|exchange| (&*exchange.method, &*exchange.path, exchange.status))
            .collect();
        assert_eq!(
            told,
            [("GET", "/info", 200), ("POST", "/services/create", 409)]
        );
        assert_eq!(record[0].target, "/v1.45/info?a=b");
        assert_eq!(record[1].json(), wish);
        assert!(recorder.take().is_empty());
        // An engine that is gone is told as such, and recorded without a status.
        server.abort();
        std::fs::remove_file(&engine).expect("remove");
        assert!(proxy.send("GET", "/info", Payload::Empty).await.is_err());
        assert_eq!(recorder.take()[0].status, 0);
    }
}
