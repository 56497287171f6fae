//! One site on a lab of its own, and the real `phoenix` program run on it.
//!
//! A [`Harness`] is a lab, its Proxmox API within this process (so that a test sees every request
//! and can put faults into them) and a folder with the site's files. It runs the program that was
//! built from this workspace, never a library call in its place, and sees the engines by their
//! own API and logs, never through Phoenix.
//!
//! The engines run with `"debug": true`: their logs hold a line for every request, which is how
//! writes are counted ([`Harness::mark`], [`Harness::engine_writes`]). What a test itself asks of
//! an engine through [`Node::docker`] is counted too; what it does through [`Node::exec`] is not.
//!
//! Everything here panics where a lab's operation fails: its only callers are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::lab::{self, Lab, LabOptions};
use crate::node::Node;
use crate::proxmox_api::{Server, ServerOptions};
use crate::registry::Registry;
use crate::site::{self, Access};

/// A run of the program takes at most this long. One that takes longer has lost a deadline.
const PATIENCE: Duration = Duration::from_secs(300);

/// A lab, its Proxmox API, and a site on it. The lab goes down by [`Harness::stop`], or when this
/// is dropped.
#[derive(Debug)]
pub struct Harness {
    server: Server,
    access: Access,
    site: PathBuf,
    // In this order: the lab's engines outlive what talks to them.
    _folder: TempDir,
    lab: Lab,
}

/// The template of the demo site.
#[must_use]
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

/// The `phoenix` program of this workspace.
///
/// # Panics
/// Where it is not built.
#[must_use]
pub fn program() -> PathBuf {
    lab::built("phoenix").unwrap_or_else(|_| panic!("run cargo build --workspace --bins first"))
}

/// What a lab's operation gave.
#[track_caller]
fn done<T>(result: crate::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// The guests and the swarm of a site with the one guest `alone`, which manages the swarm.
pub const ALONE: &str = r#"
guests:
  alone:
    vmid: @VMID_ALONE@
    docker:
      address: tcp://@ALONE@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager }
swarm: { address_pools: ["@OVERLAY_POOL@"], subnet_size: 24 }
"#;

impl Harness {
    /// A lab with the guests `guests` (name and number), and the site `name` on it of these files.
    /// What every site says of its Proxmox API is put before `phoenix.yaml`.
    pub async fn of_files(
        name: &str,
        guests: &[(&'static str, u32)],
        files: &[(&str, &str)],
    ) -> Self {
        let template = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let mut text = (*text).to_owned();
            if *file == "phoenix.yaml" {
                let head = format!(
                    "site: {name}\nproxmox:\n  url: @PROXMOX_URL@\n  token: {{ file: proxmox.token }}\n  \
                     ca: pve-root-ca.pem\n"
                );
                text.insert_str(0, &head);
            }
            std::fs::write(template.path().join(file), text).expect("a file");
        }
        let options = LabOptions::test().with_guests(guests.iter().copied());
        Self::start(options, template.path()).await
    }

    /// A lab of this process with these guests, and the site that `template` describes, filled in
    /// as by [`site::write`].
    pub async fn start(options: LabOptions, template: &Path) -> Self {
        Self::start_with(options, template, |_| ()).await
    }

    /// As [`Harness::start`], with other options of the Proxmox API.
    pub async fn start_with(
        options: LabOptions,
        template: &Path,
        change: impl FnOnce(&mut ServerOptions),
    ) -> Self {
        let lab = done(Lab::start(options).await);
        for node in lab.nodes() {
            log_requests(node).await;
        }
        let mut options = done(site::server_options(&lab));
        change(&mut options);
        let (server, access) = done(site::serve(options).await);
        let folder = tempfile::tempdir().expect("a folder for the site");
        let site = folder.path().join("site");
        done(site::write(&lab, &access, template, &site));
        Self {
            server,
            access,
            site,
            _folder: folder,
            lab,
        }
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Starts the lab's registry that asks for credentials: [`Lab::private_registry`].
    pub async fn private_registry(&mut self) -> Registry {
        done(self.lab.private_registry().await)
    }

    /// The guest of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        done(self.lab.node(name))
    }

    /// The Proxmox API: its record of requests, its faults.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How the Proxmox API is reached; its token is a secret of the site.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// A path below the folder of the site file.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.site.join(below)
    }

    /// A file below the folder of the site file.
    #[must_use]
    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Replaces text that a file of the site holds exactly once. Its mode stays.
    #[track_caller]
    pub fn edit(&self, below: &str, from: &str, to: &str) {
        let text = self.read(below);
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {below}");
        std::fs::write(self.path(below), text.replace(from, to)).expect("write");
    }

    /// The program, to be run in the site's folder. It takes nothing from this process's stdin or
    /// from `PHOENIX_` variables, and ends with this process's interest in it.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PHOENIX_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(&self.site)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program in the site's folder to its end.
    pub async fn phoenix(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments)).await
    }

    /// Where the engines' logs end now.
    pub async fn mark(&self) -> Mark {
        let mut ends = Vec::new();
        for node in self.lab.nodes() {
            let size = done(node.sh("wc -c </var/log/dockerd.log").await).text();
            ends.push(size.trim().parse().expect("a size"));
        }
        Mark(ends)
    }

    /// What the engines were asked since `mark` that is no read, in each engine's order.
    pub async fn engine_writes(&self, mark: &Mark) -> Vec<EngineCall> {
        let calls = self.engine_calls(mark).await;
        calls.into_iter().filter(EngineCall::is_write).collect()
    }

    /// What the engines were asked since `mark`, in each engine's order.
    pub async fn engine_calls(&self, mark: &Mark) -> Vec<EngineCall> {
        let mut calls = Vec::new();
        for (node, end) in self.lab.nodes().iter().zip(&mark.0) {
            let script = format!("tail -c +{} /var/log/dockerd.log", end + 1);
            let log = done(done(node.sh(&script).await).success());
            calls.extend(log.lines().filter_map(|line| EngineCall::of(node, line)));
        }
        calls
    }

    /// The swarm's services as the engine of the guest `manager` has them.
    pub async fn swarm(&self, manager: &str) -> Swarm {
        Swarm::of(self.node(manager)).await
    }

    /// Takes the lab down and returns once nothing of it is left.
    pub async fn stop(self) {
        self.server.shutdown().await;
        done(self.lab.down().await);
    }
}

