//! Which calls there are: path, verb, privileges, parameters, and whether the inner daemon runs it.

use super::agent_calls::MAXIMUM_READ;
use super::schema::{INTEGER, Kind, NATURAL, Parameters, Property, TEXT, optional, required};

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Version,
    Nodes,
    Resources,
    Status,
    Config,
    Start,
    Stop,
    Shutdown,
    Reboot,
    TaskStatus,
    TaskLog,
    AgentIndex,
    /// A command without parameters, by its name in the API.
    Agent(&'static str),
    /// The old call that names the command in a parameter.
    AgentByName,
    Exec,
    ExecStatus,
    FileRead,
    FileWrite,
    SetUserPassword,
}

/// One method of the API.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) method: &'static str,
    template: &'static str,
    /// Run by the inner daemon, behind a second hop.
    pub(super) protected: bool,
    /// Any of these on the VM; empty means every user.
    pub(super) privileges: &'static [&'static str],
    pub(super) properties: Vec<Property>,
    pub(super) operation: Operation,
}

const AUDIT: &[&str] = &["VM.Audit"];
const POWER: &[&str] = &["VM.PowerMgmt"];
const UNRESTRICTED: &[&str] = &["VM.GuestAgent.Unrestricted"];
const AGENT_AUDIT: &[&str] = &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"];
const AGENT_POWER: &[&str] = &["VM.PowerMgmt", "VM.GuestAgent.Unrestricted"];
const AGENT_FILE_SYSTEM: &[&str] = &["VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted"];
const AGENT_FREEZE_STATUS: &[&str] = &[
    "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.Unrestricted",
];
const AGENT_READ: &[&str] = &["VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted"];
const AGENT_WRITE: &[&str] = &["VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted"];

/// Agent commands without parameters: name, verb, privileges.
const SIMPLE: [(&str, &str, &[&str]); 20] = [
    ("fsfreeze-freeze", "POST", AGENT_FILE_SYSTEM),
    ("fsfreeze-status", "POST", AGENT_FREEZE_STATUS),
    ("fsfreeze-thaw", "POST", AGENT_FILE_SYSTEM),
    ("fstrim", "POST", AGENT_FILE_SYSTEM),
    ("get-fsinfo", "GET", AGENT_AUDIT),
    ("get-host-name", "GET", AGENT_AUDIT),
    ("get-memory-block-info", "GET", AGENT_AUDIT),
    ("get-memory-blocks", "GET", AGENT_AUDIT),
    ("get-osinfo", "GET", AGENT_AUDIT),
    ("get-time", "GET", AGENT_AUDIT),
    ("get-timezone", "GET", AGENT_AUDIT),
    ("get-users", "GET", AGENT_AUDIT),
    ("get-vcpus", "GET", AGENT_AUDIT),
    ("info", "GET", AGENT_AUDIT),
    ("network-get-interfaces", "GET", AGENT_AUDIT),
    ("ping", "POST", AGENT_AUDIT),
    ("shutdown", "POST", AGENT_POWER),
    ("suspend-disk", "POST", AGENT_POWER),
    ("suspend-hybrid", "POST", AGENT_POWER),
    ("suspend-ram", "POST", AGENT_POWER),
];

/// The names of [`SIMPLE`], which the old call takes.
const SIMPLE_NAMES: [&str; SIMPLE.len()] = {
    let mut names = [""; SIMPLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = SIMPLE[index].0;
        index += 1;
    }
    names
};

/// Commands with parameters, for the index.
const WITH_PARAMETERS: [&str; 5] = [
    "exec",
    "exec-status",
    "file-read",
    "file-write",
    "set-user-password",
];

/// Every agent command by name, sorted.
pub(super) fn agent_commands() -> Vec<&'static str> {
    let mut names: Vec<_> = SIMPLE_NAMES.into_iter().chain(WITH_PARAMETERS).collect();
    names.sort_unstable();
    names
}

