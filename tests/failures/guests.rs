//! What goes wrong in a guest: a plan that must touch nothing, a daemon's configuration that is
//! refused, a node of another swarm, reload commands that end badly, lost results; and `exec`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phoenix_lab::harness::until;
use phoenix_lab::proxmox_api::{Fault, Filter};
use serde_json::{Value, json};

use crate::fixture::{Fixture, Told, in_node, running, says};

const RELOAD: [&str; 2] = ["/usr/local/bin/reload-web", "now"];
/// What fails of a sync when that reload fails, and everything else that it takes along.
const TAKEN_ALONG: [&str; 3] = ["secret/web_tls", "stack/web", "retired-versions"];

pub(super) async fn go() {
    let fixture = Fixture::start().await;
    a_plan_of_a_site_from_nothing_writes_nothing(&fixture).await;
    a_daemon_is_not_restarted_with_settings_that_it_refuses(&fixture).await;
    a_node_of_another_swarm_is_left_there(&fixture).await;
    a_failed_reload_fails_its_certificate_and_is_made_up_for(&fixture).await;
    other_ends_of_a_reload_are_no_success_either(&fixture).await;
    a_lost_result_is_a_failure_and_runs_nothing_twice(&fixture).await;
    what_is_not_told_of_a_file_is_no_success(&fixture).await;
    exec_passes_everything_through(&fixture).await;
    a_plan_with_changes_in_reach_writes_nothing(&fixture).await;
    fixture.harness.stop().await;
}

async fn a_plan_of_a_site_from_nothing_writes_nothing(fixture: &Fixture) {
    let harness = &fixture.harness;
    let mark = harness.mark().await;
    for node in harness.lab().nodes() {
        let docker = node.docker();
        docker
            .post("/volumes/prune", json!({}))
            .await
            .expect("prune");
    }
    // The log tells a write from a read.
    assert_eq!(harness.engine_writes(&mark).await.len(), 2);

    let mark = harness.mark().await;
    fixture.server().clear_requests();
    let plan = fixture.phoenix(&["plan"]).await.expect(0);
    plan.says(&["certificate web", "the swarm on manager", "web_tls"]);
    fixture
        .phoenix(&["plan", "--detailed-exitcode"])
        .await
        .expect(3);
    fixture
        .phoenix(&["--json", "sync", "all", "--dry-run"])
        .await
        .expect(0);
    assert!(!fixture.server().requests().is_empty());
    assert_eq!(fixture.server().writes().len(), 0);
    assert_eq!(harness.engine_writes(&mark).await, []);
    assert!(!fixture.path(".phoenix").exists());
}

/// A plan that sees everything there is to see, and has something to change at each place.
async fn a_plan_with_changes_in_reach_writes_nothing(fixture: &Fixture) {
    let harness = &fixture.harness;
    fixture.nothing_to_change().await;
    let compose = fixture.replace("stacks/apart.yml", "busybox:1.37", "alpine:3.20");
    let site = fixture.replace("phoenix.yaml", "  front: {}\n", "  front: {}\n  back: {}\n");
    in_node(fixture.worker(), "rm /etc/web/tls.pem").await;
    let kept = snapshot(&fixture.path(".phoenix"));
    assert!(kept.len() > 5, "{:?}", kept.keys());
    let mark = harness.mark().await;
    fixture.server().clear_requests();
    let plan = fixture
        .phoenix(&["plan", "--detailed-exitcode"])
        .await
        .expect(3);
    plan.says(&[
        "alpine:3.20",
        "network back",
        "worker:/etc/web/tls.pem",
        "reload-web now",
    ]);
    assert_eq!(fixture.server().writes().len(), 0);
    // Both engines were asked, and nothing but asked.
    let calls = harness.engine_calls(&mark).await;
    for node in ["manager", "worker"] {
        assert!(calls.iter().any(|call| call.node == node), "{node}");
    }
    assert_eq!(harness.engine_writes(&mark).await, []);
    assert!(snapshot(&fixture.path(".phoenix")) == kept);
    fixture.write("stacks/apart.yml", &compose);
    fixture.write("phoenix.yaml", &site);
}

/// Every file below a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            let content = std::fs::read(&path).expect("a file");
            found.insert(path, content);
        }
    }
    found
}