/// Makes an engine log every request, without a restart.
async fn log_requests(node: &Node) {
    let path = "/etc/docker/daemon.json";
    let settings = done(node.read_file(path).await);
    let mut settings: Value = serde_json::from_slice(&settings).expect("JSON");
    settings["debug"] = json!(true);
    let settings = serde_json::to_vec_pretty(&settings).expect("JSON");
    done(node.write_file(path, 0o644, &settings).await);
    done(done(node.sh("kill -HUP $(cat /run/svc/dockerd/pid)").await).success());
    let asked = async || {
        done(node.docker().get("/version?phoenix-harness").await);
        let log = done(
            node.sh("grep -c phoenix-harness /var/log/dockerd.log")
                .await,
        );
        log.text().trim() != "0"
    };
    until("the engine's log of requests", asked).await;
}

/// Polls until something is so.
///
/// # Panics
/// Where it is not within a minute.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !so().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not in a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How a run of the program went. Its `Debug` and `Display` are for failed assertions.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Run {
    /// Runs a command of [`Harness::command`] to its end.
    pub async fn of(command: &mut Command) -> Self {
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| panic!("{command:?} still runs after {PATIENCE:?}"))
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The lines of stdout of a run with `--json`.
    ///
    /// # Panics
    /// Where a line is not JSON.
    #[must_use]
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// The plan in the events.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn plan(&self) -> Value {
        self.event("planned")["plan"].take()
    }

    /// The report in the events.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn report(&self) -> Value {
        self.event("finished")["report"].take()
    }

    #[track_caller]
    fn event(&self, kind: &str) -> Value {
        self.events()
            .into_iter()
            .find(|event| event["event"] == kind)
            .unwrap_or_else(|| panic!("no event {kind}: {self}"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// The changes of a plan ([`Run::plan`]) by step: `verb what (why; why)`.
#[must_use]
pub fn planned_changes(plan: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut changes = BTreeMap::new();
    for step in plan["steps"].as_array().into_iter().flatten() {
        let of_step: Vec<String> = step["changes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|change| {
                let why = change["why"].as_array().into_iter().flatten().map(text);
                let why = why.collect::<Vec<_>>().join("; ");
                format!(
                    "{} {} ({why})",
                    text(&change["verb"]),
                    text(&change["what"])
                )
            })
            .collect();
        if !of_step.is_empty() {
            changes.insert(text(&step["step"]), of_step);
        }
    }
    changes
}

/// A point in the engines' logs.
#[derive(Debug, Clone)]
pub struct Mark(Vec<u64>);

/// A request that an engine took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineCall {
    /// The guest whose engine it is.
    pub node: String,
    /// `GET`, `POST`, ...
    pub method: String,
    /// With the API's version and the query.
    pub path: String,
}

impl EngineCall {
    /// A request in a line of an engine's log.
    fn of(node: &Node, line: &str) -> Option<Self> {
        let (method, path) = logged_request(line)?;
        Some(Self {
            node: node.name().to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Whether it was meant to change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Method and path of the request that a line of an engine's log tells of:
/// `... level=debug msg="Calling GET /v1.45/info" spanID=...`, or since Docker 28
/// `... level=debug msg="handling GET request" method=GET module=api request-url=/v1.45/info ...`,
/// where a path with a query stands in quotes.
fn logged_request(line: &str) -> Option<(&str, &str)> {
    if let Some((_, call)) = line.split_once("msg=\"Calling ") {
        return call.split_once('"')?.0.split_once(' ');
    }
    let (_, rest) = line.split_once("msg=\"handling ")?;
    let (method, rest) = rest.split_once(" request\"")?;
    let (_, url) = rest.split_once(" request-url=")?;
    let end = |url: &str, sign| url.find(sign).unwrap_or(url.len());
    Some(match url.strip_prefix('"') {
        Some(url) => (method, &url[..end(url, '"')]),
        None => (method, &url[..end(url, ' ')]),
    })
}

/// The services of a swarm at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swarm {
    /// By name.
    pub services: BTreeMap<String, ServiceState>,
    /// Secrets by name, with their ids.
    pub secrets: BTreeMap<String, String>,
    /// Configs by name, with their ids.
    pub configs: BTreeMap<String, String>,
}

/// A service at one moment. Two that are equal were not touched in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its id.
    pub id: String,
    /// Its version: grows with every update.
    pub version: u64,
    /// When it was updated last.
    pub updated: String,
    /// The ids of its running tasks with their containers'.
    pub tasks: BTreeSet<(String, String)>,
}

impl Swarm {
    async fn of(manager: &Node) -> Self {
        let docker = manager.docker();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut running: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        let tasks = done(docker.get("/tasks").await);
        for task in tasks.as_array().into_iter().flatten() {
            if task["Status"]["State"] == "running" && task["DesiredState"] == "running" {
                let container = text(&task["Status"]["ContainerStatus"]["ContainerID"]);
                let tasks = running.entry(text(&task["ServiceID"])).or_default();
                tasks.insert((text(&task["ID"]), container));
            }
        }
        let mut services = BTreeMap::new();
        let listed = done(docker.get("/services").await);
        for service in listed.as_array().into_iter().flatten() {
            let id = text(&service["ID"]);
            let state = ServiceState {
                version: service["Version"]["Index"].as_u64().unwrap_or_default(),
                updated: text(&service["UpdatedAt"]),
                tasks: running.remove(&id).unwrap_or_default(),
                id,
            };
            services.insert(text(&service["Spec"]["Name"]), state);
        }
        let mut objects = [BTreeMap::new(), BTreeMap::new()];
        for (kind, found) in ["/secrets", "/configs"].iter().zip(&mut objects) {
            for object in done(docker.get(kind).await)
                .as_array()
                .into_iter()
                .flatten()
            {
                found.insert(text(&object["Spec"]["Name"]), text(&object["ID"]));
            }
        }
        let [secrets, configs] = objects;
        Self {
            services,
            secrets,
            configs,
        }
    }

    /// The names of the services that differ from those in `before`, or are new or gone.
    #[must_use]
    pub fn touched_since(&self, before: &Self) -> BTreeSet<String> {
        let names = self.services.keys().chain(before.services.keys());
        names
            .filter(|name| self.services.get(*name) != before.services.get(*name))
            .cloned()
            .collect()
    }

    /// The real names of the versions of a secret or config.
    #[must_use]
    pub fn versions(&self, logical: &str) -> Vec<&str> {
        let names = self.secrets.keys().chain(self.configs.keys());
        names
            .map(String::as_str)
            .filter(|name| {
                name.rsplit_once('.')
                    .is_some_and(|(before, _)| before == logical)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_off_the_logs_of_old_and_new_engines() {
        for (line, request) in [
            (
                "time=\"x\" level=debug msg=\"Calling GET /v1.41/tasks?filters=%7B%7D\"",
                Some(("GET", "/v1.41/tasks?filters=%7B%7D")),
            ),
            (
                "time=\"x\" level=debug msg=\"Calling HEAD /_ping\" spanID=1 traceID=2",
                Some(("HEAD", "/_ping")),
            ),
            (
                "time=\"x\" level=debug msg=\"handling POST request\" method=POST module=api request-url=/v1.47/services/create vars=\"map[version:1.47]\"",
                Some(("POST", "/v1.47/services/create")),
            ),
            (
                "time=\"x\" level=debug msg=\"handling GET request\" method=GET module=api request-url=\"/v1.47/tasks?filters=%7B%7D\" vars=\"map[version:1.47]\"",
                Some(("GET", "/v1.47/tasks?filters=%7B%7D")),
            ),
            ("time=\"x\" level=debug msg=\"form data: {}\"", None),
        ] {
            assert_eq!(logged_request(line), request, "{line}");
        }
    }
}
