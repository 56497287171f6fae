//! The stand-in for Portainer over the network, with small engines and agents as its targets.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phoenix_lab::portainer::{Options, Portainer, StartError, start};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::multipart::{Form, Part};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

const PASSWORD: &str = "a long enough password";

struct Lab {
    portainer: Portainer,
    data: TempDir,
    client: reqwest::Client,
}

async fn lab(change: impl FnOnce(&mut Options)) -> Lab {
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::loopback(data.path());
    change(&mut options);
    let portainer = start(options).await.unwrap();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Lab {
        portainer,
        data,
        client,
    }
}

struct Got {
    status: u16,
    kind: String,
    text: String,
    body: Value,
}

impl Lab {
    async fn with_admin() -> (Self, String) {
        let lab = lab(|_| {}).await;
        let init = json!({"Username": "admin", "Password": PASSWORD});
        assert_eq!(lab.post("/api/users/admin/init", &init).await.status, 200);
        let token = lab.log_in().await;
        (lab, token)
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("https://{}{path}", self.portainer.https());
        self.client.request(method.parse().unwrap(), url)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Got {
        let response = request.send().await.unwrap();
        let kind = response.headers().get("content-type");
        let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Got {
            status,
            kind,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(self.request("GET", path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Got {
        self.send(self.request("POST", path).json(body)).await
    }

    async fn log_in(&self) -> String {
        let got = self
            .post(
                "/api/auth",
                &json!({"username": "admin", "password": PASSWORD}),
            )
            .await;
        assert_eq!(got.status, 200, "{}", got.text);
        got.body["jwt"].as_str().unwrap().to_owned()
    }

    async fn create(&self, token: &str, form: Form) -> Got {
        self.send(
            self.request("POST", "/api/endpoints")
                .bearer_auth(token)
                .multipart(form),
        )
        .await
    }

    async fn environments(&self, token: &str) -> Value {
        self.send(self.request("GET", "/api/endpoints").bearer_auth(token))
            .await
            .body
    }
}

/// A CA with what an engine and its client need.
struct Pki {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let leaf = |names: &[&str], usage| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let pem = params.signed_by(&key, &issuer).unwrap().pem();
            (pem, key.serialize_pem())
        };
        Self {
            ca,
            server: leaf(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth),
            client: leaf(&["phoenix"], ExtendedKeyUsagePurpose::ClientAuth),
        }
    }

    fn acceptor(&self, clients: bool) -> tokio_rustls::TlsAcceptor {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate(&self.ca)).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap();
        let config = builder
            .with_single_cert(vec![certificate(&self.server.0)], key)
            .unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers as an engine does, or as an agent does.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, agent: bool) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let info =
            r#"{"ServerVersion":"26.1.5","NCPU":2,"Swarm":{"ControlAvailable":true,"Nodes":3}}"#;
        let text = match (agent, request.starts_with(b"GET /info")) {
            (true, _) => "HTTP/1.1 204 No Content\r\nPortainer-Agent: 2.21.4\r\n\
                          Portainer-Agent-Platform: 1\r\n\r\n"
                .to_owned(),
            (_, true) => format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{info}",
                info.len()
            ),
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_owned(),
        };
        let _ = stream.write_all(text.as_bytes()).await;
        return;
    }
}

async fn target(acceptor: Option<tokio_rustls::TlsAcceptor>, agent: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &acceptor {
                None => answer(stream, agent).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, agent).await;
                    }
                }
            }
        }
    });
    format!("tcp://{address}")
}

fn form(name: &str, kind: &str, url: &str) -> Form {
    let fields = [("Name", name), ("EndpointCreationType", kind), ("URL", url)];
    fields.into_iter().fold(Form::new(), |form, (key, value)| {
        form.text(key.to_owned(), value.to_owned())
    })
}

fn with_files(form: Form, pki: &Pki) -> Form {
    let part = |pem: &str| Part::bytes(pem.as_bytes().to_vec()).file_name("x.pem");
    form.text("TLS", "true")
        .part("TLSCACertFile", part(&pki.ca))
        .part("TLSCertFile", part(&pki.client.0))
        .part("TLSKeyFile", part(&pki.client.1))
}

