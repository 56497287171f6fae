//! The `deploy` part of a service.
//!
//! Invariants: replicas go with replicated modes only; jobs have no update configuration.

use crate::ground::document::{Cursor, Fields};

use super::model::{Deploy, EndpointMode, Mode, Placement, Resources, RestartPolicy, UpdateConfig};
use super::reading::{
    fields, filled, integer, labels, memory, optional, processors, ratio, text, time,
};
use super::service::Declared;

const MODES: &[(&str, Mode)] = &[
    ("replicated", Mode::Replicated(None)),
    ("global", Mode::Global),
    ("replicated-job", Mode::ReplicatedJob(None)),
    ("global-job", Mode::GlobalJob),
];
const ENDPOINT_MODES: &[(&str, EndpointMode)] =
    &[("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)];
const CONDITIONS: &[(&str, &str)] = &[
    ("none", "none"),
    ("on-failure", "on-failure"),
    ("any", "any"),
];
const FAILURE_ACTIONS: &[(&str, &str)] = &[
    ("pause", "pause"),
    ("continue", "continue"),
    ("rollback", "rollback"),
];
const ROLLBACK_FAILURE_ACTIONS: &[(&str, &str)] = &[("pause", "pause"), ("continue", "continue")];
const ORDERS: &[(&str, &str)] = &[("stop-first", "stop-first"), ("start-first", "start-first")];

/// The least that the engine lets a task have.
const LEAST_MEMORY: i64 = 4 << 20;
const LEAST_CPUS: i64 = 1_000_000;

/// Reads `deploy`; nothing written is the default.
pub(super) fn deploy(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Deploy> {
    let as_docker = declared.as_docker();
    if at.is_null() {
        return Some(Deploy::default());
    }
    let map = fields(
        at,
        &[
            "mode",
            "replicas",
            "labels",
            "endpoint_mode",
            "placement",
            "resources",
            "restart_policy",
            "update_config",
            "rollback_config",
        ],
        &[],
    )?;
    let mut deploy = Deploy {
        mode: mode(&map, declared)?,
        ..Deploy::default()
    };
    if let Some(at) = map.get("labels") {
        deploy.labels = labels(&at)?;
    }
    if let Some(at) = map.get("endpoint_mode") {
        let written = text(&at)?.to_ascii_lowercase();
        let known = ENDPOINT_MODES.iter().find(|(word, _)| *word == written);
        deploy.endpoint_mode = Some(match known {
            Some((_, mode)) => *mode,
            None => at.word(ENDPOINT_MODES)?,
        });
    }
    if let Some(at) = map.get("placement") {
        deploy.placement = placement(&at, declared)?;
    }
    if let Some(at) = map.get("resources") {
        let map = fields(&at, &["limits", "reservations"], &[])?;
        deploy.limits = match map.get("limits") {
            Some(at) => Some(limits(&at, declared)?),
            None => None,
        };
        deploy.reservations = match map.get("reservations") {
            Some(at) => Some(reservations(&at, declared)?),
            None => None,
        };
    }
    if let Some(at) = map.get("restart_policy") {
        deploy.restart_policy = Some(restart_policy(&at)?);
    }
    for key in ["update_config", "rollback_config"] {
        let Some(at) = map.get(key) else { continue };
        if deploy.mode.is_job() && !declared.is_docker_part() {
            const NEVER: &str = "jobs are never updated or rolled back: they run again";
            // The engine takes how a job would be rolled back, and refuses how it is updated.
            if as_docker && key == "rollback_config" {
                at.warn(NEVER);
            } else {
                at.refuse(NEVER);
                continue;
            }
        }
        if key == "update_config" {
            deploy.update_config = Some(update_config(&at, FAILURE_ACTIONS)?);
        } else {
            let actions = if as_docker {
                FAILURE_ACTIONS
            } else {
                ROLLBACK_FAILURE_ACTIONS
            };
            let config = update_config(&at, actions)?;
            if config.failure_action == Some("rollback") {
                at.warn("a rollback that fails cannot be rolled back");
            }
            deploy.rollback_config = Some(config);
        }
    }
    Some(deploy)
}

fn mode(map: &Fields<'_>, declared: &Declared<'_>) -> Option<Mode> {
    let mode = match map.get("mode") {
        // An empty text is as good as none.
        Some(at) if at.node().text() != Some("") => at.word(MODES)?,
        _ => Mode::default(),
    };
    let Some(at) = map.get("replicas") else {
        return Some(mode);
    };
    let replicas = integer(&at, 0_u64..=u64::from(u32::MAX))?;
    match mode {
        Mode::Replicated(_) => Some(Mode::Replicated(Some(replicas))),
        Mode::ReplicatedJob(_) => Some(Mode::ReplicatedJob(Some(replicas))),
        Mode::Global | Mode::GlobalJob if declared.is_docker_part() => Some(mode),
        Mode::Global | Mode::GlobalJob => {
            at.refuse("a global service has as many tasks as there are nodes; remove `replicas`");
            None
        }
    }
}

fn placement(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Placement> {
    let map = fields(
        at,
        &["constraints", "preferences", "max_replicas_per_node"],
        &[],
    )?;
    let mut placement = Placement::default();
    if let Some(at) = map.get("constraints") {
        placement.constraints = at.each(|item| {
            let constraint = text(&item)?;
            if !is_constraint(constraint) && !declared.is_docker_part() {
                item.refuse("a constraint is written like `node.role == manager` or `node.labels.disk != slow`");
                return None;
            }
            Some(constraint.to_owned())
        })?;
    }
    if let Some(at) = map.get("preferences") {
        placement.spread = at.each(|item| {
            let map = fields(&item, &["spread"], &[])?;
            if declared.as_docker() {
                let spread = optional(&map, "spread", |at| text(at).map(str::to_owned))?;
                if spread.is_empty() {
                    item.warn("tasks are spread over nothing");
                }
                return Some(spread);
            }
            filled(&map.required("spread")?).map(str::to_owned)
        })?;
    }
    if let Some(at) = map.get("max_replicas_per_node") {
        placement.max_replicas_per_node = Some(integer(&at, 0_u64..=u64::from(u32::MAX))?);
    }
    Some(placement)
}

/// The engine's own rule, which it applies too late to point at a line.
fn is_constraint(text: &str) -> bool {
    let Some((key, value)) = text.split_once("==").or_else(|| text.split_once("!=")) else {
        return false;
    };
    let (key, value) = (key.trim(), value.trim());
    let in_key = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let in_value =
        |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || ":-_.*()?+[]\\^$|/".contains(c);
    key.len() > 1
        && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(in_key)
        && !value.is_empty()
        && value.chars().all(in_value)
}

fn least(
    (at, declared): (&Cursor<'_>, &Declared<'_>),
    amount: i64,
    least: i64,
    what: &str,
) -> Option<i64> {
    if amount != 0 && amount < least && !declared.is_docker_part() {
        at.refuse(format!("the engine allows no less than {what}"));
        return None;
    }
    Some(amount)
}

fn cpus_and_memory(map: &Fields<'_>, declared: &Declared<'_>) -> Option<Resources> {
    let mut resources = Resources::default();
    if let Some(at) = map.get("cpus") {
        resources.nano_cpus = least(
            (&at, declared),
            processors(&at)?,
            LEAST_CPUS,
            "0.001 processors",
        )?;
    }
    if let Some(at) = map.get("memory") {
        resources.memory = least(
            (&at, declared),
            memory(&at)?,
            LEAST_MEMORY,
            "4 MiB of memory",
        )?;
    }
    Some(resources)
}

fn limits(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Resources> {
    let map = fields(at, &["cpus", "memory", "pids"], &[])?;
    let mut limits = cpus_and_memory(&map, declared)?;
    if let Some(at) = map.get("pids") {
        limits.pids = integer(&at, 0..=i64::MAX)?;
    }
    Some(limits)
}

fn reservations(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Resources> {
    let map = fields(
        at,
        &["cpus", "memory", "generic_resources"],
        &[(
            "devices",
            "a swarm reserves devices as `generic_resources` only",
        )],
    )?;
    let mut reservations = cpus_and_memory(&map, declared)?;
    if let Some(at) = map.get("generic_resources") {
        reservations.generic = at.each(|item| {
            let spec = fields(&item, &["discrete_resource_spec"], &[])?
                .required("discrete_resource_spec")?;
            let spec = fields(&spec, &["kind", "value"], &[])?;
            let kind = filled(&spec.required("kind")?)?.to_owned();
            Some((kind, integer(&spec.required("value")?, 0..=i64::MAX)?))
        })?;
    }
    Some(reservations)
}

fn restart_policy(at: &Cursor<'_>) -> Option<RestartPolicy> {
    let map = fields(at, &["condition", "delay", "max_attempts", "window"], &[])?;
    let mut policy = RestartPolicy::default();
    if let Some(at) = map.get("condition") {
        policy.condition = Some(at.word(CONDITIONS)?);
    }
    if let Some(at) = map.get("delay") {
        policy.delay = Some(time(&at)?);
    }
    if let Some(at) = map.get("max_attempts") {
        policy.max_attempts = Some(integer(&at, 0_u64..=u64::from(u32::MAX))?);
    }
    if let Some(at) = map.get("window") {
        policy.window = Some(time(&at)?);
    }
    Some(policy)
}

fn update_config(
    at: &Cursor<'_>,
    failure_actions: &[(&str, &'static str)],
) -> Option<UpdateConfig> {
    let map = fields(
        at,
        &[
            "parallelism",
            "delay",
            "failure_action",
            "monitor",
            "max_failure_ratio",
            "order",
        ],
        &[],
    )?;
    let mut config = UpdateConfig::default();
    if let Some(at) = map.get("parallelism") {
        config.parallelism = Some(integer(&at, 0_u64..=u64::from(u32::MAX))?);
    }
    if let Some(at) = map.get("delay") {
        config.delay = time(&at)?;
    }
    if let Some(at) = map.get("failure_action") {
        config.failure_action = Some(at.word(failure_actions)?);
    }
    if let Some(at) = map.get("monitor") {
        config.monitor = time(&at)?;
    }
    if let Some(at) = map.get("max_failure_ratio") {
        config.max_failure_ratio = ratio(&at)?;
    }
    if let Some(at) = map.get("order") {
        config.order = Some(at.word(ORDERS)?);
    }
    Some(config)
}

/// The policy that the older key `restart` of a service stands for.
pub(super) fn restart(at: &Cursor<'_>) -> Option<RestartPolicy> {
    let written = text(at)?;
    let (word, attempts) = match written.split_once(':') {
        Some((word, attempts)) => (word, Some(attempts)),
        None => (written, None),
    };
    let condition = match (word, attempts) {
        ("no", None) => "none",
        ("always" | "unless-stopped", None) => "any",
        ("on-failure", _) => "on-failure",
        _ => {
            at.refuse("one of `\"no\"`, `always`, `unless-stopped`, `on-failure` and `on-failure:COUNT` is expected here");
            return None;
        }
    };
    // Docker sends the count of this policy even where it says nothing.
    let max_attempts = match condition {
        "on-failure" => match attempts.unwrap_or("0").parse::<u32>() {
            Ok(count) => Some(u64::from(count)),
            Err(_) => {
                at.refuse("the count of attempts is a whole number");
                return None;
            }
        },
        _ => None,
    };
    Some(RestartPolicy {
        condition: Some(condition),
        max_attempts,
        ..RestartPolicy::default()
    })
}

#[cfg(test)]
mod tests {
    use super::is_constraint;

    #[test]
    fn constraints_have_one_operator() {
        for good in [
            "node.role == manager",
            "node.role==manager",
            "node.labels.zone != a b",
            "engine.labels.operatingsystem==ubuntu-24.04",
        ] {
            assert!(is_constraint(good), "{good}");
        }
        for bad in [
            "node.role",
            "node.role = manager",
            "== x",
            "node.role ==",
            "a b == c",
            "a.b == c == d",
        ] {
            assert!(!is_constraint(bad), "{bad}");
        }
    }
}
