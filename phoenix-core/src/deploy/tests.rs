//! Writes whose answers are lost, against a scripted engine.

mod faults;

use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::compare::ComparedService;
use super::plan::ServiceAction;
use super::write::Written;
use super::*;
use crate::docker::testing::{Reply, Scripted, Seen, ok, refused, soon};
use crate::docker::{ApiVersion, LogOptions, ServiceObserved};
use crate::ground::SecretBytes;
use crate::stack::{LoadOptions, RenderContext, STACK_LABEL, spec_digest};

fn file(image: &str, action: &str) -> ComposeFile {
    let text = format!(
        "services: {{web: {{image: {image}, deploy: {{update_config: {{failure_action: {action}}}}}}}}}"
    );
    ComposeFile::parse(Path::new("/x/st.yml"), &text, "st", &LoadOptions::default()).unwrap()
}

/// The service of `file`, over one that runs with `running` at version 5.
fn service(file: &ComposeFile, running: Option<&Value>) -> ComparedService {
    let body = file.render(&RenderContext::default()).services.remove(0);
    let running = running.map(|spec| {
        let found = json!({"ID": "s1", "Version": {"Index": 5}, "Spec": spec});
        ServiceObserved::from_json(found).unwrap()
    });
    ComparedService {
        body,
        kept: ApiVersion::NEWEST,
        action: if running.is_some() {
            ServiceAction::Update
        } else {
            ServiceAction::Create
        },
        running,
        changes: Vec::new(),
    }
}

fn spec(file: &ComposeFile) -> Value {
    file.render(&RenderContext::default()).services[0]
        .json
        .clone()
}

/// The ways in which an answer is lost: on the way here, or between managers.
const LOSSES: [fn() -> Reply; 3] = [
    || Reply::Nothing,
    || {
        refused(
            500,
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        )
    },
    || {
        refused(
            503,
            "rpc error: code = Unavailable desc = transport is closing",
        )
    },
];

/// A manager that has one service, or none, and loses answers: `before` it does what it was asked,
/// or after.
struct Forgetful {
    service: Mutex<Option<(u64, Value)>>,
    lost: Mutex<Vec<bool>>,
    loss: fn() -> Reply,
}

impl Forgetful {
    fn new(service: Option<(u64, Value)>, lost: &[bool], loss: fn() -> Reply) -> Self {
        Self {
            service: Mutex::new(service),
            lost: Mutex::new(lost.to_vec()),
            loss,
        }
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let mut service = self.service.lock().unwrap();
        if seen.path == "/tasks" {
            let of = |id: &str, state: &str| json!({"ID": id, "Status": {"State": state}});
            return ok(&json!([of("t1", "failed"), of("t2", "running")]));
        }
        if seen.method == "GET" {
            return match &*service {
                Some((version, spec)) => ok(&json!({
                    "ID": "s1", "Version": {"Index": version}, "Spec": spec,
                })),
                None => refused(404, "service web not found"),
            };
        }
        let lost = self.lost.lock().unwrap().pop();
        if lost == Some(false) {
            return (self.loss)();
        }
        let reply = match &mut *service {
            Some(_) if seen.path == "/services/create" => {
                refused(409, "name conflicts with an existing object")
            }
            Some((version, _)) if seen.query("version") != Some(&version.to_string()) => {
                refused(500, "update out of sequence")
            }
            Some((version, spec)) => {
                *version += 10;
                *spec = seen.json();
                ok(&json!({}))
            }
            None => {
                *service = Some((5, seen.json()));
                ok(&json!({"ID": "s1"}))
            }
        };
        if lost == Some(true) {
            (self.loss)()
        } else {
            reply
        }
    }

    /// How often something was written.
    fn writes(&self) -> u64 {
        let service = self.service.lock().unwrap();
        service.as_ref().map_or(0, |(version, _)| version / 10 + 1)
    }
}