#[tokio::test]
async fn a_volume_is_an_instance() {
    let first = lab(|_| {}).await;
    let status = first.get("/api/system/status").await;
    assert_eq!(status.body["Version"], "2.21.4");
    assert_eq!(first.get("/api/status").await.body, status.body);
    assert_eq!(
        first.get("/api/settings/public").await.body["RequiredPasswordLength"],
        12
    );
    let certificate = first.portainer.certificate_pem().to_owned();
    let Lab {
        portainer, data, ..
    } = first;
    portainer.shutdown().await;
    let again = start(Options::loopback(data.path())).await.unwrap();
    assert_eq!(again.certificate_pem(), certificate);
    let again = Lab {
        portainer: again,
        data,
        client: reqwest::Client::new(),
    };
    let url = format!(
        "http://{}/api/system/status",
        again.portainer.http().unwrap()
    );
    let body: Value = again
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(body, status.body);
    let other = lab(|_| {}).await;
    assert_ne!(
        other.get("/api/status").await.body["InstanceID"],
        status.body["InstanceID"]
    );
}

#[tokio::test]
async fn an_administrator_is_made_once() {
    let lab = lab(|_| {}).await;
    let check = lab.get("/api/users/admin/check").await;
    assert_eq!(check.status, 404);
    assert_eq!(
        check.body["message"],
        "No administrator account found inside the database"
    );
    let init = "/api/users/admin/init";
    let weak = lab
        .post(init, &json!({"Username": "admin", "Password": "short"}))
        .await;
    assert_eq!(
        (weak.status, &weak.body["message"]),
        (400, &json!("Password does not meet the requirements"))
    );
    let made = lab
        .post(init, &json!({"username": "admin", "PASSWORD": PASSWORD}))
        .await;
    assert_eq!((made.status, &made.body["Id"]), (200, &json!(1)));
    assert!(!made.text.contains(PASSWORD));
    let again = lab
        .post(init, &json!({"Username": "admin", "Password": PASSWORD}))
        .await;
    assert_eq!(again.status, 409);
    assert_eq!(lab.get("/api/users/admin/check").await.status, 204);
    let bad = lab
        .post(
            "/api/auth",
            &json!({"Username": "admin", "Password": "wrong"}),
        )
        .await;
    assert_eq!(
        (bad.status, &bad.body["message"]),
        (422, &json!("Invalid credentials"))
    );
    let token = lab.log_in().await;
    let me = lab
        .send(lab.request("GET", "/api/users/me").bearer_auth(token))
        .await
        .body;
    assert_eq!((&me["Id"], &me["Username"]), (&json!(1), &json!("admin")));
    assert_eq!(me["Password"], Value::Null);
    let stored = std::fs::read_to_string(lab.data.path().join("portainer.json")).unwrap();
    assert!(!stored.contains(PASSWORD));
}

#[tokio::test]
async fn the_password_file_is_read_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n\n")).unwrap();
    let lab = lab(|options| options.admin_password_file = Some(file)).await;
    assert_eq!(lab.get("/api/users/admin/check").await.status, 204);
    let log_in = async |password: &str| {
        lab.post(
            "/api/auth",
            &json!({"Username": "admin", "Password": password}),
        )
        .await
        .status
    };
    assert_eq!(log_in(PASSWORD).await, 422, "only one newline is cut");
    assert_eq!(log_in(&format!("{PASSWORD}\n")).await, 200);
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::loopback(data.path());
    options.admin_password_file = Some("/nonexistent/password".into());
    assert!(matches!(
        start(options).await,
        Err(StartError::AdminPasswordFile(_))
    ));
}

