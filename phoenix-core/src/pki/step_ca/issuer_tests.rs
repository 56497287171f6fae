//! Servers that lie, lose answers or make no sense.

use std::sync::{Arc, OnceLock};

use super::*;
use crate::ground::SecretBytes;
use crate::ground::scripted::{Received, Reply, Scripted};
use crate::pki::request::KeyType;
use crate::pki::step_ca::jwe::tests::sealed;

/// The key of RFC 7515, appendix A.3.
const JWK: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

/// A server that hands out its own certificate as the root and answers the rest by `script`.
async fn server(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> (Scripted, StepCa) {
    let root: Arc<OnceLock<String>> = Arc::default();
    let known = Arc::clone(&root);
    let server = Scripted::start(move |_, received| {
        if received.line.contains(" /1.0/root/") {
            let root = known.get().cloned().unwrap_or_default();
            return Reply::json("200 OK", &serde_json::json!({"ca": root}).to_string());
        }
        script(received)
    })
    .await;
    let pem = String::from_utf8(server.ca_pem.clone()).expect("PEM");
    root.set(pem).expect("set once");
    let ca = StepCa::new(settings(&server));
    (server, ca)
}

fn settings(server: &Scripted) -> StepCaSettings {
    StepCaSettings::new(
        server.url(),
        server.fingerprint,
        BTreeMap::from([(Profile::Client, "ops".to_owned())]),
        SecretBytes::from("secret".to_owned()),
    )
}

/// The list with the one provisioner, on its second page, and its key, which is asked for.
fn provisioner(received: &Received) -> Option<Reply> {
    if received.line.contains("/encrypted-key") {
        let key = sealed(10, "A256GCM", &[9; 32], b"secret", JWK.as_bytes());
        let body = serde_json::json!({"key": key}).to_string();
        return Some(Reply::json("200 OK", &body));
    }
    if received.query("cursor")?.is_empty() {
        return Some(Reply::json(
            "200 OK",
            r#"{"provisioners":[{"type":"ACME","name":"ops","extra":1}],"nextCursor":"abc"}"#,
        ));
    }
    Some(Reply::json(
        "200 OK",
        r#"{"provisioners":[{"type":"JWK","name":"ops","key":{"kid":"k1"}}],"nextCursor":""}"#,
    ))
}

fn request() -> CertificateRequest {
    CertificateRequest::new(
        "app",
        Profile::Client,
        vec!["app.lan".parse().expect("name")],
        Duration::from_secs(3600),
        KeyType::EcdsaP256,
    )
    .expect("request")
}

async fn refused(ca: &StepCa) -> StepCaError {
    let deadline = Deadline::after(Duration::from_secs(20));
    match ca.issue(&request(), deadline).await.expect_err("refused") {
        IssueError::StepCa(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_root_than_the_pinned_one_is_trusted_by_nobody() {
    let (server, _) = server(|_| Reply::bare("500 Oops")).await;
    let mut settings = settings(&server);
    settings.fingerprint[31] ^= 1;
    let error = refused(&StepCa::new(settings)).await;
    assert!(matches!(error, StepCaError::Fingerprint { .. }), "{error}");
    assert_eq!(server.received().len(), 1, "nothing is asked after that");
}

#[tokio::test]
async fn a_signing_whose_answer_is_lost_is_not_repeated() {
    let (server, ca) = server(|received| provisioner(received).unwrap_or(Reply::Close)).await;
    let error = refused(&ca).await;
    assert!(matches!(error, StepCaError::Lost { .. }), "{error}");
    assert_eq!(server.count("POST /1.0/sign"), 1);
    assert_eq!(server.count("/provisioners/k1/encrypted-key"), 1);
    // What is known of the server is kept; a new attempt brings a new token.
    refused(&ca).await;
    assert_eq!(server.count("/root/"), 1);
    assert_eq!(server.count("/encrypted-key"), 1);
    let tokens: Vec<serde_json::Value> = server
        .received()
        .iter()
        .filter(|received| received.line.contains("/sign"))
        .map(|received| serde_json::from_slice(&received.body).expect("JSON"))
        .collect();
    assert_ne!(tokens[0]["ott"], tokens[1]["ott"]);
    assert_eq!(tokens[0]["notAfter"], "3600s");
}

#[tokio::test]
async fn a_refusal_is_quoted_and_two_401_are_explained() {
    let (server, ca) = server(|received| {
        provisioner(received)
            .unwrap_or_else(|| Reply::json("401 Unauthorized", r#"{"status":401,"message":"no"}"#))
    })
    .await;
    let error = refused(&ca).await;
    let StepCaError::Unauthorized(found) = &error else {
        panic!("{error:?}");
    };
    assert_eq!((found.skew_seconds, found.key_id.as_str()), (None, "k1"));
    assert_eq!(server.count("POST /1.0/sign"), 2);
    let sent = server.received();
    let last = sent
        .last()
        .and_then(|received| received.header("x-request-id"));
    assert_eq!(last, Some(found.request_id.as_str()));

    let (_server, ca) = self::server(|received| {
        provisioner(received).unwrap_or_else(|| {
            Reply::json(
                "403 Forbidden",
                r#"{"status":403,"message":"policy\u0007"}"#,
            )
        })
    })
    .await;
    match refused(&ca).await {
        StepCaError::Refused {
            status, message, ..
        } => assert_eq!((status, message.as_str()), (403, "policy")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_without_sense_are_told() {
    for nonsense in [
        "",
        "null",
        "{}",
        r#"{"crt":"x","ca":"y","certChain":["z"]}"#,
        r#"{"crt":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----","ca":""}"#,
    ] {
        let (_server, ca) = server(move |received| {
            provisioner(received).unwrap_or_else(|| Reply::json("201 Created", nonsense))
        })
        .await;
        let deadline = Deadline::after(Duration::from_secs(20));
        let error = ca.issue(&request(), deadline).await.expect_err(nonsense);
        assert!(
            matches!(
                error,
                IssueError::StepCa(StepCaError::Malformed { .. }) | IssueError::Unreadable(_)
            ),
            "{nonsense}: {error:?}"
        );
    }
    let circle = r#"{"provisioners":[],"nextCursor":"abc"}"#;
    let (server, ca) = server(move |_| Reply::json("200 OK", circle)).await;
    let error = refused(&ca).await;
    assert!(matches!(error, StepCaError::Malformed { .. }), "{error}");
    assert!(server.received().len() <= MOST_PAGES + 1);
}

#[tokio::test]
async fn a_server_without_provisioners_is_told() {
    for list in [
        r#"{"provisioners":null}"#,
        r#"{"provisioners":[],"nextCursor":""}"#,
    ] {
        let (_server, ca) = server(move |_| Reply::json("200 OK", list)).await;
        let deadline = Deadline::after(Duration::from_secs(20));
        for error in [
            refused(&ca).await,
            ca.probe(deadline).await.expect_err("none"),
        ] {
            assert_eq!(
                error.to_string(),
                "step-ca has no JWK provisioner `ops`; it has none"
            );
        }
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let (_server, ca) = server(|_| Reply::Silence).await;
    let deadline = Deadline::after(Duration::from_millis(500));
    let error = ca.probe(deadline).await.expect_err("silence");
    assert!(matches!(error, StepCaError::Elapsed { .. }), "{error}");
    assert!(error.is_unreachable());
}

#[test]
fn what_is_shown_has_no_password() {
    let settings = StepCaSettings::new(
        "https://ca.lan".parse().expect("url"),
        [0; 32],
        BTreeMap::new(),
        SecretBytes::from("hunter2".to_owned()),
    );
    let shown = format!("{:?}", StepCa::new(settings));
    assert!(!shown.contains("hunter2"), "{shown}");
}
