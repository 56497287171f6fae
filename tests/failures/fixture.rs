//! A small site on a lab of two guests, and what is asked of the real `phoenix` run on it.

use std::path::PathBuf;
use std::time::Duration;

use phoenix_lab::harness::{Harness, Run, until};
use phoenix_lab::proxmox_api::{Recorded, Server};
use phoenix_lab::{LabOptions, Node, Output};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// Two guests in a swarm; a certificate with a reload command and a secret that a stack uses; and
/// beside these a certificate, a stack and a network that nothing of it concerns.
const SITE: &str = r#"
site: failures
proxmox:
  url: @PROXMOX_URL@
  token: { file: proxmox.token }
  ca: pve-root-ca.pem
ca:
  embedded: { common_name: Failures CA }
guests:
  manager:
    vmid: @VMID_MANAGER@
    docker:
      address: tcp://@MANAGER@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager }
  worker:
    vmid: @VMID_WORKER@
    docker:
      address: tcp://@WORKER@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: worker }
swarm:
  address_pools: ["@OVERLAY_POOL@"]
  subnet_size: 24
  heartbeat: 1s
networks:
  front: {}
certificates:
  web:
    common_name: web.failures.lan
    profile: server
    sans: [web.failures.lan]
    deliver:
      - guest: worker
        files:
          - { part: chain, path: /etc/web/tls.pem }
          - { part: key, path: /etc/web/tls-key.pem }
        reload: { command: [/usr/local/bin/reload-web, now], timeout: 2s }
      - secrets: { bundle: web_tls }
  other:
    common_name: other.failures.lan
    profile: client
    sans: [other.failures.lan]
    deliver:
      - guest: manager
        files:
          - { part: bundle, path: /etc/other/tls.pem }
        reload: [/bin/sh, -c, "echo reloaded >> /etc/other/reloads"]
stacks:
  web: { compose: stacks/web.yml }
  apart: { compose: stacks/apart.yml }
timeouts:
  guest: 4s
  request: 15s
  node: 60s
  converge: 60s
"#;

const WEB: &str = "
services:
  front:
    image: traefik/whoami:v1.10
    networks: [front]
    secrets:
      - { source: web_tls, target: /certs/web.pem, mode: 0400 }
    stop_grace_period: 1s
    deploy: { update_config: { monitor: 1s } }
networks:
  front: { external: true }
secrets:
  web_tls: { external: true }
";

const APART: &str = "
services:
  idle:
    image: busybox:1.37
    stop_grace_period: 1s
    deploy: { update_config: { monitor: 1s } }
";

/// The site on its lab.
pub(super) struct Fixture {
    pub(super) harness: Harness,
}

impl Fixture {
    pub(super) async fn start() -> Self {
        let template = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(template.path().join("stacks")).expect("a folder");
        for (name, text) in [
            ("phoenix.yaml", SITE),
            ("stacks/web.yml", WEB),
            ("stacks/apart.yml", APART),
        ] {
            std::fs::write(template.path().join(name), text).expect("a template");
        }
        let options = LabOptions::test().with_guests([("manager", 1201), ("worker", 1202)]);
        // What is refused for its token is not waited for in full.
        let harness = Harness::start_with(options, template.path(), |options| {
            options.unauthorized_delay = Duration::from_millis(200);
        });
        let fixture = Self {
            harness: harness.await,
        };
        fixture.let_reload_succeed().await;
        fixture
    }

    pub(super) fn manager(&self) -> &Node {
        self.harness.node("manager")
    }

    pub(super) fn worker(&self) -> &Node {
        self.harness.node("worker")
    }

    pub(super) fn server(&self) -> &Server {
        self.harness.server()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.harness.path(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        self.harness.read(name)
    }

    /// Writes a file of the site, with the mode that it has.
    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect(name);
    }

    /// Replaces a part of a file of the site that is there once. Gives back what the file was.
    pub(super) fn replace(&self, name: &str, part: &str, by: &str) -> String {
        let text = self.read(name);
        self.harness.edit(name, part, by);
        text
    }

    pub(super) async fn phoenix(&self, arguments: &[&str]) -> Run {
        self.harness.phoenix(arguments).await
    }

    /// `phoenix sync all`, for people.
    pub(super) async fn sync(&self) -> Run {
        self.phoenix(&["sync", "all"]).await
    }

    /// `phoenix sync all`, for programs.
    pub(super) async fn sync_json(&self) -> Run {
        self.phoenix(&["--json", "sync", "all"]).await
    }

    /// A sync that must converge.
    pub(super) async fn converge(&self) -> Run {
        self.sync().await.expect(0)
    }

    /// A sync that must find nothing to change.
    pub(super) async fn nothing_to_change(&self) {
        self.converge().await.says(&["Nothing to change"]);
    }