#[tokio::test]
async fn an_instance_left_open_locks_itself() {
    let lab = lab(|options| options.init_timeout = Duration::ZERO).await;
    for path in [
        "/api/system/status",
        "/api/users/admin/check",
        "/api/status?x=1",
    ] {
        let response = lab.request("GET", path).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 303, "{path}");
        assert_eq!(response.headers()["redirect-reason"], "AdminInitTimeout");
        assert!(!response.headers().contains_key("location"));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["message"], "Administrator initialization timeout");
    }
    assert_eq!(lab.get("/api/status").await.status, 200);
    assert_eq!(lab.get("/api/settings/public").await.status, 200);
}

#[tokio::test]
async fn keys_outlive_the_process_and_sessions_do_not() {
    let (lab, token) = Lab::with_admin().await;
    let tokens = "/api/users/1/tokens";
    let wanted = json!({"password": PASSWORD, "description": "phoenix"});
    let made = lab
        .send(
            lab.request("POST", tokens)
                .bearer_auth(&token)
                .json(&wanted),
        )
        .await;
    assert_eq!(made.status, 201);
    let key = made.body["rawAPIKey"].as_str().unwrap().to_owned();
    assert!(key.starts_with("ptr_"));
    let with_key = lab
        .request("POST", tokens)
        .header("x-api-key", &key)
        .json(&wanted);
    assert_eq!(lab.send(with_key).await.status, 401);
    let wrong = json!({"password": "wrong", "description": "phoenix"});
    let wrong = lab.request("POST", tokens).bearer_auth(&token).json(&wrong);
    assert_eq!(lab.send(wrong).await.status, 403);
    let both = lab
        .request("GET", "/api/endpoints")
        .bearer_auth(&token)
        .header("x-api-key", &key);
    assert_eq!(lab.send(both).await.status, 403);
    let cookie = lab
        .request("POST", tokens)
        .header("cookie", format!("portainer_api_key={token}"));
    let cookie = lab.send(cookie.json(&wanted)).await;
    assert_eq!(
        (cookie.status, cookie.body),
        (403, Value::Null),
        "not even JSON"
    );

    let Lab {
        portainer,
        data,
        client,
    } = lab;
    portainer.shutdown().await;
    let portainer = start(Options::loopback(data.path())).await.unwrap();
    let lab = Lab {
        portainer,
        data,
        client,
    };
    let old = lab.request("GET", "/api/endpoints").bearer_auth(&token);
    assert_eq!(lab.send(old).await.status, 401);
    let kept = lab
        .request("GET", "/api/endpoints")
        .header("x-api-key", &key);
    assert_eq!(lab.send(kept).await.body, json!([]));
    let path = format!("{tokens}/{}", made.body["apiKey"]["id"]);
    let delete = lab.request("DELETE", &path).header("x-api-key", &key);
    assert_eq!(lab.send(delete).await.status, 204);
    let gone = lab
        .request("GET", "/api/endpoints")
        .header("x-api-key", &key);
    assert_eq!(lab.send(gone).await.status, 401);
}

#[tokio::test]
async fn eager_callers_are_banned() {
    let lab = lab(|options| options.attempts = 0).await;
    let body = json!({"Username": "admin", "Password": "x"});
    let banned = lab.post("/api/auth", &body).await;
    assert_eq!(
        (banned.status, &banned.body["message"]),
        (403, &json!("Access denied"))
    );
    let tokens = lab.post("/api/users/1/tokens", &body).await;
    assert_eq!(tokens.status, 403);
    assert_eq!(lab.get("/api/status").await.status, 200);
}

