//! The whole path on the demo site: from nothing to converged, no write when there is nothing to
//! change, and after each change exactly what it asks for and nothing else.
//!
//! One site is taken through all of it, section by section. Everything that was said, recorded and
//! run on the way is searched for secrets at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use phoenix_core::pki::Bundle;
use phoenix_lab::harness::{self, Harness, Run, planned_changes, until};
use phoenix_lab::leaks::{ArgumentWatch, Secrets};
use phoenix_lab::{LabOptions, Node};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const MANAGER: &str = "portainer";
const CLIENTS: [&str; 2] = ["portainer-client", "backup-client"];

/// The files that the site has delivered: guest, path, certificate, part, mode.
const FILES: [(&str, &str, &str, &str, &str); 8] = [
    (
        "drphoenix",
        "/etc/backup/tls/client.pem",
        "backup-client",
        "chain",
        "644",
    ),
    (
        "drphoenix",
        "/etc/backup/tls/client-key.pem",
        "backup-client",
        "key",
        "600",
    ),
    (
        "drphoenix",
        "/etc/backup/tls/ca.pem",
        "backup-client",
        "ca",
        "644",
    ),
    ("traefik", "/etc/edge/tls.pem", "edge", "bundle", "600"),
    (
        "drphoenix",
        "/etc/cluster/peer.pem",
        "cluster-peer",
        "chain",
        "644",
    ),
    (
        "drphoenix",
        "/etc/cluster/peer-key.pem",
        "cluster-peer",
        "key",
        "600",
    ),
    (
        "traefik",
        "/etc/cluster/peer.pem",
        "cluster-peer",
        "chain",
        "644",
    ),
    (
        "traefik",
        "/etc/cluster/peer-key.pem",
        "cluster-peer",
        "key",
        "600",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_site_is_converged_and_kept_so() {
    let mut site = Site::start().await;
    nothing_is_written_by_a_plan_of_everything(&mut site).await;
    from_nothing_to_converged(&mut site).await;
    a_second_sync_writes_nothing(&mut site).await;
    stacks_are_seen_through_the_site(&mut site).await;
    a_changed_secret_rolls_its_service_alone(&mut site).await;
    renewed_certificates_reach_their_users_alone(&mut site).await;
    portainer_is_reset_alone(&mut site).await;
    drift_is_named_and_repaired(&mut site).await;
    a_second_sync_at_the_same_time_is_refused(&mut site).await;
    no_secret_stands_where_it_must_not(&site).await;
    site.harness.stop().await;
}

/// The site, with everything that must not hold a secret.
struct Site {
    harness: Harness,
    secrets: Secrets,
    said: Vec<Said>,
    watched: BTreeSet<String>,
}

/// Text to search, with a text that stands in it for certain.
struct Said {
    by: String,
    text: String,
    certainly: &'static str,
}

impl Site {
    async fn start() -> Self {
        let harness = Harness::start(LabOptions::test(), &harness::demo()).await;
        Self {
            harness,
            secrets: Secrets::default(),
            said: Vec::new(),
            watched: BTreeSet::new(),
        }
    }

    fn node(&self, name: &str) -> &Node {
        self.harness.node(name)
    }

    /// Runs the program and keeps what it said. `certainly` is part of it.
    async fn run(&mut self, arguments: &[&str], certainly: &'static str) -> Run {
        let run = self.harness.phoenix(arguments).await;
        self.keep(&arguments.join(" "), &run, certainly);
        run
    }

    fn keep(&mut self, by: &str, run: &Run, certainly: &'static str) {
        self.said.push(Said {
            by: format!("phoenix {by}"),
            text: format!("{}\n{}", run.stdout, run.stderr),
            certainly,
        });
    }

    /// A sync that succeeds, with `--json`.
    async fn sync(&mut self) -> Run {
        let run = self.run(&["--json", "sync", "all"], "finished").await;
        self.learn_secrets().await;
        run.expect(0)
    }

    /// The changes of a plan, which there must be: by step, `verb what (why)`.
    async fn pending(&mut self) -> BTreeMap<String, Vec<String>> {
        let arguments = ["--json", "plan", "--detailed-exitcode"];
        let run = self.run(&arguments, "planned").await.expect(3);
        planned_changes(&run.plan())
    }

    /// A sync and a plan find nothing to do and write nothing, to the Proxmox API, to an engine or
    /// to the disk.
    async fn assert_nothing_to_change(&mut self) {
        let (swarm, mark) = (self.harness.swarm(MANAGER).await, self.harness.mark().await);
        let asked = self.harness.server().writes().len();
        let run = self.run(&["sync", "all"], "Nothing to change").await;
        let run = run.expect(0);
        assert!(run.stdout.contains("Nothing to change."), "{run}");
        let state = tree(&self.harness.path(".phoenix"));
        let run = self
            .run(&["plan", "--detailed-exitcode"], "No changes")
            .await;
        let run = run.expect(0);
        assert!(run.stdout.contains("No changes."), "{run}");
        assert!(
            state == tree(&self.harness.path(".phoenix")),
            "a plan changed the state folder"
        );
        assert_eq!(self.harness.server().writes()[asked..].len(), 0);
        assert_eq!(self.harness.engine_writes(&mark).await, []);
        assert_eq!(self.harness.swarm(MANAGER).await, swarm);
    }

    fn bundle(&self, certificate: &str) -> Bundle {
        let path = format!(".phoenix/certificates/{certificate}.pem");
        let bundle = Bundle::load(&self.harness.path(&path)).expect("readable");
        bundle.unwrap_or_else(|| panic!("{path} is missing"))
    }

    /// How often the reload command of the backup client's certificate has run.
    async fn reloads(&self) -> usize {
        let node = self.node("drphoenix");
        let lines = node.sh("cat /etc/backup/reloads").await.expect("cat");
        lines.text().lines().count()
    }

    /// Every delivered file has the bundle's content, its mode and its owner, and nothing lies
    /// beside it.
    async fn assert_files_delivered(&self) {
        for (guest, path, certificate, part, mode) in FILES {
            let node = self.node(guest);
            let bundle = self.bundle(certificate);
            let wanted = match part {
                "chain" => bundle.chain_pem().into_bytes(),
                "ca" => bundle.root_pem().into_bytes(),
                "key" => bundle.key_pem().expose().to_vec(),
                "bundle" => bundle.combined_pem().expose().to_vec(),
                other => panic!("{other}"),
            };
            let found = node.read_file(path).await.expect(path);
            assert!(
                found == wanted,
                "{guest}:{path} is not the {part} of {certificate}"
            );
            assert_eq!(
                shell(node, &format!("stat -c '%U:%G %a' {path}")).await,
                format!("root:root {mode}"),
                "{guest}:{path}"
            );
        }
        for (guest, folder, holds) in [
            (
                "drphoenix",
                "/etc/backup/tls",
                "ca.pem client-key.pem client.pem",
            ),
            ("drphoenix", "/etc/cluster", "peer-key.pem peer.pem"),
            ("traefik", "/etc/cluster", "peer-key.pem peer.pem"),
            ("traefik", "/etc/edge", "tls.pem"),
        ] {
            let listed = shell(self.node(guest), &format!("ls -A {folder}")).await;
            let listed: Vec<&str> = listed.split_whitespace().collect();
            assert_eq!(listed.join(" "), holds, "{guest}:{folder}");
        }
    }

    /// Adds what is secret now: the site's secrets, its keys, the swarm's join tokens.
    async fn learn_secrets(&mut self) {
        for name in ["portainer_admin_password", "api_token"] {
            let secret = self.harness.read(&format!("secrets/{name}"));
            self.secrets.add(name, secret.as_bytes());
        }
        let (_, token) = self
            .harness
            .access()
            .token
            .split_once('=')
            .expect("a token");
        self.secrets.add("Proxmox token", token.as_bytes());
        for (path, content) in tree(&self.harness.path(".phoenix")) {
            let name = path.file_name().expect("a name").to_string_lossy();
            if matches!(name.as_ref(), "portainer.key" | "fingerprint.key") {
                self.secrets.add(&name, &content);
            } else if let Ok(text) = str::from_utf8(&content) {
                self.secrets
                    .add_private_keys(&path.display().to_string(), text);
            }
        }
        let swarm = self
            .node(MANAGER)
            .docker()
            .get("/swarm")
            .await
            .expect("swarm");
        for role in ["Worker", "Manager"] {
            let token = swarm["JoinTokens"][role].as_str().expect("a join token");
            // Its parts: a version, the digest of the swarm's CA, which is none, and the secret.
            let (_, secret) = token.rsplit_once('-').expect("parts");
            self.secrets
                .add(&format!("join token {role}"), secret.as_bytes());
        }
    }
}

/// A line of shell in a node, which succeeds; its stdout without the last line's end.
async fn shell(node: &Node, script: &str) -> String {
    let output = node.sh(script).await.and_then(phoenix_lab::Output::success);
    let output = output.unwrap_or_else(|error| panic!("{script}: {}", error.chain()));
    output.trim_end().to_owned()
}

/// The files below a folder with their contents. Only their owner may read them; certificates,
/// which are public, are still in a folder of the owner alone.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path).expect("a file");
            let public = content.starts_with(b"-----BEGIN CERTIFICATE-----")
                && !content.windows(11).any(|word| word == b"PRIVATE KEY");
            let wanted = if public { 0o644 } else { 0o600 };
            assert!(mode(&path) & !wanted == 0, "{}", path.display());
            found.insert(path, content);
        }
    }
    found
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The place in the run of the first (or last) event that `wanted` is true of.
fn place(events: &[Value], wanted: impl Fn(&Value) -> bool) -> Option<usize> {
    events.iter().position(wanted)
}

