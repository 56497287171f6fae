use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::super::testing::{Reply, Scripted, Seen, ok, refused, soon};
use super::*;

fn quick() -> WaitOptions {
    WaitOptions {
        stable: Duration::from_millis(30),
        stable_after_failure: Duration::from_millis(60),
        unschedulable: Duration::from_millis(40),
        abandoned: Duration::from_millis(40),
        patience: Duration::from_millis(300),
        poll: Duration::from_millis(10),
        ..WaitOptions::default()
    }
}

fn service(id: &str, status: Value) -> Value {
    json!({
        "ID": id, "Version": {"Index": 9},
        "Spec": {"Name": id, "Mode": {"Replicated": {"Replicas": 1}}},
        "UpdateStatus": status,
    })
}

fn task(id: &str, service: &str, state: &str, error: &str) -> Value {
    let desired = if state == "failed" {
        "shutdown"
    } else {
        "running"
    };
    let node = if state == "pending" { "" } else { "n1" };
    json!({
        "ID": id, "ServiceID": service, "Slot": 1, "NodeID": node,
        "CreatedAt": "2024-01-01T00:00:00Z", "DesiredState": desired,
        "Status": {"State": state, "Err": error,
                   "ContainerStatus": {"ContainerID": "c", "ExitCode": 3}},
    })
}

fn written(id: &str) -> ServiceTarget {
    let mut target = ServiceTarget::in_place(id);
    target.min_version = Some(1);
    target
}

