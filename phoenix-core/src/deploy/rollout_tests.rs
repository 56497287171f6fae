use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::apply::{DeployEvent, Deployed};
use super::super::{DeployOptions, Deployment};
use super::*;
use crate::docker::testing::{Reply, Scripted, Seen, ok, refused};
use crate::stack::{ComposeFile, Dialect, LoadOptions};

#[test]
fn a_condition_is_met_by_what_it_asks_for() {
    use OutcomeKind::{
        Blocked, Completed, Converged, CrashLoop, Refused, RolledBack, TimedOut, Unanswered,
    };
    let met = |condition| {
        let kinds = [
            Converged, Completed, RolledBack, CrashLoop, TimedOut, Refused, Blocked, Unanswered,
        ];
        kinds.map(|kind| meets(kind, condition))
    };
    let (yes, no) = (true, false);
    assert_eq!(
        met(Condition::Started),
        [yes, yes, yes, yes, yes, no, no, no]
    );
    assert_eq!(met(Condition::Healthy), [yes, yes, no, no, no, no, no, no]);
    assert_eq!(met(Condition::Completed), [no, yes, no, no, no, no, no, no]);
}

/// A manager whose services run at once, but for those whose names say otherwise: `slow` never
/// does, `once` ends well after a while, the creation of `lost` is never answered, that of `bad` is refused, and `late` runs once
/// a service `needed` is there.
#[derive(Default)]
struct Manager {
    services: Mutex<Vec<(String, Value)>>,
}

impl Manager {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut services = self.services.lock().unwrap();
        match seen.operation().as_str() {
            "POST /services/create" => {
                let spec = seen.json();
                let name = spec["Name"].as_str().unwrap().to_owned();
                if name == "st_lost" {
                    return Reply::Nothing;
                }
                if name == "st_bad" {
                    return refused(400, "no such thing");
                }
                services.push((name.clone(), spec));
                ok(&json!({ "ID": name }))
            }
            "GET /services" => {
                let of = |(name, spec): &(String, Value)| {
                    json!({"ID": name, "Version": {"Index": 5}, "Spec": spec,
                           "UpdateStatus": {"State": "completed"}})
                };
                ok(&services.iter().map(of).collect())
            }
            "GET /tasks" => {
                let there = |wanted: &str| services.iter().any(|(name, _)| name == wanted);
                let runs = |name: &str| match name {
                    "st_slow" => false,
                    "st_late" => there("st_needed"),
                    _ => true,
                };
                let task = |(name, _): &(String, Value)| {
                    let state = match name.as_str() {
                        "st_once" if seen.nth > 5 => "complete",
                        name if runs(name) => "running",
                        _ => "starting",
                    };
                    json!({
                        "ID": format!("task of {name}"), "ServiceID": name, "Slot": 1,
                        "NodeID": "n1", "CreatedAt": "2024-01-01T00:00:00Z",
                        "DesiredState": "running", "Status": {"State": state},
                    })
                };
                ok(&services.iter().map(task).collect())
            }
            "GET /nodes" => ok(&json!([{
                "ID": "n1", "Version": {"Index": 1},
                "Spec": {"Role": "manager", "Availability": "active"},
                "Description": {"Hostname": "one", "Engine": {"EngineVersion": "26.1.5"}},
                "Status": {"State": "ready", "Addr": "10.0.0.1"},
            }])),
            "GET /networks" => ok(&json!([{
                "Name": "st_default", "Id": "n1", "Scope": "swarm", "Driver": "overlay",
                "Labels": {"com.docker.stack.namespace": "st"},
            }])),
            path if path.starts_with("GET /services/") => refused(404, "not found"),
            path if path.starts_with("GET /distribution/") => refused(404, "not found"),
            _ => ok(&json!([])),
        }
    }
}

/// Deploys `text` of the compose dialect for a little while.
async fn deployed(text: &str) -> (Deployed, Vec<String>) {
    let manager: &'static Manager = Box::leak(Box::default());
    let (_server, client) = Scripted::unix(move |seen| manager.answer(seen));
    let options = LoadOptions::default().with_dialect(Dialect::Compose);
    let file = ComposeFile::parse(Path::new("/x/st.yml"), text, "st", &options).unwrap();
    let mut ended = Vec::new();
    let done = Deployment::new(&client, &file, DeployOptions::default())
        .apply(Deadline::after(Duration::from_secs(6)), &mut |event| {
            if let DeployEvent::Ended(outcome) = event {
                ended.push(outcome.service);
            }
        })
        .await
        .unwrap();
    (done, ended)
}

fn kinds(done: &Deployed) -> Vec<(&str, OutcomeKind)> {
    let of = |outcome: &'_ ServiceOutcome| outcome.kind;
    let names = done.outcomes.iter().map(|one| one.service.as_str());
    names.zip(done.outcomes.iter().map(of)).collect()
}

#[tokio::test]
async fn a_service_that_takes_all_the_time_holds_up_only_those_that_depend_on_it() {
    let (done, ended) = deployed(
        "services:\n  slow: {image: a}\n  db: {image: a}\n  \
         web: {image: a, depends_on: {db: {condition: service_healthy}}}\n  \
         last: {image: a, depends_on: {slow: {condition: service_healthy}}}\n",
    )
    .await;
    assert_eq!(
        kinds(&done),
        [
            ("st_slow", OutcomeKind::TimedOut),
            ("st_db", OutcomeKind::Converged),
            ("st_web", OutcomeKind::Converged),
            ("st_last", OutcomeKind::Blocked),
        ]
    );
    assert_eq!(ended, ["st_db", "st_web", "st_slow", "st_last"]);
}

/// A service that is healthy only once another one is there, which waits for it to be started.
#[tokio::test]
async fn started_is_as_soon_as_it_is_written() {
    let (done, _) = deployed(
        "services:\n  late: {image: a}\n  \
         needed: {image: a, depends_on: {late: {condition: service_started}}}\n",
    )
    .await;
    assert_eq!(
        kinds(&done),
        [
            ("st_late", OutcomeKind::Converged),
            ("st_needed", OutcomeKind::Converged),
        ]
    );
}

/// It runs for longer than it is watched for before it ends.
#[tokio::test]
async fn what_waits_for_an_end_is_not_content_with_tasks_that_run() {
    let (done, ended) = deployed(
        "services:\n  once: {image: a}\n  \
         app: {image: a, depends_on: {once: {condition: service_completed_successfully}}}\n",
    )
    .await;
    assert_eq!(
        kinds(&done),
        [
            ("st_once", OutcomeKind::Completed),
            ("st_app", OutcomeKind::Converged),
        ]
    );
    assert_eq!(ended, ["st_once", "st_app"]);
}

#[tokio::test]
async fn what_fails_of_one_service_is_its_own_outcome() {
    let (done, _) = deployed(
        "services:\n  lost: {image: a}\n  bad: {image: a}\n  good: {image: a}\n  \
         after: {image: a, depends_on: [lost]}\n  also: {image: a, depends_on: [good]}\n",
    )
    .await;
    assert_eq!(
        kinds(&done),
        [
            ("st_lost", OutcomeKind::Unanswered),
            ("st_bad", OutcomeKind::Refused),
            ("st_good", OutcomeKind::Converged),
            ("st_after", OutcomeKind::Blocked),
            ("st_also", OutcomeKind::Converged),
        ]
    );
    assert!(!done.is_success());
}
