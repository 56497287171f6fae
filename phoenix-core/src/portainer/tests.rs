//! The client against a server that answers as the real one does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::ground::scripted::{Received, Reply, Scripted};
use crate::ground::{Deadline, SecretBytes};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn password() -> SecretBytes {
    SecretBytes::from("correct horse".to_owned())
}

async fn start(
    script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> (Scripted, Client) {
    let server = Scripted::start(script).await;
    let client = Client::new(&server.url(), &server.by_ca()).expect("client");
    (server, client)
}

/// A server that lets everybody in, and a session with it.
async fn session(
    script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (Scripted, Session) {
    let (server, client) = start(move |_, request| {
        if request.line.ends_with("/api/auth") {
            return Reply::json("200 OK", r#"{"jwt":"e30.e30.sig"}"#);
        }
        script(request)
    })
    .await;
    let session = client
        .login("admin", &password(), soon())
        .await
        .expect("in");
    (server, session)
}

fn no_content() -> Reply {
    Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
}

#[tokio::test]
async fn readiness_is_waited_for_and_a_lockout_is_told() {
    let (_server, client) = start(|number, _| match number {
        0 => Reply::json("502 Bad Gateway", "<html>"),
        1 => Reply::Close,
        _ => Reply::json("200 OK", r#"{"Version":"2.23.0","InstanceID":"abc"}"#),
    })
    .await;
    let status = client.await_ready(soon()).await.expect("ready");
    assert_eq!((&*status.version, &*status.instance_id), ("2.23.0", "abc"));

    let (server, client) = start(|_, _| {
        Reply::Raw(
            b"HTTP/1.1 303 See Other\r\nredirect-reason: AdminInitTimeout\r\n\
              Content-Length: 2\r\n\r\n{}"
                .to_vec(),
        )
    })
    .await;
    let error = client.await_ready(soon()).await.expect_err("locked");
    assert!(matches!(error, PortainerError::LockedOut), "{error:?}");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn another_certificate_is_not_waited_for() {
    let (server, _client) = start(|_, _| no_content()).await;
    for trust in [
        Trust::Fingerprint([1; 32]),
        Scripted::start(|_, _| no_content()).await.by_ca(),
    ] {
        let client = Client::new(&server.url(), &trust).expect("client");
        let error = client.await_ready(soon()).await.expect_err("untrusted");
        assert!(
            matches!(error, PortainerError::Untrusted { .. }),
            "{error:?}"
        );
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn an_instance_that_never_answers_ends_with_the_deadline() {
    let (_server, client) = start(|_, _| Reply::Silence).await;
    let deadline = Deadline::after(Duration::from_millis(300));
    let error = client.await_ready(deadline).await.expect_err("silence");
    assert!(error.is_ambiguous(), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_and_a_ban_are_told_after_one_try() {
    for (status, banned) in [("422 Unprocessable Entity", false), ("403 Forbidden", true)] {
        let (server, client) = start(move |_, _| {
            Reply::json(
                status,
                r#"{"message":"Invalid credentials","details":"Unauthorized"}"#,
            )
        })
        .await;
        let error = client
            .login("admin", &password(), soon())
            .await
            .expect_err("out");
        assert_eq!(matches!(error, PortainerError::Banned), banned, "{error:?}");
        assert_eq!(
            matches!(error, PortainerError::WrongPassword { .. }),
            !banned
        );
        assert!(!format!("{error} {error:?}").contains("horse"));
        assert_eq!(server.received().len(), 1);
    }
}

#[tokio::test]
async fn a_login_whose_answer_is_lost_is_not_repeated() {
    let (server, client) = start(|_, _| Reply::Close).await;
    let error = client
        .login("admin", &password(), soon())
        .await
        .expect_err("lost");
    assert!(error.is_ambiguous(), "{error:?}");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn the_first_admin_is_made_with_the_setup_token() {
    let (server, client) = start(|_, request| {
        if request.line.ends_with("/check") {
            return Reply::json(
                "404 Not Found",
                r#"{"message":"No administrator account found"}"#,
            );
        }
        match request.header("x-setup-token") {
            Some("ab12") => Reply::json("200 OK", r#"{"Id":1,"Password":"$2a$hash"}"#),
            _ => Reply::json("403 Forbidden", r#"{"message":"setup token required"}"#),
        }
    })
    .await;
    assert!(!client.admin_exists(soon()).await.expect("asked"));
    let error = client
        .init_admin("admin", &password(), None, soon())
        .await
        .expect_err("token wanted");
    assert_eq!(error.refusal().expect("rejected").status, 403);
    let token = SecretBytes::from("ab12".to_owned());
    client
        .init_admin("admin", &password(), Some(&token), soon())
        .await
        .expect("made");
    let body: serde_json::Value = serde_json::from_slice(&server.received()[2].body).expect("json");
    assert_eq!(body["Username"], "admin");
    assert_eq!(body["Password"], "correct horse");
}

#[tokio::test]
async fn an_admin_is_known_by_an_empty_answer() {
    let (_server, client) = start(|_, _| no_content()).await;
    assert!(client.admin_exists(soon()).await.expect("asked"));
}

#[tokio::test]
async fn a_session_is_a_bearer_token_and_never_a_cookie() {
    let (server, client) = start(|number, _| match number {
        0 => {
            let body = r#"{"jwt":"e30.e30.sig"}"#;
            Reply::Raw(
                format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: portainer_api_key=x; Path=/\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes(),
            )
        }
        _ => Reply::json(
            "200 OK",
            r#"[{"Id":3,"Name":"primary","Type":2,"URL":"tcp://tasks.agent:9001","Status":1,
                "TLSConfig":{"TLS":true,"TLSSkipVerify":true},"Snapshots":[]}]"#,
        ),
    })
    .await;
    let session = client
        .login("admin", &password(), soon())
        .await
        .expect("in");
    let environments = session.environments(soon()).await.expect("listed");
    let received = &server.received()[1];
    assert_eq!(received.header("authorization"), Some("Bearer e30.e30.sig"));
    assert!(received.header("cookie").is_none() && received.header("x-api-key").is_none());
    assert!(!format!("{session:?}").contains("e30"));
    let known = &environments[0];
    assert!(known.id == 3 && known.is_up());
    let url = "tcp://tasks.agent:9001";
    let agent = NewEnvironment::new("primary", EnvironmentKind::Agent, url);
    assert!(known.matches(&agent));
    for other in [
        NewEnvironment::new("primary", EnvironmentKind::Docker, url),
        NewEnvironment::new("other", EnvironmentKind::Agent, url),
        NewEnvironment::new("primary", EnvironmentKind::Agent, "tcp://agent:9001"),
    ] {
        assert!(!known.matches(&other));
    }
}

/// The text of a part of a multipart form.
fn part<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("name=\"{name}\""))?;
    let (_, rest) = rest.split_once("\r\n\r\n")?;
    rest.split_once("\r\n--").map(|(value, _)| value)
}

const CREATED: &str =
    r#"{"Id":1,"Name":"n","Type":1,"URL":"tcp://h:2376","Status":1,"TLSConfig":{}}"#;

#[tokio::test]
async fn environments_are_created_by_a_form_with_literal_flags() {
    let (server, session) = session(|_| Reply::json("200 OK", CREATED)).await;
    let tls = EnvironmentTls::new(b"CA".to_vec(), b"CERT".to_vec(), b"KEY".to_vec().into());
    let cases = [
        (
            NewEnvironment::new("a", EnvironmentKind::Agent, "tcp://tasks.agent:9001"),
            ["2", "true", "true", "true"],
            None,
        ),
        (
            NewEnvironment::new("s", EnvironmentKind::Docker, "unix:///var/run/docker.sock"),
            ["1", "false", "false", "false"],
            None,
        ),
        (
            NewEnvironment::new("t", EnvironmentKind::Docker, "tcp://h:2376").tls(tls),
            ["1", "true", "false", "false"],
            Some("KEY"),
        ),
    ];
    for (wanted, [kind, tls, skip, skip_client], key) in cases {
        session
            .create_environment(&wanted, soon())
            .await
            .expect("created");
        let received = server.received().pop().expect("request");
        assert!(received.header("content-length").is_some());
        let body = String::from_utf8(received.body).expect("text");
        let field = |name: &str| part(&body, name);
        assert_eq!(field("Name"), Some(&*wanted.name));
        assert_eq!(field("URL"), Some(&*wanted.url));
        assert_eq!(field("EndpointCreationType"), Some(kind));
        assert_eq!(field("TLS"), Some(tls));
        assert_eq!(field("TLSSkipVerify"), Some(skip));
        assert_eq!(field("TLSSkipClientVerify"), Some(skip_client));
        assert_eq!(field("TLSKeyFile"), key);
        assert!(!format!("{wanted:?}").contains("KEY"));
    }
}

#[tokio::test]
async fn an_environment_that_does_not_answer_yet_is_created_again_but_no_other() {
    let asked = AtomicUsize::new(0);
    let (server, session1) = session(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(
            "500 Internal Server Error",
            r#"{"message":"Unable to initiate communications with environment","details":"x"}"#,
        ),
        _ => Reply::json("200 OK", CREATED),
    })
    .await;
    let wanted = NewEnvironment::new("n", EnvironmentKind::Agent, "tcp://tasks.agent:9001");
    session1
        .create_environment(&wanted, soon())
        .await
        .expect("created");
    assert_eq!(server.count("POST /api/endpoints"), 2);

    let replies: [fn() -> Reply; 2] = [
        || Reply::json("409 Conflict", r#"{"message":"Name is not unique"}"#),
        || Reply::Close,
    ];
    for reply in replies {
        let (server, session) = session(move |_| reply()).await;
        session
            .create_environment(&wanted, soon())
            .await
            .expect_err("failed");
        assert_eq!(server.count("POST /api/endpoints"), 1);
    }
}

#[tokio::test]
async fn a_change_uploads_the_files_first_and_is_json() {
    let (server, session) = session(|request| {
        if request.line.contains("/upload/") {
            no_content()
        } else {
            Reply::json("200 OK", CREATED)
        }
    })
    .await;
    let tls = EnvironmentTls::new(b"CA".to_vec(), b"CERT".to_vec(), b"KEY".to_vec().into());
    let wanted = NewEnvironment::new("t", EnvironmentKind::Docker, "tcp://h:2376").tls(tls);
    session
        .update_environment(7, &wanted, soon())
        .await
        .expect("updated");
    let received = server.received();
    let lines: Vec<&str> = received[1..].iter().map(|r| r.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /api/upload/tls/ca",
            "POST /api/upload/tls/cert",
            "POST /api/upload/tls/key",
            "PUT /api/endpoints/7"
        ]
    );
    let body = String::from_utf8_lossy(&received[3].body).into_owned();
    assert_eq!(
        (part(&body, "folder"), part(&body, "file")),
        (Some("7"), Some("KEY"))
    );
    let json: serde_json::Value = serde_json::from_slice(&received[4].body).expect("json");
    assert_eq!(json["TLS"], true);
    assert_eq!(json["TLSSkipVerify"], false);
}

#[tokio::test]
async fn the_swarm_is_asked_for_and_environments_are_deleted() {
    let (server, session) = session(|request| match request.line.as_str() {
        "GET /api/endpoints/4/docker/swarm" => Reply::json("200 OK", r#"{"ID":"swarm1"}"#),
        "DELETE /api/endpoints/4" => no_content(),
        _ => Reply::json("405 Method Not Allowed", "plain text"),
    })
    .await;
    assert_eq!(session.swarm_id(4, soon()).await.expect("id"), "swarm1");
    session
        .delete_environment(4, soon())
        .await
        .expect("deleted");
    let error = session.swarm_id(5, soon()).await.expect_err("plain");
    assert_eq!(error.refusal().expect("rejected").message, "plain text");
    assert_eq!(server.received().len(), 4);
}
