//! Stacks as they are: which there are, their services, their tasks, what these wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::error::{DeployError, asking, check_stack};
use crate::docker::{
    Engine, EngineError, LogLine, LogOptions, LogSource, ObjectKind, Seat, ServiceMode,
    ServiceObserved, ServiceTarget, Task, UpdateState, Verdict, has_terminal, node_name, task_name,
};
use crate::ground::Deadline;
use crate::stack::STACK_LABEL;

/// How long looking up who wrote a line may take.
const NAMES: Duration = Duration::from_secs(5);

/// A stack in a list of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StackSummary {
    /// Its name.
    pub name: String,
    /// How many services it has.
    pub services: usize,
    /// How many of them are as they should be.
    pub converged: usize,
    /// How many networks it has.
    pub networks: usize,
    /// How many secrets.
    pub secrets: usize,
    /// How many configs.
    pub configs: usize,
}

/// A service of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceStanding {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `replicated`, `global`, `replicated-job` or `global-job`.
    pub mode: &'static str,
    /// Running and wanted tasks: `1/2`; a job's completed ones.
    pub replicas: String,
    /// Its image, without the digest.
    pub image: String,
    /// The digest, where it is pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its published ports: `8080->80/tcp`.
    pub ports: Vec<String>,
    /// How it stands, in words.
    pub state: String,
    /// Whether it is as it should be.
    pub settled: bool,
}

/// A task of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskStanding {
    /// Its identifier.
    pub id: String,
    /// Its service's name and its replica or node: `shop_web.1`.
    pub name: String,
    /// Its service's name.
    pub service: String,
    /// Its image.
    pub image: String,
    /// The host name of its node; empty when it has none.
    pub node: String,
    /// Where it should stand.
    pub desired: String,
    /// Where it stands.
    pub state: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// What went wrong; often empty.
    pub error: String,
    /// The exit code of its container, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
}

/// A line that a task of a stack wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StackLine {
    /// The service's name.
    pub service: String,
    /// The task's name, as in the list of tasks: `shop_web.1`. Empty where the swarm has forgotten
    /// the task.
    pub name: String,
    /// The host name of its node; empty where it is not known.
    pub hostname: String,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

/// The stacks of the swarm, by name: also those of which only networks, secrets or configs are
/// left.
///
/// # Errors
/// [`DeployError::Engine`].
pub async fn list(engine: &Engine, deadline: Deadline) -> Result<Vec<StackSummary>, DeployError> {
    let labelled = [(STACK_LABEL, None)];
    let (services, networks, secrets, configs) = tokio::try_join!(
        engine.services(&labelled, deadline),
        engine.networks(deadline),
        engine.objects(ObjectKind::Secret, &labelled, deadline),
        engine.objects(ObjectKind::Config, &labelled, deadline),
    )
    .map_err(asking("the stacks cannot be listed"))?;
    let mut stacks: BTreeMap<String, StackSummary> = BTreeMap::new();
    let mut count = |stack: Option<&str>, add: fn(&mut StackSummary) -> &mut usize, by: usize| {
        if let Some(name) = stack {
            let summary = stacks.entry(name.to_owned()).or_default();
            name.clone_into(&mut summary.name);
            *add(summary) += by;
        }
    };
    let targets: Vec<ServiceTarget> = services
        .iter()
        .map(|service| ServiceTarget::in_place(&service.id))
        .collect();
    let verdicts = engine
        .judge_services(&targets, deadline)
        .await
        .map_err(asking("how the services stand cannot be seen"))?;
    for (service, verdict) in services.iter().zip(&verdicts) {
        let stack = service.label(STACK_LABEL);
        count(stack, |summary| &mut summary.services, 1);
        let settled = usize::from(verdict.settled().is_some());
        count(stack, |summary| &mut summary.converged, settled);
    }
    let of = |labels: &BTreeMap<String, String>| labels.get(STACK_LABEL).cloned();
    for network in networks.iter().filter(|network| network.scope == "swarm") {
        count(of(&network.labels).as_deref(), |one| &mut one.networks, 1);
    }
    for secret in &secrets {
        count(of(&secret.labels).as_deref(), |one| &mut one.secrets, 1);
    }
    for config in &configs {
        count(of(&config.labels).as_deref(), |one| &mut one.configs, 1);
    }
    Ok(stacks.into_values().collect())
}