/// Answers services, tasks and nodes; the `round` counts looks at the services.
fn swarm(
    script: impl Fn(usize) -> (Vec<Value>, Vec<Value>) + Send + Sync + 'static,
    all_tasks: Vec<Value>,
) -> (Scripted, Engine) {
    let round = AtomicUsize::new(0);
    Scripted::unix(move |seen: &Seen| match seen.path.as_str() {
        "/services" => {
            assert_eq!(seen.query("status"), Some("true"));
            ok(&json!(script(round.fetch_add(1, Ordering::SeqCst)).0))
        }
        "/tasks" => {
            let filters = seen.query("filters").expect("a filter");
            if filters.contains("_up-to-date") {
                ok(&json!(script(round.load(Ordering::SeqCst) - 1).1))
            } else {
                ok(&json!(all_tasks))
            }
        }
        "/nodes" => ok(&json!([{
            "ID": "n1", "Description": {"Hostname": "host"},
            "Spec": {"Availability": "active"}, "Status": {"State": "ready"},
        }])),
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn all_services_are_waited_for_at_once_and_each_has_its_outcome() {
    let script = |round: usize| {
        let late = if round < 3 { "starting" } else { "running" };
        (
            vec![
                service("good", Value::Null),
                service(
                    "back",
                    json!({"State": "rollback_completed", "Message": "rollback completed"}),
                ),
                service("nowhere", Value::Null),
                service("crash", Value::Null),
            ],
            vec![
                task("g", "good", late, ""),
                task("b", "back", "running", ""),
                task("n", "nowhere", "pending", "no suitable node (x)"),
                task("c1", "crash", "failed", "task: non-zero exit (3)"),
                task("c2", "crash", "failed", "task: non-zero exit (3)"),
                task("c3", "crash", "failed", "task: non-zero exit (3)"),
                task("c4", "crash", "ready", ""),
            ],
        )
    };
    let old = vec![task("old", "back", "failed", "task: non-zero exit (3)")];
    let (server, engine) = swarm(script, old);
    let ids = ["good", "back", "nowhere", "crash", "lost"];
    let targets: Vec<_> = ids.iter().map(|id| written(id)).collect();
    let mut told = Vec::new();
    let outcomes = engine
        .await_services(&targets, &quick(), soon(), &mut |progress| {
            told.push((progress.id.to_owned(), progress.outcome.is_some()));
        })
        .await
        .expect("answers");
    let texts: Vec<String> = outcomes
        .iter()
        .map(|(id, outcome)| format!("{id} {outcome}"))
        .collect();
    assert_eq!(
        texts,
        [
            "good converged, 1 task",
            "back rolled back (rollback completed): back.1 on host exited with code 3: task: non-zero exit (3)",
            "nowhere unschedulable: no suitable node (x)",
            "crash crashed 3 times: crash.1 on host exited with code 3: task: non-zero exit (3)",
            "lost removed meanwhile",
        ]
    );
    for id in ids {
        assert_eq!(
            told.iter().filter(|(told, end)| told == id && *end).count(),
            1
        );
    }
    let first = &server.seen()[0];
    assert_eq!(first.path, "/services");
    assert!(
        ids.iter()
            .all(|id| first.query("filters").expect("filter").contains(id))
    );
}

#[tokio::test]
async fn the_deadline_says_what_was_missing() {
    let script = |_| {
        (
            vec![
                service("slow", Value::Null),
                service("back", json!({"State": "rollback_started", "Message": "m"})),
            ],
            vec![task("s", "slow", "starting", "")],
        )
    };
    let (_server, engine) = swarm(script, Vec::new());
    let targets = [written("slow"), written("back")];
    let brief = Deadline::after(Duration::from_millis(200));
    let outcomes = engine
        .await_services(&targets, &quick(), brief, &mut |_| {})
        .await
        .expect("answers");
    match &outcomes[0].1 {
        Outcome::TimedOut { detail, .. } => {
            assert_eq!(detail, "0 of 1 tasks; slow.1 is starting");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(outcomes[1].1, Outcome::RolledBack { .. }));
}

#[tokio::test]
async fn a_manager_without_an_answer_is_borne_for_a_while_only() {
    let (_server, engine) = Scripted::unix(|seen| match (seen.path.as_str(), seen.nth) {
        ("/services", 0) => refused(500, "The swarm does not have a leader."),
        ("/services", 1) => Reply::Nothing,
        ("/services", _) => ok(&json!([service("s", Value::Null)])),
        // The service vanished between two lists, once.
        ("/tasks", 0) => refused(404, "service s not found"),
        ("/tasks", _) => ok(&json!([task("t", "s", "running", "")])),
        _ => ok(&json!([])),
    });
    let targets = [ServiceTarget::in_place("s")];
    let outcomes = engine
        .await_services(&targets, &quick(), soon(), &mut |_| {})
        .await
        .expect("answers in the end");
    assert!(outcomes[0].1.is_converged());

    let (_server, engine) = Scripted::unix(|_| refused(500, "The swarm does not have a leader."));
    let error = engine
        .await_services(&targets, &quick(), soon(), &mut |_| {})
        .await
        .expect_err("no leader");
    let WaitError::Engine { source } = error;
    assert!(source.is(Refusal::NoLeader));

    let (_server, engine) = Scripted::unix(|_| refused(400, "no"));
    let asked = engine.judge_services(&targets, soon()).await;
    assert!(asked.is_err());
}

/// A watch fed by hand, on a clock of its own.
struct Bench {
    watch: Watch,
    start: Instant,
    options: WaitOptions,
}

impl Bench {
    fn new(target: ServiceTarget) -> Self {
        Self {
            watch: Watch::new(target),
            start: Instant::now(),
            options: WaitOptions::default(),
        }
    }

    fn at(&mut self, seconds: u64, status: Value, tasks: &[Value]) -> Option<Outcome> {
        self.with(seconds, service("s", status), tasks)
    }

    fn with(&mut self, seconds: u64, service: Value, tasks: &[Value]) -> Option<Outcome> {
        let service = ServiceObserved::from_json(service).expect("service");
        let tasks = tasks
            .iter()
            .map(|task| Task::from_json(task.clone()).expect("task"))
            .collect();
        let now = self.start + Duration::from_secs(seconds);
        self.watch
            .look(Some(&service), tasks, &[], &self.options, now);
        self.watch.outcome.clone()
    }
}

#[test]
fn a_fresh_success_must_hold_and_a_flapping_one_for_longer() {
    let run = [task("a", "s", "running", "")];
    let mut bench = Bench::new(written("s"));
    assert_eq!(bench.at(0, Value::Null, &run), None);
    assert_eq!(bench.at(1, Value::Null, &run), None);
    assert_eq!(
        bench.at(2, Value::Null, &run),
        Some(Outcome::Converged { tasks: 1 })
    );

    // The engine has watched this one itself; and this one was right before.
    let watched = json!({"State": "completed", "Message": "update completed"});
    let mut bench = Bench::new(written("s"));
    assert!(bench.at(0, watched, &run).is_some());
    let mut bench = Bench::new(ServiceTarget::in_place("s"));
    assert!(bench.at(0, Value::Null, &run).is_some());

    let mut bench = Bench::new(written("s"));
    let fell = task("a", "s", "failed", "exit");
    let again = task("b", "s", "running", "");
    assert_eq!(bench.at(0, Value::Null, &run), None);
    assert_eq!(
        bench.at(1, Value::Null, &[fell, task("b", "s", "ready", "")]),
        None
    );
    // The swarm may forget the failure; the watch does not.
    assert_eq!(bench.at(2, Value::Null, std::slice::from_ref(&again)), None);
    assert_eq!(
        bench.at(11, Value::Null, std::slice::from_ref(&again)),
        None
    );
    assert!(bench.at(12, Value::Null, &[again]).is_some());
}

/// The task, in its state since so many seconds.
fn since(mut task: Value, seconds: i64) -> Value {
    let at = OffsetDateTime::now_utc() - time::Duration::seconds(seconds);
    let format = &time::format_description::well_known::Rfc3339;
    task["Status"]["Timestamp"] = json!(at.format(format).expect("a time"));
    task
}

#[tokio::test]
async fn one_look_does_not_take_a_crash_loop_for_a_running_service() {
    let fell = || task("a", "s", "failed", "task: non-zero exit (3)");
    let run = || task("b", "s", "running", "");
    let other = || {
        let mut other = task("c", "s", "running", "");
        other["Slot"] = json!(2);
        other
    };
    for (tasks, trusted) in [
        (vec![fell(), since(run(), 1)], false),
        (vec![fell(), since(run(), 60)], true),
        (vec![since(run(), 1)], true),
        (vec![fell(), since(run(), 60), since(other(), 1)], true),
        // Its node's clock is wrong, and would say the same for ever.
        (vec![fell(), since(run(), -3600)], true),
    ] {
        let said = format!("{tasks:?}");
        let mut wanted = service("s", Value::Null);
        let slots = tasks.iter().any(|task| task["Slot"] == 2);
        wanted["Spec"]["Mode"]["Replicated"]["Replicas"] = json!(if slots { 2 } else { 1 });
        let (_server, engine) = swarm(move |_| (vec![wanted.clone()], tasks.clone()), Vec::new());
        let targets = [ServiceTarget::in_place("s")];
        let verdicts = engine.judge_services(&targets, soon()).await;
        let verdict = &verdicts.expect("answers")[0];
        if trusted {
            assert!(matches!(verdict, Verdict::Converged { .. }), "{said}");
        } else {
            let text = verdict.to_string();
            assert!(text.contains("s.1 on host exited with code 3"), "{text}");
            assert!(!matches!(verdict, Verdict::Converged { .. }), "{said}");
        }
    }
}

#[test]
fn a_service_in_place_that_has_just_come_back_must_hold_too() {
    let fell = |id| task(id, "s", "failed", "exit");
    let run = |id| since(task(id, "s", "running", ""), 0);
    let mut bench = Bench::new(ServiceTarget::in_place("s"));
    assert_eq!(bench.at(0, Value::Null, &[fell("a"), run("b")]), None);
    assert_eq!(bench.at(9, Value::Null, &[fell("a"), run("b")]), None);
    // Seen running at every look, by another task each time.
    assert_eq!(
        bench.at(10, Value::Null, &[fell("a"), fell("b"), run("c")]),
        None
    );
    assert_eq!(bench.at(19, Value::Null, &[fell("b"), run("c")]), None);
    assert!(matches!(
        bench.at(20, Value::Null, &[fell("b"), run("c")]),
        Some(Outcome::Converged { .. })
    ));
}

#[test]
fn failures_from_before_the_wait_do_not_count_against_a_new_try() {
    let past = |id| task(id, "s", "failed", "exit");
    let starting = task("n", "s", "starting", "");
    let tasks = [past("a"), past("b"), past("c"), starting];
    let mut bench = Bench::new(ServiceTarget::in_place("s"));
    assert_eq!(bench.at(0, Value::Null, &tasks), None);
    assert_eq!(bench.at(60, Value::Null, &tasks), None);
    // A replica that nothing follows is a crash all the same, once that is sure.
    let mut bench = Bench::new(ServiceTarget::in_place("s"));
    let past_ones = [past("a"), past("b"), past("c")];
    assert_eq!(bench.at(0, Value::Null, &past_ones), None);
    assert_eq!(bench.at(9, Value::Null, &past_ones), None);
    assert_eq!(bench.at(9, Value::Null, &tasks), None);
    let mut bench = Bench::new(ServiceTarget::in_place("s"));
    assert_eq!(bench.at(0, Value::Null, &[past("a")]), None);
    assert!(matches!(
        bench.at(10, Value::Null, &[past("a")]),
        Some(Outcome::Crashing { failures: 1, .. })
    ));
}

#[test]
fn failures_from_before_the_write_do_not_count_against_an_equal_spec() {
    let mut stubborn = service("s", Value::Null);
    stubborn["Spec"]["UpdateConfig"] = json!({"FailureAction": "continue"});
    let fell = |id| task(id, "s", "failed", "exit");
    let starting = || task("n", "s", "starting", "");
    let past: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    let tasks = [fell("a"), fell("b"), fell("c"), starting()];
    let mut bench = Bench::new(written("s"));
    assert!(matches!(
        bench.with(0, stubborn.clone(), &tasks),
        Some(Outcome::Crashing { failures: 3, .. })
    ));
    let mut bench = Bench::new(written("s").after(past.clone()));
    assert_eq!(bench.with(0, stubborn.clone(), &tasks), None);
    // They do not make a success doubtful either: it needs 2 seconds, not 10.
    let run = [
        fell("a"),
        fell("b"),
        fell("c"),
        task("n", "s", "running", ""),
    ];
    assert_eq!(bench.with(1, stubborn.clone(), &run), None);
    assert_eq!(
        bench.with(3, stubborn.clone(), &run),
        Some(Outcome::Converged { tasks: 1 })
    );
    // Nor are they a replica that nothing follows.
    let mut bench = Bench::new(written("s").after(past.clone()));
    assert_eq!(bench.with(0, stubborn.clone(), &tasks[..3]), None);
    assert_eq!(bench.with(60, stubborn.clone(), &tasks[..3]), None);
    // Others count.
    let mut bench = Bench::new(written("s").after(past));
    let tasks = [fell("a"), fell("d"), fell("e"), starting()];
    assert_eq!(bench.with(0, stubborn.clone(), &tasks), None);
    let tasks = [fell("a"), fell("d"), fell("e"), fell("f"), starting()];
    assert!(matches!(
        bench.with(1, stubborn, &tasks),
        Some(Outcome::Crashing { failures: 3, .. })
    ));
}

#[test]
fn a_job_that_is_tried_again_is_waited_for() {
    let mut job = service("s", Value::Null);
    job["Spec"]["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}});
    let of = |id: &str, node: &str, state: &str, desired: &str| {
        json!({
            "ID": id, "ServiceID": "s", "NodeID": node, "CreatedAt": "2024-01-01T00:00:00Z",
            "DesiredState": desired, "JobIteration": {}, "Status": {"State": state},
        })
    };
    let fell = of("a", "n1", "failed", "shutdown");
    for target in [written("s"), ServiceTarget::in_place("s")] {
        let mut bench = Bench::new(target);
        let mut at = |second, state, desired| {
            let tasks = [fell.clone(), of("b", "n2", state, desired)];
            bench.with(second, job.clone(), &tasks)
        };
        assert_eq!(at(0, "ready", "ready"), None);
        assert_eq!(at(5, "starting", "complete"), None);
        assert_eq!(at(60, "running", "complete"), None);
        assert_eq!(
            at(61, "complete", "complete"),
            Some(Outcome::Completed { tasks: 1 })
        );
    }
    let mut bench = Bench::new(written("s"));
    assert_eq!(
        bench.with(0, job.clone(), std::slice::from_ref(&fell)),
        None
    );
    assert!(matches!(
        bench.with(3, job, &[fell]),
        Some(Outcome::Crashing { failures: 1, .. })
    ));
}

#[test]
fn a_task_that_waits_for_another_to_stop_has_as_long_as_that_has() {
    const MINUTE: u64 = 60_000_000_000;
    let pending = |why: &str| [task("p", "s", "pending", why)];
    let (port, label) = (
        "no suitable node (host-mode port already in use on 1 node)",
        "no suitable node (scheduling constraints not satisfied on 1 node)",
    );
    // The grace of the spec before, of this one, what finds no node why, and how long it may.
    for (before, now, why, seconds) in [
        (Some(MINUTE), 0, port, 65),
        (Some(0), MINUTE, port, 65),
        (Some(MINUTE), 0, "1: insufficient resources on 1 node", 65),
        (Some(MINUTE), 0, label, 15),
        (Some(0), 0, port, 15),
        // Nothing of it stops where it has only just been made.
        (None, MINUTE, port, 15),
    ] {
        let spec =
            |grace: u64| json!({"TaskTemplate": {"ContainerSpec": {"StopGracePeriod": grace}}});
        let mut seen = service("s", Value::Null);
        seen["PreviousSpec"] = before.map_or(Value::Null, spec);
        seen["Spec"]["TaskTemplate"] = spec(now)["TaskTemplate"].clone();
        let mut bench = Bench::new(written("s"));
        assert_eq!(bench.with(0, seen.clone(), &pending(why)), None);
        assert_eq!(bench.with(seconds - 1, seen.clone(), &pending(why)), None);
        assert!(matches!(
            bench.with(seconds, seen, &pending(why)),
            Some(Outcome::Unschedulable { .. })
        ));
    }
}

#[tokio::test]
async fn the_cause_of_a_rollback_is_what_the_engine_named() {
    let at = |id: &str, second: u32, error: &str| {
        let mut task = task(id, "back", "failed", error);
        task["CreatedAt"] = json!(format!("2024-01-01T00:00:{second:02}Z"));
        task
    };
    let (before, cause, after) = (at("o", 1, "old"), at("c1", 12, "this"), at("r", 20, "new"));
    let all = vec![before.clone(), cause.clone(), after.clone()];
    // Once the engine has said which, and once it was over too soon.
    for named in [true, false] {
        let (before, cause, after) = (before.clone(), cause.clone(), after.clone());
        let script = move |round: usize| {
            let (state, message, mut tasks) = match round {
                0 => ("updating", "update in progress", vec![cause.clone()]),
                1 if named => (
                    "rollback_started",
                    "update rolled back due to failure or early termination of task c1",
                    vec![before.clone()],
                ),
                _ => (
                    "rollback_completed",
                    "rollback completed",
                    vec![before.clone(), after.clone()],
                ),
            };
            tasks.push(task("n", "back", "running", ""));
            let status = json!({
                "State": state, "Message": message, "StartedAt": "2024-01-01T00:00:10Z",
            });
            (vec![service("back", status)], tasks)
        };
        let (_server, engine) = swarm(script, all.clone());
        let targets = [written("back").after(BTreeSet::from(["o".to_owned()]))];
        let outcomes = engine
            .await_services(&targets, &quick(), soon(), &mut |_| {})
            .await
            .expect("answers");
        assert_eq!(
            outcomes[0].1.to_string(),
            "rolled back (rollback completed): back.1 on host exited with code 3: this"
        );
    }
}

#[test]
fn what_may_pass_must_last_before_it_ends_a_wait() {
    let pending = task(
        "p",
        "s",
        "pending",
        "no suitable node (host-mode port in use)",
    );
    let mut bench = Bench::new(written("s"));
    assert_eq!(
        bench.at(0, Value::Null, std::slice::from_ref(&pending)),
        None
    );
    assert_eq!(
        bench.at(14, Value::Null, std::slice::from_ref(&pending)),
        None
    );
    assert_eq!(
        bench.at(15, Value::Null, &[task("p", "s", "preparing", "")]),
        None
    );
    assert_eq!(
        bench.at(16, Value::Null, std::slice::from_ref(&pending)),
        None
    );
    assert!(matches!(
        bench.at(31, Value::Null, &[pending]),
        Some(Outcome::Unschedulable { .. })
    ));
}

/// With `failure_action: continue` the engine completes an update whose tasks fail.
#[test]
fn a_completed_update_of_which_a_task_failed_is_watched_for_a_while() {
    let completed = json!({"State": "completed", "Message": "update completed"});
    let mut bench = Bench::new(written("s"));
    let failed = task("t1", "s", "failed", "task: non-zero exit (4)");
    let runs = task("t2", "s", "running", "");
    assert_eq!(
        bench.at(0, completed.clone(), &[failed.clone(), runs.clone()]),
        None
    );
    assert_eq!(
        bench.at(9, completed.clone(), &[failed.clone(), runs.clone()]),
        None
    );
    let ended = bench.at(10, completed.clone(), &[failed, runs.clone()]);
    assert_eq!(ended, Some(Outcome::Converged { tasks: 1 }));
    // The engine has watched one of which none failed.
    let mut bench = Bench::new(written("s"));
    let ended = bench.at(0, completed, &[runs]);
    assert_eq!(ended, Some(Outcome::Converged { tasks: 1 }));
}