fn step_is(event: &Value, kind: &str) -> bool {
    event["step"]
        .as_str()
        .is_some_and(|step| step.split('/').next() == Some(kind))
}

async fn nothing_is_written_by_a_plan_of_everything(site: &mut Site) {
    let mark = site.harness.mark().await;
    let run = site
        .run(
            &["plan", "--detailed-exitcode", "--reset-portainer"],
            "Plan:",
        )
        .await
        .expect(3);
    for step in [
        "~ swarm",
        "~ certificate/backup-client",
        "~ secret/api_token",
    ] {
        assert!(run.stdout.contains(step), "{step}: {run}");
    }
    assert!(!site.harness.path(".phoenix").exists());
    assert_eq!(site.harness.server().writes().len(), 0);
    assert_ne!(site.harness.server().requests().len(), 0);
    assert_eq!(site.harness.engine_writes(&mark).await, []);
}

async fn from_nothing_to_converged(site: &mut Site) {
    let daemons_before = daemon_settings(site).await;
    let mark = site.harness.mark().await;

    let arguments = ["--json", "-vv", "sync", "all", "--reset-portainer"];
    let watch = ArgumentWatch::start();
    let mut command = site.harness.command(arguments);
    let run = Run::of(command.env("PHOENIX_LOG", "trace")).await;
    site.watched = watch.finish();
    site.keep("sync from nothing, traced", &run, "TRACE");
    let run = run.expect(0);
    site.learn_secrets().await;

    // What is counted as a write below is counted here.
    let engine_writes = site.harness.engine_writes(&mark).await;
    for (node, path) in [
        (MANAGER, "/swarm/init"),
        ("drphoenix", "/swarm/join"),
        ("traefik", "/swarm/join"),
        (MANAGER, "/secrets/create"),
        (MANAGER, "/services/create"),
    ] {
        assert!(
            engine_writes
                .iter()
                .any(|call| call.node == node && call.path.ends_with(path)),
            "{node} {path}: {engine_writes:?}"
        );
    }
    assert_ne!(site.harness.server().writes().len(), 0);

    assert_order_of_events(&run.events());
    let report = run.report();
    assert_eq!(report["outcome"], "converged", "{run}");
    let checks = report["checks"].as_array().expect("checks");
    for check in checks {
        assert_eq!(check["holds"], true, "{check}");
        assert_ne!(check["evidence"], "", "{check}");
    }
    for (client, san) in CLIENTS.iter().zip(["ops@demo.lan", "backup.demo.lan"]) {
        let named = checks.iter().any(|check| {
            let statement = check["statement"].as_str().expect("text");
            statement.starts_with(&format!("client certificate {client} ("))
                && statement.contains(san)
        });
        assert!(named, "{client}: {checks:?}");
    }

    assert_swarm_is_as_declared(site).await;
    assert_daemons_keep_their_settings(site, &daemons_before).await;
    site.assert_files_delivered().await;
    assert_eq!(site.reloads().await, 1);
    assert_services_run_and_hold_their_secrets(site).await;
    assert_portainer_is_registered(site).await;
}