/// The command of [`Operation::AgentByName`].
pub(super) fn simple_command(name: &str) -> Option<&'static str> {
    SIMPLE_NAMES.into_iter().find(|known| *known == name)
}

/// All methods. `file_read_options` adds those of qemu-server 9.1.5.
pub(super) fn routes(file_read_options: bool) -> Vec<Route> {
    let node = [required("node", TEXT)];
    let guest = [
        required("node", TEXT),
        required(
            "vmid",
            Kind::Integer {
                minimum: 100,
                maximum: 999_999_999,
            },
        ),
    ];
    let with = |base: &[Property], more: &[Property]| [base, more].concat();
    let task = with(&node, &[required("upid", TEXT)]);
    let timeout = optional("timeout", NATURAL);
    let mut routes = vec![
        outer("GET", "/version", &[], vec![], Operation::Version),
        outer("GET", "/nodes", &[], vec![], Operation::Nodes),
        outer(
            "GET",
            "/cluster/resources",
            &[],
            vec![optional(
                "type",
                Kind::Choice(&["vm", "storage", "node", "sdn", "network"]),
            )],
            Operation::Resources,
        ),
        outer(
            "GET",
            "/nodes/{node}/qemu/{vmid}/config",
            AUDIT,
            with(
                &guest,
                &[
                    optional("current", Kind::Boolean),
                    optional("snapshot", TEXT),
                ],
            ),
            Operation::Config,
        ),
        inner(
            "GET",
            "/nodes/{node}/qemu/{vmid}/status/current",
            AUDIT,
            guest.to_vec(),
            Operation::Status,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/status/start",
            POWER,
            with(&guest, &[timeout, optional("skiplock", Kind::Boolean)]),
            Operation::Start,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/status/stop",
            POWER,
            with(
                &guest,
                &[
                    timeout,
                    optional("skiplock", Kind::Boolean),
                    optional("keepActive", Kind::Boolean),
                    optional("overrule-shutdown", Kind::Boolean),
                ],
            ),
            Operation::Stop,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/status/shutdown",
            POWER,
            with(
                &guest,
                &[
                    timeout,
                    optional("forceStop", Kind::Boolean),
                    optional("skiplock", Kind::Boolean),
                    optional("keepActive", Kind::Boolean),
                ],
            ),
            Operation::Shutdown,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/status/reboot",
            POWER,
            with(&guest, &[timeout]),
            Operation::Reboot,
        ),
        inner(
            "GET",
            "/nodes/{node}/tasks/{upid}/status",
            &[],
            task.clone(),
            Operation::TaskStatus,
        ),
        inner(
            "GET",
            "/nodes/{node}/tasks/{upid}/log",
            &[],
            with(
                &task,
                &[optional("start", NATURAL), optional("limit", NATURAL)],
            ),
            Operation::TaskLog,
        ),
        outer(
            "GET",
            "/nodes/{node}/qemu/{vmid}/agent",
            &[],
            guest.to_vec(),
            Operation::AgentIndex,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/agent",
            UNRESTRICTED,
            with(&guest, &[required("command", Kind::Choice(&SIMPLE_NAMES))]),
            Operation::AgentByName,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/agent/exec",
            UNRESTRICTED,
            with(
                &guest,
                &[
                    required("command", Kind::TextArray),
                    optional(
                        "input-data",
                        Kind::Text {
                            minimum: 0,
                            maximum: 64 * 1024,
                        },
                    ),
                ],
            ),
            Operation::Exec,
        ),
        inner(
            "GET",
            "/nodes/{node}/qemu/{vmid}/agent/exec-status",
            UNRESTRICTED,
            with(&guest, &[required("pid", INTEGER)]),
            Operation::ExecStatus,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/agent/file-write",
            AGENT_WRITE,
            with(
                &guest,
                &[
                    required("file", TEXT),
                    required(
                        "content",
                        Kind::Text {
                            minimum: 0,
                            maximum: 60 * 1024,
                        },
                    ),
                    optional("encode", Kind::Boolean),
                ],
            ),
            Operation::FileWrite,
        ),
        inner(
            "POST",
            "/nodes/{node}/qemu/{vmid}/agent/set-user-password",
            UNRESTRICTED,
            with(
                &guest,
                &[
                    required("username", TEXT),
                    required(
                        "password",
                        Kind::Text {
                            minimum: 5,
                            maximum: 1024,
                        },
                    ),
                    optional("crypted", Kind::Boolean),
                ],
            ),
            Operation::SetUserPassword,
        ),
    ];
    let mut read = with(&guest, &[required("file", TEXT)]);
    if file_read_options {
        read.extend([
            optional(
                "count",
                Kind::Integer {
                    minimum: 1,
                    maximum: MAXIMUM_READ,
                },
            ),
            optional("offset", NATURAL),
            optional("decode", Kind::Boolean),
        ]);
    }
    let template = "/nodes/{node}/qemu/{vmid}/agent/file-read";
    routes.push(inner(
        "GET",
        template,
        AGENT_READ,
        read,
        Operation::FileRead,
    ));
    for (name, method, privileges) in SIMPLE {
        routes.push(Route {
            template: "/nodes/{node}/qemu/{vmid}/agent/{}",
            ..inner(
                method,
                "",
                privileges,
                guest.to_vec(),
                Operation::Agent(name),
            )
        });
    }
    routes
}

