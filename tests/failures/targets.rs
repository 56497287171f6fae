//! Targets that are not who they should be, cannot be reached, or cannot do what is asked: the
//! Proxmox API, guests, engines, the swarm, and what is to run on it.

use phoenix_lab::harness::{Run, until};
use phoenix_lab::{Service, ServiceAction};
use serde_json::json;
use tokio::net::TcpListener;

use crate::fixture::{Fixture, Told, in_node, other_root, says};

/// Of a converged site: what a node that cannot be used keeps from being looked at.
const AFTER_THE_NODES: [&str; 7] = [
    "network/front",
    "certificate/web",
    "certificate/other",
    "secret/web_tls",
    "stack/web",
    "stack/apart",
    "retired-versions",
];

pub(super) async fn go() {
    let fixture = Fixture::start().await;
    fixture.converge().await;
    fixture.nothing_to_change().await;
    an_api_that_does_not_know_us_or_that_we_do_not_know(&fixture).await;
    an_api_that_is_not_there(&fixture).await;
    an_agent_that_is_off(&fixture).await;
    a_guest_that_is_off(&fixture).await;
    an_engine_that_is_stopped(&fixture).await;
    services_that_cannot_run(&fixture).await;
    a_network_of_another_kind(&fixture).await;
    a_manager_that_is_locked(&fixture).await;
    fixture.nothing_to_change().await;
    fixture.harness.stop().await;
}

/// Every guest's step failed, so nothing else was begun but the site's own files.
fn failed_at_the_guests(run: &Run, class: &str, parts: &[&str]) {
    assert_eq!(run.failed(), ["guest/manager", "guest/worker"], "{run}");
    for guest in ["manager", "worker"] {
        let failure = run.failure(&format!("guest/{guest}"));
        assert_eq!(failure["class"], class, "{failure}");
        assert_eq!(failure["guest"], guest, "{failure}");
        says(&failure.to_string(), parts);
        run.skipped(&format!("docker/{guest}"), &format!("guest/{guest}"));
    }
    for step in AFTER_THE_NODES {
        assert!(run.step(step)["outcome"]["skipped"].is_object(), "{step}");
    }
}

async fn an_api_that_does_not_know_us_or_that_we_do_not_know(fixture: &Fixture) {
    let token = fixture.read("proxmox.token");
    let (id, secret) = token.split_once('=').expect("a token");
    fixture.write("proxmox.token", &format!("{id}={}", "0".repeat(32)));
    fixture.server().clear_requests();
    let run = fixture.sync_json().await.expect(1);
    failed_at_the_guests(
        &run,
        "failed",
        &["the API token was refused", "check proxmox.token"],
    );
    let refused = fixture.server().requests();
    assert!(refused.iter().all(|request| request.status == Some(401)));
    assert!(!run.text().contains(secret));
    // For people, and by a command that is about one guest.
    fixture
        .sync()
        .await
        .expect(1)
        .says(&["API token was refused", "hint:", "check proxmox.token"]);
    fixture
        .phoenix(&["exec", "worker", "--", "true"])
        .await
        .expect(1)
        .says(&["the API token was refused", "worker", "check proxmox.token"]);
    fixture.write("proxmox.token", &token);

    let found = &fixture.harness.access().fingerprint;
    let expected = vec!["AB"; 32].join(":");
    let trust = "ca: pve-root-ca.pem";
    let site = fixture.replace(
        "phoenix.yaml",
        trust,
        &format!("fingerprint: \"{expected}\""),
    );
    fixture.server().clear_requests();
    let run = fixture.sync_json().await.expect(4);
    failed_at_the_guests(
        &run,
        "unreachable",
        &[&expected, found, "check proxmox.ca or proxmox.fingerprint"],
    );
    assert_eq!(fixture.server().requests().len(), 0, "the token was sent");
    // The right one will do, without any CA.
    fixture.write(
        "phoenix.yaml",
        &site.replace(trust, &format!("fingerprint: \"{found}\"")),
    );
    fixture.nothing_to_change().await;
    fixture.write("phoenix.yaml", &site);

    let root = fixture.read("pve-root-ca.pem");
    fixture.write("pve-root-ca.pem", &other_root());
    fixture.server().clear_requests();
    let run = fixture.sync_json().await.expect(4);
    failed_at_the_guests(
        &run,
        "unreachable",
        &[
            "the server's certificate is not trusted",
            "check proxmox.ca",
        ],
    );
    assert_eq!(fixture.server().requests().len(), 0, "the token was sent");
    fixture.write("pve-root-ca.pem", &root);
    fixture.nothing_to_change().await;
}

