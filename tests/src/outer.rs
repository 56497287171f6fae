//! The engine that runs the nodes: the user's where one answers, else one of the lab's own.
//!
//! A user's engine is only asked for containers, networks and one image. An engine of our own has
//! a private socket, data folder and process, no default bridge, changes no forwarding of the
//! machine, and ends with the last lab, taking its firewall chains along.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::packages::{self, Unpacked};
use crate::place::{self, Places};
use crate::process::{self, Running};
use crate::{LabError, Result};

/// Firewall programs and the tables in which dockerd makes chains, all of them called `DOCKER…`.
const FIREWALLS: &[(&str, &str)] = &[
    ("iptables", "filter"),
    ("iptables", "nat"),
    ("ip6tables", "filter"),
    ("ip6tables", "nat"),
];

/// The engine that runs the nodes.
#[derive(Debug, Clone)]
pub struct Outer {
    /// Its API.
    pub engine: Engine,
    /// Whether the lab started it.
    pub own: bool,
}

#[derive(Serialize, Deserialize)]
struct OwnEngine {
    process: Running,
    /// Chains that were there before it, as program, table and name.
    foreign_chains: Vec<(String, String, String)>,
}

fn folder(places: &Places) -> PathBuf {
    places.run.join("engine")
}

fn own_engine(places: &Places) -> Engine {
    Engine::at(folder(places).join("docker.sock"))
}