    /// `phoenix exec` in the worker, in bytes: the exit code, stdout and stderr.
    pub(super) async fn exec(
        &self,
        argv: &[&str],
        stdin: &[u8],
    ) -> (Option<i32>, Vec<u8>, Vec<u8>) {
        let mut arguments = vec!["exec", "worker", "--"];
        arguments.extend_from_slice(argv);
        let mut command = self.harness.command(arguments);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("phoenix");
        let mut input = child.stdin.take().expect("stdin");
        let work = async {
            let write = async {
                // What refuses its arguments reads no stdin.
                let _ = input.write_all(stdin).await;
                drop(input);
            };
            tokio::join!(write, child.wait_with_output()).1
        };
        let output = tokio::time::timeout(Duration::from_secs(120), work)
            .await
            .expect("phoenix did not end")
            .expect("phoenix's end");
        (output.status.code(), output.stdout, output.stderr)
    }

    /// The command that makes the worker use its certificate, as a script in it.
    pub(super) async fn reload_is(&self, script: &str) {
        let script = format!("#!/bin/sh\necho \"$@\" >> /var/log/reloads\n{script}\n");
        let path = "/usr/local/bin/reload-web";
        let written = self.worker().write_file(path, 0o755, script.as_bytes());
        written.await.expect("the script");
    }

    pub(super) async fn let_reload_succeed(&self) {
        self.reload_is("exit 0").await;
    }

    /// How often that command has run.
    pub(super) async fn reloads(&self) -> usize {
        let log = in_node(self.worker(), "cat /var/log/reloads 2>/dev/null || true").await;
        assert!(log.lines().all(|line| line == "now"), "{log}");
        log.lines().count()
    }

    /// How often the API was asked to run this in a guest.
    pub(super) fn starts_of(&self, argv: &[&str]) -> usize {
        let wanted = Recorded::List(argv.iter().map(|word| (*word).to_owned()).collect());
        let writes = self.server().writes();
        let execs = writes
            .iter()
            .filter(|request| request.path.ends_with("/agent/exec"));
        execs
            .filter(|request| request.parameter("command") == Some(&wanted))
            .count()
    }

    /// Waits until both nodes are members of the swarm and ready.
    pub(super) async fn nodes_ready(&self) {
        until("two ready nodes", async || {
            let Ok(nodes) = self.manager().docker().get("/nodes").await else {
                return false;
            };
            let ready = nodes.as_array().into_iter().flatten();
            ready
                .filter(|node| node["Status"]["State"] == "ready")
                .count()
                == 2
        })
        .await;
    }
}

/// What a line of shell in a node writes; it must end with 0.
pub(super) async fn in_node(node: &Node, script: &str) -> String {
    node.sh(script)
        .await
        .and_then(Output::success)
        .unwrap_or_else(|error| panic!("{script} in {}: {}", node.name(), error.chain()))
}

/// The command lines of a node's processes that begin with this.
pub(super) async fn running(node: &Node, beginning: &str) -> Vec<String> {
    let list = "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$one; echo; done 2>/dev/null";
    let lines = in_node(node, list).await;
    assert!(
        lines.lines().any(|line| line.starts_with("dockerd")),
        "{lines}"
    );
    let lines = lines.lines().filter(|line| line.starts_with(beginning));
    lines.map(str::to_owned).collect()
}

/// What a run of `phoenix` said.
pub(super) trait Told {
    /// What it said, on both streams.
    fn text(&self) -> String;

    #[track_caller]
    fn says(&self, parts: &[&str]) -> &Self;

    /// The end of a step, from the events.
    #[track_caller]
    fn step(&self, name: &str) -> Value;

    #[track_caller]
    fn outcome(&self, name: &str, wanted: &str) -> &Self;

    /// That a step was not begun because of another.
    #[track_caller]
    fn skipped(&self, name: &str, because_of: &str) -> &Self;

    /// Why a step failed.
    #[track_caller]
    fn failure(&self, name: &str) -> Value;

    /// The steps that failed, in the order of their names.
    #[track_caller]
    fn failed(&self) -> Vec<String>;
}

impl Told for Run {
    fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    fn says(&self, parts: &[&str]) -> &Self {
        says(&self.text(), parts);
        self
    }

    fn step(&self, name: &str) -> Value {
        let ends = self.events().into_iter().filter(|event| {
            event["event"] == "step-finished" && event["step"].as_str() == Some(name)
        });
        let mut ends: Vec<Value> = ends.collect();
        assert_eq!(ends.len(), 1, "{name} in {self}");
        ends.remove(0)
    }

    fn outcome(&self, name: &str, wanted: &str) -> &Self {
        assert_eq!(self.step(name)["outcome"], wanted, "{name} in {self}");
        self
    }

    fn skipped(&self, name: &str, because_of: &str) -> &Self {
        let outcome = &self.step(name)["outcome"];
        assert_eq!(
            outcome["skipped"]["because_of"], because_of,
            "{name} in {self}"
        );
        self
    }

    fn failure(&self, name: &str) -> Value {
        self.outcome(name, "failed");
        self.step(name)["failure"].take()
    }

    fn failed(&self) -> Vec<String> {
        let events = self.events();
        let failed = events
            .iter()
            .filter(|event| event["event"] == "step-finished" && event["outcome"] == "failed");
        let mut names: Vec<String> = failed
            .filter_map(|event| event["step"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }
}

/// That a text has these parts.
#[track_caller]
pub(super) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// A certificate that nobody has seen before.
pub(super) fn other_root() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.self_signed(&key).expect("a certificate").pem()
}
