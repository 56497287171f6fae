//! A site on every engine that the lab has: Docker 20.10, 26.1 and the newest of Debian, each alone
//! and together in swarms with a manager of each.
//!
//! A site is taken from nothing to converged, found to be so without a write, updated, has a
//! secret rotated, and is rolled back by the engine when an update fails; what the engines leave
//! out of a service is told. The newest one refuses old clients the way Docker 29 does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use phoenix_lab::harness::{Harness, Run, planned_changes};
use phoenix_lab::{EngineRelease, LabOptions, Node};

const APP: &str = include_str!("engines/app.yml");
const PAGE: &str = "first page\n";
/// What 20.10 leaves out of the stack.
const LEFT_OUT: &str = "TaskTemplate.ContainerSpec.Healthcheck.StartInterval (since Docker 25)";

/// What a replica says of itself.
const INSIDE: &str = r#"echo "$LEVEL|$(cat /run/secrets/api_token)|$(cat /www/page.html)|$(grep "open files" /proc/1/limits | tr -s " " | cut -d" " -f4,5)|$(cat /proc/sys/net/core/somaxconn)|$(test -d /data && test -d /scratch && echo mounted)""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_of_bookworm() {
    go(&[EngineRelease::Bookworm]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_of_trixie() {
    go(&[EngineRelease::Trixie]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_of_sid() {
    go(&[EngineRelease::Sid]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_of_each_release_led_by_the_oldest() {
    go(&EngineRelease::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_of_each_release_led_by_the_newest() {
    let [old, middle, new] = EngineRelease::ALL;
    go(&[new, middle, old]).await;
}

async fn go(releases: &[EngineRelease]) {
    let site = Site::start(releases).await;
    site.engines_are_those_asked_for().await;
    site.comes_up().await;
    site.is_found_converged().await;
    site.is_updated().await;
    site.gets_a_new_secret_and_config().await;
    site.is_rolled_back_by_the_engine().await;
    site.is_told_what_else_would_be_left_out().await;
    site.harness.stop().await;
}

/// A site whose guests are all managers, named after their releases.
fn site_file(releases: &[EngineRelease]) -> String {
    let mut guests = String::new();
    for release in releases {
        let upper = release.suite().to_ascii_uppercase();
        let _ = writeln!(
            guests,
            r#"  {release}:
    vmid: @VMID_{upper}@
    docker:
      address: tcp://@{upper}@:2376
      managed: {{ restart: [/usr/local/bin/restart-docker] }}
    swarm: {{ role: manager }}"#
        );
    }
    format!(
        r#"site: engines
proxmox:
  url: @PROXMOX_URL@
  token: {{ file: proxmox.token }}
  ca: pve-root-ca.pem
guests:
{guests}
swarm: {{ address_pools: ["@OVERLAY_POOL@"], subnet_size: 24, heartbeat: 1s }}
networks:
  shared: {{ attachable: true }}
secrets:
  api_token: {{ file: secrets/api_token }}
stacks:
  app: {{ compose: app.yml }}
"#
    )
}

struct Site {
    harness: Harness,
    releases: Vec<EngineRelease>,
    /// The guest that leads the swarm at first.
    first: &'static str,
}

impl Site {
    async fn start(releases: &[EngineRelease]) -> Self {
        let template = tempfile::tempdir().expect("a folder");
        let app = APP.replace("@REPLICAS@", &releases.len().to_string());
        for (name, text) in [
            ("phoenix.yaml", site_file(releases)),
            ("app.yml", app),
            ("page.html", PAGE.to_owned()),
        ] {
            std::fs::write(template.path().join(name), text).expect("a file");
        }
        let guests = releases.iter().zip(1201..);
        let guests = guests.map(|(release, vmid)| (release.suite(), vmid));
        let options = LabOptions::test()
            .with_guests(guests)
            .with_engines(releases.iter().copied());
        Self {
            harness: Harness::start(options, template.path()).await,
            releases: releases.to_vec(),
            first: releases[0].suite(),
        }
    }

    fn has(&self, release: EngineRelease) -> bool {
        self.releases.contains(&release)
    }

    fn nodes(&self) -> &[Node] {
        self.harness.lab().nodes()
    }

    /// The lab did not give one engine for another, and the newest takes no client older than
    /// Docker 29 does.
    async fn engines_are_those_asked_for(&self) {
        for node in self.nodes() {
            if node.release() == EngineRelease::Sid {
                let variables = b"DOCKER_MIN_API_VERSION=1.44\n";
                let written = node.write_file("/etc/default/docker", 0o644, variables);
                written.await.expect("written");
                shell(node, "restart-docker").await;
                let old = node.docker().get("/v1.43/version").await;
                let refused = old.expect_err("an old client is taken").to_string();
                assert!(refused.contains("too old"), "{refused}");
            }
            let said = node.docker().get("/version").await.expect("a version");
            let version = said["Version"].as_str().expect("text").to_owned();
            let major: u32 = version
                .split('.')
                .next()
                .and_then(|major| major.parse().ok())
                .expect("a number");
            match node.release() {
                EngineRelease::Bookworm => assert_eq!(major, 20, "{version}"),
                EngineRelease::Trixie => assert_eq!(major, 26, "{version}"),
                EngineRelease::Sid => assert!(major >= 28, "{version}"),
            }
        }
    }

    /// From nothing to converged: nodes, networks, secret, config, services, a job.
    async fn comes_up(&self) {
        self.harness.phoenix(&["sync", "all"]).await.expect(0);

        let docker = self.harness.node(self.first).docker();
        let nodes = docker.get("/nodes").await.expect("nodes");
        let nodes = nodes.as_array().expect("a list");
        assert_eq!(nodes.len(), self.releases.len());
        for node in nodes {
            assert_eq!(node["Status"]["State"], "ready", "{node}");
            assert_eq!(node["ManagerStatus"]["Reachability"], "reachable", "{node}");
            let leads = node["Description"]["Hostname"] == self.first;
            assert_eq!(node["ManagerStatus"]["Leader"] == true, leads, "{node}");
        }
        for network in ["shared", "app_inner"] {
            let found = docker.get(&format!("/networks/{network}")).await;
            let found = found.expect(network);
            assert_eq!(found["Driver"], "overlay", "{found}");
            assert_eq!(found["Scope"], "swarm", "{found}");
        }
        self.serves("info", PAGE).await;
        let swarm = self.harness.swarm(self.first).await;
        let running = |name: &str| swarm.services[name].tasks.len();
        assert_eq!(running("app_web"), self.releases.len());
        assert_eq!(running("app_everywhere"), self.releases.len());
        assert_eq!(running("app_once"), 0);
    }

    /// Every replica is healthy and has what was declared: environment, secret, config, limits.
    async fn serves(&self, level: &str, page: &str) {
        let token = self.harness.read("secrets/api_token");
        let wanted = format!(
            "{level}|{}|{}|1000 2000|1024|mounted",
            token.trim_end(),
            page.trim_end()
        );
        // What was replaced may still be on its way out.
        let swarm = self.harness.swarm(self.first).await;
        let tasks = &swarm.services["app_web"].tasks;
        let mut replicas = 0;
        for node in self.nodes() {
            let ids = "docker ps -q --no-trunc -f label=com.docker.swarm.service.name=app_web";
            let ids = shell(node, ids).await;
            let current = |id: &&str| tasks.iter().any(|(_, container)| container == id);
            for id in ids.split_whitespace().filter(current) {
                let health = format!("docker inspect -f '{{{{.State.Health.Status}}}}' {id}");
                assert_eq!(shell(node, &health).await, "healthy", "{}", node.name());
                assert_eq!(
                    shell(node, &format!("docker exec {id} sh -c '{INSIDE}'")).await,
                    wanted,
                    "{}",
                    node.name()
                );
                replicas += 1;
            }
        }
        assert_eq!(replicas, self.releases.len());
    }

    /// A second sync finds nothing to do and writes nothing, and neither does a plan, which tells
    /// what the engines leave out.
    async fn is_found_converged(&self) {
        let mark = self.harness.mark().await;
        let asked = self.harness.server().writes().len();
        let swarm = self.harness.swarm(self.first).await;
        let run = self.harness.phoenix(&["sync", "all"]).await.expect(0);
        assert!(run.stdout.contains("Nothing to change."), "{run}");
        let run = self.plan(0).await;
        assert_eq!(self.harness.server().writes()[asked..].len(), 0);
        assert_eq!(self.harness.engine_writes(&mark).await, []);
        assert_eq!(self.harness.swarm(self.first).await, swarm);
        // Reads are counted too, of every engine that was asked.
        assert_ne!(self.harness.engine_calls(&mark).await, []);
        let warnings = warnings(&run);
        if self.has(EngineRelease::Bookworm) {
            let [warning] = &warnings[..] else {
                panic!("{warnings:?}");
            };
            for part in [
                "service app_web: Docker 20.10.",
                " on bookworm ignores ",
                LEFT_OUT,
            ] {
                assert!(warning.contains(part), "{part}: {warning}");
            }
        } else {
            assert_eq!(warnings, [""; 0]);
        }
    }

    /// A changed environment is the one difference, and reaches every replica.
    async fn is_updated(&self) {
        self.harness.edit("app.yml", "LEVEL: info", "LEVEL: debug");
        let run = self.plan(3).await;
        let changes = planned_changes(&run.plan());
        let [change] = &changes["stack/app"][..] else {
            panic!("{changes:?}");
        };
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(
            change,
            "update service app_web (TaskTemplate.ContainerSpec.Env[LEVEL]: (hidden) -> (hidden))"
        );
        let before = self.harness.swarm(self.first).await;
        self.harness.phoenix(&["sync", "all"]).await.expect(0);
        let after = self.harness.swarm(self.first).await;
        assert_eq!(after.touched_since(&before), names(["app_web"]));
        self.serves("debug", PAGE).await;
    }

    async fn gets_a_new_secret_and_config(&self) {
        let other = "another page\n";
        std::fs::write(self.harness.path("page.html"), other).expect("written");
        std::fs::write(self.harness.path("secrets/api_token"), "another-token").expect("written");
        let before = self.harness.swarm(self.first).await;
        self.harness.phoenix(&["sync", "all"]).await.expect(0);
        let after = self.harness.swarm(self.first).await;
        assert_eq!(after.touched_since(&before), names(["app_web"]));
        self.serves("debug", other).await;
        self.plan(0).await;
    }

    /// An update that never gets healthy is told as rolled back, and what ran before still does.
    async fn is_rolled_back_by_the_engine(&self) {
        let (good, bad) = ("[CMD, wget,", "[CMD, \"false\", wget,");
        self.harness.edit("app.yml", good, bad);
        let run = self.harness.phoenix(&["sync", "all"]).await.expect(1);
        assert!(run.stdout.contains("service app_web rolled back"), "{run}");
        self.serves("debug", "another page\n").await;
        let docker = self.harness.node(self.first).docker();
        let service = docker.get("/services/app_web").await.expect("a service");
        assert_eq!(service["UpdateStatus"]["State"], "rollback_completed");
        let test = &service["Spec"]["TaskTemplate"]["ContainerSpec"]["Healthcheck"]["Test"];
        assert_eq!(test[1], "wget", "{test}");
        // Declared again as it runs, there is nothing to do about it. The engine has forgotten the
        // spec before it, and nothing refers to the token of that one any more.
        self.harness.edit("app.yml", bad, good);
        let changes = planned_changes(&self.plan(3).await.plan());
        let [old] = &changes["retired-versions"][..] else {
            panic!("{changes:?}");
        };
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(old.starts_with("remove secret api_token."), "{old}");
        let before = self.harness.swarm(self.first).await;
        self.harness.phoenix(&["sync", "all"]).await.expect(0);
        let after = self.harness.swarm(self.first).await;
        assert!(after.touched_since(&before).is_empty());
        self.plan(0).await;
    }

    /// A part of a volume is mounted since Docker 26: an older engine would mount all of it.
    async fn is_told_what_else_would_be_left_out(&self) {
        let (whole, part) = ("{ nocopy: true }", "{ nocopy: true, subpath: inner }");
        self.harness.edit("app.yml", whole, part);
        let stored = !self.has(EngineRelease::Bookworm);
        let run = self.plan(if stored { 3 } else { 0 }).await;
        let subpath = "TaskTemplate.ContainerSpec.Mounts[/data].VolumeOptions.Subpath";
        let told = warnings(&run).iter().any(|text| text.contains(subpath));
        assert_eq!(told, !stored, "{run}");
        if stored {
            let changes = planned_changes(&run.plan());
            let change = format!("update service app_web ({subpath}: + inner)");
            assert_eq!(changes["stack/app"], [change], "{changes:?}");
        }
    }

    async fn plan(&self, code: i32) -> Run {
        let arguments = ["--json", "plan", "--detailed-exitcode"];
        self.harness.phoenix(&arguments).await.expect(code)
    }
}

fn warnings(plan: &Run) -> Vec<String> {
    let plan = plan.plan();
    let warnings = plan["warnings"].as_array().cloned().unwrap_or_default();
    warnings
        .iter()
        .map(|warning| warning.as_str().expect("text").to_owned())
        .collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// A line of shell in a node, which succeeds; its stdout without the last line's end.
async fn shell(node: &Node, script: &str) -> String {
    let output = node.sh(script).await.and_then(phoenix_lab::Output::success);
    let output =
        output.unwrap_or_else(|error| panic!("{}: {script}: {}", node.name(), error.chain()));
    output.trim_end().to_owned()
}