async fn write(
    file: &ComposeFile,
    running: Option<&Value>,
    lost: &[bool],
    loss: fn() -> Reply,
) -> (u64, Value, usize) {
    let engine = Box::leak(Box::new(Forgetful::new(
        running.map(|spec| (5, spec.clone())),
        lost,
        loss,
    )));
    let engine: &'static Forgetful = engine;
    let (server, client) = Scripted::unix(move |seen| engine.answer(seen));
    let deployment = Deployment::new(&client, file, DeployOptions::default());
    let written = deployment.write(&service(file, running)).await.unwrap();
    let Written::Target(target) = written else {
        panic!("it was refused");
    };
    assert_eq!(target.id, "s1");
    // What had failed before the write says nothing of it.
    let past: Vec<String> = target.past.into_iter().collect();
    assert_eq!(past.concat(), if running.is_some() { "t1" } else { "" });
    let spec = engine.service.lock().unwrap().clone().unwrap().1;
    let asked = server.operations();
    let posts = asked.iter().filter(|one| one.starts_with("POST "));
    (engine.writes(), spec, posts.count())
}

#[tokio::test]
async fn a_creation_is_made_once_whatever_becomes_of_the_answer() {
    let file = file("nginx:1", "pause");
    for (lost, posts) in [
        (&[][..], 1),
        (&[true], 1),
        (&[false], 2),
        (&[true, false], 2),
    ] {
        for loss in LOSSES {
            let (writes, spec, asked) = write(&file, None, lost, loss).await;
            assert_eq!((writes, asked), (1, posts), "{lost:?}");
            assert_eq!(spec["Name"], "st_web");
        }
    }
}

#[tokio::test]
async fn an_update_is_made_once_whatever_becomes_of_the_answer() {
    let (old, new) = (file("nginx:1", "pause"), file("nginx:2", "pause"));
    for (lost, posts) in [
        (&[][..], 1),
        (&[true], 1),
        (&[false], 2),
        (&[true, false], 2),
    ] {
        for loss in LOSSES {
            let (writes, written, asked) = write(&new, Some(&spec(&old)), lost, loss).await;
            assert_eq!((writes, asked), (2, posts), "{lost:?}");
            assert_eq!(written, spec(&new));
        }
    }
}

#[tokio::test]
async fn what_the_engine_may_take_back_is_written_down_first() {
    let (old, new) = (file("nginx:1", "rollback"), file("nginx:2", "rollback"));
    let (writes, written, _) = write(&new, Some(&spec(&old)), &[], LOSSES[0]).await;
    assert_eq!(writes, 3);
    // The spec that runs does not carry the mark: the one that would be restored does.
    assert_eq!(written, spec(&new));

    let mut restored = spec(&old);
    restored["Labels"][ATTEMPT_LABEL] = json!(spec_digest(&spec(&new)));
    let found = json!({
        "ID": "s1", "Version": {"Index": 9}, "Spec": restored,
        "UpdateStatus": {"State": "rollback_completed", "CompletedAt": "2026-01-02T03:04:05Z"},
    });
    let found = ServiceObserved::from_json(found).unwrap();
    let rolled = super::attempt::rolled_back(&found, &spec(&new)).unwrap();
    assert_eq!(
        rolled.to_string(),
        "this spec was rolled back at 2026-01-02 03:04:05 UTC"
    );
    assert!(super::attempt::rolled_back(&found, &spec(&old)).is_none());
}