async fn an_api_that_is_not_there(fixture: &Fixture) {
    let url = fixture.harness.access().url.clone();
    let gateway = fixture.harness.lab().gateway();
    // Something takes the connection and never says a word.
    let silent = TcpListener::bind((gateway, 0)).await.expect("an address");
    let address = silent.local_addr().expect("an address");
    let site = fixture.replace("phoenix.yaml", &url, &format!("https://{address}"));
    let patient = fixture.replace("phoenix.yaml", "request: 15s", "request: 2s");
    let run = fixture.sync_json().await.expect(4);
    failed_at_the_guests(&run, "unreachable", &["not done within 2s"]);

    // And then there is nothing at all.
    drop(silent);
    fixture.write("phoenix.yaml", &patient);
    let run = fixture.sync_json().await.expect(4);
    let parts = ["no connection to the server", "check proxmox.url"];
    failed_at_the_guests(&run, "unreachable", &parts);
    let human = fixture.sync().await.expect(4);
    human.says(&[
        "a target could not be reached",
        "hint:",
        "check proxmox.url",
    ]);
    fixture
        .phoenix(&["exec", "worker", "--", "true"])
        .await
        .expect(4)
        .says(&["no connection to the server", "worker"]);
    fixture.write("phoenix.yaml", &site);
    fixture.nothing_to_change().await;
}

async fn an_agent_that_is_off(fixture: &Fixture) {
    let worker = fixture.worker();
    worker
        .service(Service::GuestAgent, ServiceAction::Stop)
        .await
        .expect("stop");
    let run = fixture.sync_json().await.expect(4);
    only_the_worker_failed(&run, "guest/worker");
    let failure = run.failure("guest/worker");
    says(
        failure["message"].as_str().expect("message"),
        &[
            "guest worker: its agent did not answer within 4s",
            "guest agent is not running",
        ],
    );
    says(
        failure["hint"].as_str().expect("hint"),
        &["is qemu-guest-agent installed and running in the guest"],
    );
    fixture
        .phoenix(&["exec", "--timeout", "8s", "worker", "--", "true"])
        .await
        .expect(4)
        .says(&["worker", "agent is not running", "hint:"]);
    worker
        .service(Service::GuestAgent, ServiceAction::Start)
        .await
        .expect("start");
    worker.wait().await.expect("back");

    // As if nobody had ticked the box in the VM's options.
    assert!(fixture.server().set_agent(worker.vmid(), false));
    let run = fixture.sync_json().await.expect(1);
    only_the_worker_failed(&run, "guest/worker");
    says(
        &run.failure("guest/worker").to_string(),
        &[
            "No QEMU guest agent configured",
            "enable the QEMU guest agent in the VM's options",
        ],
    );
    assert!(fixture.server().set_agent(worker.vmid(), true));
    fixture.nothing_to_change().await;
}

/// One step of the worker failed; the manager's are well; what needs all nodes waits for it.
fn only_the_worker_failed(run: &Run, step: &str) {
    assert_eq!(run.failed(), [step], "{run}");
    assert_eq!(run.failure(step)["guest"], "worker");
    for fine in ["guest/manager", "docker/manager", "swarm", "node/manager"] {
        run.outcome(fine, "unchanged");
    }
    run.skipped("node/worker", step);
    for later in AFTER_THE_NODES {
        run.skipped(later, step);
    }
}

async fn a_guest_that_is_off(fixture: &Fixture) {
    let worker = fixture.worker();
    worker.stop().await.expect("stop");
    let run = fixture.sync_json().await.expect(4);
    only_the_worker_failed(&run, "guest/worker");
    let failure = run.failure("guest/worker");
    says(
        failure["message"].as_str().expect("message"),
        &["guest worker", "VM 1202 on node pve2 is stopped"],
    );
    assert_eq!(failure["hint"], "start it: qm start 1202");
    // The guest is not started by a sync.
    assert!(!worker.running().await.expect("state"));
    fixture
        .phoenix(&["exec", "worker", "--", "true"])
        .await
        .expect(4)
        .says(&["worker", "not running"]);
    worker.start().await.expect("start");
    worker.wait().await.expect("back");
    fixture.nodes_ready().await;
    fixture.converge().await;
    fixture.nothing_to_change().await;
}

