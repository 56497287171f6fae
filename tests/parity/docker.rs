//! What the docker CLI makes of compose files: run with a recording proxy in front of an engine
//! whose swarm runs no task, and with an environment of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use phoenix_core::stack::{Platform, RenderContext, ResolvedImage, ResolvedObject};
use phoenix_lab::docker_cli::DockerCli;
use phoenix_lab::engine::Engine;
use phoenix_lab::recorder::{Exchange, Recorder};
use phoenix_lab::{Node, Result};
use serde_json::{Value, json};

use super::case::Case;
use super::compare::{Bodies, Kind};

/// The name under which every case is deployed.
pub(crate) const STACK: &str = "st";
/// A run of the CLI takes at most this long.
const PATIENCE: Duration = Duration::from_secs(90);

/// The networks that every engine of a swarm has.
const KEPT: [&str; 5] = ["bridge", "host", "none", "ingress", "docker_gwbridge"];

/// The docker CLI and an engine for it.
pub(crate) struct Docker {
    program: DockerCli,
    engine: Engine,
    folder: tempfile::TempDir,
}

/// What the docker CLI did.
#[derive(Debug)]
pub(crate) struct Told {
    /// Everything that it wanted to create.
    pub(crate) bodies: Bodies,
    /// How it ended.
    pub(crate) end: End,
    /// What it wrote.
    pub(crate) stderr: String,
    /// What a client could look up when it had run: ids, and what registries say.
    pub(crate) context: RenderContext,
    /// The environment that it ran in.
    pub(crate) environment: BTreeMap<String, String>,
}

/// How a run of the docker CLI ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With everything created.
    Deployed,
    /// The engine refused something.
    Rejected,
    /// It refused before.
    Refused,
}

impl Docker {
    /// On this node, which becomes a swarm of its own.
    pub(crate) async fn on(node: &Node, program: &DockerCli) -> Result<Self> {
        let engine = node.docker();
        let wish = json!({
            "ListenAddr": "0.0.0.0:2377",
            "AdvertiseAddr": node.ip().to_string(),
            "DefaultAddrPool": ["10.78.0.0/16"],
            "SubnetSize": 24,
            "Availability": "drain",
        });
        engine.post("/swarm/init", wish).await?;
        Ok(Self {
            program: program.clone(),
            engine,
            folder: tempfile::tempdir().expect("a folder"),
        })
    }

    /// The environment of the CLI: nothing of this process's.
    fn environment(&self, recorder: &Recorder, case: &Case) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), "/home/somebody".to_owned()),
            ("DOCKER_HOST".to_owned(), recorder.host()),
            ("DOCKER_CONFIG".to_owned(), text(self.folder.path())),
        ]);
        environment.extend(case.environment.clone());
        environment
    }

    /// Deploys a case, and takes everything away again.
    pub(crate) async fn deploy(&self, case: &Case) -> Result<Told> {
        for (kind, name) in &case.exists {
            let (path, body) = match kind.as_str() {
                "network" => (
                    "/networks/create",
                    json!({ "Name": name, "Driver": "overlay", "Attachable": true }),
                ),
                "secret" => ("/secrets/create", json!({ "Name": name, "Data": "YQ==" })),
                "config" => ("/configs/create", json!({ "Name": name, "Data": "YQ==" })),
                _ => panic!("{}: no {kind} can be there beforehand", case.name),
            };
            self.engine.post(path, body).await?;
        }
        let socket = self.folder.path().join("proxy.sock");
        let recorder = Recorder::start(socket, self.engine.socket())?;
        let environment = self.environment(&recorder, case);
        let mut command = tokio::process::Command::from(self.program.command());
        command.args(["stack", "deploy", "--resolve-image"]);
        command.arg(if case.resolve { "always" } else { "never" });
        for file in &case.files {
            command.arg("-c").arg(file);
        }
        command
            .arg(STACK)
            .env_clear()
            .envs(&environment)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| panic!("{}: docker still runs", case.name))
            .expect("docker runs");
        let record = recorder.take();
        let context = self.looked_up(&record).await?;
        self.clear().await?;
        let (bodies, rejected) = created(&record);
        Ok(Told {
            bodies,
            end: match (output.status.success(), rejected) {
                (true, _) => End::Deployed,
                (false, true) => End::Rejected,
                (false, false) => End::Refused,
            },
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            context,
            environment,
        })
    }

    /// The ids that the swarm gave, and the answers of registries.
    async fn looked_up(&self, record: &[Exchange]) -> Result<RenderContext> {
        let mut context = RenderContext::default();
        for (kind, found) in [
            ("/secrets", &mut context.secrets),
            ("/configs", &mut context.configs),
        ] {
            for object in list(&self.engine.get(kind).await?) {
                let name = text(&object["Spec"]["Name"]);
                let resolved = ResolvedObject {
                    name: name.clone(),
                    id: Some(text(&object["ID"])),
                };
                found.insert(name, resolved);
            }
        }
        for exchange in record {
            let image = exchange
                .path
                .strip_prefix("/distribution/")
                .and_then(|rest| rest.strip_suffix("/json"));
            let (Some(image), 200) = (image, exchange.status) else {
                continue;
            };
            let answer: Value = serde_json::from_slice(&exchange.answer).unwrap_or_default();
            let platforms = list(&answer["Platforms"]).map(|platform| Platform {
                os: text(&platform["os"]),
                architecture: text(&platform["architecture"]),
            });
            let resolved = ResolvedImage {
                digest: text(&answer["Descriptor"]["digest"]),
                platforms: platforms.collect(),
            };
            context.images.insert(image.to_owned(), resolved);
        }
        Ok(context)
    }

    /// Removes everything that a case may have made.
    async fn clear(&self) -> Result<()> {
        for (kind, id) in [("services", "ID"), ("secrets", "ID"), ("configs", "ID")] {
            for object in list(&self.engine.get(&format!("/{kind}")).await?) {
                let path = format!("/{kind}/{}", text(&object[id]));
                self.engine.delete(&path).await?;
            }
        }
        let end = tokio::time::Instant::now() + PATIENCE;
        let networks = self.engine.get("/networks").await?;
        for network in list(&networks) {
            if KEPT.contains(&network["Name"].as_str().unwrap_or_default()) {
                continue;
            }
            let path = format!("/networks/{}", text(&network["Id"]));
            // Tasks that have not been stopped yet hold it for a moment.
            while let Err(error) = self.engine.delete(&path).await {
                assert!(
                    tokio::time::Instant::now() < end,
                    "a network stays: {}",
                    error.chain()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The bodies of everything that was to be created, and whether the engine refused any.
fn created(record: &[Exchange]) -> (Bodies, bool) {
    let mut bodies = Bodies::new();
    let mut rejected = false;
    for exchange in record {
        let kind = match (exchange.method.as_str(), exchange.path.as_str()) {
            ("POST", "/networks/create") => Kind::Network,
            ("POST", "/secrets/create") => Kind::Secret,
            ("POST", "/configs/create") => Kind::Config,
            ("POST", "/services/create") => Kind::Service,
            ("GET" | "HEAD", _) => continue,
            other => panic!("the docker CLI did what was not expected: {other:?}"),
        };
        rejected |= exchange.status >= 400;
        let body = exchange.json();
        bodies.insert((kind, text(&body["Name"])), body);
    }
    (bodies, rejected)
}
