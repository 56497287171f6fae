//! The state behind the server, and the execution of calls on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access::Token;
use super::agent_calls::{AgentCall, Limits};
use super::answer::{ApiError, Outcome};
use super::faults::{Fault, Faults};
use super::guests::{Guest, Power};
use super::record::RequestLog;
use super::routes::{Operation, Route, agent_commands, simple_command};
use super::schema::{Parameters, boolean, integer, text, verify};
use super::tasks::Tasks;

/// Everything that connections share.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) version: String,
    pub(super) fingerprint: String,
    pub(super) guests: BTreeMap<u32, Guest>,
    /// The workers of each node's inner daemon.
    pub(super) nodes: BTreeMap<String, Semaphore>,
    pub(super) tokens: Vec<Token>,
    pub(super) tasks: Tasks,
    pub(super) log: RequestLog,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    pub(super) routes: Vec<Route>,
    pub(super) unauthorized_delay: Duration,
    pub(super) proxy_timeout: Duration,
    pub(super) crash_delay: Duration,
    pub(super) idle: Duration,
}

/// One call, routed and permitted.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) path: String,
    pub(super) parameters: Parameters,
    pub(super) token: Token,
    pub(super) faults: Vec<Fault>,
}

impl Cluster {
    /// What the outer hop checks of a routed call, protected or not: values that contradict the
    /// path, privileges, the node.
    pub(super) fn admit(
        &self,
        route: &Route,
        mut in_path: Parameters,
        given: Parameters,
        token: &Token,
    ) -> Result<Parameters, ApiError> {
        for (name, value) in given {
            if in_path.get(&name).is_some_and(|fixed| *fixed != value) {
                return Err(ApiError::parameter(
                    &name,
                    "duplicate parameter (already defined in URI) with conflicting values!",
                ));
            }
            in_path.insert(name, value);
        }
        if !route.privileges.is_empty() {
            let path = format!("/vms/{}", text(&in_path, "vmid").unwrap_or_default());
            if !route
                .privileges
                .iter()
                .any(|privilege| token.privileges.allow(&path, privilege))
            {
                let what = format!("{path}, {}", route.privileges.join("|"));
                return Err(ApiError::permission(&what));
            }
        }
        if let Some(node) = text(&in_path, "node")
            && !self.nodes.contains_key(&node)
        {
            return Err(ApiError::died(format!(
                "hostname lookup '{node}' failed - failed to get address info for: {node}: Name \
                 or service not known"
            )));
        }
        Ok(in_path)
    }

    /// Verifies the parameters and does it.
    pub(super) async fn execute(
        self: Arc<Self>,
        mut call: Call,
        route: &Route,
    ) -> Result<Outcome, ApiError> {
        verify(&mut call.parameters, &route.properties)?;
        if let Some(delay) = call.faults.iter().find_map(|fault| match fault {
            Fault::Delay(delay) => Some(*delay),
            _ => None,
        }) {
            tokio::time::sleep(delay).await;
        }
        match call.operation {
            Operation::Version => Ok(self.version().into()),
            Operation::Nodes => Ok(self.node_list(&call.token).into()),
            Operation::Resources => self.resources(&call).await,
            Operation::Config => Ok(self.guest(&call)?.config().into()),
            Operation::Status => {
                let off = call.faults.contains(&Fault::VmOff);
                Ok(self.guest(&call)?.status(off).await.into())
            }
            Operation::Start => self.power(&call, Power::Start).await,
            Operation::Stop => self.power(&call, Power::Stop).await,
            Operation::Shutdown => {
                let force = boolean(&call.parameters, "forceStop").unwrap_or(false);
                let limit = time_limit(&call.parameters);
                self.power(&call, Power::Shutdown { limit, force }).await
            }
            Operation::Reboot => {
                let limit = time_limit(&call.parameters);
                self.power(&call, Power::Reboot { limit }).await
            }
            Operation::TaskStatus => Ok(self.task(&call)?.status().into()),
            Operation::TaskLog => {
                let number = |name| {
                    integer(&call.parameters, name).and_then(|value| usize::try_from(value).ok())
                };
                let limit = number("limit").unwrap_or(50);
                Ok(self.task(&call)?.log(number("start").unwrap_or(0), limit))
            }
            Operation::AgentIndex => {
                let names = agent_commands()
                    .into_iter()
                    .map(|name| json!({"name": name}));
                Ok(Value::Array(names.collect()).into())
            }
            _ => self.agent(&call).await.map(Outcome::from),
        }
    }

    fn version(&self) -> Value {
        let release: Vec<&str> = self.version.split('.').take(2).collect();
        let release = release.join(".");
        json!({"version": self.version, "release": release, "repoid": "5b2a1f0c9d8e7f60"})
    }