fn assert_order_of_events(events: &[Value]) {
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events[0]["format"], 1);
    assert_eq!(events[0]["dry_run"], false);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], index, "{event}");
    }
    assert_eq!(events[events.len() - 1]["event"], "finished");

    let ready: Vec<usize> = (0..events.len())
        .filter(|index| {
            let event = &events[*index];
            event["event"] == "step-finished" && (step_is(event, "node") || step_is(event, "swarm"))
        })
        .collect();
    for index in &ready {
        assert_eq!(events[*index]["outcome"], "changed", "{}", events[*index]);
    }
    assert_eq!(ready.len(), 4, "the swarm and three nodes");
    let last_ready = ready[3];
    let changed = |event: &Value, kind: &str| event["event"] == "changed" && step_is(event, kind);
    let issued =
        |event: &Value| changed(event, "certificate") && event["change"]["verb"] == "issue";
    assert_eq!(events.iter().filter(|event| issued(event)).count(), 6);
    let secrets = events.iter().filter(|event| changed(event, "secret"));
    assert_eq!(secrets.count(), 8);
    let first_issued = place(events, issued).expect("issued");
    let first_secret = place(events, |event| changed(event, "secret")).expect("a secret");
    assert!(last_ready < first_issued, "{last_ready} {first_issued}");
    assert!(last_ready < first_secret, "{last_ready} {first_secret}");
    // Not even begun: no step of theirs may act while the swarm is incomplete.
    for kind in ["certificate", "secret", "network", "stack"] {
        let begun = place(events, |event| {
            event["event"] == "step-started" && step_is(event, kind)
        });
        assert!(begun.is_some_and(|begun| last_ready < begun), "{kind}");
    }
}