async fn a_daemon_is_not_restarted_with_settings_that_it_refuses(fixture: &Fixture) {
    let (worker, path) = (fixture.worker(), "/etc/docker/daemon.json");
    let fine = worker.read_file(path).await.expect("settings");
    let pid = in_node(worker, "cat /run/svc/dockerd/pid").await;
    let mut unknown: Value = serde_json::from_slice(&fine).expect("JSON");
    unknown["no-such-setting"] = json!(1);
    let unknown = serde_json::to_vec(&unknown).expect("JSON");
    let cases: [(&[u8], &[&str]); 2] = [
        (
            &unknown,
            // The last in dockerd's own words.
            &[
                "dockerd --validate",
                "the following directives don't match any configuration option: no-such-setting",
            ],
        ),
        (
            b"{ \"debug\": tru }",
            &["is not a JSON object", "line 1 column"],
        ),
    ];
    for (settings, words) in cases {
        worker
            .write_file(path, 0o644, settings)
            .await
            .expect("settings");
        let run = fixture.sync_json().await.expect(1);
        assert_eq!(run.failed(), ["docker/worker"], "{run}");
        let failure = run.failure("docker/worker");
        assert_eq!(failure["guest"], "worker", "{failure}");
        let message = failure["message"].as_str().expect("message");
        says(message, &["worker", path]);
        says(message, words);
        run.skipped("node/worker", "docker/worker")
            .skipped("certificate/web", "docker/worker")
            .skipped("stack/apart", "docker/worker");
        assert_eq!(
            worker.read_file(path).await.expect("settings"),
            settings,
            "what the operator wrote is left as it was"
        );
        let now = in_node(worker, "cat /run/svc/dockerd/pid").await;
        assert_eq!(now, pid, "the daemon was restarted");
        assert!(worker.docker().answers().await);
    }
    worker
        .write_file(path, 0o644, &fine)
        .await
        .expect("settings");
}

async fn a_node_of_another_swarm_is_left_there(fixture: &Fixture) {
    let docker = fixture.worker().docker();
    let wish = json!({
        "ListenAddr": "0.0.0.0:2377",
        "AdvertiseAddr": fixture.worker().ip().to_string(),
        "DefaultAddrPool": [fixture.harness.lab().network().overlay_pool()],
    });
    docker.post("/swarm/init", wish).await.expect("init");
    let theirs = docker.get("/swarm").await.expect("swarm")["ID"].clone();
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(run.failed(), ["node/worker"], "{run}");
    let ours = fixture
        .manager()
        .docker()
        .get("/swarm")
        .await
        .expect("swarm")["ID"]
        .clone();
    assert_ne!(ours, theirs);
    let failure = run.failure("node/worker");
    says(
        failure["message"].as_str().expect("message"),
        &[
            "guest worker",
            ours.as_str().expect("id"),
            theirs.as_str().expect("id"),
        ],
    );
    says(
        failure["hint"].as_str().expect("hint"),
        &["docker swarm leave"],
    );
    run.outcome("node/manager", "unchanged")
        .skipped("certificate/other", "node/worker");
    let still = docker.get("/swarm").await.expect("it manages its swarm")["ID"].clone();
    assert_eq!(still, theirs);
    docker
        .command("/swarm/leave?force=true")
        .await
        .expect("leave");
}

/// From nothing, for people; then made up for, for programs.
async fn a_failed_reload_fails_its_certificate_and_is_made_up_for(fixture: &Fixture) {
    fixture
        .reload_is("echo 'bad certificate, says the server' >&2; exit 3")
        .await;
    let run = fixture.sync().await.expect(1);
    run.says(&[
        "certificate/web",
        "guest:   worker",
        "command: /usr/local/bin/reload-web now",
        "exit code 3",
        "| bad certificate, says the server",
    ]);
    for name in TAKEN_ALONG {
        let text = run.text();
        let line = text
            .lines()
            .find(|line| line.contains(name) && line.contains("skipped"));
        says(
            line.unwrap_or_else(|| panic!("{name} in {text}")),
            &["because certificate/web failed"],
        );
    }
    assert_eq!(fixture.reloads().await, 1);
    delivered(fixture).await;
    let manager = fixture.manager().docker();
    let services = manager.get("/services").await.expect("services");
    let names: Vec<_> = services
        .as_array()
        .into_iter()
        .flatten()
        .map(|service| &service["Spec"]["Name"])
        .collect();
    assert_eq!(names, ["apart_idle"]);
    in_node(fixture.manager(), "grep -q reloaded /etc/other/reloads").await;

    // It is tried again by every sync, and says the same again.
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(run.failed(), ["certificate/web"]);
    let failure = run.failure("certificate/web");
    says(
        failure["message"].as_str().expect("message"),
        &[
            "certificate web",
            "worker",
            "reload-web now",
            "exit code 3",
            "bad certificate, says the server",
        ],
    );
    assert_eq!(failure["class"], "failed");
    assert_eq!(failure["guest"], "worker");
    let program = &failure["program"];
    assert_eq!(program["command"], json!(RELOAD));
    assert_eq!(program["exit_code"], 3);
    assert_eq!(program["signal"], Value::Null);
    assert_eq!(program["stderr"], "bad certificate, says the server");
    for name in TAKEN_ALONG {
        run.skipped(name, "certificate/web");
    }
    run.outcome("certificate/other", "unchanged")
        .outcome("stack/apart", "unchanged");
    assert_eq!(fixture.reloads().await, 2);

    mended(fixture, 2, "exit code 3").await;
}