/// The services of `stack` by name; none when there is no such stack.
///
/// # Errors
/// [`DeployError::Engine`].
pub async fn services(
    engine: &Engine,
    stack: &str,
    deadline: Deadline,
) -> Result<Vec<ServiceStanding>, DeployError> {
    let found = of_stack(engine, stack, deadline).await?;
    let targets: Vec<ServiceTarget> = found
        .iter()
        .map(|service| ServiceTarget::in_place(&service.id))
        .collect();
    let verdicts = engine
        .judge_services(&targets, deadline)
        .await
        .map_err(asking("how the services stand cannot be seen"))?;
    Ok(found
        .iter()
        .zip(verdicts)
        .map(|(service, verdict)| {
            let (image, digest) = match service.image().split_once('@') {
                Some((image, digest)) => (image, Some(digest.to_owned())),
                None => (service.image(), None),
            };
            ServiceStanding {
                id: service.id.clone(),
                name: service.name().to_owned(),
                mode: mode(service.mode()),
                replicas: replicas(service),
                image: image.to_owned(),
                digest,
                ports: ports(service),
                settled: verdict.settled().is_some(),
                state: state(service, &verdict),
            }
        })
        .collect())
}

pub(super) async fn of_stack(
    engine: &Engine,
    stack: &str,
    deadline: Deadline,
) -> Result<Vec<ServiceObserved>, DeployError> {
    check_stack(stack)?;
    let mut found = engine
        .services(&[(STACK_LABEL, Some(stack))], deadline)
        .await
        .map_err(asking(format!("stack {stack} cannot be looked at")))?;
    found.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(found)
}

/// How a service stands, without the counts of its tasks, and what the engine made of its last
/// update.
fn state(service: &ServiceObserved, verdict: &Verdict) -> String {
    let text = match verdict {
        Verdict::Progressing { detail, .. } => detail.clone(),
        verdict => verdict.to_string(),
    };
    let status = service.update_status.as_ref();
    if verdict.settled().is_some()
        && status.is_some_and(|status| status.state == UpdateState::RollbackCompleted)
    {
        return format!("{text}; its last update was rolled back");
    }
    text
}

fn mode(mode: ServiceMode) -> &'static str {
    match mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global => "global",
        ServiceMode::ReplicatedJob { .. } => "replicated-job",
        ServiceMode::GlobalJob => "global-job",
    }
}

fn replicas(service: &ServiceObserved) -> String {
    let counts = service.counts.unwrap_or_default();
    match service.mode() {
        ServiceMode::ReplicatedJob { completions } => {
            format!("{}/{completions} completed", counts.completed_tasks)
        }
        ServiceMode::GlobalJob => format!(
            "{}/{} completed",
            counts.completed_tasks,
            counts.desired_tasks + counts.completed_tasks
        ),
        _ => format!("{}/{}", counts.running_tasks, counts.desired_tasks),
    }
}

/// The ports as the engine published them, with those that it chose itself.
fn ports(service: &ServiceObserved) -> Vec<String> {
    let Some(Value::Array(ports)) = service.spec.pointer("/EndpointSpec/Ports") else {
        return Vec::new();
    };
    ports
        .iter()
        .map(|port| {
            let number = |key: &str| port.get(key).and_then(Value::as_u64).unwrap_or_default();
            let text = |key: &str| port.get(key).and_then(Value::as_str);
            let host = if text("PublishMode") == Some("host") {
                " on its node"
            } else {
                ""
            };
            let protocol = text("Protocol").unwrap_or("tcp");
            match number("PublishedPort") {
                0 => format!("{}/{protocol}{host}", number("TargetPort")),
                published => format!("{published}->{}/{protocol}{host}", number("TargetPort")),
            }
        })
        .collect()
}