#[test]
fn what_was_taken_back_is_known_again_whether_or_not_a_registry_answers() {
    let body = |image: &str, platforms: Value| {
        json!({"TaskTemplate": {"ContainerSpec": {"Image": image},
                                "Placement": {"Platforms": platforms}}})
    };
    let amd = json!([{"OS": "linux", "Architecture": "amd64"}]);
    let pinned = |digit: &str| {
        let digest = digit.repeat(64);
        body(&format!("web:2@sha256:{digest}"), amd.clone())
    };
    let bare = json!({"TaskTemplate": {"ContainerSpec": {"Image": "web:2"}, "Placement": {}}});
    let other = json!({"TaskTemplate": {"ContainerSpec": {"Image": "web:3"}, "Placement": {}}});
    let known = |attempted: &Value, now: &Value| {
        let found = json!({
            "ID": "s1", "Version": {"Index": 9},
            "Spec": {"Labels": {ATTEMPT_LABEL: super::attempt::attempt(attempted)}},
            "UpdateStatus": {"State": "rollback_completed"},
        });
        let found = ServiceObserved::from_json(found).unwrap();
        super::attempt::rolled_back(&found, now).is_some()
    };
    assert!(known(&pinned("a"), &pinned("a")));
    assert!(known(&pinned("a"), &bare));
    assert!(known(&bare, &pinned("a")));
    assert!(known(&bare, &bare));
    // Another image under the same tag may well be the mended one.
    assert!(!known(&pinned("a"), &pinned("b")));
    assert!(!known(&bare, &other));
    assert!(!known(&pinned("a"), &other));
}

#[tokio::test]
async fn a_paused_update_goes_on_when_it_is_asked_for() {
    let file = file("nginx:1", "pause");
    let mut running = spec(&file);
    running["TaskTemplate"]["Networks"] = json!([{"Target": "n1", "Aliases": ["web"]}]);
    let (_server, client) = Scripted::unix(move |seen| match seen.path.as_str() {
        "/services" => ok(&json!([{
            "ID": "s1", "Version": {"Index": 9}, "Spec": running,
            "UpdateStatus": {"State": "paused", "Message": "update paused"},
        }])),
        "/networks" => ok(&json!([{
            "Name": "st_default", "Id": "n1", "Scope": "swarm", "Driver": "overlay",
            "Labels": {"com.docker.stack.namespace": "st"},
        }])),
        path if path.starts_with("/distribution/") => refused(404, "not found"),
        _ => ok(&json!([])),
    });
    for (retry, wanted) in [
        (false, ServiceAction::Unchanged),
        (true, ServiceAction::Resume),
    ] {
        let options = DeployOptions {
            retry_rolled_back: retry,
            ..DeployOptions::default()
        };
        let plan = Deployment::new(&client, &file, options)
            .plan()
            .await
            .unwrap();
        assert_eq!(
            plan.services[0].action, wanted,
            "{:?}",
            plan.services[0].changes
        );
        let written = plan
            .changes()
            .iter()
            .any(|change| change.verb == Verb::Update);
        assert_eq!(written, retry);
    }
}

const WHOLE: &str = "
services:
  web: { image: nginx:1, networks: [back], secrets: [key], configs: [app], depends_on: [db] }
  db: { image: nginx:1 }
networks: { back: , shared: { external: true } }
secrets: { key: { file: key.txt } }
configs: { app: { file: app.conf } }
";

