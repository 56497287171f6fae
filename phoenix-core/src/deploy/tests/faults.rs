//! Whole deployments, rollbacks and removals against a scripted swarm that loses requests and
//! answers, whose leader changes, and that others write to.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::*;
use crate::docker::Engine;
use crate::docker::testing::{Reply, Scripted, Seen, ok, refused};
use crate::ground::{Deadline, FingerprintKey, causes};
use crate::stack::{ComposeFile, LoadOptions, STACK_LABEL};

const NO_LEADER: &str = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online.";
const TAKEN: &str = "rpc error: code = AlreadyExists desc = it already exists";

/// What becomes of one write.
#[derive(Clone, Copy)]
struct Fault {
    what: &'static str,
    /// Whether it is carried out all the same.
    runs: bool,
    reply: fn() -> Reply,
    /// How many writes in a row end so.
    times: usize,
}

/// The ways in which a write can go wrong that a deployment survives.
const FAULTS: [Fault; 9] = {
    const fn fault(what: &'static str, runs: bool, reply: fn() -> Reply) -> Fault {
        Fault {
            what,
            runs,
            reply,
            times: 1,
        }
    }
    const CLOSING: fn() -> Reply = || {
        refused(
            503,
            "rpc error: code = Unavailable desc = transport is closing",
        )
    };
    const LOST: fn() -> Reply = || {
        refused(
            500,
            "raft: failed to process the request: node lost leader status",
        )
    };
    [
        fault("broken before", false, || Reply::Nothing),
        fault("broken after", true, || Reply::Nothing),
        Fault {
            what: "broken before, twice",
            runs: false,
            reply: || Reply::Nothing,
            times: 2,
        },
        fault("no leader", false, || refused(500, NO_LEADER)),
        fault("leader lost before", false, LOST),
        fault("leader lost after", true, LOST),
        fault("closing before", false, CLOSING),
        // A manager that passes a write on sends it again by itself: the second one is refused.
        fault("closing after", true, CLOSING),
        fault("sent twice by a manager", true, || refused(409, TAKEN)),
    ]
};

/// Something of the swarm: a network, secret, config or service.
#[derive(Clone)]
struct Thing {
    /// `networks`, `secrets`, `configs`, `services`.
    path: &'static str,
    id: String,
    version: u64,
    body: Value,
}

impl Thing {
    fn name(&self) -> &str {
        self.body["Name"].as_str().unwrap()
    }

    fn json(&self) -> Value {
        match self.path {
            "networks" => json!({
                "Name": self.name(), "Id": self.id, "Scope": "swarm", "Driver": "overlay",
                "Labels": self.body["Labels"],
            }),
            path => {
                let mut spec = self.body.clone();
                if path == "secrets" {
                    spec.as_object_mut().unwrap().remove("Data");
                }
                json!({"ID": self.id, "Version": {"Index": self.version}, "Spec": spec})
            }
        }
    }
}

/// A manager whose swarm forgets nothing.
#[derive(Default)]
struct Swarm {
    things: Mutex<Vec<Thing>>,
    /// The write that goes wrong, and how.
    fault: Option<(usize, Fault)>,
    writes: AtomicUsize,
    /// Whether the first request for anything finds no leader.
    electing: bool,
}

const PATHS: [&str; 4] = ["networks", "secrets", "configs", "services"];

impl Swarm {
    fn with(things: Vec<Thing>) -> Self {
        Self {
            things: Mutex::new(things),
            ..Self::default()
        }
    }

    fn served(self) -> (Arc<Self>, Scripted, Engine) {
        let swarm = Arc::new(self);
        let served = Arc::clone(&swarm);
        let (server, engine) = Scripted::unix(move |seen| served.answer(seen));
        (swarm, server, engine)
    }

    fn answer(&self, seen: &Seen) -> Reply {
        if seen.method == "GET" {
            if self.electing && seen.nth == 0 {
                return refused(500, NO_LEADER);
            }
            return self.read(seen);
        }
        let nth = self.writes.fetch_add(1, Ordering::SeqCst);
        let fault = self
            .fault
            .filter(|(first, fault)| (*first..first + fault.times).contains(&nth));
        match fault {
            Some((_, fault)) => {
                if fault.runs {
                    self.write(seen);
                }
                (fault.reply)()
            }
            None => self.write(seen),
        }
    }