/// The tasks of `stack` by service, replica and age: those that run or may yet, with `all` the
/// earlier ones that the swarm remembers too.
///
/// # Errors
/// [`DeployError::Engine`].
pub async fn tasks(
    engine: &Engine,
    stack: &str,
    all: bool,
    deadline: Deadline,
) -> Result<Vec<TaskStanding>, DeployError> {
    let services = of_stack(engine, stack, deadline).await?;
    let (found, nodes) = tokio::try_join!(
        engine.labelled_tasks(STACK_LABEL, stack, deadline),
        engine.nodes(deadline)
    )
    .map_err(asking(format!("stack {stack} cannot be looked at")))?;
    let of = |task: &Task| services.iter().find(|one| one.id == task.service_id);
    let replica = |task: &Task| match of(task) {
        Some(service) => task.replica(service.mode()),
        None => task.slot,
    };
    // The newest of a replica, or of a node: what became of it says how the replica stands.
    let is_last = |service: &ServiceObserved, task: &Task| {
        let seat = Seat::of(service.mode(), task);
        let mut others = found.iter().filter(|other| {
            other.service_id == service.id && Seat::of(service.mode(), other) == seat
        });
        !others.any(|other| other.created_at > task.created_at)
    };
    let mut shown: Vec<(String, &Task)> = found
        .iter()
        .filter(|task| {
            // One that is being stopped runs yet, also of a service that was removed.
            all || !task.state.is_terminal()
                || of(task).is_some_and(|service| is_last(service, task))
        })
        .map(|task| {
            (
                of(task).map_or("(removed)", |one| one.name()).to_owned(),
                task,
            )
        })
        .collect();
    shown.sort_by(|(a, left), (b, right)| {
        (a, replica(left), &left.node_id, right.created_at).cmp(&(
            b,
            replica(right),
            &right.node_id,
            left.created_at,
        ))
    });
    Ok(shown
        .into_iter()
        .map(|(service, task)| TaskStanding {
            id: task.id.clone(),
            name: task_name(&service, replica(task), task, &nodes),
            service,
            image: task.image.clone(),
            node: node_name(task, &nodes).to_owned(),
            desired: task.desired.to_string(),
            state: task.state.to_string(),
            since: task.changed_at,
            error: task.error.clone(),
            exit_code: task.exit_code,
        })
        .collect())
}

/// What the tasks of the services of `stack` wrote, in the order of its times; of those of `only`
/// (names or keys) when there are any. Which of their containers have a terminal is looked up.
///
/// # Errors
/// [`DeployError::Engine`], [`DeployError::Unknown`].
pub async fn logs(
    engine: &Engine,
    stack: &str,
    only: &[String],
    options: LogOptions,
    deadline: Deadline,
) -> Result<Vec<StackLine>, DeployError> {
    let mut lines = Vec::new();
    for service in written_by(engine, stack, only, deadline).await? {
        let found = engine
            .logs(
                LogSource::Service(&service.id),
                options.with_tty(has_terminal(&service.spec)),
                deadline,
            )
            .await
            .map_err(no_logs(service.name()))?;
        let mut writers = Writers::of(service);
        for line in found {
            lines.push(writers.told(engine, line).await);
        }
    }
    lines.sort_by(|a, b| a.line.time.cmp(&b.line.time));
    Ok(lines)
}

