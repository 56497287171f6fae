//! The Proxmox API server on the wire, in front of a scripted agent. Its behaviour in front of real
//! agents belongs to the lab's suite.
#![allow(clippy::unwrap_used, missing_docs)]

mod scripted_agent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use phoenix_lab::proxmox_api::{
    Fault, Filter, Privileges, Recorded, Server, ServerOptions, Token, Vm, VmControl,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use scripted_agent::ScriptedAgent;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const AUTHORIZATION: &str = "PVEAPIToken=root@pam!lab=4f7a";

struct Switch(AtomicBool);

#[async_trait::async_trait]
impl VmControl for Switch {
    async fn is_running(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    async fn start(&self) -> Result<(), String> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn stop(&self) -> Result<(), String> {
        self.0.store(false, Ordering::SeqCst);
        Ok(())
    }
}

struct Lab {
    server: Server,
    agent: ScriptedAgent,
    power: Arc<Switch>,
    client: reqwest::Client,
}

/// Time limits for tests in which an agent is silent.
fn impatient(options: &mut ServerOptions) {
    options.ping_timeout = Duration::from_millis(400);
    options.command_timeout = Duration::from_millis(600);
}

async fn lab(change: impl FnOnce(&mut ServerOptions)) -> Lab {
    let agent = ScriptedAgent::start();
    let power = Arc::new(Switch(AtomicBool::new(true)));
    let mut options = ServerOptions::loopback();
    options.vms.push(Vm {
        vmid: 100,
        name: "manager".to_owned(),
        node: "pve1".to_owned(),
        agent_socket: agent.socket.clone(),
        agent_enabled: true,
        control: Arc::clone(&power) as Arc<dyn VmControl>,
    });
    options.tokens = vec![
        Token::administrator("root@pam!lab", "4f7a"),
        Token {
            id: "root@pam!weak".to_owned(),
            secret: "0".to_owned(),
            privileges: Privileges::of(["VM.Audit"]),
        },
    ];
    options.unauthorized_delay = Duration::from_millis(20);
    options.crash_delay = Duration::from_millis(10);
    change(&mut options);
    let server = Server::start(options).await.unwrap();
    let ca = reqwest::Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Lab {
        server,
        agent,
        power,
        client,
    }
}

struct Got {
    status: u16,
    reason: String,
    body: Value,
}

impl Lab {
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.server.url());
        self.client
            .request(method.parse().unwrap(), url)
            .header("authorization", AUTHORIZATION)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Got {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
        let body = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Got {
            status,
            reason: reason.unwrap_or_default(),
            body,
        }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(self.request("GET", path)).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Got {
        self.send(self.request("POST", path).form(form)).await
    }

    async fn exec(&self, words: &[&str], input: Option<&str>) -> i64 {
        let mut form: Vec<_> = words.iter().map(|word| ("command", *word)).collect();
        form.extend(input.map(|input| ("input-data", input)));
        let got = self
            .post("/api2/extjs/nodes/pve1/qemu/100/agent/exec", &form)
            .await;
        assert_eq!(got.body["success"], 1, "{}", got.body);
        got.body["data"]["pid"].as_i64().unwrap()
    }

    async fn exec_status(&self, pid: i64) -> Value {
        let path = format!("/api2/extjs/nodes/pve1/qemu/100/agent/exec-status?pid={pid}");
        self.get(&path).await.body
    }

    /// Sends bytes over TLS and returns all that comes until the server closes.
    async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.server.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(self.server.address())
            .await
            .unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A connection dropped without TLS's goodbye reads as an error after the data.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }
}

#[tokio::test]
async fn unknown_callers_wait_and_get_nothing_but_a_reason() {
    let lab = lab(|options| options.unauthorized_delay = Duration::from_millis(120)).await;
    let began = Instant::now();
    let answer = lab
        .raw(b"GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(began.elapsed() >= Duration::from_millis(120));
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 401 No ticket\r\n"), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"));
    assert!(!text.contains("Content-"));
    assert!(text.ends_with("\r\n\r\n"));
    let wrong = lab
        .client
        .get(format!("{}/api2/extjs/version", lab.server.url()));
    let got = lab
        .send(wrong.header("authorization", "PVEAPIToken=root@pam!lab=x"))
        .await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (401, "Authentication failed!")
    );
    let both = lab
        .request("GET", "/api2/extjs/version")
        .header("cookie", "PVEAuthCookie=x");
    assert_eq!(lab.send(both).await.status, 401, "a cookie wins");
}