    fn read(&self, seen: &Seen) -> Reply {
        let things = self.things.lock().unwrap();
        let path: Vec<&str> = seen.path[1..].split('/').collect();
        let of = |path: &str| -> Vec<Thing> {
            let of_them = |one: &&Thing| one.path == path;
            things.iter().filter(of_them).cloned().collect()
        };
        match path.as_slice() {
            ["nodes"] => ok(&json!([{
                "ID": "n1", "Version": {"Index": 1},
                "Spec": {"Role": "manager", "Availability": "active"},
                "Description": {"Hostname": "m1", "Engine": {"EngineVersion": "26.1.5"}},
                "Status": {"State": "ready", "Addr": "10.0.0.1"},
            }])),
            ["tasks"] => {
                let task = |service: Thing| {
                    json!({
                        "ID": format!("t-{}", service.id), "ServiceID": service.id, "Slot": 1,
                        "NodeID": "n1", "DesiredState": "running", "Status": {"State": "running"},
                    })
                };
                ok(&of("services").into_iter().map(task).collect())
            }
            [path] => {
                let labelled = seen
                    .query("filters")
                    .is_some_and(|one| one.contains(STACK_LABEL));
                let wanted =
                    |thing: &&Thing| !labelled || thing.body["Labels"][STACK_LABEL] == "st";
                ok(&of(path)
                    .iter()
                    .filter(wanted)
                    .map(|one| one.json())
                    .collect())
            }
            ["services", name] => {
                match of("services")
                    .into_iter()
                    .find(|one| one.name() == *name || one.id == *name)
                {
                    Some(found) => ok(&found.json()),
                    None => refused(404, "service not found"),
                }
            }
            _ => refused(404, "not found"),
        }
    }

    fn write(&self, seen: &Seen) -> Reply {
        let mut things = self.things.lock().unwrap();
        let path: Vec<&str> = seen.path[1..].split('/').collect();
        match path.as_slice() {
            [path, "create"] => {
                let path = PATHS.iter().find(|one| *one == path).unwrap();
                let body = seen.json();
                if things
                    .iter()
                    .any(|one| one.path == *path && one.name() == body["Name"])
                {
                    // A network's name is found taken when it is stored.
                    return match *path {
                        "networks" => refused(500, "name conflicts with an existing object"),
                        _ => refused(409, TAKEN),
                    };
                }
                let id = format!("{path}-{}", things.len());
                things.push(Thing {
                    path,
                    id: id.clone(),
                    version: 5,
                    body,
                });
                let key = if *path == "networks" { "Id" } else { "ID" };
                ok(&json!({ key: id }))
            }
            [_, id, "update"] => {
                let Some(thing) = things.iter_mut().find(|one| one.id == *id) else {
                    return refused(404, "not found");
                };
                if seen.query("version") != Some(&thing.version.to_string()) {
                    return refused(500, "update out of sequence");
                }
                thing.version += 10;
                let data = thing.body["Data"].clone();
                thing.body = seen.json();
                if !data.is_null() {
                    if thing.body["Data"] != data {
                        return refused(400, "only updates to Labels are allowed");
                    }
                    thing.body["Data"] = data;
                }
                ok(&json!({}))
            }
            _ => refused(404, "not found"),
        }
    }

    /// Kind, name and how often it was written of everything.
    fn left(&self) -> Vec<String> {
        let things = self.things.lock().unwrap();
        let mut left: Vec<String> = things
            .iter()
            .map(|one| format!("{} {} {}", one.path, one.name(), one.version))
            .collect();
        left.sort();
        left
    }
}

const WHOLE: &str = "
services:
  web: { image: nginx:1, secrets: [key], configs: [app], deploy: { update_config: { monitor: 1ms } } }
  db: { image: nginx:1, deploy: { update_config: { monitor: 1ms } } }
secrets: { key: { file: key.txt } }
configs: { app: { file: app.conf } }
";

/// The stack, all of which a swarm has once after a deployment.
struct Stack {
    folder: tempfile::TempDir,
}