/// As [`logs`], then what the tasks write from now on, those that the services get later too; a
/// service that the stack gets later is not among them. Lines of different tasks come as the
/// engine sends them. `deadline`: until the engine begins to answer. The stream ends when the
/// services are gone, and with an error when the connection breaks.
///
/// # Errors
/// [`DeployError::Engine`], [`DeployError::Unknown`].
pub async fn follow_logs(
    engine: &Engine,
    stack: &str,
    only: &[String],
    options: LogOptions,
    deadline: Deadline,
) -> Result<impl Stream<Item = Result<StackLine, DeployError>> + Unpin, DeployError> {
    let mut followed = Vec::new();
    for service in written_by(engine, stack, only, deadline).await? {
        let lines = engine
            .follow_logs(
                LogSource::Service(&service.id),
                options.with_tty(has_terminal(&service.spec)),
                deadline,
            )
            .await
            .map_err(no_logs(service.name()))?;
        let state = (lines, Writers::of(service));
        let lines = stream::try_unfold(state, async |(mut lines, mut writers)| {
            match lines.next().await {
                Ok(Some(line)) => {
                    let line = writers.told(engine, line).await;
                    Ok(Some((line, (lines, writers))))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(no_logs(writers.service.name())(error)),
            }
        });
        followed.push(Box::pin(lines));
    }
    Ok(stream::select_all(followed))
}

/// Who writes the lines of a service: the names of its tasks and their nodes, looked up when a line
/// of another task comes.
struct Writers {
    service: ServiceObserved,
    names: BTreeMap<String, (String, String)>,
}

impl Writers {
    fn of(service: ServiceObserved) -> Self {
        Self {
            service,
            names: BTreeMap::new(),
        }
    }

    async fn told(&mut self, engine: &Engine, line: LogLine) -> StackLine {
        if !line.task.is_empty() && !self.names.contains_key(&line.task) && self.look(engine).await
        {
            // One that the swarm has forgotten is not asked for again.
            self.names.entry(line.task.clone()).or_default();
        }
        let (name, hostname) = self.names.get(&line.task).cloned().unwrap_or_default();
        StackLine {
            service: self.service.name().to_owned(),
            name,
            hostname,
            line,
        }
    }

    /// Says whether there was an answer. Names are ornament: a line is told without them where they
    /// cannot be had.
    async fn look(&mut self, engine: &Engine) -> bool {
        let (service, deadline) = (&self.service, Deadline::after(NAMES));
        let found = tokio::try_join!(engine.tasks(&service.id, deadline), engine.nodes(deadline));
        let Ok((tasks, nodes)) = found else {
            return false;
        };
        for task in tasks {
            let replica = task.replica(service.mode());
            let name = task_name(service.name(), replica, &task, &nodes);
            let node = node_name(&task, &nodes).to_owned();
            self.names.insert(task.id, (name, node));
        }
        true
    }
}

fn no_logs(service: &str) -> impl FnOnce(EngineError) -> DeployError {
    asking(format!("the logs of {service} cannot be had"))
}

/// The services of `stack` that are chosen.
async fn written_by(
    engine: &Engine,
    stack: &str,
    only: &[String],
    deadline: Deadline,
) -> Result<Vec<ServiceObserved>, DeployError> {
    let mut found = of_stack(engine, stack, deadline).await?;
    check_chosen(&found, stack, only)?;
    found.retain(|service| chosen(service.name(), stack, only));
    Ok(found)
}

/// That there are services, and each that is chosen by name or key.
pub(super) fn check_chosen(
    found: &[ServiceObserved],
    stack: &str,
    only: &[String],
) -> Result<(), DeployError> {
    let one_of = |one: &String| {
        let one = std::slice::from_ref(one);
        found.iter().any(|found| chosen(found.name(), stack, one))
    };
    let lost = only.iter().find(|one| !one_of(one));
    if found.is_empty() || lost.is_some() {
        return Err(DeployError::Unknown {
            stack: stack.to_owned(),
            service: lost.filter(|_| !found.is_empty()).cloned(),
            known: found.iter().map(|found| found.name().to_owned()).collect(),
        });
    }
    Ok(())
}

/// Whether the service called `name` is among those chosen by name or key; all are when none is.
pub(super) fn chosen(name: &str, stack: &str, only: &[String]) -> bool {
    let key = name
        .strip_prefix(stack)
        .and_then(|rest| rest.strip_prefix('_'));
    only.is_empty()
        || only
            .iter()
            .any(|one| one == name || Some(one.as_str()) == key)
}