fn recorded(places: &Places) -> Option<OwnEngine> {
    let text = std::fs::read(folder(places).join("engine.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The user's engine: what `DOCKER_HOST` names, else the usual socket.
fn users_socket() -> Result<PathBuf> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => {
            host.strip_prefix("unix://")
                .map(PathBuf::from)
                .ok_or_else(|| {
                    LabError::Unsuitable(format!(
                        "DOCKER_HOST is '{host}', and the lab needs an engine on this machine, behind a unix:// socket"
                    ))
                })
        }
        _ => Ok(PathBuf::from("/var/run/docker.sock")),
    }
}

/// The engine that would run nodes now, without starting one.
///
/// # Errors
/// Where `DOCKER_HOST` names an engine elsewhere.
pub async fn find(places: &Places) -> Result<Option<Outer>> {
    let users = Engine::at(users_socket()?);
    if users.answers().await {
        return Ok(Some(Outer {
            engine: users,
            own: false,
        }));
    }
    let own = own_engine(places);
    Ok(own.answers().await.then_some(Outer {
        engine: own,
        own: true,
    }))
}

/// The user's engine, else the lab's own, started where it does not run. The caller holds the
/// lock of the runtime folder.
///
/// # Errors
/// Where an engine can neither be found nor started.
pub async fn ensure(places: &Places) -> Result<Outer> {
    if let Some(outer) = find(places).await? {
        return Ok(outer);
    }
    if !place::is_root() {
        return Err(LabError::Unsuitable(format!(
            "no Docker engine answers at {}, and starting one takes root",
            users_socket()?.display()
        )));
    }
    let programs = packages::unpack(places, "docker.io", "dockerd").await?;
    start(places, &programs).await
}

async fn start(places: &Places, programs: &Unpacked) -> Result<Outer> {
    let dir = folder(places);
    place::make_dir(&dir)?;
    let log = dir.join("dockerd.log");
    let config = dir.join("daemon.json");
    // The machine's own /etc/docker/daemon.json is not for this engine.
    place::write(&config, "{}\n")?;
    let engine = own_engine(places);
    let mut command = programs.command("dockerd")?;
    command
        .arg("--config-file")
        .arg(&config)
        .arg("--data-root")
        .arg(places.cache.join("engine"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("dockerd.pid"))
        .arg("--host")
        .arg(format!("unix://{}", engine.socket().display()))
        .args(["--containerd-namespace", "phoenix-lab"])
        .args(["--containerd-plugins-namespace", "phoenix-lab-plugins"])
        .args(["--bridge", "none", "--ip-forward=false", "--ip-masq=false"])
        .args(["--userland-proxy=false", "--log-level", "warn"]);
    let mut foreign_chains = Vec::new();
    for (program, table) in FIREWALLS {
        for chain in chains(&rules(programs, program, table).await) {
            foreign_chains.push(((*program).to_owned(), (*table).to_owned(), chain.to_owned()));
        }
    }
    // A killed dockerd leaves its file, and the next one takes whatever has the number for it.
    let stale = recorded(places).is_none_or(|own| !own.process.alive());
    let pidfile = dir.join("dockerd.pid");
    if stale && pidfile.exists() {
        std::fs::remove_file(&pidfile).map_err(LabError::io("remove", &pidfile))?;
    }
    let process = process::start_detached(command, &log)?;
    let own = OwnEngine {
        process,
        foreign_chains,
    };
    let record =
        serde_json::to_vec(&own).map_err(|error| LabError::Malformed(error.to_string()))?;
    place::write(&dir.join("engine.json"), record)?;
    let waited = tokio::select! {
        waited = engine.wait(Duration::from_secs(30)) => waited,
        () = ended(process) => Err(LabError::Program {
            what: "dockerd".into(),
            status: "its start".into(),
            stderr: process::tail(&std::fs::read_to_string(&log).unwrap_or_default(), 6),
        }),
    };
    waited?;
    // No lab can be up on an engine that was down: what it still has was left by a killed one.
    engine.clear(crate::lab::LABEL).await?;
    Ok(Outer { engine, own: true })
}

/// Whether the lab's own engine was started and is gone without having been stopped.
#[must_use]
pub fn was_killed(places: &Places) -> bool {
    folder(places).exists() && recorded(places).is_none_or(|own| !own.process.alive())
}

/// Unmounts what lies below `dir`: a killed dockerd leaves its namespaces mounted.
fn unmount_below(dir: &std::path::Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| std::path::Path::new(at).starts_with(dir));
    for at in below.collect::<Vec<_>>().into_iter().rev() {
        // What cannot be unmounted is named by the removal that follows.
        let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
    }
}

async fn ended(process: Running) {
    while process.alive() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops the lab's own engine, if it runs, and takes away what it leaves: its firewall chains and
/// its runtime folder. Its data stays in the cache. The caller holds the lock of the runtime
/// folder and knows that no lab is up.
///
/// # Errors
/// Where it does not end.
pub async fn stop(places: &Places) -> Result<()> {
    let Some(own) = recorded(places) else {
        return Ok(());
    };
    own.process.end(Duration::from_secs(20)).await?;
    let programs = packages::unpack(places, "docker.io", "dockerd").await?;
    for (program, table) in FIREWALLS {
        let rules = rules(&programs, program, table).await;
        let ours: Vec<&str> = chains(&rules)
            .filter(|chain| {
                !own.foreign_chains
                    .iter()
                    .any(|(p, t, c)| p == program && t == table && c == chain)
            })
            .collect();
        let mut changes: Vec<Vec<&str>> = jumps(&rules, &ours);
        // A chain that another one still jumps to cannot go, so all are emptied first.
        changes.extend(ours.iter().map(|chain| vec!["-F", chain]));
        changes.extend(ours.iter().map(|chain| vec!["-X", chain]));
        for change in changes {
            let mut command = programs.command(program)?;
            command.args(["-w", "-t", table]).args(change);
            process::run(command).await?;
        }
    }
    let dir = folder(places);
    unmount_below(&dir);
    std::fs::remove_dir_all(&dir).map_err(LabError::io("remove", &dir))
}

/// A table's rules as `-S` prints them; nothing where the kernel or the machine has no such table.
async fn rules(programs: &Unpacked, program: &str, table: &str) -> String {
    let Ok(mut command) = programs.command(program) else {
        return String::new();
    };
    command.args(["-w", "-t", table, "-S"]);
    process::run(command).await.unwrap_or_default()
}

/// The chains of dockerd among a table's rules.
fn chains(rules: &str) -> impl Iterator<Item = &str> {
    rules
        .lines()
        .filter_map(|line| line.strip_prefix("-N "))
        .filter(|chain| chain.starts_with("DOCKER"))
}

/// What deletes the rules that lead from other chains into these.
fn jumps<'a>(rules: &'a str, ours: &[&str]) -> Vec<Vec<&'a str>> {
    rules
        .lines()
        .filter_map(|line| line.strip_prefix("-A "))
        .map(|rule| rule.split_whitespace().collect::<Vec<_>>())
        .filter(|words| {
            let target = words.iter().skip_while(|word| **word != "-j").nth(1);
            let from_ours = words.first().is_some_and(|chain| ours.contains(chain));
            !from_ours && target.is_some_and(|target| ours.contains(target))
        })
        .map(|words| [vec!["-D"], words].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dockers_chains_and_the_ways_into_them_go() {
        let rules = "-P FORWARD ACCEPT\n-N DOCKER\n-N DOCKER-USER\n-N mine\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j mine\n-A FORWARD -o x -j DOCKER\n-A DOCKER-USER -j RETURN\n";
        let found: Vec<&str> = chains(rules).collect();
        assert_eq!(found, ["DOCKER", "DOCKER-USER"]);
        assert_eq!(
            jumps(rules, &found),
            [
                vec!["-D", "FORWARD", "-j", "DOCKER-USER"],
                vec!["-D", "FORWARD", "-o", "x", "-j", "DOCKER"]
            ]
        );
        assert_eq!(
            jumps(rules, &["DOCKER-USER"]),
            [["-D", "FORWARD", "-j", "DOCKER-USER"]]
        );
    }
}
