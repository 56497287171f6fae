//! The client against a server that misbehaves as the real one does.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::ground::scripted::{Received, Reply, Scripted};
use crate::ground::{Deadline, SecretBytes, UntrustedServer};

const RESOURCES: &str = r#"[{"type":"qemu","vmid":"100","node":"pve1","name":"web",
    "status":"running","template":0,"maxmem":1e+15},
    {"type":"lxc","vmid":101,"node":"pve2","status":"unknown"},
    {"type":"storage","node":"pve1","storage":"local"}]"#;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn data(data: &str) -> Reply {
    Reply::json("200 OK", &format!(r#"{{"success":1,"data":{data}}}"#))
}

fn failure(status: &str, message: &str) -> Reply {
    let message = serde_json::to_string(&format!("{message}\n")).expect("json");
    Reply::json(
        "200 OK",
        &format!(r#"{{"success":0,"status":{status},"message":{message},"data":null}}"#),
    )
}

fn client(server: &Scripted) -> Client {
    let token = "root@pam!phoenix=9f1e-22".parse().expect("token");
    Client::connect(&server.url(), &token, &server.by_fingerprint()).expect("client")
}

async fn start(
    script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> (Scripted, Client) {
    let server = Scripted::start(script).await;
    let client = client(&server);
    (server, client)
}

/// A server for one VM, 100 on pve1, whose agent calls are answered by `script`.
async fn agent(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> (Scripted, Agent) {
    let (server, client) = start(move |_, request| {
        if request.line.contains("/cluster/resources") {
            return data(RESOURCES);
        }
        script(request)
    })
    .await;
    (server, client.agent(100))
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn guests_are_listed_with_the_token_in_a_header_only() {
    let (server, client) = start(|_, _| data(RESOURCES)).await;
    let guests = client.guests(soon()).await.expect("guests");
    assert_eq!(guests.len(), 2);
    assert_eq!((guests[0].vmid, guests[0].node.as_str()), (100, "pve1"));
    assert_eq!(guests[0].status, GuestStatus::Running);
    assert_eq!(guests[1].kind, GuestKind::Lxc);
    assert_eq!(guests[1].status, GuestStatus::Other("unknown".into()));
    let received = &server.received()[0];
    assert_eq!(received.line, "GET /api2/extjs/cluster/resources?type=vm");
    assert_eq!(
        received.header("authorization"),
        Some("PVEAPIToken=root@pam!phoenix=9f1e-22")
    );
    assert!(received.header("cookie").is_none());
    assert!(client.guest(555, soon()).await.expect("asked").is_none());
    assert!(!format!("{client:?}").contains("9f1e"));
}

#[tokio::test]
async fn a_server_is_recognised_by_its_ca_too() {
    let server = Scripted::start(|_, _| data(r#"{"version":"9.2.11"}"#)).await;
    let token = "root@pam!phoenix=9f1e-22".parse().expect("token");
    let client = Client::connect(&server.url(), &token, &server.by_ca()).expect("client");
    assert_eq!(
        client.version(soon()).await.expect("version").version,
        "9.2.11"
    );
    let other = Scripted::start(|_, _| data("null")).await;
    let client = Client::connect(&server.url(), &token, &other.by_ca()).expect("client");
    let error = client.version(soon()).await.expect_err("refused");
    assert!(
        matches!(
            error,
            RequestError::Untrusted {
                source: UntrustedServer::Certificate(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn another_fingerprint_is_named_with_the_expected_one_and_nothing_is_sent() {
    let server = Scripted::start(|_, _| data("null")).await;
    let token = "root@pam!phoenix=9f1e-22".parse().expect("token");
    let trust = Trust::Fingerprint([0xAB; 32]);
    let client = Client::connect(&server.url(), &token, &trust).expect("client");
    let error = client.version(soon()).await.expect_err("refused");
    let RequestError::Untrusted {
        source: UntrustedServer::Fingerprint(mismatch),
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(mismatch.found, server.fingerprint);
    let text = chain(&error);
    assert!(text.contains("AB:AB:AB"), "{text}");
    assert!(text.contains(&format!(
        "{:02X}:{:02X}:",
        server.fingerprint[0], server.fingerprint[1]
    )));
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_get_survives_a_connection_that_is_closed_when_it_arrives() {
    let (server, client) = start(|number, _| match number {
        1 => Reply::Close,
        _ => data(RESOURCES),
    })
    .await;
    client.guests(soon()).await.expect("first");
    client.guests(soon()).await.expect("second");
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[0].connection, received[1].connection);
    assert_ne!(received[1].connection, received[2].connection);
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_sent_once() {
    let replies: [fn() -> Reply; 4] = [
        || Reply::Close,
        || Reply::bare("596 Broken pipe"),
        || Reply::bare("597 Timeout"),
        || Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"succ".to_vec()),
    ];
    for reply in replies {
        let (server, client) = start(move |number, _| match number {
            0 => data(RESOURCES),
            _ => reply(),
        })
        .await;
        let guest = client
            .guest(100, soon())
            .await
            .expect("asked")
            .expect("guest");
        let error = client.stop(&guest, soon()).await.expect_err("lost");
        assert!(error.is_ambiguous(), "{error:?}");
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn a_post_that_was_not_delivered_is_sent_again() {
    let (server, client) = start(|number, _| match number {
        0 => data(RESOURCES),
        1 => Reply::bare("595 Connection refused"),
        _ => data(r#""UPID:pve1:0009A8B1:0F2C6E70:66B1F2C3:qmstop:100:root@pam!phoenix:""#),
    })
    .await;
    let guest = client
        .guest(100, soon())
        .await
        .expect("asked")
        .expect("guest");
    let upid = client.stop(&guest, soon()).await.expect("stopped");
    assert_eq!(upid.kind(), "qmstop");
    assert_eq!(
        server.count("POST /api2/extjs/nodes/pve1/qemu/100/status/stop"),
        2
    );
}

#[tokio::test]
async fn a_request_without_answer_ends_with_its_deadline() {
    let (_server, client) = start(|_, _| Reply::Silence).await;
    let deadline = Deadline::after(Duration::from_millis(300));
    let error = client.version(deadline).await.expect_err("silence");
    assert!(error.is_deadline() && error.is_ambiguous(), "{error:?}");
    let error = client.version(deadline).await.expect_err("over");
    assert!(error.is_deadline() && error.is_not_delivered(), "{error:?}");
}

#[tokio::test]
async fn an_unreachable_server_is_not_delivered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("https://{}", listener.local_addr().expect("address"));
    drop(listener);
    let token = "root@pam!phoenix=9f1e-22".parse().expect("token");
    let trust = Trust::Fingerprint([0; 32]);
    let client = Client::connect(&url.parse().expect("url"), &token, &trust).expect("client");
    let error = client.version(soon()).await.expect_err("refused");
    assert!(
        matches!(
            error,
            RequestError::NotDelivered {
                source: Undelivered::Connect(_),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refused_token_gives_the_reason_phrase() {
    let (server, client) = start(|_, _| Reply::bare("401 Authentication failed!")).await;
    let error = client.version(soon()).await.expect_err("refused");
    let RequestError::Unauthorized { reason, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(reason, "Authentication failed!");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn failures_inside_a_good_answer_are_seen_with_their_text() {
    let (_server, client) = start(|number, _| match number {
        0 => failure("\"403\"", "Permission check failed (/vms/100, VM.Audit)"),
        1 => failure("500", "exec “/x” – wide characters"),
        2 => Reply::json(
            "400 Parameter verification failed.",
            r#"{"data":null,"errors":{"pid":"type check"}}"#,
        ),
        _ => Reply::json("501 for data too large", "plain"),
    })
    .await;
    let errors = [
        (403, RejectionKind::Permission, "VM.Audit"),
        (500, RejectionKind::Other, "“/x” – wide"),
        (400, RejectionKind::Other, "pid: type check"),
        (501, RejectionKind::Other, "for data too large"),
    ];
    for (status, kind, text) in errors {
        let error = client.version(soon()).await.expect_err("failure");
        let rejection = error.rejection().expect("rejected");
        assert_eq!((rejection.status, rejection.kind()), (status, kind));
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, client) = start(|_, _| {
        Reply::Last(
            b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let error = client.version(soon()).await.expect_err("redirect");
    assert_eq!(error.rejection().expect("rejected").status, 301);
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_task_is_followed_on_its_own_node() {
    let (server, client) = start(|number, _| match number {
        0 => data(r#"{"status":"running"}"#),
        1 => Reply::bare("596 Connection timed out"),
        _ => data(r#"{"status":"stopped","exitstatus":"WARNINGS: 1"}"#),
    })
    .await;
    let text = "UPID:pve7:0009A8B1:0F2C6E70:66B1F2C3:qmstart:100:root@pam!phoenix:";
    let upid: Upid = text.parse().expect("upid");
    let end = client.await_task(&upid, soon()).await.expect("ended");
    assert_eq!(end, TaskEnd::Warnings(1));
    assert_eq!(server.count("/nodes/pve7/tasks/UPID:pve7:"), 3);
}

fn exec_agent(status: &'static str) -> impl Fn(&Received) -> Reply + Send + Sync {
    move |request| {
        if request.line.starts_with("POST") {
            data(r#"{"pid":77}"#)
        } else {
            data(status)
        }
    }
}

#[tokio::test]
async fn a_program_ends_as_what_it_ended() {
    let cases = [
        (r#"{"exited":1,"exitcode":0}"#, Exit::Exited(0)),
        (r#"{"exited":1,"exitcode":"3"}"#, Exit::Exited(3)),
        (r#"{"exited":1,"signal":9}"#, Exit::Signaled(9)),
        (r#"{"exited":1}"#, Exit::Unknown(UnknownReason::NotReported)),
    ];
    for (answer, expected) in cases {
        let (_server, agent) = agent(exec_agent(answer)).await;
        let output = agent
            .exec(&Command::new(["true"]), soon())
            .await
            .expect("ran");
        assert_eq!(output.status, expected, "{answer}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_status_of_another_form_is_unknown_and_not_success() {
    for answer in [
        "{}",
        "null",
        r#"{"exited":1,"exitcode":"zero"}"#,
        r#"{"exitcode":0}"#,
    ] {
        let (_server, agent) = agent(exec_agent(answer)).await;
        let output = agent
            .exec(&Command::new(["true"]), soon())
            .await
            .expect("ran");
        assert!(
            matches!(output.status, Exit::Unknown(UnknownReason::Undecodable(_))),
            "{answer}: {output:?}"
        );
    }
}

#[tokio::test]
async fn output_is_bytes_and_what_stands_for_none_is_refused() {
    let all: String = (0..=255_u8).map(char::from).collect();
    let text = serde_json::to_string(&all).expect("json");
    let answer = format!(r#"{{"exited":1,"exitcode":0,"out-data":{text},"err-truncated":1}}"#);
    let (_server, byte_agent) = agent(exec_agent(answer.leak())).await;
    let output = byte_agent
        .exec(&Command::new(["x"]), soon())
        .await
        .expect("ran");
    assert_eq!(output.stdout, (0..=255).collect::<Vec<u8>>());
    assert!(output.stderr_truncated && !output.stdout_truncated);
    let (_server, agent) = agent(exec_agent(r#"{"exited":1,"exitcode":0,"out-data":"€"}"#)).await;
    let output = agent.exec(&Command::new(["x"]), soon()).await.expect("ran");
    assert!(matches!(
        output.status,
        Exit::Unknown(UnknownReason::Undecodable(_))
    ));
}

#[tokio::test]
async fn argv_and_input_travel_as_the_server_reads_them() {
    let (server, agent) = agent(exec_agent(r#"{"exited":1,"exitcode":0}"#)).await;
    let input: Vec<u8> = (0..=255).collect();
    let command = Command::new(["sh", "", "a=b;c"]).stdin(SecretBytes::new(input));
    agent.exec(&command, soon()).await.expect("ran");
    let received = server.received();
    let form = received[1].form();
    let words: Vec<&str> = form[..3].iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(words, ["sh", "", "a=b;c"]);
    assert_eq!(form[3].0, "input-data");
    let expected: String = (0..=255_u8).map(char::from).collect();
    assert_eq!(form[3].1, expected);
    assert!(received[1].header("transfer-encoding").is_none());
    assert_eq!(received[2].query("pid").as_deref(), Some("77"));
}

#[tokio::test]
async fn what_would_wedge_the_agent_is_refused_without_a_request() {
    let (server, agent) = agent(|_| data("null")).await;
    let commands = [
        Command::new(["echo", "é"]),
        Command::new(["€"]),
        Command::new(["a\0b"]),
        Command::new([""]),
        Command::new(Vec::<String>::new()),
        Command::new(["cat"]).stdin(SecretBytes::new(vec![0; STDIN_LIMIT + 1])),
    ];
    for command in commands {
        let error = agent.exec(&command, soon()).await.expect_err("refused");
        assert!(
            matches!(error, AgentError::Text(_) | AgentError::TooLong { .. }),
            "{error:?}"
        );
    }
    for path in ["/é", "", "/a\0"] {
        let error = agent
            .file_read(path, 10, soon())
            .await
            .expect_err("refused");
        assert!(matches!(error, AgentError::Text(_)), "{error:?}");
        agent
            .file_write(path, b"", soon())
            .await
            .expect_err("refused");
    }
    let large = vec![0; FILE_WRITE_LIMIT + 1];
    agent
        .file_write("/x", &large, soon())
        .await
        .expect_err("refused");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_lost_result_is_unknown_and_the_program_runs_once() {
    let asked = AtomicUsize::new(0);
    let (server, agent) = agent(move |request| {
        if request.line.starts_with("POST") {
            return data(r#"{"pid":77}"#);
        }
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Close,
            _ => failure("500", "Agent error: Invalid parameter 'pid'"),
        }
    })
    .await;
    let output = agent.exec(&Command::new(["x"]), soon()).await.expect("ran");
    assert_eq!(output.status, Exit::Unknown(UnknownReason::ResultLost));
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_unknown_and_not_repeated() {
    let replies: [fn() -> Reply; 4] = [
        || Reply::Close,
        || Reply::bare("596 Connection timed out"),
        || {
            failure(
                "500",
                "VM 100 qga command 'guest-exec' failed - got timeout",
            )
        },
        || data(r#"{"nothing":1}"#),
    ];
    for reply in replies {
        let (server, agent) = agent(move |_| reply()).await;
        let output = agent
            .exec(&Command::new(["x"]), soon())
            .await
            .expect("output");
        assert!(
            matches!(
                output.status,
                Exit::Unknown(UnknownReason::StartNotConfirmed(_))
            ),
            "{output:?}"
        );
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn a_program_that_does_not_exist_was_not_started() {
    let (_server, agent) = agent(|_| {
        failure(
            "500",
            "Agent error: Guest agent command failed, error was 'Failed to execute child process \
             “/nonexistent” (No such file or directory)'",
        )
    })
    .await;
    let error = agent
        .exec(&Command::new(["/nonexistent"]), soon())
        .await
        .expect_err("error");
    assert_eq!(error.rejection_kind(), Some(RejectionKind::NoSuchFile));
    assert!(chain(&error).contains("“/nonexistent”"));
}

#[tokio::test]
async fn a_program_that_overruns_is_killed_and_unknown() {
    let killed = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&killed);
    let (server, agent) = agent(move |request| {
        if request.line.starts_with("POST") {
            let is_kill = request.form().last().is_some_and(|(_, word)| word == "77");
            if is_kill {
                killed.store(1, Ordering::Relaxed);
                return data(r#"{"pid":78}"#);
            }
            return data(r#"{"pid":77}"#);
        }
        match (
            request.query("pid").as_deref(),
            killed.load(Ordering::Relaxed),
        ) {
            (Some("78"), _) => data(r#"{"exited":1,"exitcode":0}"#),
            (_, 0) => data(r#"{"exited":0}"#),
            _ => data(r#"{"exited":1,"signal":9,"err-data":"half"}"#),
        }
    })
    .await;
    let deadline = Deadline::after(Duration::from_millis(300));
    let output = agent
        .exec(&Command::new(["sleep", "9"]), deadline)
        .await
        .expect("ran");
    assert_eq!(
        output.status,
        Exit::Unknown(UnknownReason::TimedOut {
            after: Duration::from_millis(300),
            killed: true
        })
    );
    assert_eq!(output.stderr, b"half");
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(server.count("POST"), 2);
}

#[tokio::test]
async fn an_agent_that_is_busy_is_asked_again_and_one_that_is_off_is_reported() {
    let asked = AtomicUsize::new(0);
    let (_server, busy) = agent(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => failure("500", "QEMU guest agent is not running"),
        _ => data(r#"{"result":{"host-name":"wéb"}}"#),
    })
    .await;
    assert_eq!(busy.host_name(soon()).await.expect("name"), "wéb");
    let (server, off) = agent(|_| failure("500", "Qemu guest agent is not running")).await;
    let error = off.ping(soon()).await.expect_err("off");
    assert_eq!(error.rejection_kind(), Some(RejectionKind::AgentNotRunning));
    assert_eq!(server.count("/agent/ping"), 1);
}

#[tokio::test]
async fn an_agents_error_inside_a_result_is_an_error() {
    let (_server, agent) = agent(|_| {
        data(r#"{"result":{"error":{"class":"CommandNotFound","desc":"Command guest-get-osinfo has been disabled"}}}"#)
    })
    .await;
    let error = agent.os_info(soon()).await.expect_err("error");
    assert_eq!(
        error.rejection_kind(),
        Some(RejectionKind::AgentCommandDisabled)
    );
}

#[tokio::test]
async fn a_vm_that_moved_is_looked_up_again_once() {
    let looked = AtomicUsize::new(0);
    let (server, client) = start(move |_, request| {
        if request.line.contains("/cluster/resources") {
            return match looked.fetch_add(1, Ordering::Relaxed) {
                0 => data(RESOURCES),
                _ => data(&RESOURCES.replace("pve1", "pve9")),
            };
        }
        if request.line.contains("/nodes/pve9/") {
            return data(r#"{"result":{}}"#);
        }
        failure(
            "500",
            "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
        )
    })
    .await;
    client.agent(100).ping(soon()).await.expect("moved");
    assert_eq!(server.count("/cluster/resources"), 2);
    let error = client
        .agent_on("pve1", 100)
        .ping(soon())
        .await
        .expect_err("fixed");
    assert_eq!(error.rejection_kind(), Some(RejectionKind::GuestNotFound));
    let error = client.agent(101).ping(soon()).await.expect_err("container");
    assert!(matches!(error, AgentError::NotAVm { .. }), "{error:?}");
    let error = client.agent(7).ping(soon()).await.expect_err("none");
    assert!(matches!(error, AgentError::NoSuchGuest { vmid: 7 }));
}

#[tokio::test]
async fn a_file_is_read_in_parts_by_new_servers_and_whole_by_old_ones() {
    let (_server, new) = agent(|request| match request.query("offset").as_deref() {
        Some("0") => data(r#"{"content":"abÿ","bytes-read":3,"truncated":1}"#),
        Some("3") => data(r#"{"content":"d","bytes-read":1}"#),
        other => panic!("offset {other:?}"),
    })
    .await;
    let content = new.file_read("/x", 100, soon()).await.expect("read");
    assert_eq!(content.as_deref(), Some(&b"ab\xffd"[..]));
    let error = new.file_read("/x", 2, soon()).await.expect_err("large");
    assert!(matches!(error, AgentError::FileTooLarge { limit: 2, .. }));
    let (server, old) = agent(|request| match request.query("count") {
        Some(_) => Reply::json(
            "200 OK",
            r#"{"success":0,"status":400,"data":null,"message":"Parameter verification failed.\n",
            "errors":{"count":"property is not defined in schema and the schema does not allow additional properties"}}"#,
        ),
        None => data(r#"{"content":"abc","bytes-read":3}"#),
    })
    .await;
    for _ in 0..2 {
        let content = old.file_read("/x", 100, soon()).await.expect("read");
        assert_eq!(content.as_deref(), Some(&b"abc"[..]));
    }
    assert_eq!(server.count("file-read"), 3);
}

#[tokio::test]
async fn an_absent_file_is_none_and_an_unreadable_one_an_error() {
    let (server, agent) = agent(|request| {
        if request.line.contains("absent") {
            failure(
                "500",
                "Agent error: failed to open file '/absent' (mode: 'r'): No such file or directory",
            )
        } else {
            failure("500", "Agent error: failed to read file: Is a directory")
        }
    })
    .await;
    assert_eq!(
        agent.file_read("/absent", 9, soon()).await.expect("asked"),
        None
    );
    agent
        .file_read("/etc", 9, soon())
        .await
        .expect_err("directory");
    assert_eq!(server.count("POST"), 0);
}

#[tokio::test]
async fn a_file_is_written_as_base64() {
    let (server, agent) = agent(|_| data("null")).await;
    agent
        .file_write("/x", b"a\xff=;", soon())
        .await
        .expect("written");
    let form = server.received()[1].form();
    assert!(form.contains(&("content".into(), "Yf89Ow==".into())));
    assert!(form.contains(&("encode".into(), "0".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_call_is_on_the_way_to_a_vm_and_two_to_a_node() {
    let now: [AtomicUsize; 8] = Default::default();
    let most: std::sync::Arc<[AtomicUsize; 2]> = Default::default();
    let seen = std::sync::Arc::clone(&most);
    let (_server, client) = start(move |_, request| {
        let (_, rest) = request.line.split_once("/qemu/").expect("vm");
        let (vmid, _) = rest.split_once('/').expect("vmid");
        let of_vm = &now[vmid.parse::<usize>().expect("number")];
        seen[0].fetch_max(of_vm.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        seen[1].fetch_max(now[0].fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        of_vm.fetch_sub(1, Ordering::SeqCst);
        now[0].fetch_sub(1, Ordering::SeqCst);
        data(r#"{"result":{}}"#)
    })
    .await;
    let calls = (0..24).map(|n| {
        let agent = client.agent_on("pve1", 1 + n % 6);
        async move { agent.ping(soon()).await }
    });
    for answer in futures_util::future::join_all(calls).await {
        answer.expect("answer");
    }
    assert_eq!(most[0].load(Ordering::SeqCst), 1);
    assert!(most[1].load(Ordering::SeqCst) <= 2);
}