/// The files that certificate `web` delivers are in place.
async fn delivered(fixture: &Fixture) {
    let kept = fixture.read(".phoenix/certificates/web.pem");
    for path in ["/etc/web/tls.pem", "/etc/web/tls-key.pem"] {
        let found = fixture.worker().read_file(path).await.expect(path);
        let found = String::from_utf8(found).expect("PEM");
        assert!(found.starts_with("-----BEGIN "), "{path}");
        assert!(kept.contains(found.trim()), "{path} is another one");
    }
}

/// The command works again: one reload makes up for the failed one, and then all is well.
async fn mended(fixture: &Fixture, reloads: usize, last: &str) {
    fixture.let_reload_succeed().await;
    let why = format!("delivered but not reloaded: {last}");
    fixture
        .phoenix(&["plan"])
        .await
        .expect(0)
        .says(&["certificate/web", &why]);
    assert_eq!(fixture.reloads().await, reloads);
    fixture.converge().await.says(&["certificate/web", &why]);
    assert_eq!(fixture.reloads().await, reloads + 1);
    fixture.nothing_to_change().await;
    assert_eq!(fixture.reloads().await, reloads + 1);
}

async fn other_ends_of_a_reload_are_no_success_either(fixture: &Fixture) {
    /// Its parent is the script, its child would outlive it.
    const HANGS: &str = "echo 'waiting for the server' >&2; sleep 98765 & wait";
    let ends: [(Option<&str>, &str, Value, &str); 3] = [
        (
            Some("echo 'hit' >&2; kill -9 $$"),
            "killed by signal 9",
            json!(9),
            "hit",
        ),
        (None, "reload-web", Value::Null, ""),
        (
            Some(HANGS),
            "outcome unknown: it had not ended after 2s and was killed",
            Value::Null,
            "waiting for the server",
        ),
    ];
    for (script, how, signal, stderr) in ends {
        let before = fixture.reloads().await;
        match script {
            Some(script) => fixture.reload_is(script).await,
            None => {
                in_node(fixture.worker(), "rm /usr/local/bin/reload-web").await;
            }
        }
        in_node(fixture.worker(), "rm /etc/web/tls.pem").await;
        let run = fixture.sync_json().await.expect(1);
        assert_eq!(run.failed(), ["certificate/web"]);
        let failure = run.failure("certificate/web");
        let message = failure["message"].as_str().expect("message");
        says(
            message,
            &["certificate web", "worker", "reload-web", how, stderr],
        );
        assert_eq!(failure["class"], "failed", "{failure}");
        assert_eq!(failure["guest"], "worker");
        let program = &failure["program"];
        assert_eq!(program["command"], json!(RELOAD), "{failure}");
        assert_eq!(program["exit_code"], Value::Null);
        assert_eq!(program["signal"], signal);
        assert_eq!(program["stderr"], stderr);
        let end = program["end"].as_str().expect("end");
        if script.is_some() {
            says(end, &[how]);
        } else {
            assert_eq!(end, "not started");
            says(message, &["No such file or directory"]);
        }
        for name in TAKEN_ALONG {
            run.skipped(name, "certificate/web");
        }
        run.outcome("stack/apart", "unchanged");
        delivered(fixture).await;
        let ran = before + usize::from(script.is_some());
        assert_eq!(fixture.reloads().await, ran);
        assert_eq!(running(fixture.worker(), "sleep 98765").await, [""; 0]);
        let last = if script.is_some() { how } else { message };
        mended(fixture, ran, last).await;
    }
}