#[tokio::test]
async fn a_plan_reads_and_never_writes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.txt"), "hunter2").unwrap();
    std::fs::write(folder.path().join("app.conf"), "a=1").unwrap();
    let path = folder.path().join("st.yml");
    let file = ComposeFile::parse(&path, WHOLE, "st", &LoadOptions::default()).unwrap();
    let (server, client) = Scripted::unix(|seen| match seen.path.as_str() {
        path if path.starts_with("/distribution/") => refused(500, "no registry"),
        "/networks" | "/services" | "/secrets" | "/configs" | "/tasks" | "/nodes" => ok(&json!([])),
        _ => refused(404, "not found"),
    });
    let key = FingerprintKey::from_bytes(vec![7; 32]);
    let options = DeployOptions {
        key,
        prune: true,
        ..DeployOptions::default()
    };
    let plan = Deployment::new(&client, &file, options)
        .plan()
        .await
        .unwrap();
    let changes: Vec<String> = plan.changes().iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "create network st_back",
            "create network st_default",
            "create secret st_key",
            "create config st_app",
            "create service st_web",
            "create service st_db",
        ]
    );
    assert!(plan.missing.is_empty());
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("no registry told the digest of nginx:1"));
    for operation in server.operations() {
        assert!(operation.starts_with("GET "), "{operation}");
    }
    let shown = format!("{plan:?} {}", serde_json::to_string(&plan).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn what_is_not_there_is_neither_rolled_back_nor_read() {
    let (server, client) = Scripted::unix(|seen| match seen.path.as_str() {
        "/services" if seen.query("filters").is_some_and(|one| one.contains("=st")) => {
            ok(&json!([{
                "ID": "s1", "Version": {"Index": 5},
                "Spec": {"Name": "st_web", "Labels": {"com.docker.stack.namespace": "st"}},
            }]))
        }
        "/services" => ok(&json!([])),
        _ => refused(404, "not found"),
    });
    let deadline = Deadline::after(Duration::from_secs(5));
    let none: &[String] = &[];
    let wrong = ["wbe".to_owned()];
    for (stack, only, said) in [
        ("nobody", none, "there is no stack nobody with services"),
        ("nobody", &wrong, "there is no stack nobody with services"),
        ("st", &wrong, "stack st has no service wbe: it has st_web"),
    ] {
        let error = rollback(&client, stack, only, deadline, &mut |_| ())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), said);
        let error = logs(&client, stack, only, LogOptions::default(), deadline)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), said);
    }
    for operation in server.operations() {
        assert!(operation.starts_with("GET "), "{operation}");
    }
}

#[tokio::test]
async fn a_service_stands_well_only_with_the_spec_that_was_sent() {
    let (old, new) = (file("nginx:1", "rollback"), file("nginx:2", "rollback"));
    for (found, state, kind) in [
        (Some(&new), "completed", None),
        (
            Some(&old),
            "rollback_completed",
            Some(OutcomeKind::RolledBack),
        ),
        (
            Some(&old),
            "rollback_started",
            Some(OutcomeKind::RolledBack),
        ),
        (Some(&old), "completed", Some(OutcomeKind::Replaced)),
        (None, "", Some(OutcomeKind::Replaced)),
    ] {
        let listed: Vec<Value> = found
            .map(|file| {
                json!({"ID": "s1", "Version": {"Index": 7}, "Spec": spec(file),
                       "UpdateStatus": {"State": state, "Message": ""}})
            })
            .into_iter()
            .collect();
        let (_server, client) = Scripted::unix(move |_| ok(&json!(listed)));
        let deployment = Deployment::new(&client, &new, DeployOptions::default());
        let sent = service(&new, None);
        let overtaken = deployment.overtaken(&[&sent]).await.unwrap();
        let kinds: Vec<OutcomeKind> = overtaken.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{state}");
    }
}

#[tokio::test]
async fn a_plan_says_that_the_engine_will_take_a_one_shot_back() {
    let file = |tag: &str, action: &str, condition: &str| {
        let text = format!(
            "services: {{web: {{image: \"nginx:{tag}\", deploy: {{update_config: {{failure_action: {action}}}, \
             restart_policy: {{condition: {condition}}}}}}}}}"
        );
        ComposeFile::parse(Path::new("/x/st.yml"), &text, "st", &LoadOptions::default()).unwrap()
    };
    for (action, condition, told) in [
        ("rollback", "none", true),
        ("rollback", "any", false),
        ("pause", "none", false),
    ] {
        let running = spec(&file("1", action, condition));
        let (_server, client) = Scripted::unix(move |seen| match seen.path.as_str() {
            "/services" => ok(&json!([
                {"ID": "s1", "Version": {"Index": 5}, "Spec": running},
            ])),
            path if path.starts_with("/distribution/") => refused(500, "no registry"),
            _ => ok(&json!([])),
        });
        let new = file("2", action, condition);
        let deployment = Deployment::new(&client, &new, DeployOptions::default());
        let plan = deployment.plan().await.unwrap();
        assert_eq!(plan.services[0].action, ServiceAction::Update);
        let said = "service st_web: the engine rolls this update back (failure_action) when";
        let warned = plan.warnings.iter().any(|one| one.starts_with(said));
        assert_eq!(warned, told, "{action} {condition}: {:?}", plan.warnings);
    }
}