async fn assert_swarm_is_as_declared(site: &Site) {
    for node in site.harness.lab().nodes() {
        let info = node.docker().get("/info").await.expect("info");
        assert_eq!(info["Swarm"]["LocalNodeState"], "active", "{}", node.name());
        assert_eq!(info["Swarm"]["ControlAvailable"], node.name() == MANAGER);
    }
    let docker = site.node(MANAGER).docker();
    let nodes = docker.get("/nodes").await.expect("nodes");
    let mut labels = BTreeMap::new();
    for node in nodes.as_array().expect("nodes") {
        assert_eq!(node["Status"]["State"], "ready", "{node}");
        let name = node["Description"]["Hostname"].as_str().expect("a name");
        labels.insert(name, node["Spec"]["Labels"].clone());
    }
    let wanted = BTreeMap::from([
        ("portainer", json!({ "data": "portainer" })),
        ("drphoenix", json!({ "tier": "application" })),
        ("traefik", json!({ "tier": "edge" })),
    ]);
    assert_eq!(labels, wanted);
    let network = docker
        .get("/networks/traefik-public")
        .await
        .expect("network");
    assert_eq!(network["Driver"], "overlay");
    assert_eq!(network["Attachable"], true);
}

async fn daemon_settings(site: &Site) -> Vec<Value> {
    let mut all = Vec::new();
    for node in site.harness.lab().nodes() {
        let text = node
            .read_file("/etc/docker/daemon.json")
            .await
            .expect("settings");
        all.push(serde_json::from_slice(&text).expect("JSON"));
    }
    all
}

async fn assert_daemons_keep_their_settings(site: &Site, before: &[Value]) {
    let tls = ["tlsverify", "tlscacert", "tlscert", "tlskey"];
    let after = daemon_settings(site).await;
    for ((before, after), node) in before.iter().zip(&after).zip(site.harness.lab().nodes()) {
        let name = node.name();
        let (before, mut after) = (before.as_object().expect("object"), after.clone());
        for key in tls {
            assert!(!before.contains_key(key), "{name} {key}");
        }
        let after = after.as_object_mut().expect("object");
        assert_eq!(after.remove("tlsverify"), Some(json!(true)), "{name}");
        for (key, mode) in [("tlscacert", "644"), ("tlscert", "644"), ("tlskey", "600")] {
            let path = after.remove(key).unwrap_or_else(|| panic!("{name} {key}"));
            let path = path.as_str().expect("a path");
            let stat = shell(node, &format!("stat -c '%U:%G %a' {path}")).await;
            assert_eq!(stat, format!("root:root {mode}"), "{name}:{path}");
        }
        let mut wanted = before.clone();
        let hosts = wanted["hosts"].as_array_mut().expect("hosts");
        hosts.push(json!("tcp://0.0.0.0:2376"));
        assert_eq!(
            Value::Object(after.clone()),
            Value::Object(wanted),
            "{name}"
        );
        // It is the daemon that runs, not only its file.
        let plain = phoenix_lab::wire::Endpoint::Tcp((node.ip(), 2376).into());
        let refused = plain
            .send("GET", "/info", Default::default())
            .await
            .expect("answer");
        assert_eq!(refused.status, 400, "{name} takes what is not TLS");
    }
}