/// The command ran, and how it ended nobody will ever know.
async fn a_lost_result_is_a_failure_and_runs_nothing_twice(fixture: &Fixture) {
    // Owners and modes are looked at by programs, too.
    let reload = || {
        let vmid = fixture.worker().vmid();
        Filter::any().vmid(vmid).program(RELOAD[0])
    };
    for lost in ["the result", "the start"] {
        // So that the reload is all that is left to do in the worker.
        fixture.reload_is("exit 3").await;
        in_node(fixture.worker(), "rm /etc/web/tls.pem").await;
        fixture.sync().await.expect(1);
        fixture.let_reload_succeed().await;
        let before = fixture.reloads().await;
        fixture.server().clear_requests();
        let faults = fixture.server().faults();
        let (injection, words) = if lost == "the result" {
            let words = ["its result was lost"].as_slice();
            let result = reload().path("/agent/exec-status");
            (faults.inject(result, Fault::LoseExecResult), words)
        } else {
            let words = ["it may have been started", "596"].as_slice();
            let start = reload().method("POST").path("/agent/exec");
            (faults.inject(start, Fault::timed_out()), words)
        };
        let run = fixture.sync_json().await;
        assert_eq!(injection.fired(), 1, "{lost}: {run}");
        let run = run.expect(1);
        assert_eq!(run.failed(), ["certificate/web"]);
        let failure = run.failure("certificate/web");
        says(
            failure["message"].as_str().expect("message"),
            &[
                "certificate web",
                "worker",
                "reload-web now",
                "outcome unknown",
            ],
        );
        says(failure["message"].as_str().expect("message"), words);
        assert_eq!(failure["program"]["command"], json!(RELOAD));
        assert_eq!(failure["program"]["exit_code"], Value::Null);
        run.skipped("secret/web_tls", "certificate/web");
        assert_eq!(fixture.starts_of(&RELOAD), 1, "{lost}");
        until("the command's end", async || {
            fixture.reloads().await == before + 1
        })
        .await;
        mended(fixture, before + 1, "outcome unknown").await;
        assert_eq!(fixture.starts_of(&RELOAD), 2, "{lost}");
    }
}

/// Owner and mode of delivered files are known, or their certificate has failed: whether the
/// program that tells them cannot be started, nobody knows whether it was, its result is lost, or
/// it ends badly.
async fn what_is_not_told_of_a_file_is_no_success(fixture: &Fixture) {
    let of_stat = || {
        let vmid = fixture.worker().vmid();
        Filter::any().vmid(vmid).program("stat")
    };
    let start = || of_stat().method("POST").path("/agent/exec");
    let result = || of_stat().path("/agent/exec-status");
    let disabled = "Agent error: Command guest-exec has been disabled";
    let cases: [(Filter, Fault, &[&str]); 3] = [
        (
            result(),
            Fault::LoseExecResult,
            &["outcome unknown", "its result was lost"],
        ),
        (
            start(),
            Fault::timed_out(),
            &["outcome unknown", "it may have been started", "596"],
        ),
        (
            start(),
            Fault::AnswerBefore(500, disabled.to_owned()),
            &["stat was not run in guest worker", disabled],
        ),
    ];
    fixture.nothing_to_change().await;
    let reloads = fixture.reloads().await;
    // The daemon's files are looked at first, those of the certificate after it.
    for (step, skip) in [("docker/worker", 0), ("certificate/web", 1)] {
        for (filter, fault, words) in &cases {
            fixture.server().clear_requests();
            let faults = fixture.server().faults();
            let injection = faults.inject(filter.clone().skip(skip), fault.clone());
            let run = fixture
                .phoenix(&["--json", "plan", "--detailed-exitcode"])
                .await;
            assert_eq!(injection.fired(), 1, "{step}: {run}");
            let run = run.expect(1);
            let plan = run.plan();
            let steps = plan["steps"].as_array().expect("steps");
            let planned = steps.iter().find(|planned| planned["step"] == step);
            let planned = planned.unwrap_or_else(|| panic!("{step} in {run}"));
            assert_eq!(planned["action"], "failed", "{run}");
            let failure = &planned["failure"];
            assert_eq!(failure["guest"], "worker", "{failure}");
            let message = failure["message"].as_str().expect("message");
            says(message, &["owner and mode of /etc/", "stat"]);
            says(message, words);
            if words.contains(&disabled) {
                let hint = failure["hint"].as_str().expect("hint");
                says(hint, &["the guest's agent blocks this command"]);
            }
            // It is not asked again, and nothing else is done.
            assert_eq!(fixture.server().writes().len(), 0);
        }
    }
    let lost = fixture
        .server()
        .faults()
        .inject_times(result().skip(1), Fault::LoseExecResult, 2);
    let run = fixture.sync_json().await.expect(1);
    // A sync looks once more before it acts.
    assert_eq!(lost.fired(), 2, "{run}");
    assert_eq!(run.failed(), ["certificate/web"], "{run}");
    assert_eq!(fixture.reloads().await, reloads);

    // One that ends badly is named with how it did.
    let script = b"#!/bin/sh\necho 'no such luck' >&2; exit 3\n";
    let path = "/usr/local/bin/stat";
    let written = fixture.worker().write_file(path, 0o755, script);
    written.await.expect("the script");
    let run = fixture.sync_json().await.expect(1);
    in_node(fixture.worker(), "rm /usr/local/bin/stat").await;
    run.says(&["docker/worker", "exit code 3", "no such luck"]);
    assert_eq!(fixture.reloads().await, reloads);
    fixture.nothing_to_change().await;
}