#[tokio::test]
async fn credentials_go_with_the_question_and_with_the_service() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let (server, client) = Scripted::unix(move |seen| match seen.operation().as_str() {
        path if path.starts_with("GET /distribution/") => {
            ok(&json!({"Descriptor": {"digest": digest}, "Platforms": []}))
        }
        "GET /networks" => ok(&json!([{
            "Name": "st_default", "Id": "n1", "Scope": "swarm", "Driver": "overlay",
            "Labels": {"com.docker.stack.namespace": "st"},
        }])),
        "POST /services/create" => refused(400, "enough has been seen"),
        path if path.starts_with("GET /") => ok(&json!([])),
        _ => refused(404, "not found"),
    });
    let text =
        "services: {web: {image: \"r.example:5000/web:1\"}, other: {image: \"quay.io/x/y:1\"}}";
    let file =
        ComposeFile::parse(Path::new("/x/st.yml"), text, "st", &LoadOptions::default()).unwrap();
    let mut credentials = Credentials::default();
    let password = SecretBytes::from("hunter2".to_owned());
    credentials.add("r.example:5000", "me", &password).unwrap();
    let options = DeployOptions {
        credentials: Some(credentials),
        ..DeployOptions::default()
    };
    let deadline = Deadline::after(Duration::from_secs(5));
    let done = Deployment::new(&client, &file, options)
        .apply(deadline, &mut |_| ())
        .await;
    assert!(!done.is_ok_and(|done| done.is_success()));
    let with_auth = |operation: &str, about: &str| -> Vec<bool> {
        let seen = server.seen();
        let about = seen.iter().filter(|seen| {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            seen.operation().starts_with(operation)
                && (seen.path.contains(about) || body.contains(about))
        });
        about
            .map(|seen| seen.headers.contains_key("X-Registry-Auth"))
            .collect()
    };
    assert_eq!(with_auth("GET /distribution/", "r.example"), [true]);
    assert_eq!(with_auth("GET /distribution/", "quay.io"), [false]);
    assert_eq!(with_auth("POST /services/create", "r.example"), [true]);
    assert_eq!(with_auth("POST /services/create", "quay.io"), [false]);
}