async fn assert_services_run_and_hold_their_secrets(site: &Site) {
    let swarm = site.harness.swarm(MANAGER).await;
    let tasks: Vec<(&str, usize)> = swarm
        .services
        .iter()
        .map(|(name, service)| (name.as_str(), service.tasks.len()))
        .collect();
    let wanted = [
        ("notes_api", 2),
        ("notes_store", 1),
        ("portainer_portainer", 1),
        ("whoami_web", 3),
    ];
    assert_eq!(tasks, wanted);
    for secret in [
        "portainer_admin_password",
        "api_token",
        "portainer_tls_cert",
        "portainer_tls_key",
        "portainer_tls_ca",
        "portainer_client_cert",
        "portainer_client_key",
        "whoami_tls",
    ] {
        assert_eq!(swarm.versions(secret).len(), 1, "{secret}");
    }
    assert_eq!(swarm.secrets.len(), 8);
    let token = site.harness.read("secrets/api_token");
    let seen = seen_by(site, "notes_api", "/run/secrets/api_token").await;
    assert!(seen == BTreeSet::from([token]), "another token");
}

/// What the running tasks of a service see in a file, each different content once. Tasks that
/// are about to end do not count.
async fn seen_by(site: &Site, service: &str, path: &str) -> BTreeSet<String> {
    let swarm = site.harness.swarm(MANAGER).await;
    let mut seen = BTreeSet::new();
    for (_, container) in &swarm.services[service].tasks {
        let mut holders = 0;
        for node in site.harness.lab().nodes() {
            let inspect = format!("/containers/{container}/json");
            if node.docker().get(&inspect).await.is_ok() {
                holders += 1;
                let script = format!("docker exec {container} cat {path}");
                seen.insert(shell(node, &script).await);
            }
        }
        assert_eq!(holders, 1, "{service} {container} {path}");
    }
    seen
}

/// A client of Portainer that trusts the site's CA alone, and the address of its API.
fn portainer(site: &Site) -> (reqwest::Client, String) {
    let root = site.bundle("portainer").root_pem();
    let root = reqwest::Certificate::from_pem(root.as_bytes()).expect("a root");
    let client = reqwest::Client::builder().tls_certs_only([root]).build();
    let url = format!("https://{}:9443/api", site.node(MANAGER).ip());
    (client.expect("a client"), url)
}

async fn portainer_instance(site: &Site) -> String {
    let (client, url) = portainer(site);
    let answer = client.get(format!("{url}/system/status")).send().await;
    let status: Value = answer.expect("an answer").json().await.expect("JSON");
    status["InstanceID"].as_str().expect("an id").to_owned()
}

async fn assert_portainer_is_registered(site: &Site) {
    let (client, url) = portainer(site);
    let password = site.harness.read("secrets/portainer_admin_password");
    let login = json!({ "Username": "admin", "Password": password });
    let answer = client.post(format!("{url}/auth")).json(&login).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("JSON");
    let token = answer["jwt"].as_str().expect("the password of the site");
    let asked = client.get(format!("{url}/endpoints")).bearer_auth(token);
    let list: Value = asked
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let registered: BTreeMap<&str, &str> = list
        .as_array()
        .expect("environments")
        .iter()
        .filter_map(|one| Some((one["Name"].as_str()?, one["URL"].as_str()?)))
        .collect();
    let other = format!("tcp://{}:2376", site.node("drphoenix").ip());
    let wanted = BTreeMap::from([
        ("swarm", "unix:///var/run/docker.sock"),
        ("drphoenix", other.as_str()),
    ]);
    assert_eq!(registered, wanted);
}

async fn a_second_sync_writes_nothing(site: &mut Site) {
    let before = site.harness.swarm(MANAGER).await;
    site.assert_nothing_to_change().await;
    let run = site.sync().await;
    let report = run.report();
    assert_eq!(report["changed"], 0);
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.len() > 30, "{} steps", steps.len());
    for step in steps {
        assert_eq!(step["outcome"], "unchanged", "{step}");
    }
    assert_eq!(site.harness.swarm(MANAGER).await, before);
    assert_eq!(site.reloads().await, 1);
}

