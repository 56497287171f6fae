//! A swarm on a lab, a folder of compose files, and what is asked of `phoenix` and `docker` there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phoenix_lab::docker_cli::DockerCli;
use phoenix_lab::engine::Engine;
use phoenix_lab::harness::{Run, program, until};
use phoenix_lab::{Lab, LabOptions, Node};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

const STACK: &str = "com.docker.stack.namespace";

/// A swarm, and a folder that `phoenix` and `docker` run in.
pub(crate) struct Swarm {
    lab: Lab,
    folder: TempDir,
    /// The docker CLI, once it was needed, and what it may be made of.
    docker: OnceCell<DockerCli>,
    parts: TempDir,
    managers: Vec<String>,
}

/// A service at one moment: its version and when it was updated.
pub(crate) type Services = BTreeMap<String, (u64, String)>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

impl Swarm {
    /// A swarm of these managers, the first of which makes it, and workers.
    pub(crate) async fn start(managers: &[&str], workers: &[&str]) -> Self {
        let names = managers.iter().chain(workers);
        let guests = names.clone().copied().zip(1301..);
        let lab = Lab::start(LabOptions::test().with_guests(guests))
            .await
            .expect("lab");
        let swarm = Self {
            lab,
            folder: tempfile::tempdir().expect("a folder"),
            docker: OnceCell::new(),
            parts: tempfile::tempdir().expect("a folder"),
            managers: managers.iter().map(|name| (*name).to_owned()).collect(),
        };
        swarm.join(managers[0], &managers[1..], workers).await;
        let count = names.count();
        until("all nodes are ready", async || {
            let nodes = swarm.get_json("/nodes").await;
            let ready = nodes.iter().filter(|one| one["Status"]["State"] == "ready");
            let managing = nodes
                .iter()
                .filter(|one| one["ManagerStatus"]["Reachability"] == "reachable");
            ready.count() == count && managing.count() == managers.len()
        })
        .await;
        swarm
    }

    async fn join(&self, first: &str, managers: &[&str], workers: &[&str]) {
        let first = self.node(first);
        let address = first.ip().to_string();
        let wish = json!({
            "ListenAddr": "0.0.0.0:2377",
            "AdvertiseAddr": address,
            "DefaultAddrPool": [self.lab.network().overlay_pool()],
            "SubnetSize": 24,
        });
        first
            .docker()
            .post("/swarm/init", wish)
            .await
            .expect("init");
        let tokens = first.docker().get("/swarm").await.expect("swarm")["JoinTokens"].clone();
        for (names, role) in [(managers, "Manager"), (workers, "Worker")] {
            for name in names {
                let node = self.node(name);
                let wish = json!({
                    "ListenAddr": "0.0.0.0:2377",
                    "AdvertiseAddr": node.ip().to_string(),
                    "RemoteAddrs": [format!("{address}:2377")],
                    "JoinToken": tokens[role],
                });
                node.docker().post("/swarm/join", wish).await.expect("join");
            }
        }
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    fn node(&self, name: &str) -> &Node {
        self.lab.node(name).expect("a node")
    }

    pub(crate) fn manager(&self) -> &Node {
        self.node(&self.managers[0])
    }

    pub(crate) async fn stop(self) {
        self.lab.down().await.expect("down");
    }

    /// Writes a file that commands find in their working directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect(name);
    }

    fn host(node: &Node) -> String {
        format!("--host=unix://{}", node.docker_socket().display())
    }