#[tokio::test]
async fn simple_reads() {
    let lab = lab(|_| {}).await;
    assert_eq!(
        lab.get("/api2/json/version").await.body["data"]["release"],
        "9.1"
    );
    let nodes = lab.get("/api2/json/nodes").await.body;
    assert_eq!(
        nodes["data"][0]["ssl_fingerprint"],
        lab.server.fingerprint()
    );
    let rows = lab.get("/api2/json/cluster/resources?type=vm").await.body;
    assert_eq!(rows["data"][0]["vmid"], 100);
    assert_eq!(rows["data"][0]["status"], "running");
    let status = lab
        .get("/api2/extjs/nodes/pve1/qemu/100/status/current")
        .await
        .body;
    assert_eq!(status["success"], 1);
    assert_eq!(status["data"]["agent"], 1);
    assert!(lab.server.set_agent(100, false));
    let config = lab.get("/api2/json/nodes/pve1/qemu/100/config").await.body;
    assert_eq!(config["data"]["agent"], Value::Null);
    let ping = lab
        .post("/api2/json/nodes/pve1/qemu/100/agent/ping", &[])
        .await;
    assert_eq!(
        (ping.status, ping.reason.as_str()),
        (500, "No QEMU guest agent configured")
    );
    lab.server.shutdown().await;
}

#[tokio::test]
async fn refusals_by_status_and_text() {
    let lab = lab(|options| options.file_read_options = false).await;
    let agent = "/api2/json/nodes/pve1/qemu/100/agent";
    let got = lab.post(&format!("{agent}/exec"), &[]).await;
    assert_eq!(got.status, 400);
    assert_eq!(
        got.body,
        json!({"message": "Parameter verification failed.\n", "data": null,
               "errors": {"command": "property is missing and it is not optional"}})
    );
    let got = lab.get(&format!("{agent}/file-read?file=/x&count=1")).await;
    assert!(
        got.body["errors"]["count"]
            .as_str()
            .unwrap()
            .starts_with("property is not defined")
    );
    let got = lab.get("/api2/json/nodes/pve1/qemu/999/config").await;
    assert_eq!(
        got.reason,
        "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
    );
    assert_eq!(got.status, 500);
    let got = lab.get("/api2/json/nosuch").await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (501, "Method 'GET /nosuch' not implemented")
    );
    let got = lab.get("/api2/extjs/nosuch").await;
    assert_eq!((got.status, got.body["status"].as_i64()), (200, Some(501)));
    let got = lab.get("/api2/xml/version").await;
    assert_eq!(got.body, "no formatter for uri /version, xml");
    let got = lab
        .get("/api2/json/nodes/pve1/qemu/100/config?vmid=101")
        .await;
    assert_eq!(
        got.body["errors"]["vmid"],
        "duplicate parameter (already defined in URI) with conflicting values!"
    );
    let weak = lab.client.post(format!("{}{agent}/exec", lab.server.url()));
    let got = lab
        .send(weak.header("authorization", "PVEAPIToken=root@pam!weak=0"))
        .await;
    let text = "Permission check failed (/vms/100, VM.GuestAgent.Unrestricted)";
    assert_eq!((got.status, got.reason.as_str()), (403, text));
    let got = lab.get(&format!("{agent}/get-osinfo")).await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.body["data"]["result"]["error"]["desc"],
        "Command guest-get-osinfo has been disabled"
    );
    lab.power.stop().await.unwrap();
    let got = lab.get(&format!("{agent}/get-host-name")).await;
    assert_eq!(got.reason, "VM 100 is not running");
}

