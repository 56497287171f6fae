//! What the benchmarks of `phoenix-core` share: sites of any size, and engines that answer at
//! once.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;

/// The text of a site file with so many guests, each with an engine on a socket in `sockets`, a
/// certificate and a secret of it.
#[must_use]
pub fn site(guests: usize, sockets: &Path) -> String {
    let mut text = String::from("site: bench\nguests:\n");
    for number in 0..guests {
        let role = if number == 0 { "manager" } else { "worker" };
        let _ = writeln!(
            text,
            "  g{number}: {{ docker: {{ address: \"unix://{}/{number}.sock\" }}, swarm: {{ role: {role}, advertise: 10.0.0.1, labels: {{ n: \"{number}\" }} }} }}",
            sockets.display()
        );
    }
    text.push_str("certificates:\n");
    for number in 0..guests {
        let _ = writeln!(
            text,
            "  c{number}: {{ common_name: g{number}.bench.lan, profile: peer, sans: [g{number}.bench.lan, \"*.g{number}.bench.lan\"], deliver: [{{ secrets: {{ chain: cert{number}, key: key{number} }} }}] }}"
        );
    }
    text
}

/// Engines that belong to no swarm and answer at once, one on each of `count` sockets in
/// `sockets`. They live as long as the runtime.
///
/// # Errors
/// When a socket cannot be made.
pub fn engines(count: usize, sockets: &Path) -> io::Result<()> {
    for number in 0..count {
        let listener = UnixListener::bind(sockets.join(format!("{number}.sock")))?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A client that goes away ends its connection, and that is all.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                });
            }
        });
    }
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.uri().path().ends_with("/_ping") {
        "OK".to_owned()
    } else {
        json!({ "ID": "x", "ServerVersion": "26.1.5", "Swarm": { "LocalNodeState": "inactive" } })
            .to_string()
    };
    let mut response = Response::new(Full::from(body));
    response
        .headers_mut()
        .insert("Api-Version", http::HeaderValue::from_static("1.45"));
    Ok(response)
}