async fn an_engine_that_is_stopped(fixture: &Fixture) {
    let worker = fixture.worker();
    worker
        .service(Service::Dockerd, ServiceAction::Stop)
        .await
        .expect("stop");
    // Something else to do, where the worker is not needed.
    in_node(fixture.manager(), "rm /etc/docker/phoenix/server.pem").await;
    let run = fixture.sync_json().await.expect(4);
    assert_eq!(run.failed(), ["docker/worker"], "{run}");
    let failure = run.failure("docker/worker");
    assert_eq!(failure["guest"], "worker");
    assert_eq!(failure["class"], "unreachable");
    let address = format!("{}:2376", worker.ip());
    says(
        failure["message"].as_str().expect("message"),
        &[
            "the Docker engine of worker",
            &address,
            "the connection was refused",
        ],
    );
    says(
        failure["hint"].as_str().expect("hint"),
        &["is the Docker daemon of worker running"],
    );
    run.outcome("docker/manager", "changed")
        .outcome("swarm", "unchanged")
        .outcome("node/manager", "unchanged")
        .skipped("node/worker", "docker/worker");
    for later in AFTER_THE_NODES {
        run.skipped(later, "docker/worker");
    }
    assert!(fixture.manager().docker().answers().await);
    fixture
        .phoenix(&["status"])
        .await
        .says(&["worker", "unreachable"]);
    worker
        .service(Service::Dockerd, ServiceAction::Start)
        .await
        .expect("start");
    worker.wait().await.expect("back");
    fixture.nodes_ready().await;
    fixture.converge().await;
    fixture.nothing_to_change().await;
}

/// All in one site, next to one that can.
async fn services_that_cannot_run(fixture: &Fixture) {
    let before = fixture.replace(
        "phoenix.yaml",
        "  apart: { compose: stacks/apart.yml }\n",
        "  apart: { compose: stacks/apart.yml }
  lost: { compose: stacks/lost.yml }
  nowhere: { compose: stacks/nowhere.yml }
  crashing: { compose: stacks/crashing.yml }
  rolling: { compose: stacks/rolling.yml }
  fine: { compose: stacks/fine.yml }
",
    );
    let service = |image: &str, placed: &str| {
        format!(
            "services:
  one:
    image: {image}
    stop_grace_period: 1s
    deploy:
      placement: {{ constraints: [{placed}] }}
      restart_policy: {{ condition: any, delay: 100ms }}
      update_config: {{ monitor: 3s, failure_action: rollback }}
"
        )
    };
    let here = "node.role == worker";
    // The one that is rolled back has to be there before; the others begin well.
    for name in ["lost", "nowhere", "crashing", "rolling", "fine"] {
        let name = format!("stacks/{name}.yml");
        fixture.write(&name, &service("busybox:1.37", here));
    }
    fixture.write("stacks/lost.yml", &service("nobody/has-this:7", here));
    fixture.write(
        "stacks/nowhere.yml",
        &service("busybox:1.37", "node.labels.disk == fast"),
    );
    fixture.write("stacks/crashing.yml", &service("crash:1", here));
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(
        run.failed(),
        ["stack/crashing", "stack/lost", "stack/nowhere"],
        "{run}"
    );
    let said = |run: &Run, stack: &str, parts: &[&str]| {
        let failure = run.failure(&format!("stack/{stack}"));
        assert_eq!(failure["class"], "failed", "{failure}");
        let message = failure["message"].as_str().expect("message");
        let service = format!("service {stack}_one");
        says(message, &[&format!("stack {stack}"), &service]);
        says(message, parts);
    };
    let lost = ["image nobody/has-this:7 is missing", "lost_one.1 on worker"];
    said(&run, "lost", &lost);
    let nowhere = [
        "unschedulable",
        "no suitable node",
        "scheduling constraints",
    ];
    said(&run, "nowhere", &nowhere);
    let crashing = ["crashed", "crashing_one.1 on worker exited with code 3"];
    said(&run, "crashing", &crashing);
    run.outcome("stack/rolling", "changed")
        .outcome("stack/fine", "changed")
        .outcome("stack/apart", "unchanged");

    // Two of them mended; one update that the engine takes back.
    fixture.write("stacks/nowhere.yml", &service("busybox:1.37", here));
    fixture.write("stacks/lost.yml", &service("alpine:3.20", here));
    fixture.write("stacks/rolling.yml", &service("crash:1", here));
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(run.failed(), ["stack/crashing", "stack/rolling"], "{run}");
    said(&run, "crashing", &crashing);
    let rolled = ["rolled back", "rolling_one.1 on worker exited with code 3"];
    said(&run, "rolling", &rolled);
    run.outcome("stack/nowhere", "changed")
        .outcome("stack/lost", "changed")
        .outcome("stack/fine", "unchanged");
    let image = image_of(fixture, "rolling_one").await;
    says(&image, &["busybox:1.37"]);

    // Told to people as well, with the same words.
    let human = fixture.sync().await.expect(1);
    human.says(&rolled).says(&crashing);

    fixture.write("stacks/rolling.yml", &service("busybox:1.37", here));
    fixture.write("stacks/crashing.yml", &service("busybox:1.37", here));
    fixture.converge().await;
    fixture.nothing_to_change().await;
    // Destroying is not asked for by leaving out: what is no longer declared stays.
    fixture.write("phoenix.yaml", &before);
    fixture.nothing_to_change().await;
    let docker = fixture.manager().docker();
    for name in ["lost", "nowhere", "crashing", "rolling", "fine"] {
        let path = format!("/services/{name}_one");
        docker.get(&path).await.expect("it is still there");
        docker.delete(&path).await.expect("removed");
    }
}