async fn exec_passes_everything_through(fixture: &Fixture) {
    // Every byte, next to every other kind of byte, and no newline at the end.
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend((0..=255u8).rev());
    bytes.extend((0..=255u8).map(|byte| byte.wrapping_mul(37)));
    let (code, stdout, stderr) = fixture.exec(&["cat"], &bytes).await;
    assert_eq!(code, Some(0));
    assert!(
        stdout == bytes && stderr.is_empty(),
        "{stdout:?} {stderr:?}"
    );
    let both = ["sh", "-c", "tee /dev/stderr; exit 7"];
    let (code, stdout, stderr) = fixture.exec(&both, &bytes).await;
    assert_eq!(code, Some(7));
    assert!(stdout == bytes && stderr == bytes, "{stdout:?} {stderr:?}");
    let words = [
        "printf", "%s|", "", " a  b ", "--json", "$HOME", "\\n", "'\"",
    ];
    let (code, stdout, _) = fixture.exec(&words, b"").await;
    assert_eq!(code, Some(0));
    assert_eq!(stdout, b"| a  b |--json|$HOME|\\n|'\"|");

    for wanted in [1, 2, 3, 4, 5, 130, 255] {
        let script = format!("exit {wanted}");
        let (code, stdout, stderr) = fixture.exec(&["sh", "-c", &script], b"").await;
        assert_eq!((code, stdout, stderr), (Some(wanted), vec![], vec![]));
    }
    for (script, signal) in [("kill -9 $$", 9), ("kill -TERM $$", 15)] {
        let (code, stdout, stderr) = fixture.exec(&["sh", "-c", script], b"").await;
        assert_eq!((code, stdout), (Some(128 + signal), vec![]));
        let said = String::from_utf8(stderr).expect("UTF-8");
        assert_eq!(said, format!("phoenix: killed by signal {signal}\n"));
    }

    let exec = async |argv: &[&str]| {
        let arguments = [&["exec", "worker", "--"], argv].concat();
        fixture.phoenix(&arguments).await
    };
    exec(&["/no/such/program", "x"]).await.expect(1).says(&[
        "/no/such/program",
        "guest worker",
        "No such file or directory",
    ]);

    fixture.server().clear_requests();
    let refused = exec(&["echo", "Grüße"]).await.expect(1);
    refused.says(&["argument 1", "'ü' is not ASCII", "worker"]);
    let unknown = ["exec", "wroker", "--", "true"];
    fixture
        .phoenix(&unknown)
        .await
        .expect(2)
        .says(&["there is no guest `wroker`", "did you mean `worker`?"]);
    assert_eq!(fixture.server().writes().len(), 0);

    // Nobody answers for the program: that is no success.
    let lost = fixture
        .server()
        .faults()
        .lose_exec_result(fixture.worker().vmid());
    let run = exec(&["echo", "lost"]).await.expect(1);
    run.says(&["phoenix: outcome unknown: its result was lost"]);
    assert_eq!((lost.fired(), run.stdout.as_str()), (1, ""));
    assert_eq!(fixture.starts_of(&["echo", "lost"]), 1);
    let slow = ["exec", "--timeout", "1s", "worker", "--", "sleep", "98766"];
    fixture
        .phoenix(&slow)
        .await
        .expect(1)
        .says(&["had not ended after 1s and was killed"]);
    assert_eq!(running(fixture.worker(), "sleep 98766").await, [""; 0]);
}