#[tokio::test]
async fn engines_are_reached_with_the_given_files() {
    let (lab, token) = Lab::with_admin().await;
    let (pki, foreign) = (Pki::new(), Pki::new());
    let url = target(Some(pki.acceptor(true)), false).await;
    let bad = lab
        .create(&token, with_files(form("one", "1", &url), &foreign))
        .await;
    assert_eq!(bad.status, 500);
    assert_eq!(
        bad.body["message"],
        "Unable to initiate communications with environment"
    );
    let mixed = Pki {
        client: foreign.client,
        ..Pki {
            ca: pki.ca.clone(),
            ..Pki::new()
        }
    };
    let bad = lab
        .create(&token, with_files(form("one", "1", &url), &mixed))
        .await;
    assert_eq!(
        bad.status, 500,
        "the engine refuses the client: {}",
        bad.text
    );
    assert_eq!(lab.environments(&token).await, json!([]));
    assert!(
        !lab.data.path().join("tls/1").exists(),
        "nothing is left of what failed"
    );

    let good = lab
        .create(&token, with_files(form("one", "1", &url), &pki))
        .await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(
        (&good.body["Type"], &good.body["Status"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(good.body["TLSConfig"]["TLS"], true);
    let id = good.body["Id"].as_u64().unwrap();
    let key = lab.data.path().join(format!("tls/{id}/key.pem"));
    assert_eq!(good.body["TLSConfig"]["TLSKey"], json!(key));
    assert_eq!(std::fs::read_to_string(&key).unwrap(), pki.client.1);
    let listed = lab.environments(&token).await;
    assert_eq!(listed[0]["Snapshots"][0]["NodeCount"], 3);
    let again = lab
        .create(&token, with_files(form("one", "1", &url), &pki))
        .await;
    assert_eq!(
        (again.status, &again.body["message"]),
        (409, &json!("Name is not unique"))
    );

    let path = format!("/api/endpoints/{id}");
    let rename = json!({"Name": "two", "publicurl": "10.0.0.1"});
    let put = lab
        .send(lab.request("PUT", &path).bearer_auth(&token).json(&rename))
        .await;
    assert_eq!(
        (&put.body["Name"], &put.body["URL"]),
        (&json!("two"), &json!(url))
    );
    let upload = Form::new()
        .text("folder", id.to_string())
        .part("file", Part::text("new"));
    let upload = lab
        .request("POST", "/api/upload/tls/key")
        .bearer_auth(&token)
        .multipart(upload);
    assert_eq!(lab.send(upload).await.status, 204);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "new");
    let found = lab.request("GET", "/api/endpoints?name=two&excludeSnapshots=true");
    let found = found.bearer_auth(&token).send().await.unwrap();
    assert_eq!(found.headers()["x-total-count"], "1");
    let delete = lab
        .send(lab.request("DELETE", &path).bearer_auth(&token))
        .await;
    assert_eq!((delete.status, delete.text.as_str()), (204, ""));
    assert!(!key.exists());
    let gone = lab
        .send(lab.request("DELETE", &path).bearer_auth(&token))
        .await;
    assert_eq!((gone.status, gone.kind.as_str()), (404, "application/json"));
}

#[tokio::test]
async fn sockets_and_agents_are_environments_too() {
    let (lab, token) = Lab::with_admin().await;
    let socket = lab.data.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, false).await;
        }
    });
    let local = lab
        .create(
            &token,
            form("local", "1", &format!("unix://{}", socket.display())),
        )
        .await;
    assert_eq!(local.status, 200, "{}", local.text);
    let agent = target(Some(Pki::new().acceptor(false)), true).await;
    let plain = lab.create(&token, form("agent", "2", &agent)).await;
    assert_eq!(
        (plain.status, &plain.body["message"]),
        (500, &json!("Unable to get environment type"))
    );
    let skipping = |form: Form| {
        form.text("TLS", "true")
            .text("TLSSkipVerify", "true")
            .text("TLSSkipClientVerify", "true")
    };
    let made = lab
        .create(&token, skipping(form("agent", "2", &agent)))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(
        (&made.body["Type"], &made.body["Agent"]["Version"]),
        (&json!(2), &json!("2.21.4"))
    );
    let engine = target(Some(Pki::new().acceptor(false)), false).await;
    let wrong = lab
        .create(&token, skipping(form("engine", "2", &engine)))
        .await;
    assert_eq!(wrong.body["details"], "Failed request with status 200");
    let closed = lab
        .create(&token, skipping(form("closed", "2", "tcp://127.0.0.1:1")))
        .await;
    assert!(
        closed.body["details"]
            .as_str()
            .unwrap()
            .contains("dial tcp 127.0.0.1:1")
    );
    let loose = form("loose", "2", &agent).text("TLS", "True");
    assert_eq!(
        lab.create(&token, loose).await.status,
        500,
        "only `true` is true"
    );
    assert_eq!(lab.environments(&token).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn forms_and_paths_that_are_refused() {
    let (lab, token) = Lab::with_admin().await;
    let json = lab
        .request("POST", "/api/endpoints")
        .bearer_auth(&token)
        .json(&json!({"Name": "x"}));
    assert_eq!(lab.send(json).await.status, 400);
    let nameless = lab
        .create(&token, Form::new().text("EndpointCreationType", "1"))
        .await;
    assert_eq!(nameless.body["details"], "Invalid environment name");
    let without = form("x", "1", "tcp://127.0.0.1:1").text("TLS", "true");
    let without = lab.create(&token, without).await;
    assert_eq!(
        (without.status, &without.body["message"]),
        (400, &json!("Invalid request payload"))
    );
    let stranger = lab.get("/api/endpoints").await;
    assert_eq!(stranger.status, 401);
    assert_eq!(
        stranger.body["message"],
        "A valid authorization token is missing"
    );
    let none = lab.get("/api/nosuch").await;
    assert_eq!(
        (none.status, none.kind.as_str()),
        (404, "text/plain; charset=utf-8")
    );
    assert_eq!(none.text, "404 page not found\n");
    let wrong = lab.send(lab.request("PUT", "/api/auth")).await;
    assert_eq!((wrong.status, wrong.text.as_str()), (405, ""));
}

#[tokio::test]
async fn the_host_of_the_command_line_becomes_primary() {
    let url = target(None, false).await;
    let first = lab(|options| options.host = Some(url.clone())).await;
    let init = json!({"Username": "admin", "Password": PASSWORD});
    assert_eq!(first.post("/api/users/admin/init", &init).await.status, 200);
    let token = first.log_in().await;
    let environments = loop {
        let environments = first.environments(&token).await;
        if environments != json!([]) {
            break environments;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(
        (&environments[0]["Name"], &environments[0]["URL"]),
        (&json!("primary"), &json!(url))
    );
    let mut dead = lab(|options| options.host = Some("tcp://127.0.0.1:1".to_owned())).await;
    dead.post("/api/users/admin/init", &init).await;
    let reason = dead.portainer.failed().await;
    assert!(
        reason.starts_with("failed initializing environment: dial tcp"),
        "{reason}"
    );
    let data = tempfile::tempdir().unwrap();
    let host = Some("http://x".to_owned());
    let options = Options {
        host,
        ..Options::loopback(data.path())
    };
    assert!(matches!(start(options).await, Err(StartError::Flags(_))));
}

#[tokio::test]
async fn the_given_certificate_is_served_and_http_stays_disabled() {
    let pki = Pki::new();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (certificate, key) = (write("cert", &pki.server.0), write("key", &pki.server.1));
    let first = lab(|options| {
        options.sslcert = Some(certificate);
        options.sslkey = Some(key);
        options.http_disabled = true;
        // Never the server's own before 2.33.2, and read only with `-H`.
        options.tlscert = Path::new("/nonexistent").to_owned();
        options.tlsverify = true;
    })
    .await;
    let ca = reqwest::Certificate::from_pem(pki.ca.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .build()
        .unwrap();
    let url = format!("https://{}/api/status", first.portainer.https());
    assert_eq!(client.get(url).send().await.unwrap().status().as_u16(), 200);
    assert_eq!(first.portainer.http(), None);
    TcpStream::connect(first.portainer.tunnel()).await.unwrap();
    let mut plain = TcpStream::connect(first.portainer.https()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut text = String::new();
    plain.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.0 400 Bad Request"), "{text}");
    let Lab {
        portainer, data, ..
    } = first;
    portainer.shutdown().await;
    let again = start(Options::loopback(data.path())).await.unwrap();
    assert_eq!(again.http(), None, "remembered");
    assert_eq!(again.certificate_pem(), pki.server.0, "copied");
    again.shutdown().await;
    let open = Options {
        http_enabled: true,
        ..Options::loopback(data.path())
    };
    assert!(start(open).await.unwrap().http().is_some());
}