fn outer(
    method: &'static str,
    template: &'static str,
    privileges: &'static [&'static str],
    properties: Vec<Property>,
    operation: Operation,
) -> Route {
    Route {
        method,
        template,
        protected: false,
        privileges,
        properties,
        operation,
    }
}

fn inner(
    method: &'static str,
    template: &'static str,
    privileges: &'static [&'static str],
    properties: Vec<Property>,
    operation: Operation,
) -> Route {
    Route {
        protected: true,
        ..outer(method, template, privileges, properties, operation)
    }
}

impl Route {
    /// The values of the template's names when `path` fits it.
    fn matches(&self, path: &str) -> Option<Parameters> {
        let mut values = Parameters::new();
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        for wanted in self.template.split('/').filter(|part| !part.is_empty()) {
            let part = parts.next()?;
            let name = wanted
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            match (name, self.operation) {
                (Some(""), Operation::Agent(command)) if part == command => {}
                (Some(""), _) => return None,
                (Some(name), _) => {
                    values.insert(name.to_owned(), part.into());
                }
                (None, _) if wanted == part => {}
                (None, _) => return None,
            }
        }
        parts.next().is_none().then_some(values)
    }
}

/// The route for a path below `/api2/json`, with the values in the path.
pub(super) fn find<'a>(
    routes: &'a [Route],
    method: &str,
    path: &str,
) -> Option<(&'a Route, Parameters)> {
    routes
        .iter()
        .filter(|route| route.method == method)
        .find_map(|route| route.matches(path).map(|values| (route, values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_operation() {
        let routes = routes(true);
        let found = |method, path| find(&routes, method, path).map(|(route, _)| route.operation);
        let agent = "/nodes/pve1/qemu/100/agent";
        let (ping, exec) = (format!("{agent}/ping"), format!("{agent}/exec"));
        assert_eq!(found("POST", &ping), Some(Operation::Agent("ping")));
        assert_eq!(found("GET", &ping), None);
        assert_eq!(found("POST", &exec), Some(Operation::Exec));
        assert_eq!(found("GET", agent), Some(Operation::AgentIndex));
        assert_eq!(found("GET", "/nosuch"), None);
        let (_, values) =
            find(&routes, "GET", "//nodes/pve1/tasks/UPID:pve1:x:/status").expect("it");
        assert_eq!(values["upid"], "UPID:pve1:x:");
        assert_eq!(agent_commands().len(), 25);
    }
}