#[tokio::test]
async fn bodies_that_are_not_taken() {
    let lab = lab(|_| {}).await;
    let path = "/api2/json/nodes/pve1/qemu/100/agent/ping";
    let got = lab.send(lab.request("DELETE", path).body("a=1")).await;
    assert_eq!(
        (got.status, got.body),
        (501, json!("Unexpected content for method 'DELETE'"))
    );
    let got = lab
        .send(lab.request("POST", path).body(vec![b'a'; 512 * 1024 + 1]))
        .await;
    assert_eq!((got.status, got.body), (501, json!("for data too large")));
    let multipart = lab
        .request("POST", path)
        .header("content-type", "text/plain")
        .body("a=1");
    assert_eq!(lab.send(multipart).await.status, 506);
    let broken = lab
        .request("POST", path)
        .header("content-type", "application/json")
        .body("{");
    let got = lab.send(broken).await;
    assert_eq!(got.status, 500);
    assert!(
        got.body
            .as_str()
            .unwrap()
            .starts_with("malformed JSON string")
    );
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZATION}\r\n");
    let chunked = lab
        .raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").as_bytes())
        .await;
    assert!(chunked.starts_with(b"HTTP/1.1 501 chunked transfer encoding not supported\r\n"));
    let patch = lab.send(lab.request("PATCH", path)).await;
    assert_eq!((patch.status, patch.body), (501, json!("")));
    assert_eq!(lab.agent.count("guest-ping"), 0);
}

#[tokio::test]
async fn too_many_headers_get_no_answer() {
    let lab = lab(|options| options.idle_timeout = Duration::from_millis(100)).await;
    let lines = "X-A: b\r\n".repeat(70);
    assert_eq!(
        lab.raw(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes())
            .await,
        b""
    );
    let long = "a".repeat(9000);
    assert_eq!(
        lab.raw(format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n").as_bytes())
            .await,
        b""
    );
}

#[tokio::test]
async fn a_connection_carries_a_hundred_requests() {
    let lab = lab(|_| {}).await;
    let one = format!("GET /api2/json/version HTTP/1.1\r\nAuthorization: {AUTHORIZATION}\r\n\r\n");
    let text = String::from_utf8(lab.raw(one.repeat(101).as_bytes()).await).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 100);
    assert_eq!(text.matches("Connection: close").count(), 1);
    assert!(text.rfind("Connection: close") > text.rfind("HTTP/1.1 200"));
}

#[tokio::test]
async fn proxied_answers_have_two_connection_headers_and_stay_open() {
    let lab = lab(|_| {}).await;
    let one = format!(
        "GET /api2/json/nodes/pve1/qemu/100/status/current HTTP/1.1\r\nAuthorization: {AUTHORIZATION}\r\n"
    );
    let text = lab
        .raw(format!("{one}\r\n{one}Connection: close\r\n\r\n").as_bytes())
        .await;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(text.contains("Connection: close\r\nConnection: Keep-Alive\r\n"));
    for _ in 0..3 {
        assert_eq!(lab.get("/api2/json/version").await.status, 200);
    }
    let connections: Vec<_> = lab
        .server
        .requests()
        .iter()
        .map(|one| one.connection)
        .collect();
    assert_eq!(
        connections,
        [0, 0, 1, 1, 1],
        "a pooling client goes on using its connection"
    );
}

#[tokio::test]
async fn plain_http_is_moved() {
    let lab = lab(|_| {}).await;
    let url = format!("http://{}/api2/json/version?a=b", lab.server.address());
    let got = lab.client.get(&url).send().await.unwrap();
    assert_eq!(got.status().as_u16(), 301);
    assert_eq!(got.headers()["location"], url.replace("http:", "https:"));
    assert_eq!(
        lab.client
            .post(&url)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        308
    );
    assert!(lab.server.requests().is_empty());
}

#[tokio::test]
async fn exec_passes_bytes_as_code_points_and_gives_a_result_once() {
    let lab = lab(|_| {}).await;
    let every: String = (0..=255_u8).map(char::from).collect();
    let pid = lab.exec(&["cat"], Some(&every)).await;
    let status = lab.exec_status(pid).await;
    assert_eq!(
        status["data"],
        json!({"exited": 1, "exitcode": 3, "out-data": every, "out-truncated": 0})
    );
    let again = lab.exec_status(pid).await;
    assert_eq!(again["message"], "Agent error: Invalid parameter 'pid'\n");
    let pid = lab.exec(&["killed"], None).await;
    assert_eq!(
        lab.exec_status(pid).await["data"],
        json!({"exited": 1, "signal": 9})
    );
    let pid = lab.exec(&["echo", "", "-c", "a;b=c&d"], None).await;
    assert_eq!(
        lab.exec_status(pid).await["data"]["out-data"],
        " -c a;b=c&d"
    );
    let wide = lab
        .post(
            "/api2/extjs/nodes/pve1/qemu/100/agent/exec",
            &[("command", "cat"), ("input-data", "€")],
        )
        .await;
    assert!(
        wide.body["message"]
            .as_str()
            .unwrap()
            .starts_with("Wide character in subroutine")
    );
    let writes = lab.server.writes();
    assert_eq!(writes.len(), 4);
    assert_eq!(
        writes[0].parameter("input-data"),
        Some(&Recorded::Withheld { characters: 256 })
    );
    assert_eq!(writes[3].outcome, Some(500));
    assert_eq!(writes[3].status, Some(200));
}

