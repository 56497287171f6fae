//! The room against scripted engines.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::testing::{Authority, Reply, Scripted, Seen, ok, refused, soon};
use super::*;
use crate::ground::{Deadline, SecretBytes};

mod objects;
mod several;

fn reason(error: EngineError) -> Unreached {
    match error {
        EngineError::NotDelivered { reason, .. } => reason,
        other => panic!("not a failure to deliver: {other:?}"),
    }
}

#[tokio::test]
async fn requests_are_pinned_to_the_older_of_both_versions() {
    let script = |seen: &Seen| match seen.path.as_str() {
        "/version" => {
            ok(&json!({"Version": "29.0", "ApiVersion": "1.53", "MinAPIVersion": "1.44"}))
        }
        _ => ok(
            &json!({"ID": "E", "Name": "n", "ServerVersion": "29.0", "LiveRestoreEnabled": true}),
        ),
    };
    // The server asserts the version in every path, bollard's among them.
    for api in ["1.41", "1.45", "1.53"] {
        let (server, engine) = Scripted::unix_speaking(api, script);
        let info = engine.info(soon()).await.expect("info");
        assert!(info.live_restore_enabled);
        assert_eq!(info.swarm, SwarmState::Inactive);
        assert_eq!(
            engine.version(soon()).await.expect("version").version,
            "29.0"
        );
        assert_eq!(server.operations(), ["GET /info", "GET /version"]);
    }
    let (_server, engine) = Scripted::unix_speaking("1.40", script);
    let error = engine.info(soon()).await.expect_err("too old");
    assert!(matches!(error, EngineError::TooOld { .. }), "{error}");
}

#[tokio::test]
async fn an_observer_is_told_of_every_request_without_its_content() {
    let (_server, engine) = Scripted::unix(|_| ok(&json!({"ID": "x"})));
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let engine = engine.with_observer(move |exchange| {
        tell.lock().expect("lock").push(format!(
            "{} {} {:?}",
            exchange.method,
            exchange.path,
            exchange.status.map(|status| status.as_u16())
        ));
    });
    let secret = SecretBytes::from("s3cr3t".to_owned());
    engine
        .create_object(
            ObjectKind::Secret,
            "s",
            &BTreeMap::new(),
            &secret,
            None,
            soon(),
        )
        .await
        .expect("created");
    assert_eq!(
        *told.lock().expect("lock"),
        [
            "GET /_ping Some(200)",
            "POST /v1.45/secrets/create Some(200)"
        ]
    );
}