impl Stack {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key.txt"), "hunter2").unwrap();
        std::fs::write(folder.path().join("app.conf"), "a=1").unwrap();
        Self { folder }
    }

    fn file(&self, text: &str) -> ComposeFile {
        let path: PathBuf = self.folder.path().join("st.yml");
        ComposeFile::parse(&path, text, "st", &LoadOptions::default()).unwrap()
    }

    async fn deploy(
        &self,
        engine: &Engine,
        options: DeployOptions,
    ) -> Result<Deployed, DeployError> {
        let file = self.file(WHOLE);
        let deadline = Deadline::after(Duration::from_secs(30));
        Deployment::new(engine, &file, options)
            .apply(deadline, &mut |_| ())
            .await
    }
}

fn options() -> DeployOptions {
    DeployOptions {
        key: FingerprintKey::from_bytes(vec![7; 32]),
        resolve: ResolveImages::Never,
        ..DeployOptions::default()
    }
}

const ALL: [&str; 5] = [
    "configs st_app 5",
    "networks st_default 5",
    "secrets st_key 5",
    "services st_db 5",
    "services st_web 5",
];

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_goes_wrong_everything_is_made_once() {
    let stack = Stack::new();
    let runs = FAULTS
        .iter()
        .flat_map(|fault| (0..ALL.len()).map(move |nth| (nth, *fault)));
    let failed: Vec<String> = join_all(runs.map(async |(nth, fault)| {
        let swarm = Swarm {
            fault: Some((nth, fault)),
            ..Swarm::default()
        };
        let (swarm, _server, engine) = swarm.served();
        let done = stack.deploy(&engine, options()).await;
        let what = format!("write {nth}, {}", fault.what);
        match done {
            Err(error) => Some(format!("{what}: {}", causes(&error))),
            Ok(done) if !done.is_success() => Some(format!("{what}: {:?}", done.outcomes)),
            Ok(_) if swarm.left() != ALL => Some(format!("{what}: {:?}", swarm.left())),
            Ok(_) => None,
        }
    }))
    .await
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(failed, Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_looked_for_with_time_of_its_own() {
    let stack = Stack::new();
    let silence = |runs| Fault {
        what: "silence",
        runs,
        reply: || Reply::Silence,
        times: 1,
    };
    let runs = [true, false]
        .into_iter()
        .flat_map(|runs| (0..ALL.len()).map(move |nth| (nth, runs)));
    join_all(runs.map(async |(nth, runs)| {
        let swarm = Swarm {
            fault: Some((nth, silence(runs))),
            ..Swarm::default()
        };
        let (swarm, _server, engine) = swarm.served();
        let options = DeployOptions {
            request: Duration::from_secs(2),
            ..options()
        };
        let done = stack.deploy(&engine, options).await.unwrap();
        assert!(done.is_success(), "write {nth}: {:?}", done.outcomes);
        assert_eq!(swarm.left(), ALL, "write {nth}");
    }))
    .await;
}

#[tokio::test]
async fn an_election_is_waited_out_wherever_something_is_read() {
    let stack = Stack::new();
    let swarm = Swarm {
        electing: true,
        ..Swarm::default()
    };
    let (swarm, _server, engine) = swarm.served();
    let done = stack.deploy(&engine, options()).await.unwrap();
    assert!(done.is_success(), "{:?}", done.outcomes);
    assert_eq!(swarm.left(), ALL);
}

#[tokio::test]
async fn two_deployments_of_one_stack_at_once_both_end_well() {
    let stack = Stack::new();
    // One key, and a key each: what the other made is recognised, or compared by the engine.
    for keys in [[7, 7], [7, 8]] {
        let (swarm, _server, engine) = Swarm::default().served();
        let all = join_all(keys.map(async |key| {
            let options = DeployOptions {
                key: FingerprintKey::from_bytes(vec![key; 32]),
                ..options()
            };
            stack.deploy(&engine, options).await
        }))
        .await;
        for done in all {
            let done = done.unwrap();
            assert!(done.is_success(), "{:?}", done.outcomes);
        }
        let names = |left: Vec<String>| -> Vec<String> {
            let name = |one: String| one.rsplit_once(' ').unwrap().0.to_owned();
            left.into_iter().map(name).collect()
        };
        let all = names(ALL.map(str::to_owned).to_vec());
        assert_eq!(names(swarm.left()), all);
        if keys[0] == keys[1] {
            assert_eq!(swarm.left(), ALL);
        }
    }
}

fn foreign(path: &'static str, name: &str, stack: Option<&str>) -> Thing {
    let labels = match stack {
        Some(stack) => json!({ STACK_LABEL: stack }),
        None => json!({}),
    };
    let mut body = json!({"Name": name, "Labels": labels});
    if matches!(path, "secrets" | "configs") {
        body["Data"] = json!("aHVudGVyMg==");
    }
    Thing {
        path,
        id: "x1".to_owned(),
        version: 1,
        body,
    }
}

#[tokio::test]
async fn what_is_somebody_elses_is_refused_before_anything_is_written() {
    let stack = Stack::new();
    let cases = [
        (
            "networks",
            "st_default",
            Some("other"),
            "network st_default exists already and belongs to stack other",
        ),
        (
            "networks",
            "st_default",
            None,
            "network st_default exists already and belongs to no stack",
        ),
        (
            "secrets",
            "st_key",
            Some("other"),
            "secret st_key exists already and belongs to stack other",
        ),
        (
            "configs",
            "st_app",
            Some("other"),
            "config st_app exists already and belongs to stack other",
        ),
        (
            "services",
            "st_db",
            Some("other"),
            "service st_db exists already and belongs to stack other",
        ),
        (
            "services",
            "st_db",
            None,
            "service st_db exists already and belongs to no stack",
        ),
    ];
    for (path, name, owner, said) in cases {
        let swarm = Swarm::with(vec![foreign(path, name, owner)]);
        let (_swarm, server, engine) = swarm.served();
        let error = stack.deploy(&engine, options()).await.unwrap_err();
        assert_eq!(error.to_string(), said);
        for operation in server.operations() {
            assert!(operation.starts_with("GET "), "{operation}");
        }
    }
    // One that nobody's stack has made is taken over, as docker does, if it holds the same.
    let swarm = Swarm::with(vec![foreign("secrets", "st_key", None)]);
    let (swarm, _server, engine) = swarm.served();
    let done = stack.deploy(&engine, options()).await.unwrap();
    assert!(done.is_success());
    assert_eq!(swarm.left().len(), ALL.len());
}

/// A service of two specs, the first of which runs.
fn returned(name: &str, mode: &Value) -> Value {
    let spec = |image: &str| {
        json!({
            "Name": name, "Labels": {STACK_LABEL: "st"}, "Mode": mode,
            "TaskTemplate": {"ContainerSpec": {"Image": image}},
            "RollbackConfig": {"Monitor": 1_000_000},
        })
    };
    json!({
        "ID": format!("id-{name}"), "Version": {"Index": 5}, "Spec": spec("nginx:2"),
        "PreviousSpec": spec("nginx:1"),
    })
}

/// What becomes of the requests to return one service, in order.
type Returns = Vec<fn(&mut Value) -> Reply>;

/// Its version is another one meanwhile, as when an update goes on.
fn stale(service: &mut Value) -> Reply {
    let version = service["Version"]["Index"].as_u64().unwrap();
    service["Version"]["Index"] = json!(version + 3);
    refused(500, "update out of sequence")
}

fn carried_out(service: &mut Value) -> Reply {
    let version = service["Version"]["Index"].as_u64().unwrap();
    let (now, previous) = (service["Spec"].take(), service["PreviousSpec"].take());
    service["Spec"] = previous;
    service["PreviousSpec"] = now;
    service["Version"]["Index"] = json!(version + 10);
    service["UpdateStatus"] = json!({"State": "rollback_completed", "Message": ""});
    ok(&json!({}))
}

/// Returns `services`, of which the swarm answers so, and gives how they ended.
async fn return_all(
    services: Vec<(Value, Returns)>,
    task: fn(&str) -> Value,
) -> (Vec<(String, OutcomeKind)>, Vec<Seen>) {
    let state = Mutex::new(services);
    let (server, engine) = Scripted::unix(move |seen| {
        let mut services = state.lock().unwrap();
        let path: Vec<&str> = seen.path[1..].split('/').collect();
        match path.as_slice() {
            ["services"] => ok(&services.iter().map(|(one, _)| one.clone()).collect()),
            ["tasks"] => {
                let id = |one: &Value| one["ID"].as_str().unwrap().to_owned();
                ok(&services.iter().map(|(one, _)| task(&id(one))).collect())
            }
            ["services", id] => match services.iter().find(|(one, _)| one["ID"] == *id) {
                Some((one, _)) => ok(one),
                None => refused(404, "not found"),
            },
            ["services", id, "update"] => {
                assert_eq!(seen.query("rollback"), Some("previous"));
                let (one, returns) = services
                    .iter_mut()
                    .find(|(one, _)| one["ID"] == *id)
                    .unwrap();
                if seen.query("version") != Some(&one["Version"]["Index"].to_string()) {
                    return refused(500, "update out of sequence");
                }
                if returns.is_empty() {
                    return carried_out(one);
                }
                returns.remove(0)(one)
            }
            _ => ok(&json!([])),
        }
    });
    let deadline = Deadline::after(Duration::from_secs(20));
    let done = rollback(&engine, "st", &[], deadline, &mut |_| ())
        .await
        .unwrap();
    let mut outcomes: Vec<(String, OutcomeKind)> = done
        .outcomes
        .into_iter()
        .map(|one| (one.service, one.kind))
        .collect();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    (outcomes, server.seen())
}

fn running(service: &str) -> Value {
    json!({
        "ID": format!("t-{service}"), "ServiceID": service, "Slot": 1, "NodeID": "n1",
        "DesiredState": "running", "Status": {"State": "running"},
    })
}

#[tokio::test]
async fn a_service_is_returned_once_whatever_becomes_of_the_request() {
    let replicated = json!({"Replicated": {"Replicas": 1}});
    let ran: fn(&mut Value) -> Reply = |one| {
        carried_out(one);
        Reply::Nothing
    };
    let lost: fn(&mut Value) -> Reply = |_| Reply::Nothing;
    let cases: [(Returns, usize); 6] = [
        (vec![], 1),
        (vec![stale], 2),
        (vec![stale, stale, stale], 4),
        (vec![lost], 2),
        (vec![ran], 1),
        (vec![stale, ran], 2),
    ];
    join_all(cases.map(async |(returns, writes)| {
        let service = returned("st_web", &replicated);
        let (outcomes, seen) = return_all(vec![(service, returns)], running).await;
        assert_eq!(outcomes, [("st_web".to_owned(), OutcomeKind::Converged)]);
        let sent: Vec<&Seen> = seen.iter().filter(|one| one.method == "POST").collect();
        assert_eq!(sent.len(), writes);
        // The spec that is to be left goes with it.
        for one in sent {
            assert_eq!(
                one.json()["TaskTemplate"]["ContainerSpec"]["Image"],
                "nginx:2"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn one_that_is_not_returned_keeps_no_other_from_being_waited_for() {
    let replicated = json!({"Replicated": {"Replicas": 1}});
    let written: fn(&mut Value) -> Reply = |one| {
        // Somebody else deploys.
        one["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!("nginx:3");
        stale(one)
    };
    let refuse: fn(&mut Value) -> Reply = |_| refused(400, "no");
    let silent: fn(&mut Value) -> Reply = |_| Reply::Nothing;
    let services = vec![
        (returned("st_a", &replicated), vec![]),
        (returned("st_b", &replicated), vec![written]),
        (returned("st_c", &replicated), vec![refuse]),
        (returned("st_d", &replicated), vec![silent; 20]),
        (returned("st_e", &replicated), vec![stale]),
    ];
    let (outcomes, _) = return_all(services, running).await;
    let kinds: Vec<OutcomeKind> = outcomes.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(
        kinds,
        [
            OutcomeKind::Converged,
            OutcomeKind::Replaced,
            OutcomeKind::Refused,
            OutcomeKind::Unanswered,
            OutcomeKind::Converged,
        ]
    );
}

#[tokio::test]
async fn a_job_that_fails_after_it_was_returned_is_a_job_that_failed() {
    let job = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}});
    let failed = |service: &str| {
        json!({
            "ID": format!("t-{service}"), "ServiceID": service, "NodeID": "n1",
            "DesiredState": "shutdown",
            "Status": {"State": "failed", "Err": "task: non-zero exit (5)"},
        })
    };
    let services = vec![(returned("st_job", &job), vec![])];
    let (outcomes, _) = return_all(services, failed).await;
    assert_eq!(outcomes, [("st_job".to_owned(), OutcomeKind::JobFailed)]);
}