#[tokio::test]
async fn a_missing_program_looks_like_a_broken_proxy_in_the_json_format() {
    let lab = lab(|_| {}).await;
    let form = [("command", "/nonexistent")];
    let got = lab
        .post("/api2/json/nodes/pve1/qemu/100/agent/exec", &form)
        .await;
    assert_eq!(
        (got.status, got.reason.as_str(), got.body),
        (596, "Broken pipe", json!(""))
    );
    let got = lab
        .post("/api2/extjs/nodes/pve1/qemu/100/agent/exec", &form)
        .await;
    assert_eq!(
        got.body["message"],
        "Agent error: Guest agent command failed, error was 'Failed to execute child process \
         “/nonexistent” (No such file or directory)'\n"
    );
}

#[tokio::test]
async fn results_over_the_parsers_limit_are_lost() {
    let lab = lab(|options| {
        impatient(options);
        options.answer_limit = 100_000;
    })
    .await;
    let pid = lab.exec(&["big", "70000"], None).await;
    assert_eq!(
        lab.exec_status(pid).await["data"]["out-data"]
            .as_str()
            .unwrap()
            .len(),
        70_000
    );
    let pid = lab.exec(&["big", "80000"], None).await;
    assert_eq!(
        lab.exec_status(pid).await["message"],
        "VM 100 qga command 'guest-exec-status' failed - got timeout\n"
    );
    assert_eq!(
        lab.exec_status(pid).await["message"],
        "Agent error: Invalid parameter 'pid'\n"
    );
}

#[tokio::test]
async fn files_are_written_and_read() {
    let lab = lab(|_| {}).await;
    let agent = "/api2/extjs/nodes/pve1/qemu/100/agent";
    let write = format!("{agent}/file-write");
    let got = lab
        .post(&write, &[("file", "/a"), ("content", "é\u{ff}")])
        .await;
    assert_eq!(got.body, json!({"data": null, "success": 1}));
    assert_eq!(lab.agent.guest.lock().unwrap().files["/a"], [0xe9, 0xff]);
    let encoded = [("file", "/b"), ("content", "AAEC/w=="), ("encode", "0")];
    lab.post(&write, &encoded).await;
    let read = lab.get(&format!("{agent}/file-read?file=/b")).await.body;
    assert_eq!(
        read["data"],
        json!({"content": "\0\u{1}\u{2}\u{ff}", "bytes-read": 4})
    );
    let read = lab
        .get(&format!(
            "{agent}/file-read?file=/b&count=2&offset=1&decode=0"
        ))
        .await
        .body;
    assert_eq!(
        read["data"],
        json!({"content": "AQI=", "bytes-read": 2, "truncated": 1})
    );
    let long = "x".repeat(61441);
    let got = lab
        .post(&write, &[("file", "/c"), ("content", &long)])
        .await
        .body;
    assert_eq!(
        got["errors"]["content"],
        "value may only be 61440 characters long"
    );
    let got = lab.get(&format!("{agent}/file-read?file=/none")).await.body;
    assert_eq!(
        got["message"],
        "Agent error: failed to open file '/none' (mode: 'r'): No such file or directory\n"
    );
    let kept = format!("{:?}", lab.server.requests());
    assert!(!kept.contains("AAEC") && kept.contains("/b"));
}