    fn node_list(&self, token: &Token) -> Value {
        self.nodes
            .keys()
            .map(|node| {
                let mut entry = json!({
                    "id": format!("node/{node}"), "node": node, "type": "node",
                    "status": "online", "level": "", "ssl_fingerprint": self.fingerprint,
                });
                if token
                    .privileges
                    .allow(&format!("/nodes/{node}"), "Sys.Audit")
                {
                    entry["maxcpu"] = json!(8);
                    entry["cpu"] = json!(0);
                    entry["maxmem"] = json!(34_359_738_368_u64);
                }
                entry
            })
            .collect()
    }

    /// Filtered by what the token may see, without a word.
    async fn resources(&self, call: &Call) -> Result<Outcome, ApiError> {
        let wanted = text(&call.parameters, "type");
        let mut rows = Vec::new();
        if wanted.as_deref().is_none_or(|kind| kind == "vm") {
            for (vmid, guest) in &self.guests {
                if call
                    .token
                    .privileges
                    .allow(&format!("/vms/{vmid}"), "VM.Audit")
                {
                    rows.push(guest.resource().await);
                }
            }
        }
        if wanted.as_deref().is_none_or(|kind| kind == "node")
            && let Value::Array(nodes) = self.node_list(&call.token)
        {
            rows.extend(nodes);
        }
        Ok(Value::Array(rows).into())
    }

    /// `PVE::QemuConfig->load_config`: the guest, when it is on that node.
    fn guest(&self, call: &Call) -> Result<&Guest, ApiError> {
        let node = text(&call.parameters, "node").unwrap_or_default();
        let vmid = integer(&call.parameters, "vmid").unwrap_or_default();
        u32::try_from(vmid)
            .ok()
            .and_then(|vmid| self.guests.get(&vmid))
            .filter(|guest| guest.vm.node == node)
            .ok_or_else(|| {
                let file = format!("nodes/{node}/qemu-server/{vmid}.conf");
                ApiError::died(format!("Configuration file '{file}' does not exist"))
            })
    }

    /// A task the caller may see.
    fn task(&self, call: &Call) -> Result<Arc<super::tasks::Task>, ApiError> {
        let node = text(&call.parameters, "node").unwrap_or_default();
        let upid = text(&call.parameters, "upid").unwrap_or_default();
        let task = self.tasks.find(&node, &upid)?;
        let path = format!("/nodes/{node}");
        if task.owner != call.token.id && !call.token.privileges.allow(&path, "Sys.Audit") {
            return Err(ApiError::permission(&format!("{path}, Sys.Audit")));
        }
        Ok(task)
    }

    async fn power(self: &Arc<Self>, call: &Call, power: Power) -> Result<Outcome, ApiError> {
        for name in ["skiplock", "keepActive"] {
            if boolean(&call.parameters, name) == Some(true) {
                return Err(ApiError::parameter(name, "Only root may use this option."));
            }
        }
        // The start method is alone in not loading the configuration before it forks.
        let guest = self.guest(call)?;
        guest
            .check_power(power, call.faults.contains(&Fault::VmOff))
            .await?;
        let (node, vmid) = (&guest.vm.node, guest.vm.vmid);
        let task = self
            .tasks
            .start(node, power.task_type(), vmid, &call.token.id);
        let upid = task.to_string();
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(guest) = cluster.guests.get(&vmid) {
                task.finish(guest.work(power, &task, cluster.limits.ping).await);
            }
        });
        Ok(json!(upid).into())
    }

    async fn agent(&self, call: &Call) -> Result<Value, ApiError> {
        let agent = AgentCall {
            guest: self.guest(call)?,
            limits: self.limits,
            faults: &self.faults,
            path: &call.path,
            agent_off: call.faults.contains(&Fault::AgentOff),
            vm_off: call.faults.contains(&Fault::VmOff),
        };
        match call.operation {
            Operation::Agent(command) => agent.simple(command).await,
            Operation::AgentByName => {
                let name = text(&call.parameters, "command").unwrap_or_default();
                agent
                    .simple(simple_command(&name).unwrap_or_default())
                    .await
            }
            Operation::ExecStatus => agent.exec_status(&call.parameters).await,
            Operation::FileRead => agent.file_read(&call.parameters).await,
            Operation::FileWrite => agent.file_write(&call.parameters).await,
            Operation::SetUserPassword => agent.set_user_password(&call.parameters).await,
            _ => agent.exec(&call.parameters).await,
        }
    }
}

fn time_limit(parameters: &Parameters) -> Option<Duration> {
    integer(parameters, "timeout")
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
}