async fn stacks_are_seen_through_the_site(site: &mut Site) {
    let run = site
        .run(&["--json", "stack", "ls"], "notes")
        .await
        .expect(0);
    let list: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let stacks: Vec<&str> = list["stacks"]
        .as_array()
        .expect("stacks")
        .iter()
        .map(|stack| stack["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(stacks, ["notes", "portainer", "whoami"], "{run}");
    for stack in stacks {
        let run = site.run(&["stack", "services", stack], "converged").await;
        run.expect(0);
    }
}

async fn a_changed_secret_rolls_its_service_alone(site: &mut Site) {
    let before = site.harness.swarm(MANAGER).await;
    let token = "another-token-of-the-notes-5f3a";
    fs::write(site.harness.path("secrets/api_token"), token).expect("write");
    site.learn_secrets().await;

    let pending = site.pending().await;
    let steps: Vec<&str> = pending.keys().map(String::as_str).collect();
    assert_eq!(steps, ["secret/api_token", "stack/notes"], "{pending:?}");
    let secret = &pending["secret/api_token"];
    assert!(
        secret[0].starts_with("create secret api_token."),
        "{pending:?}"
    );
    assert_eq!(
        pending["stack/notes"],
        ["update service notes_api (secret api_token gets a new version)"]
    );
    let run = site.run(&["plan"], "secret/api_token").await.expect(0);
    assert!(run.stdout.contains("service notes_api"), "{run}");

    site.sync().await;
    let after = site.harness.swarm(MANAGER).await;
    assert_eq!(after.touched_since(&before), names(["notes_api"]));
    assert_eq!(after.services["notes_api"].tasks.len(), 2);
    let (old, new) = (before.versions("api_token"), after.versions("api_token"));
    assert_eq!(
        (old.len(), new.len()),
        (1, 2),
        "a rollback finds the old one"
    );
    let mut secrets = before.secrets.clone();
    for version in new {
        secrets.insert(version.to_owned(), after.secrets[version].clone());
    }
    assert_eq!(after.secrets, secrets, "the others stay");
    let seen = seen_by(site, "notes_api", "/run/secrets/api_token").await;
    assert_eq!(seen, names([token]));
    site.assert_nothing_to_change().await;
}

async fn renewed_certificates_reach_their_users_alone(site: &mut Site) {
    let before = site.harness.swarm(MANAGER).await;
    let reloads = site.reloads().await;
    let certificates = [
        "portainer",
        "portainer-client",
        "backup-client",
        "edge",
        "cluster-peer",
        "whoami",
    ];
    let leaf = |site: &Site, name: &str| site.bundle(name).certificate_pem();
    let old: Vec<String> = certificates.iter().map(|name| leaf(site, name)).collect();

    fs::remove_file(site.harness.path(".phoenix/certificates/whoami.pem")).expect("remove");
    let address = site.node("drphoenix").ip();
    site.harness.edit(
        "phoenix.yaml",
        &format!("sans: [backup.demo.lan, {address}]"),
        "sans: [backup.demo.lan, vault.demo.lan]",
    );
    let pending = site.pending().await;
    let steps: Vec<&str> = pending.keys().map(String::as_str).collect();
    let wanted = [
        "certificate/backup-client",
        "certificate/whoami",
        "secret/whoami_tls",
        "stack/whoami",
    ];
    assert_eq!(steps, wanted, "{pending:?}");
    let client = &pending["certificate/backup-client"];
    assert_eq!(
        client[0],
        format!("issue client certificate backup-client (SANs differ: -{address} +vault.demo.lan)")
    );
    assert!(
        client[1].starts_with("deliver drphoenix:/etc/backup/tls/client.pem ("),
        "{client:?}"
    );
    assert!(client[4].starts_with("reload "), "{client:?}");
    assert_eq!(
        pending["certificate/whoami"],
        ["issue server certificate whoami (missing)"]
    );
    assert_eq!(
        pending["stack/whoami"],
        ["update service whoami_web (secret whoami_tls gets a new version)"]
    );

    site.sync().await;
    let after = site.harness.swarm(MANAGER).await;
    assert_eq!(after.touched_since(&before), names(["whoami_web"]));
    assert_eq!(after.services["whoami_web"].tasks.len(), 3);
    let versions = [&before, &after].map(|swarm| swarm.versions("whoami_tls").len());
    assert_eq!(versions, [1, 2], "a rollback finds the old one");
    let renewed: BTreeSet<String> = certificates
        .iter()
        .zip(&old)
        .filter(|(name, old)| leaf(site, name) != **old)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(renewed, names(["backup-client", "whoami"]));
    assert_eq!(site.reloads().await, reloads + 1);
    site.assert_files_delivered().await;
    let wanted = site.bundle("whoami").combined_pem();
    let wanted = String::from_utf8_lossy(wanted.expose())
        .trim_end()
        .to_owned();
    let seen = seen_by(site, "whoami_web", "/certs/whoami.pem").await;
    assert!(seen == BTreeSet::from([wanted]), "another certificate");
    site.assert_nothing_to_change().await;
}

async fn portainer_is_reset_alone(site: &mut Site) {
    let before = site.harness.swarm(MANAGER).await;
    let instance = portainer_instance(site).await;
    assert_eq!(portainer_instance(site).await, instance);
    let volume = "docker volume inspect -f '{{.Mountpoint}}' notes_store";
    let kept = format!("{}/kept", shell(site.node("traefik"), volume).await);
    shell(site.node("traefik"), &format!("echo here >{kept}")).await;

    let arguments = ["--json", "plan", "--reset-portainer", "--detailed-exitcode"];
    let plan = site.run(&arguments, "planned").await.expect(3).plan();
    let pending = planned_changes(&plan);
    let reset = &pending["portainer-reset"];
    assert!(
        reset
            .iter()
            .any(|change| change.contains("portainer_portainer_data")),
        "{reset:?}"
    );
    assert!(!pending.contains_key("stack/notes"), "{pending:?}");
    assert!(!pending.contains_key("stack/whoami"), "{pending:?}");
    assert_eq!(
        portainer_instance(site).await,
        instance,
        "a plan resets nothing"
    );

    let run = site
        .run(&["sync", "all", "--reset-portainer"], "portainer-reset")
        .await;
    run.expect(0);
    site.learn_secrets().await;
    let after = site.harness.swarm(MANAGER).await;
    assert_ne!(portainer_instance(site).await, instance, "its data is new");
    assert_portainer_is_registered(site).await;
    assert_eq!(after.touched_since(&before), names(["portainer_portainer"]));
    assert_eq!(after.secrets, before.secrets);
    assert_eq!(after.configs, before.configs);
    assert_eq!(
        shell(site.node("traefik"), &format!("cat {kept}")).await,
        "here"
    );
    site.assert_nothing_to_change().await;
}

async fn drift_is_named_and_repaired(site: &mut Site) {
    let before = site.harness.swarm(MANAGER).await;
    let reloads = site.reloads().await;
    let manager = site.node(MANAGER);
    shell(manager, "docker service scale -d notes_api=1").await;
    shell(manager, "docker node update --label-rm data portainer").await;
    shell(site.node("traefik"), "rm /etc/cluster/peer.pem").await;
    shell(
        site.node("drphoenix"),
        "echo mine >/etc/backup/tls/client.pem",
    )
    .await;

    let pending = site.pending().await;
    let steps: Vec<&str> = pending.keys().map(String::as_str).collect();
    let wanted = [
        "certificate/backup-client",
        "certificate/cluster-peer",
        "node/portainer",
        "retired-versions",
        "stack/notes",
    ];
    assert_eq!(steps, wanted, "{pending:?}");
    // The spec before the scaling, which a rollback would restore, has the current token.
    let retired = &pending["retired-versions"];
    assert_eq!(retired.len(), 1, "{retired:?}");
    assert!(
        retired[0].starts_with("remove secret api_token."),
        "{retired:?}"
    );
    assert_eq!(
        pending["certificate/cluster-peer"],
        ["deliver traefik:/etc/cluster/peer.pem (missing)"]
    );
    let client = &pending["certificate/backup-client"];
    assert_eq!(
        client[0],
        "deliver drphoenix:/etc/backup/tls/client.pem (unreadable: no PEM certificate)"
    );
    assert!(client[1].starts_with("reload "), "{client:?}");
    assert!(pending["node/portainer"][0].contains("data"), "{pending:?}");
    let service = &pending["stack/notes"][0];
    assert!(
        service.starts_with("update service notes_api (") && service.contains("Replicas"),
        "{service}"
    );

    site.sync().await;
    let after = site.harness.swarm(MANAGER).await;
    assert_eq!(after.touched_since(&before), names(["notes_api"]));
    assert_eq!(after.services["notes_api"].tasks.len(), 2);
    let gone: BTreeSet<&String> = before
        .secrets
        .keys()
        .filter(|name| !after.secrets.contains_key(*name))
        .collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(
        after
            .secrets
            .keys()
            .all(|name| before.secrets.contains_key(name))
    );
    assert_swarm_is_as_declared(site).await;
    site.assert_files_delivered().await;
    assert_eq!(site.reloads().await, reloads + 1);
    site.assert_nothing_to_change().await;
}

async fn a_second_sync_at_the_same_time_is_refused(site: &mut Site) {
    // Something to do, so that the first one is under way for a while.
    shell(site.node(MANAGER), "docker service scale -d notes_api=1").await;
    let first = site
        .harness
        .command(["sync", "all"])
        .spawn()
        .expect("spawn");
    let id = first.id().expect("it runs");
    let holder = format!("process {id}");
    until("the first has the lock", async || {
        site.harness.read(".phoenix/lock").trim() == holder
    })
    .await;
    // It stands still, however slow the second one is.
    let pid = Pid::from_raw(i32::try_from(id).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stop");
    let before = site.harness.swarm(MANAGER).await;
    let second = site.run(&["sync", "all"], "another sync").await.expect(5);
    assert!(second.stderr.contains(&holder), "{second}");
    let second = site
        .run(&["--json", "sync", "all"], "another sync")
        .await
        .expect(5);
    let said = second.events();
    assert_eq!(said[0]["event"], "error", "{second}");
    assert_eq!(said[0]["exit_code"], 5, "{second}");
    site.run(&["plan", "--detailed-exitcode"], "notes_api")
        .await
        .expect(3);
    assert_eq!(
        site.harness.swarm(MANAGER).await.services.len(),
        before.services.len()
    );
    kill_process(pid, Signal::CONT).expect("continue");
    let ended = first.wait_with_output().await.expect("its end");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{text}");
    site.assert_nothing_to_change().await;
}

async fn no_secret_stands_where_it_must_not(site: &Site) {
    let harness = &site.harness;
    let mut places: Vec<Said> = Vec::new();
    let argv: Vec<&str> = site.watched.iter().map(String::as_str).collect();
    let argv = argv.join("\n");
    // Programs of this machine, of the nodes, and of containers in the nodes.
    for certain in [
        "phoenix --json",
        "/usr/local/bin/restart-docker",
        "--admin-password-file",
    ] {
        assert!(argv.contains(certain), "{certain} was not seen to run");
    }
    places.push(Said {
        by: "argument vectors".to_owned(),
        text: argv,
        certainly: "/usr/local/bin/restart-docker",
    });
    places.push(Said {
        by: "requests to the Proxmox API".to_owned(),
        text: format!("{:?}", harness.server().requests()),
        certainly: "/usr/local/bin/restart-docker",
    });
    let journals: Vec<_> = tree(&harness.path(".phoenix/journal"))
        .into_iter()
        .collect();
    assert!(journals.len() > 5, "{} journals", journals.len());
    for (path, content) in journals {
        places.push(Said {
            by: path.display().to_string(),
            text: String::from_utf8(content).expect("UTF-8"),
            certainly: "planned",
        });
    }
    let docker = site.node(MANAGER).docker();
    for (path, certainly) in [
        ("/services", "traefik.http.routers.whoami.rule"),
        ("/tasks", "notes-api"),
        ("/nodes", "application"),
        ("/networks", "traefik-public"),
        ("/secrets", "phoenix.secret"),
        ("/configs", "phoenix.site"),
    ] {
        places.push(Said {
            by: path.to_owned(),
            text: docker.get(path).await.expect(path).to_string(),
            certainly,
        });
    }
    for node in harness.lab().nodes() {
        // The images that containers were made of, their labels, their commands.
        places.push(Said {
            by: format!("containers of {}", node.name()),
            text: node
                .docker()
                .get("/containers/json?all=1")
                .await
                .expect("list")
                .to_string(),
            certainly: "com.docker.swarm.service.name",
        });
    }

    // Three daemons, the client, six certificates with two renewed, the CA's two.
    assert!(site.secrets.len() > 40, "{} secrets", site.secrets.len());
    let mut found = BTreeSet::new();
    for place in site.said.iter().chain(&places) {
        assert!(
            place.text.contains(place.certainly),
            "{} holds no {}",
            place.by,
            place.certainly
        );
        for secret in site.secrets.within(place.text.as_bytes()) {
            found.insert(format!("{secret} in {}", place.by));
        }
        // A token that Portainer gave out for a login begins with the same letters always.
        if place.text.contains("eyJhbGciOi") {
            found.insert(format!("a web token in {}", place.by));
        }
    }
    assert_eq!(found, BTreeSet::new());
    // The same search finds what is there: the secrets themselves, where they belong.
    let held = harness.read("secrets/api_token");
    assert_eq!(site.secrets.within(held.as_bytes()).len(), 1);
    for (path, content) in tree(&harness.path(".phoenix/certificates")) {
        assert!(
            !site.secrets.within(&content).is_empty(),
            "{}",
            path.display()
        );
    }
}