#[tokio::test]
async fn pieces_of_base64_are_padded_one_by_one() {
    let lab = lab(|_| {}).await;
    let content = vec![7; 1024 * 1024 + 10];
    lab.agent
        .guest
        .lock()
        .unwrap()
        .files
        .insert("/big".to_owned(), content);
    let path = "/api2/json/nodes/pve1/qemu/100/agent/file-read?file=/big&decode=0";
    let read = lab.get(path).await.body;
    let content = read["data"]["content"].as_str().unwrap();
    assert_eq!(content.find('='), Some(1_398_102));
    assert_eq!(content.len(), 1_398_104 + 16);
}

#[tokio::test]
async fn an_agent_serves_one_at_a_time_and_recovers_from_time_outs() {
    let mut lab = lab(impatient).await;
    let agent = "/api2/extjs/nodes/pve1/qemu/100/agent";
    let (suspend, ping) = (format!("{agent}/suspend-ram"), format!("{agent}/ping"));
    let slow = lab.post(&suspend, &[]);
    let other = async {
        while lab.agent.count("guest-suspend-ram") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab.post(&ping, &[]).await
    };
    let (slow, other) = tokio::join!(slow, other);
    assert_eq!(
        slow.body["message"],
        "VM 100 qga command 'guest-suspend-ram' failed - got timeout\n"
    );
    assert_eq!(other.body["message"], "QEMU guest agent is not running\n");
    lab.agent.restart().await;
    assert_eq!(
        lab.post(&format!("{agent}/ping"), &[]).await.body["data"],
        json!({"result": {}})
    );
}

#[tokio::test]
async fn non_ascii_arguments_wedge_the_agent_until_it_restarts() {
    let mut lab = lab(impatient).await;
    let agent = "/api2/extjs/nodes/pve1/qemu/100/agent";
    let pid = lab.exec(&["echo", "é"], None).await;
    assert_eq!(
        lab.exec_status(pid).await["data"]["out-data"],
        "Ã©",
        "only the newline was lost"
    );
    let got = lab
        .post(
            &format!("{agent}/exec"),
            &[("command", "echo"), ("command", "€")],
        )
        .await;
    assert_eq!(
        got.body["message"],
        "VM 100 qga command 'guest-exec' failed - got timeout\n"
    );
    for _ in 0..2 {
        let got = lab.post(&format!("{agent}/ping"), &[]).await;
        assert_eq!(got.body["message"], "QEMU guest agent is not running\n");
    }
    lab.agent.restart().await;
    assert_eq!(
        lab.post(&format!("{agent}/ping"), &[]).await.body["success"],
        1
    );
}

#[tokio::test]
async fn a_dead_agent_is_not_running() {
    let mut lab = lab(impatient).await;
    lab.agent.kill().await;
    let path = "/api2/json/nodes/pve1/qemu/100/agent/get-host-name";
    let got = lab.get(path).await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (500, "QEMU guest agent is not running")
    );
    lab.agent.restart().await;
    assert_eq!(
        lab.get(path).await.body["data"]["result"]["host-name"],
        "tür"
    );
}