#[tokio::test]
async fn a_request_that_was_sent_is_told_from_one_that_was_not() {
    let directory = tempfile::tempdir().expect("directory");
    let engine = Engine::unix(directory.path().join("none.sock"));
    let error = engine.info(soon()).await.expect_err("no socket");
    assert!(error.is_transient());
    assert_eq!(reason(error), Unreached::NoSocket);

    let path = directory.path().join("deaf.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("socket"));
    let error = Engine::unix(path).info(soon()).await.expect_err("deaf");
    assert_eq!(reason(error), Unreached::Refused);

    let (_server, engine) = Scripted::unix(|_| Reply::Nothing);
    let spec = NetworkSpec::overlay("n");
    for error in [
        engine.info(soon()).await.expect_err("hung up"),
        engine.version(soon()).await.expect_err("hung up"),
        match engine.create_network(&spec, soon()).await {
            Err(NetworkError::Engine { source }) => source,
            other => panic!("{other:?}"),
        },
    ] {
        assert!(matches!(error, EngineError::Ambiguous { .. }), "{error:?}");
        assert!(error.may_have_run());
    }

    let (_server, engine) = Scripted::unix(|_| Reply::Silence);
    engine.ping(soon()).await.expect("ping");
    let brief = || Deadline::after(Duration::from_millis(300));
    for error in [
        engine.info(brief()).await.expect_err("silence"),
        engine.version(brief()).await.expect_err("silence"),
    ] {
        assert!(matches!(error, EngineError::Ambiguous { .. }), "{error:?}");
    }

    let (_server, engine) = Scripted::unix(|_| Reply::With(200, "{".to_owned()));
    for error in [
        engine.info(soon()).await.expect_err("no JSON"),
        engine.version(soon()).await.expect_err("no JSON"),
    ] {
        assert!(matches!(error, EngineError::Decode { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_engines_message_is_passed_on_from_json_and_from_plain_text() {
    let (_server, engine) = Scripted::unix(|seen| match seen.path.as_str() {
        "/info" => Reply::With(400, "client version 1.11 is too old\n".to_owned()),
        _ => refused(
            500,
            "rpc error: code = Unknown desc = update out of sequence",
        ),
    });
    let error = engine.info(soon()).await.expect_err("refused");
    assert!(
        error
            .to_string()
            .ends_with("(400): client version 1.11 is too old"),
        "{error}"
    );
    for error in [
        engine.nodes(soon()).await.expect_err("refused"),
        engine.networks(soon()).await.expect_err("refused"),
    ] {
        assert!(error.is(Refusal::UpdateOutOfSequence));
        assert!(
            error.to_string().ends_with("(500): update out of sequence"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn both_sides_of_tls_must_be_right() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let script = |_: &Seen| ok(&json!({"ID": "E"}));
    let server = authority.server(&["127.0.0.1", "localhost"]);
    let config = authority.server_config(&server);
    let (engine_server, port) = Scripted::tls(config, script).await;

    let identity = authority.identity(&authority.client());
    for host in ["127.0.0.1", "localhost"] {
        let engine = Engine::tcp_tls(host, port, &identity).expect("identity");
        assert_eq!(engine.info(soon()).await.expect("info").id, "E");
        engine.networks(soon()).await.expect_err("not a list");
    }
    assert_eq!(engine_server.seen().len(), 4);

    // A client certificate of another authority; the engine's answer to it is an alert, which
    // under TLS 1.3 comes after the client has begun to send.
    let mut wrong = authority.identity(&stranger.client());
    for _ in 0..20 {
        let engine = Engine::tcp_tls("127.0.0.1", port, &wrong).expect("identity");
        let error = engine.info(soon()).await.expect_err("refused");
        assert!(!error.is_transient(), "{error:?}");
        assert!(
            matches!(reason(error), Unreached::ClientCertificateRefused { .. }),
            "refused for another reason"
        );
    }
    assert_eq!(engine_server.seen().len(), 4, "nothing was delivered");

    wrong.ca_pem = stranger.pem().into_bytes();
    let engine = Engine::tcp_tls("127.0.0.1", port, &wrong).expect("identity");
    let error = engine.info(soon()).await.expect_err("unknown authority");
    assert_eq!(reason(error), Unreached::UnknownAuthority);

    let elsewhere = authority.server(&["elsewhere.example"]);
    let (_server, port) = Scripted::tls(authority.server_config(&elsewhere), script).await;
    let engine = Engine::tcp_tls("127.0.0.1", port, &identity).expect("identity");
    match reason(engine.info(soon()).await.expect_err("wrong name")) {
        Unreached::NameMismatch {
            expected,
            presented,
        } => {
            assert_eq!(expected, "127.0.0.1");
            assert!(presented[0].contains("elsewhere.example"), "{presented:?}");
        }
        other => panic!("{other:?}"),
    }

    let old = authority.server_until(&["127.0.0.1"], rcgen::date_time_ymd(2001, 1, 1));
    let (_server, port) = Scripted::tls(authority.server_config(&old), script).await;
    let engine = Engine::tcp_tls("127.0.0.1", port, &identity).expect("identity");
    let error = engine.info(soon()).await.expect_err("expired");
    assert_eq!(reason(error), Unreached::ServerCertificateExpired);
}

#[tokio::test]
async fn what_speaks_no_tls_is_named_and_a_closed_port_is_refused() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("port");
    let port = listener.local_addr().expect("address").port();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let authority = Authority::new();
    let identity = authority.identity(&authority.client());
    let engine = Engine::tcp_tls("127.0.0.1", port, &identity).expect("identity");
    let error = engine.info(soon()).await.expect_err("no TLS");
    assert_eq!(reason(error), Unreached::NotTls);
    server.abort();
    let _ = server.await;
    let error = engine.info(soon()).await.expect_err("closed");
    assert_eq!(reason(error), Unreached::Refused);
}

#[test]
fn an_unusable_identity_is_refused_without_showing_the_key() {
    let authority = Authority::new();
    let good = authority.identity(&authority.client());
    let with = |change: &dyn Fn(&mut TlsIdentity)| {
        let mut identity = good.clone();
        change(&mut identity);
        Engine::tcp_tls("h.example", 2376, &identity).expect_err("refused")
    };
    let ca = with(&|identity| identity.ca_pem = b"x".to_vec());
    assert!(matches!(ca, IdentityError::Authority { .. }));
    let chain = with(&|identity| identity.cert_chain_pem.clear());
    assert!(matches!(chain, IdentityError::Certificate { .. }));
    let key = with(&|identity| identity.key = SecretBytes::from("-----hunter2".to_owned()));
    assert!(matches!(key, IdentityError::Key));
    assert!(!format!("{key:?} {key}").contains("hunter2"));
    let other = authority.client().key;
    let mismatch = with(&|identity| identity.key = SecretBytes::from(other.clone()));
    assert!(matches!(mismatch, IdentityError::Mismatch { .. }));
    let host = Engine::tcp_tls("a b", 2376, &good).expect_err("host");
    assert!(matches!(host, IdentityError::Host { .. }));
}

#[tokio::test]
async fn names_are_compared_exactly_where_the_engine_matches_prefixes() {
    let (server, engine) = Scripted::unix(|seen| match seen.path.as_str() {
        "/networks" => ok(&json!([
            {"Name": "front-2", "Id": "n2", "Scope": "swarm", "Driver": "overlay"},
            {"Name": "front", "Id": "l1", "Scope": "local", "Driver": "bridge"},
            {"Name": "front", "Id": "n1", "Scope": "swarm", "Driver": "overlay",
             "IPAM": {"Config": null}, "Labels": null},
        ])),
        "/secrets" => ok(&json!([
            {"ID": "s2", "Spec": {"Name": "key-2"}},
            {"ID": "s1", "Version": {"Index": 7}, "CreatedAt": "2024-01-02T03:04:05.6Z",
             "Spec": {"Name": "key", "Labels": {"a": "b"}}},
        ])),
        "/configs" => ok(&Value::Null),
        "/services/web" => ok(&json!({"ID": "webservice0123", "Spec": {"Name": "other"}})),
        "/services/db" => ok(&json!({"ID": "1", "Spec": {"Name": "db"}})),
        "/nodes/abc" => ok(&json!({"ID": "abcdef", "Spec": {}})),
        _ => refused(404, "not found"),
    });
    let network = engine
        .find_network("front", soon())
        .await
        .expect("networks");
    assert_eq!(network.expect("found").id, "n1");
    assert_eq!(
        engine.find_network("fron", soon()).await.expect("none"),
        None
    );
    let secret = engine
        .find_object(ObjectKind::Secret, "key", soon())
        .await
        .expect("secrets")
        .expect("found");
    assert_eq!((secret.id.as_str(), secret.version), ("s1", 7));
    assert!(secret.created_at.is_some());
    let config = engine.find_object(ObjectKind::Config, "key", soon()).await;
    assert_eq!(config.expect("configs"), None);
    assert_eq!(
        engine.find_service("web", soon()).await.expect("other"),
        None
    );
    assert!(
        engine
            .find_service("db", soon())
            .await
            .expect("db")
            .is_some()
    );
    assert_eq!(engine.find_service("x", soon()).await.expect("none"), None);
    assert_eq!(engine.node("abc", soon()).await.expect("other"), None);
    assert_eq!(
        server.seen()[2].query("filters"),
        Some(r#"{"name":{"key":true}}"#)
    );
}

/// A place where log lines gather.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_key_or_token_is_logged_at_any_level() {
    const SECRET: &str = "hunter2-the-secret";
    const TOKEN: &str = "SWMTKN-1-hunter3-the-token";
    const PASSWORD: &str = "hunter4-the-password";
    let authority = Authority::new();
    let client = authority.client();
    let server = authority.server(&["127.0.0.1"]);
    let script = |seen: &Seen| match seen.operation().as_str() {
        "GET /swarm" => ok(&json!({"ID": "c", "JoinTokens": {"Worker": TOKEN, "Manager": TOKEN}})),
        "GET /info" => ok(&json!({"Swarm": {"LocalNodeState": "active", "NodeID": "w"}})),
        "POST /secrets/create" if seen.nth == 0 => refused(500, "swarm does not have a leader"),
        _ => ok(&json!({"ID": "x"})),
    };
    let (seen, port) = Scripted::tls(authority.server_config(&server), script).await;

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // Another test may have set it; either way `log` records reach this thread's subscriber.
    let _ = tracing_log::LogTracer::init();
    tracing_log::log::set_max_level(tracing_log::log::LevelFilter::Trace);

    let identity = authority.identity(&client);
    let engine = Engine::tcp_tls("127.0.0.1", port, &identity).expect("identity");
    let none = BTreeMap::new();
    let secret = SecretBytes::from(SECRET.to_owned());
    for kind in [ObjectKind::Secret, ObjectKind::Config] {
        engine
            .create_object(kind, "s", &none, &secret, None, soon())
            .await
            .expect("created");
    }
    let token = engine
        .join_token(NodeRole::Worker, soon())
        .await
        .expect("token");
    let options = JoinOptions {
        remote_addrs: vec!["10.0.0.1".to_owned()],
        ..JoinOptions::default()
    };
    engine
        .join_swarm(&token, &options, soon())
        .await
        .expect("joined");
    let auth = RegistryAuth::new("r.example", "u", &SecretBytes::from(PASSWORD.to_owned()));
    let auth = auth.expect("auth");
    engine
        .create_service(&json!({"Name": "web"}), Some(&auth), soon())
        .await
        .expect("created");
    let removed = engine.remove_volume("marker-volume", soon()).await;
    assert!(removed.expect("removed"));
    let shown = format!("{engine:?} {identity:?} {token:?} {auth:?}");

    let logged = lines.0.lock().expect("lock").clone();
    let logged = String::from_utf8_lossy(&logged) + shown.as_str();
    // What bollard sends is logged: the capture works, and this is why secrets go another way.
    assert!(logged.contains("marker-volume"), "the capture is deaf");
    let header = seen
        .seen()
        .iter()
        .find_map(|seen| seen.headers.get("X-Registry-Auth").cloned())
        .expect("credentials were sent");
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        SECRET.as_bytes(),
    );
    let key_line = client.key.lines().nth(1).expect("key");
    for hidden in [
        SECRET,
        TOKEN,
        PASSWORD,
        &encoded,
        header.to_str().expect("ascii"),
        key_line,
    ] {
        assert!(!logged.contains(hidden), "{hidden} was logged");
    }
}