    fn command(&self, program: std::process::Command, arguments: &[String]) -> Command {
        let mut command = Command::from(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn phoenix(&self, arguments: &[&str], hosts: &[&Node]) -> Command {
        let mut all = vec!["stack".to_owned()];
        all.extend(arguments.iter().map(|one| (*one).to_owned()));
        all.extend(hosts.iter().map(|node| Self::host(node)));
        self.command(std::process::Command::new(program()), &all)
    }

    /// `phoenix stack …` at the first manager.
    pub(crate) async fn stack(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.phoenix(arguments, &[self.manager()])).await
    }

    /// `phoenix stack …` at all nodes, the managers first.
    pub(crate) async fn stack_everywhere(&self, arguments: &[&str]) -> Run {
        let hosts: Vec<&Node> = self.lab.nodes().iter().collect();
        Run::of(&mut self.phoenix(arguments, &hosts)).await
    }

    /// `phoenix stack …` at these nodes.
    pub(crate) async fn stack_at(&self, hosts: &[&str], arguments: &[&str]) -> Run {
        let hosts: Vec<&Node> = hosts.iter().map(|name| self.node(name)).collect();
        Run::of(&mut self.phoenix(arguments, &hosts)).await
    }

    /// The same, in the background.
    pub(crate) fn spawn_at(&self, hosts: &[&str], arguments: &[&str]) -> Background {
        let hosts: Vec<&Node> = hosts.iter().map(|name| self.node(name)).collect();
        let mut command = self.phoenix(arguments, &hosts);
        Background(tokio::spawn(async move { Run::of(&mut command).await }))
    }

    /// `phoenix stack …` at all nodes, in the background.
    pub(crate) fn spawn_everywhere(&self, arguments: &[&str]) -> Background {
        let hosts: Vec<&str> = self.lab.nodes().iter().map(Node::name).collect();
        self.spawn_at(&hosts, arguments)
    }

    pub(crate) async fn deploy(&self, file: &str, name: &str, more: &[&str]) -> Run {
        let mut arguments = vec!["deploy", file, "--name", name];
        arguments.extend(more);
        self.stack(&arguments).await
    }

    pub(crate) async fn remove(&self, name: &str) {
        self.stack(&["rm", name]).await.expect(0);
    }

    /// The docker CLI at the first manager.
    pub(crate) async fn docker(&self, arguments: &[&str]) {
        let mut all = vec![Self::host(self.manager())];
        all.extend(arguments.iter().map(|one| (*one).to_owned()));
        let find = || DockerCli::find(None, self.manager(), self.parts.path());
        let docker = self.docker.get_or_try_init(find).await;
        let docker = docker.unwrap_or_else(|error| panic!("{}", error.chain()));
        let mut command = self.command(docker.command(), &all);
        Run::of(&mut command).await.expect(0);
    }

    async fn get_json(&self, path: &str) -> Vec<Value> {
        list(self.manager().docker().get(path).await.expect(path))
    }

    pub(crate) async fn services(&self) -> Services {
        let of = |one: &Value| {
            let version = one["Version"]["Index"].as_u64().unwrap_or_default();
            (
                text(&one["Spec"]["Name"]),
                (version, text(&one["UpdatedAt"])),
            )
        };
        self.get_json("/services").await.iter().map(of).collect()
    }

    pub(crate) async fn services_at_another(&self, than: &str) -> BTreeSet<String> {
        let other = self.managers.iter().find(|name| *name != than);
        let other = self.node(other.expect("another manager")).docker();
        let found = list(other.get("/services").await.expect("services"));
        found.iter().map(|one| text(&one["Spec"]["Name"])).collect()
    }

    /// Waits until there are so many services.
    pub(crate) async fn until_services(&self, count: usize) {
        until("services", async || self.services().await.len() >= count).await;
    }

    pub(crate) async fn task_ids(&self) -> BTreeSet<String> {
        let tasks = self.get_json("/tasks").await;
        tasks.iter().map(|task| text(&task["ID"])).collect()
    }

    async fn running(&self) -> Vec<Value> {
        let runs = |task: &Value| {
            task["Status"]["State"] == "running" && task["DesiredState"] == "running"
        };
        let tasks = self.get_json("/tasks").await;
        tasks.into_iter().filter(runs).collect()
    }

    /// Waits until so many tasks run, and no update is under way.
    pub(crate) async fn until_running(&self, count: usize) {
        until("tasks run", async || {
            let services = self.get_json("/services").await;
            let updating = services
                .iter()
                .any(|one| one["UpdateStatus"]["State"] == "updating");
            !updating && self.running().await.len() == count
        })
        .await;
    }

    /// The containers of running tasks.
    pub(crate) async fn containers(&self) -> BTreeSet<String> {
        let running = self.running().await;
        running
            .iter()
            .map(|task| text(&task["Status"]["ContainerStatus"]["ContainerID"]))
            .collect()
    }

    /// The secrets and configs by name.
    pub(crate) async fn objects(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (kind, path) in [("secret", "/secrets"), ("config", "/configs")] {
            let objects = self.get_json(path).await;
            found.extend(
                objects
                    .iter()
                    .map(|one| format!("{kind} {}", text(&one["Spec"]["Name"]))),
            );
        }
        found
    }

    pub(crate) async fn image(&self, service: &str) -> String {
        let path = format!("/services/{service}");
        let found = self.manager().docker().get(&path).await.expect("a service");
        text(&found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])
    }

    /// The volumes of a stack, on whatever node.
    pub(crate) async fn volumes(&self, stack: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for node in self.lab.nodes() {
            let volumes = node.docker().get("/volumes").await.expect("volumes");
            for volume in list(volumes["Volumes"].clone()) {
                if volume["Labels"][STACK] == stack {
                    found.insert(format!("{} {}", node.name(), text(&volume["Name"])));
                }
            }
        }
        found
    }

