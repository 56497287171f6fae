//! The benchmark of deployments: ten services of one stack, unchanged and changed, by `phoenix
//! stack deploy` and by `docker stack deploy --detach=false`, in turn on the same lab.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::docker_cli::DockerCli;
use crate::lab::{self, Lab, LabOptions};
use crate::{LabError, Node, Result, process};

/// How many services the stack has.
const SERVICES: usize = 10;

/// How many services the large stack has.
pub const LARGE: usize = 500;

/// How long both took, in every round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// `phoenix stack deploy`.
    pub phoenix: Vec<Duration>,
    /// `docker stack deploy --detach=false`.
    pub docker: Vec<Duration>,
}

impl Times {
    /// How many times longer docker takes, by the medians of both.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(&self.docker).as_secs_f64() / median(&self.phoenix).as_secs_f64()
    }
}

/// The middle one; of an even number the later of the two.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployments {
    /// The first deployment of a stack, of which there is one each.
    pub first: Times,
    /// Another one in which nothing is changed.
    pub unchanged: Times,
    /// Another one in which a variable of every service is changed, so that its task is replaced.
    pub changed: Times,
    /// Another one in which every service gets one task more or less.
    pub scaled: Times,
    /// Another one in which a label of every service is changed, which touches no task.
    pub labelled: Times,
    /// `phoenix stack render` of [`LARGE`] services.
    pub render: Vec<Duration>,
    /// `phoenix stack diff` of that many, which are all there, without any task.
    pub plan: Vec<Duration>,
}

/// A program, and how it is told to deploy `stack.yaml`.
struct Tool {
    program: Box<dyn Fn() -> Command>,
    arguments: &'static [&'static str],
}

impl Tool {
    /// Runs for the stack of this name, and says how long that took.
    async fn run(&self, folder: &Path, host: &str, stack: &str) -> Result<Duration> {
        let mut command = (self.program)();
        command
            .args(self.arguments)
            .arg(stack)
            .current_dir(folder)
            .env_clear()
            .env("DOCKER_HOST", host)
            .env("HOME", folder)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let begun = Instant::now();
        process::run(command).await?;
        Ok(begun.elapsed())
    }
}

/// What is changed from one deployment to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Revision {
    environment: usize,
    replicas: usize,
    label: usize,
}

/// The stack's file.
fn write(folder: &Path, revision: Revision) -> Result<()> {
    let Revision {
        environment,
        replicas,
        label,
    } = revision;
    let mut text = String::from("services:\n");
    for number in 0..SERVICES {
        text.push_str(&format!(
            "  s{number}:\n    image: \"busybox:1.37\"\n    stop_grace_period: 1s\n    \
             environment: {{REVISION: \"{environment}\"}}\n    \
             deploy: {{replicas: {}, labels: {{revision: \"{label}\"}}}}\n",
            1 + replicas % 2
        ));
    }
    let path = folder.join("stack.yaml");
    std::fs::write(&path, text).map_err(LabError::io("write", &path))
}

/// The file of a stack of many services, each with what services usually have, and no task.
fn write_large(folder: &Path) -> Result<()> {
    let mut text = String::from("services:\n");
    for number in 0..LARGE {
        text.push_str(&format!(
            "  service-{number}:
    image: \"busybox:1.37\"
    command: serve --port 8080 \"--name=service {number}\"
    environment: {{PORT: 8080, RATIO: 0.5, LEVEL: info}}
    volumes: [\"data:/var/lib/service\", \"/etc/service/{number}:/etc/service:ro\"]
    healthcheck: {{test: [CMD, wget, -q, \"http://localhost:8080/\"], interval: 10s, retries: 3}}
    deploy:
      replicas: 0
      labels: [traefik.enable=true, \"traefik.http.routers.{number}.rule=Host(`{number}.lan`)\"]
      update_config: {{parallelism: 1, order: start-first, failure_action: rollback}}
      resources: {{limits: {{cpus: \"0.50\", memory: 256M}}}}
"
        ));
    }
    text.push_str("volumes: {data: {}}\n");
    let path = folder.join("stack.yaml");
    std::fs::write(&path, text).map_err(LabError::io("write", &path))
}

/// Deploys by both, `rounds` times each, on a lab of its own that is gone afterwards.
///
/// # Errors
/// Where the lab does not come up, or a deployment ends otherwise than with 0.
pub async fn measure(rounds: usize) -> Result<Deployments> {
    let lab = Lab::start(LabOptions::test().with_guests([("bench", 1401)])).await?;
    let node = lab.node("bench")?;
    let wish = json!({
        "ListenAddr": "0.0.0.0:2377",
        "AdvertiseAddr": node.ip().to_string(),
        "DefaultAddrPool": [lab.network().overlay_pool()],
        "SubnetSize": 24,
    });
    node.docker().post("/swarm/init", wish).await?;
    let measured = on(node, rounds).await;
    lab.down().await?;
    measured
}

async fn on(node: &Node, rounds: usize) -> Result<Deployments> {
    let host = format!("unix://{}", node.docker_socket().display());
    let folder = tempfile::tempdir().map_err(LabError::io("create", Path::new("a folder")))?;
    let folder = folder.path();
    let phoenix = lab::built("phoenix")?;
    let docker = DockerCli::find(None, node, folder).await?;
    let ours = |arguments| {
        let phoenix = phoenix.clone();
        Tool {
            program: Box::new(move || Command::new(&phoenix)),
            arguments,
        }
    };
    let phoenix = ours(&["stack", "deploy", "stack.yaml", "--name"]);
    let docker = Tool {
        program: Box::new(move || docker.command()),
        arguments: &["stack", "deploy", "--detach=false", "-c", "stack.yaml"],
    };
    let mut measured = Deployments::default();
    // A stack each: what one tool has written is no change to itself.
    let tools = [("phoenix", &phoenix), ("docker", &docker)];
    let both = async |revision: Revision, times: &mut Times| {
        write(folder, revision)?;
        for (name, tool) in tools {
            let took = tool.run(folder, &host, name).await?;
            match name {
                "phoenix" => times.phoenix.push(took),
                _ => times.docker.push(took),
            }
        }
        Ok(())
    };
    let mut now = Revision::default();
    both(now, &mut measured.first).await?;
    for _ in 0..rounds {
        both(now, &mut measured.unchanged).await?;
        now.environment += 1;
        both(now, &mut measured.changed).await?;
        now.replicas += 1;
        both(now, &mut measured.scaled).await?;
        now.label += 1;
        both(now, &mut measured.labelled).await?;
    }
    write_large(folder)?;
    phoenix.run(folder, &host, "large").await?;
    let render = ours(&["stack", "render", "stack.yaml", "--json", "--name"]);
    // It fails where something differs.
    let plan = ours(&[
        "stack",
        "diff",
        "stack.yaml",
        "--detailed-exitcode",
        "--name",
    ]);
    for _ in 0..rounds {
        let took = render.run(folder, &host, "large").await?;
        measured.render.push(took);
        let took = plan.run(folder, &host, "large").await?;
        measured.plan.push(took);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_the_medians() {
        let seconds = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect();
        let times = Times {
            phoenix: seconds(&[9, 1, 2]),
            docker: seconds(&[20, 10, 90]),
        };
        assert!((times.ratio() - 10.0).abs() < f64::EPSILON);
    }
}
