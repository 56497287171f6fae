use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::pki::{
    Bundle, CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile, root_store,
};

const DAY: Duration = Duration::from_secs(86_400);
const SOON: Duration = Duration::from_secs(10);

fn issued() -> (EmbeddedCa, Bundle) {
    let parent = tempfile::tempdir().expect("directory");
    let parameters =
        CaParameters::new("Test", 3650 * DAY, 1825 * DAY, KeyType::default()).expect("valid");
    let (ca, _) =
        EmbeddedCa::open_or_create(&parent.path().join("ca"), &parameters).expect("created");
    let sans = vec!["web.lan".parse().expect("name")];
    let request =
        CertificateRequest::new("web", Profile::Server, sans, 30 * DAY, KeyType::default())
            .expect("valid");
    let bundle = ca
        .issue_at(&request, time::OffsetDateTime::now_utc())
        .expect("issued");
    (ca, bundle)
}

fn config(
    bundle: &Bundle,
    version: &'static SupportedProtocolVersion,
    clients: Option<&EmbeddedCa>,
) -> ServerConfig {
    let provider = crypto_provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("version");
    let builder = match clients {
        Some(ca) => {
            let roots = root_store(ca.root_pem().as_bytes()).expect("roots");
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("verifier"),
            )
        }
        None => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(bundle.chain_der(), bundle.key_der())
        .expect("identity")
}

/// A server for one connection: its port, and what it was asked for and read, or how the
/// handshake failed.
async fn serve(
    config: ServerConfig,
) -> (
    u16,
    JoinHandle<Result<(Option<String>, Vec<u8>), io::Error>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("address").port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await?;
        Ok((name, read))
    });
    (port, server)
}

#[tokio::test]
async fn what_is_served_is_seen_and_nothing_is_sent() {
    let (_, bundle) = issued();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (port, server) = serve(config(&bundle, version, None)).await;
        let chain = peer_chain("127.0.0.1", port, Some("web.lan"), Deadline::after(SOON))
            .await
            .expect("seen");
        assert_eq!(chain, bundle.chain_der());
        let (name, read) = server.await.expect("task").expect("a whole connection");
        assert_eq!(name.as_deref(), Some("web.lan"));
        assert_eq!(read, b"");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_seen_all_the_same() {
    let (ca, bundle) = issued();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (port, server) = serve(config(&bundle, version, Some(&ca))).await;
        let chain = peer_chain("127.0.0.1", port, None, Deadline::after(SOON))
            .await
            .expect("seen");
        assert_eq!(chain, bundle.chain_der());
        server.await.expect("task").expect_err("it lets nobody in");
    }
}

#[tokio::test]
async fn a_server_without_the_key_is_told_from_one_that_has_it() {
    let (_, bundle) = issued();
    let (_, other) = issued();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&other.key_der()).expect("key");
    // Skips rustls' check that key and certificate match.
    let mismatched = Arc::new(rustls::sign::SingleCertAndKey::from(
        rustls::sign::CertifiedKey::new(bundle.chain_der(), key),
    ));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[version])
            .expect("version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::<rustls::sign::SingleCertAndKey>::clone(&mismatched));
        let (port, server) = serve(config).await;
        let error = peer_chain("127.0.0.1", port, None, Deadline::after(SOON))
            .await
            .expect_err("not its certificate");
        assert!(matches!(error, ServedError::Unproven { .. }), "{error:?}");
        server.await.expect("task").expect_err("the client left");
    }
}

#[tokio::test]
async fn what_is_no_tls_server_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("address").port();
    let server = tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.expect("a connection");
        plain
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("answered");
        let (silent, _) = listener.accept().await.expect("a connection");
        silent
    });
    let error = peer_chain("127.0.0.1", port, None, Deadline::after(SOON))
        .await
        .expect_err("no TLS");
    assert!(matches!(error, ServedError::Handshake { .. }), "{error:?}");
    let wait = Duration::from_millis(300);
    let error = peer_chain("127.0.0.1", port, None, Deadline::after(wait))
        .await
        .expect_err("silence");
    assert!(matches!(error, ServedError::Elapsed { .. }), "{error:?}");
    drop(server.await.expect("task"));
    let error = peer_chain("127.0.0.1", port, None, Deadline::after(SOON))
        .await
        .expect_err("nobody listens");
    assert!(matches!(error, ServedError::Connect { .. }), "{error:?}");
    let error = peer_chain("127.0.0.1", port, Some("a b"), Deadline::after(SOON))
        .await
        .expect_err("no name");
    assert!(matches!(error, ServedError::ServerName { .. }), "{error:?}");
}