    /// What the swarm has of a stack, and the containers of it on any node.
    pub(crate) async fn left_of(&self, stack: &str) -> Vec<String> {
        let mut left = Vec::new();
        for path in ["/services", "/networks", "/secrets", "/configs"] {
            for one in self.get_json(path).await {
                let labels = if path == "/networks" {
                    &one["Labels"]
                } else {
                    &one["Spec"]["Labels"]
                };
                if labels[STACK] == stack {
                    left.push(format!("{path}: {one}"));
                }
            }
        }
        for node in self.lab.nodes() {
            let containers = node.docker().get("/containers/json").await.expect("list");
            for one in list(containers) {
                if one["Labels"][STACK] == stack {
                    left.push(format!("container {one} on {}", node.name()));
                }
            }
        }
        left
    }

    /// The name of the node that leads.
    pub(crate) async fn leader(&self) -> String {
        let nodes = self.get_json("/nodes").await;
        let leads = |node: &&Value| node["ManagerStatus"]["Leader"] == true;
        let leader = nodes.iter().find(leads).expect("a leader");
        text(&leader["Description"]["Hostname"])
    }

    /// From within the one container of `client`, asks for a page and counts running tasks of
    /// `service`, until it is told to end.
    pub(crate) async fn watch(&self, service: &str, client: &str, url: &str) -> Watch {
        let (engine, container) = self.container(client).await;
        let over = Arc::new(AtomicBool::new(false));
        let (url, docker) = (url.to_owned(), self.manager().docker());
        let path = Self::tasks_path(service);
        let told = Arc::clone(&over);
        let seen = tokio::spawn(async move {
            let mut seen = Seen {
                fewest_running: usize::MAX,
                ..Seen::default()
            };
            while !told.load(Ordering::SeqCst) {
                seen.requests += 1;
                match get(&engine, &container, &url).await {
                    Some(answer) => drop(seen.answers.insert(answer)),
                    None => seen.unanswered += 1,
                }
                let tasks = list(docker.get(&path).await.expect("tasks"));
                let running = tasks
                    .iter()
                    .filter(|task| task["Status"]["State"] == "running");
                seen.fewest_running = seen.fewest_running.min(running.count());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            seen
        });
        Watch { over, seen }
    }

    fn tasks_path(service: &str) -> String {
        let filter = json!({ "service": [service], "desired-state": ["running"] }).to_string();
        let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        format!("/tasks?filters={filter}")
    }

    /// What a program in the one container of a service writes.
    pub(crate) async fn exec(&self, service: &str, argv: &[&str]) -> String {
        let (engine, container) = self.container(service).await;
        let done = engine.exec(&container, argv).await.expect("exec");
        done.success().expect("its end")
    }

    /// The container of a service of one task, and the engine it is at.
    async fn container(&self, service: &str) -> (Engine, String) {
        let tasks = self.get_json(&Self::tasks_path(service)).await;
        let task = tasks.first().expect("a task");
        let nodes = self.get_json("/nodes").await;
        let node = nodes.iter().find(|node| node["ID"] == task["NodeID"]);
        let name = text(&node.expect("its node")["Description"]["Hostname"]);
        let container = text(&task["Status"]["ContainerStatus"]["ContainerID"]);
        (self.node(&name).docker(), container)
    }
}

/// A page, asked for again once when the connection breaks: that of a task that is being stopped
/// may.
async fn get(engine: &Engine, container: &str, url: &str) -> Option<String> {
    for _ in 0..2 {
        let argv = ["wget", "-q", "-T", "3", "-O", "-", url];
        let asked = engine.exec(container, &argv).await.expect("exec");
        if asked.code == 0 {
            return Some(asked.text().trim().to_owned());
        }
    }
    None
}

/// What was seen of a service that changes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: usize,
    pub(crate) unanswered: usize,
    pub(crate) answers: BTreeSet<String>,
    pub(crate) fewest_running: usize,
}

/// A service that is watched.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    seen: JoinHandle<Seen>,
}

impl Watch {
    pub(crate) async fn end(self) -> Seen {
        self.over.store(true, Ordering::SeqCst);
        self.seen.await.expect("what was seen")
    }
}

/// A command that runs.
pub(crate) struct Background(JoinHandle<Run>);

impl Background {
    /// Demands an exit code.
    pub(crate) async fn expect(self, code: i32) -> Run {
        self.0.await.expect("its end").expect(code)
    }
}