#[tokio::test]
async fn a_network_that_only_its_node_still_has_is_waited_for_and_made_anew() {
    let network = |id: &str| {
        json!([{
            "Name": "st_default", "Id": id, "Scope": "swarm", "Driver": "overlay",
            "Labels": {"com.docker.stack.namespace": "st"},
        }])
    };
    // Whether the swarm takes the network that is made then.
    for takes in [true, false] {
        // How often the networks were listed since a service was refused, and whether one is made.
        let state = Mutex::new((None, false));
        let (server, client) = Scripted::unix(move |seen| {
            let mut state = state.lock().unwrap();
            match seen.operation().as_str() {
                "GET /networks" => match (&mut *state, takes) {
                    ((_, true), true) => ok(&network("new")),
                    ((Some(2), _), _) => ok(&json!([])),
                    ((Some(listed), _), _) => {
                        *listed += 1;
                        ok(&network("old"))
                    }
                    ((None, _), _) => ok(&network("old")),
                },
                "POST /networks/create" => {
                    state.1 = true;
                    ok(&json!({"Id": "new"}))
                }
                "POST /services/create" => {
                    let target = seen.json()["TaskTemplate"]["Networks"][0]["Target"].clone();
                    if target == "new" && takes {
                        return refused(400, "enough has been seen");
                    }
                    state.0.get_or_insert(0);
                    refused(
                        500,
                        "rpc error: code = NotFound desc = network old not found",
                    )
                }
                operation if operation.starts_with("GET /distribution") => refused(500, "none"),
                operation if operation.starts_with("GET ") => ok(&json!([])),
                other => panic!("{other}"),
            }
        });
        let file = file("nginx:1", "pause");
        let deployment = Deployment::new(&client, &file, DeployOptions::default());
        let deadline = Deadline::after(Duration::from_secs(20));
        let done = deployment.apply(deadline, &mut |_| ()).await;
        let outcome = &done.unwrap().outcomes[0];
        assert_eq!(outcome.kind, OutcomeKind::Refused);
        // The same network once more is not waited for again and again.
        let said = if takes {
            "enough has been seen"
        } else {
            "network old not found"
        };
        assert!(outcome.text.contains(said), "{outcome}");
        let operations = server.operations();
        let writes = operations.iter().filter(|one| one.starts_with("POST "));
        let create = "POST /services/create";
        assert_eq!(
            writes.collect::<Vec<_>>(),
            [create, "POST /networks/create", create]
        );
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_told_before_anything_is_written() {
    let pinned = format!("r.example/web@sha256:{}", "ab".repeat(32));
    let config = r#"{"auths": {"r.example": {}}, "credsStore": "desktop"}"#;
    let config = SecretBytes::from(config.to_owned());
    let options = || DeployOptions {
        credentials: Some(Credentials::from_docker_config(&config).unwrap()),
        ..DeployOptions::default()
    };
    for image in ["r.example/web:1", &pinned] {
        let file = file(image, "pause");
        let (server, client) = Scripted::unix(|_| ok(&json!([])));
        let deployment = Deployment::new(&client, &file, options());
        let deadline = Deadline::after(Duration::from_secs(20));
        for error in [
            deployment.plan().await.unwrap_err(),
            deployment.apply(deadline, &mut |_| ()).await.unwrap_err(),
        ] {
            assert!(matches!(error, DeployError::Credentials { .. }), "{image}");
            let said = crate::ground::causes(&error);
            assert!(said.contains("docker-credential-desktop"), "{said}");
        }
        for operation in server.operations() {
            assert!(operation.starts_with("GET "), "{image}: {operation}");
        }
    }
    // Where nobody is asked and nothing is written, none are needed.
    let file = file(&pinned, "pause");
    let running = json!([{"ID": "s1", "Version": {"Index": 5}, "Spec": spec(&file)}]);
    let (_server, client) = Scripted::unix(move |seen| match seen.path.as_str() {
        "/services" => ok(&running),
        _ => ok(&json!([])),
    });
    let deployment = Deployment::new(&client, &file, options());
    let plan = deployment.plan().await.unwrap();
    assert_eq!(plan.services[0].action, ServiceAction::Unchanged);
}

#[tokio::test]
async fn a_service_whose_image_is_missing_is_written_again_with_credentials_only() {
    let file = file(
        &format!("r.example/web@sha256:{}", "ab".repeat(32)),
        "pause",
    );
    for (error, given, action) in [
        ("No such image: r.example/web", true, ServiceAction::Update),
        (
            "No such image: r.example/web",
            false,
            ServiceAction::Unchanged,
        ),
        ("task: non-zero exit (3)", true, ServiceAction::Unchanged),
    ] {
        let running = json!([{"ID": "s1", "Version": {"Index": 5}, "Spec": spec(&file)}]);
        let tasks: Vec<Value> = (1..6)
            .map(|second| {
                json!({
                    "ID": format!("t{second}"), "ServiceID": "s1", "Slot": 1, "NodeID": "n1",
                    "CreatedAt": format!("2026-01-01T00:00:0{second}Z"),
                    "DesiredState": "shutdown", "Status": {"State": "rejected", "Err": error},
                })
            })
            .collect();
        let (server, client) = Scripted::unix(move |seen| match seen.path.as_str() {
            "/services" => ok(&running),
            "/services/s1" => ok(&running[0]),
            "/tasks" => ok(&json!(tasks)),
            _ => ok(&json!([])),
        });
        let mut credentials = Credentials::default();
        let password = SecretBytes::from("hunter2".to_owned());
        let registry = if given { "r.example" } else { "other.example" };
        credentials.add(registry, "me", &password).unwrap();
        let options = DeployOptions {
            credentials: Some(credentials),
            ..DeployOptions::default()
        };
        let plan = Deployment::new(&client, &file, options).plan().await;
        let plan = plan.unwrap();
        assert_eq!(plan.services[0].action, action, "{error}");
        let said = plan.changes().iter().any(|change| {
            let why = change.why.join("; ");
            why.contains("PullOptions.RegistryAuth: + the credentials that are given")
        });
        assert_eq!(said, action == ServiceAction::Update, "{plan:?}");
        for operation in server.operations() {
            assert!(operation.starts_with("GET "), "{operation}");
        }
    }
}

#[tokio::test]
async fn what_nobody_has_made_is_told_before_anything_is_written() {
    let text = "
services: { web: { image: \"nginx@sha256:@\", networks: [shared], secrets: [key], configs: [app] } }
networks: { shared: { external: true } }
secrets: { key: { external: true } }
configs: { app: { external: true, name: settings } }
"
    .replace("sha256:@", &format!("sha256:{}", "ab".repeat(32)));
    let file =
        ComposeFile::parse(Path::new("/x/st.yml"), &text, "st", &LoadOptions::default()).unwrap();
    let (server, client) = Scripted::unix(|_| ok(&json!([])));
    let deployment = Deployment::new(&client, &file, DeployOptions::default());
    let error = deployment
        .apply(Deadline::after(Duration::from_secs(20)), &mut |_| ())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no secret key; there is no config settings; there is no swarm-scoped network shared"
    );
    for operation in server.operations() {
        assert!(operation.starts_with("GET "), "{operation}");
    }
}

/// An engine takes a filter for an empty label for none, and answers with everything.
#[tokio::test]
async fn a_name_that_no_stack_can_have_removes_nothing() {
    let of_another = json!([{
        "ID": "s1", "Version": {"Index": 1},
        "Spec": {"Name": "st_web", "Labels": {"com.docker.stack.namespace": "st"}},
    }]);
    let (server, client) = Scripted::unix(move |seen| match seen.path.as_str() {
        "/services" => ok(&of_another),
        _ => ok(&json!([])),
    });
    for name in ["", " ", "st web", "-st", "st/../x"] {
        let removed = remove(&client, name, None, soon(), &mut |_| ()).await;
        assert!(matches!(removed, Err(DeployError::Name { .. })), "{name:?}");
        let looked = services(&client, name, soon()).await;
        assert!(matches!(looked, Err(DeployError::Name { .. })), "{name:?}");
    }
    assert!(server.operations().is_empty());
    let found = client.services(&[(STACK_LABEL, Some(""))], soon()).await;
    assert!(found.unwrap().is_empty());
    let found = client.services(&[(STACK_LABEL, Some("st"))], soon()).await;
    assert_eq!(found.unwrap().len(), 1);
}

#[tokio::test]
async fn a_secret_that_no_engine_takes_is_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let text = "services: {web: {image: a, secrets: [key]}}\nsecrets: {key: {file: key.txt}}\n";
    let path = folder.path().join("st.yml");
    let (server, client) = Scripted::unix(|_| ok(&json!([])));
    for size in [0, 512_000] {
        std::fs::write(folder.path().join("key.txt"), vec![b'x'; size]).unwrap();
        let file = ComposeFile::parse(&path, text, "st", &LoadOptions::default()).unwrap();
        let error = Deployment::new(&client, &file, DeployOptions::default())
            .apply(soon(), &mut |_| ())
            .await
            .unwrap_err();
        let text = crate::ground::causes(&error);
        assert!(text.contains(&format!("would hold {size} bytes")), "{text}");
    }
    assert!(server.operations().is_empty());
}