async fn image_of(fixture: &Fixture, service: &str) -> String {
    let path = format!("/services/{service}");
    let service = fixture
        .manager()
        .docker()
        .get(&path)
        .await
        .expect("service");
    let image = &service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"];
    image.as_str().expect("an image").to_owned()
}

async fn a_network_of_another_kind(fixture: &Fixture) {
    let docker = fixture.manager().docker();
    let wish = json!({ "Name": "back", "Driver": "bridge" });
    let made = docker
        .post("/networks/create", wish)
        .await
        .expect("network");
    let site = fixture.replace("phoenix.yaml", "  front: {}\n", "  front: {}\n  back: {}\n");
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(run.failed(), ["network/back"], "{run}");
    let failure = run.failure("network/back");
    says(
        failure["message"].as_str().expect("message"),
        &["back", "bridge", "local", "overlay", "swarm"],
    );
    run.outcome("network/front", "unchanged")
        .outcome("stack/web", "unchanged")
        .outcome("stack/apart", "unchanged");
    let found = docker.get("/networks/back").await.expect("network");
    assert_eq!(found["Id"], made["Id"], "it was replaced");
    assert_eq!(found["Driver"], "bridge");
    docker.delete("/networks/back").await.expect("removed");
    fixture.write("phoenix.yaml", &site);
    fixture.nothing_to_change().await;
}

async fn a_manager_that_is_locked(fixture: &Fixture) {
    let manager = fixture.manager();
    let docker = manager.docker();
    autolock(fixture, true).await;
    let key = docker.get("/swarm/unlockkey").await.expect("key");
    in_node(manager, "/usr/local/bin/restart-docker").await;
    let run = fixture.sync_json().await.expect(1);
    assert_eq!(run.failed(), ["swarm"], "{run}");
    let failure = run.failure("swarm");
    assert_eq!(failure["guest"], "manager");
    says(
        failure["message"].as_str().expect("message"),
        &["manager", "locked"],
    );
    says(
        failure["hint"].as_str().expect("hint"),
        &["docker swarm unlock"],
    );
    run.outcome("docker/manager", "unchanged")
        .skipped("node/worker", "swarm")
        .skipped("stack/apart", "swarm");
    fixture.sync().await.expect(1).says(&["locked", "hint:"]);
    docker
        .post("/swarm/unlock", json!({ "UnlockKey": key["UnlockKey"] }))
        .await
        .expect("unlock");
    until("a manager", async || docker.get("/swarm").await.is_ok()).await;
    autolock(fixture, false).await;
    fixture.nodes_ready().await;
    // Tasks may have ended with the engine.
    fixture.converge().await;
    fixture.nothing_to_change().await;
}

async fn autolock(fixture: &Fixture, locked: bool) {
    let docker = fixture.manager().docker();
    let swarm = docker.get("/swarm").await.expect("swarm");
    let mut spec = swarm["Spec"].clone();
    spec["EncryptionConfig"] = json!({ "AutoLockManagers": locked });
    let path = format!("/swarm/update?version={}", swarm["Version"]["Index"]);
    docker.post(&path, spec).await.expect("update");
}