#[tokio::test]
async fn power_goes_through_tasks() {
    let lab = lab(|_| {}).await;
    let guest = "/api2/extjs/nodes/pve1/qemu/100";
    let finished = async |upid: &Value| {
        let upid = upid
            .as_str()
            .unwrap()
            .replace(':', "%3A")
            .replace('!', "%21");
        loop {
            let path = format!("/api2/extjs/nodes/pve1/tasks/{upid}/status");
            let status = lab.get(&path).await.body["data"].take();
            if status["status"] == "stopped" {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let stop = lab.post(&format!("{guest}/status/stop"), &[]).await.body;
    let upid = stop["data"].as_str().unwrap();
    assert!(upid.starts_with("UPID:pve1:") && upid.ends_with(":qmstop:100:root@pam!lab:"));
    let status = finished(&stop["data"]).await;
    assert_eq!(status["exitstatus"], "OK");
    assert_eq!(
        (&status["user"], &status["tokenid"]),
        (&json!("root@pam"), &json!("lab"))
    );
    assert!(!lab.power.is_running().await);
    let reboot = lab.post(&format!("{guest}/status/reboot"), &[]).await.body;
    assert_eq!(reboot["message"], "VM 100 not running\n");
    let start = lab.post(&format!("{guest}/status/start"), &[]).await.body;
    assert_eq!(finished(&start["data"]).await["exitstatus"], "OK");
    let start = lab.post(&format!("{guest}/status/start"), &[]).await.body;
    assert_eq!(
        finished(&start["data"]).await["exitstatus"],
        "VM 100 already running"
    );
    let path = format!(
        "/api2/json/nodes/pve1/tasks/{}/log?limit=0",
        start["data"].as_str().unwrap()
    );
    let log = lab.get(&path).await.body;
    assert_eq!(
        log["data"],
        json!([{"n": 1, "t": "TASK ERROR: VM 100 already running"}])
    );
    assert_eq!(log["total"], 1);
    // The scripted agent refuses to shut down, so the time runs out.
    let shutdown = lab
        .post(&format!("{guest}/status/shutdown"), &[("timeout", "0")])
        .await
        .body;
    let status = finished(&shutdown["data"]).await;
    assert_eq!(
        status["exitstatus"],
        "VM quit/powerdown failed - got timeout"
    );
    let shutdown = [("timeout", "0"), ("forceStop", "1")];
    let shutdown = lab
        .post(&format!("{guest}/status/shutdown"), &shutdown)
        .await
        .body;
    assert_eq!(finished(&shutdown["data"]).await["exitstatus"], "OK");
    assert!(!lab.power.is_running().await);
    let none = lab
        .get("/api2/json/nodes/pve1/tasks/UPID:pve1:1:2:3:qmstart:100:a@pve:/status")
        .await;
    assert_eq!(
        (none.status, &none.body["errors"]["upid"]),
        (400, &json!("no such task"))
    );
}

#[tokio::test]
async fn faults_say_truly_whether_a_request_was_executed() {
    let lab = lab(impatient).await;
    let faults = lab.server.faults();
    let path = "/api2/extjs/nodes/pve1/qemu/100/agent/exec";
    let form = [("command", "echo")];
    let exec = || Filter::any().method("POST").path("/agent/exec").vmid(100);
    faults.inject(exec(), Fault::connection_refused());
    let got = lab.post(path, &form).await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (595, "Connection refused")
    );
    faults.inject(exec(), Fault::DropBefore);
    assert!(lab.request("POST", path).form(&form).send().await.is_err());
    assert_eq!(lab.agent.count("guest-exec"), 0);
    faults.inject(exec(), Fault::timed_out());
    assert_eq!(lab.post(path, &form).await.status, 596);
    faults.inject(exec(), Fault::DropAfter);
    assert!(lab.request("POST", path).form(&form).send().await.is_err());
    assert_eq!(lab.agent.count("guest-exec"), 2);
    let off = faults.inject(Filter::any(), Fault::AgentOff);
    let got = lab.post(path, &form).await;
    assert_eq!(got.body["message"], "QEMU guest agent is not running\n");
    assert_eq!(off.fired(), 1);
    faults.inject(Filter::any(), Fault::VmOff);
    assert_eq!(
        lab.post(path, &form).await.body["message"],
        "VM 100 is not running\n"
    );
    faults.set_agent_answering(100, false);
    assert_eq!(lab.post(path, &form).await.body["success"], 0);
    faults.clear();
    let pid = lab.exec(&["echo", "x"], None).await;
    let lost = faults.lose_exec_result(100);
    assert_eq!(
        lab.exec_status(pid).await["message"],
        "VM 100 qga command 'guest-exec-status' failed - got timeout\n"
    );
    assert_eq!(lost.fired(), 1);
    assert_eq!(
        lab.exec_status(pid).await["message"],
        "Agent error: Invalid parameter 'pid'\n"
    );
    let outcomes: Vec<_> = lab
        .server
        .writes()
        .iter()
        .map(|one| (one.status, one.outcome))
        .collect();
    assert_eq!(
        outcomes[..4],
        [
            (Some(595), None),
            (None, None),
            (Some(596), Some(200)),
            (None, Some(200))
        ]
    );
}

#[tokio::test]
async fn a_slow_call_becomes_596_and_still_runs() {
    let lab = lab(|options| options.proxy_timeout = Duration::from_millis(40)).await;
    lab.server
        .faults()
        .inject(Filter::any(), Fault::Delay(Duration::from_secs(1)));
    let form = [("command", "echo")];
    let got = lab
        .post("/api2/extjs/nodes/pve1/qemu/100/agent/exec", &form)
        .await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (596, "Connection timed out")
    );
    while lab.agent.count("guest-exec") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
