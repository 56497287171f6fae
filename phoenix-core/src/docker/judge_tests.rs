use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::task::TaskState;
use super::*;

fn service(spec: Value, status: Option<(&str, &str)>) -> ServiceObserved {
    ServiceObserved::from_json(json!({
        "ID": "s", "Version": {"Index": 50},
        "Spec": spec,
        "UpdateStatus": status.map(|(state, message)| json!({"State": state, "Message": message})),
        "JobStatus": {"JobIteration": {"Index": 3}},
    }))
    .expect("service")
}

fn replicated(replicas: u64) -> Value {
    json!({"Name": "web", "Labels": {"spec": "new"}, "Mode": {"Replicated": {"Replicas": replicas}}})
}

/// As the engine sends it: without a slot of 0, and without a node that there is not.
fn task(id: u64, slot: u64, node: &str, state: &str, desired: &str, error: &str) -> Task {
    let mut task = json!({
        "ID": format!("t{id}"), "ServiceID": "s", "Slot": slot, "NodeID": node,
        "CreatedAt": format!("2024-01-01T00:00:{:02}.5Z", id % 60),
        "DesiredState": desired,
        "Spec": {"ContainerSpec": {"Image": "app:1"}},
        "Status": {"State": state, "Err": error,
                   "ContainerStatus": {"ContainerID": "c", "ExitCode": if state == "failed" { 3 } else { 0 }}},
        "JobIteration": {"Index": 3},
    });
    let fields = task.as_object_mut().expect("an object");
    fields.retain(|_, value| *value != json!(0) && *value != json!(""));
    Task::from_json(task).expect("task")
}

fn running(id: u64, slot: u64, node: &str) -> Task {
    task(id, slot, node, "running", "running", "")
}

fn failed(id: u64, slot: u64) -> Task {
    task(
        id,
        slot,
        "n1",
        "failed",
        "shutdown",
        "task: non-zero exit (3)",
    )
}

fn nodes() -> Vec<Node> {
    ["n1", "n2"]
        .iter()
        .map(|id| {
            Node::from_json(json!({
                "ID": id, "Description": {"Hostname": format!("host-{id}")},
                "Spec": {"Availability": "active", "Role": "worker"},
                "Status": {"State": "ready"},
            }))
            .expect("node")
        })
        .collect()
}

fn written() -> ServiceTarget {
    let mut target = ServiceTarget::in_place("s");
    target.min_version = Some(40);
    target
}

fn see(target: &ServiceTarget, service: &ServiceObserved, tasks: &[Task]) -> Verdict {
    judge(
        target,
        Some(service),
        tasks,
        &nodes(),
        &WaitOptions::default(),
    )
}

#[test]
fn a_rollback_is_no_success_although_all_tasks_run() {
    let tasks = [running(1, 1, "n1")];
    let words = "update rolled back due to failure or early termination of task x";
    let see_state = |target: &ServiceTarget, state| {
        see(
            target,
            &service(replicated(1), Some((state, words))),
            &tasks,
        )
    };
    let message = words.to_owned();
    assert_eq!(
        see_state(&written(), "rollback_completed"),
        Verdict::RolledBack {
            message: message.clone()
        }
    );
    assert_eq!(
        see_state(&written(), "rollback_started"),
        Verdict::RollingBack {
            message: message.clone()
        }
    );
    assert_eq!(
        see_state(&written(), "rollback_paused"),
        Verdict::RollbackPaused {
            message: message.clone()
        }
    );
    assert_eq!(
        see_state(&written(), "paused"),
        Verdict::Paused {
            message: message.clone()
        }
    );
    assert_eq!(
        see_state(&written(), "completed"),
        Verdict::Converged { tasks: 1 }
    );
    // The engine watches an update after its tasks run, and may still turn it back.
    assert!(matches!(
        see_state(&written(), "updating"),
        Verdict::Progressing { .. }
    ));
    // Where the spec in place is the wanted one, how it came there is past.
    let in_place = ServiceTarget::in_place("s");
    assert_eq!(
        see_state(&in_place, "rollback_completed"),
        Verdict::Converged { tasks: 1 }
    );
    // Unless a label says that it is not.
    let labelled = in_place.clone().with_label("spec", "newer");
    assert_eq!(
        see_state(&labelled, "rollback_completed"),
        Verdict::RolledBack { message }
    );
    assert_eq!(see_state(&labelled, "completed"), Verdict::Replaced);
    let labelled = in_place.with_label("spec", "new");
    assert_eq!(
        see_state(&labelled, "completed"),
        Verdict::Converged { tasks: 1 }
    );
}

#[test]
fn a_service_that_is_gone_or_older_than_the_write_is_not_converged() {
    let options = WaitOptions::default();
    assert_eq!(
        judge(&written(), None, &[], &nodes(), &options),
        Verdict::Gone
    );
    let mut ahead = written();
    ahead.min_version = Some(51);
    let verdict = see(
        &ahead,
        &service(replicated(1), None),
        &[running(1, 1, "n1")],
    );
    assert!(matches!(verdict, Verdict::Progressing { .. }));
}

#[test]
fn replicas_count_by_slot_and_only_on_nodes_that_are_up() {
    let two = service(replicated(2), None);
    let tasks = [running(1, 1, "n1"), running(2, 1, "n2")];
    assert!(matches!(
        see(&written(), &two, &tasks),
        Verdict::Progressing { done: 1, .. }
    ));
    let tasks = [running(1, 1, "n1"), running(2, 2, "n2")];
    assert_eq!(
        see(&written(), &two, &tasks),
        Verdict::Converged { tasks: 2 }
    );
    let mut all = nodes();
    all[1] = Node::from_json(json!({"ID": "n2", "Status": {"State": "down"}})).expect("node");
    let verdict = judge(
        &written(),
        Some(&two),
        &tasks,
        &all,
        &WaitOptions::default(),
    );
    assert!(matches!(verdict, Verdict::Progressing { done: 1, .. }));
    // Scaled down, with one replica still to stop.
    let one = service(replicated(1), None);
    assert!(matches!(
        see(&written(), &one, &tasks),
        Verdict::Progressing { .. }
    ));
    let none = service(replicated(0), None);
    assert_eq!(see(&written(), &none, &[]), Verdict::Converged { tasks: 0 });
    // A task on its way out does not count.
    let leaving = [task(1, 1, "n1", "running", "shutdown", "")];
    assert!(matches!(
        see(&written(), &one, &leaving),
        Verdict::Progressing { done: 0, .. }
    ));
}

#[test]
fn a_task_without_a_node_says_why() {
    let why = "no suitable node (scheduling constraints not satisfied on 2 nodes)";
    let tasks = [
        running(1, 1, "n1"),
        task(2, 2, "", "pending", "running", why),
    ];
    assert_eq!(
        see(&written(), &service(replicated(2), None), &tasks),
        Verdict::Unschedulable {
            reason: why.to_owned()
        }
    );
}

#[test]
fn a_crash_carries_code_node_and_words() {
    let one = service(replicated(1), None);
    let next = task(9, 1, "n1", "ready", "ready", "");
    let mut tasks = vec![failed(1, 1), failed(2, 1), next];
    match see(&written(), &one, &tasks) {
        Verdict::Progressing { detail, .. } => assert_eq!(
            detail,
            "0 of 1 tasks; web.1 is ready; web.1 on host-n1 exited with code 3: task: non-zero exit (3)"
        ),
        other => panic!("{other:?}"),
    }
    tasks.push(failed(3, 1));
    let last = TaskFailure {
        task: "web.1".to_owned(),
        id: "t3".to_owned(),
        node: "host-n1".to_owned(),
        image: "app:1".to_owned(),
        exit_code: Some(3),
        error: "task: non-zero exit (3)".to_owned(),
    };
    assert_eq!(
        see(&written(), &one, &tasks),
        Verdict::Crashing {
            failures: 3,
            restarting: true,
            last: last.clone()
        }
    );
    // While the engine watches an update it is the engine that decides.
    let updating = service(replicated(1), Some(("updating", "update in progress")));
    assert!(matches!(
        see(&written(), &updating, &tasks),
        Verdict::Progressing { .. }
    ));
    let mut spec = replicated(1);
    spec["UpdateConfig"] = json!({"FailureAction": "continue"});
    let stubborn = service(spec, Some(("updating", "update in progress")));
    assert!(matches!(
        see(&written(), &stubborn, &tasks),
        Verdict::Crashing { .. }
    ));
    // One that runs again is past its crashes.
    tasks.push(running(10, 1, "n1"));
    assert_eq!(
        see(&written(), &one, &tasks),
        Verdict::Converged { tasks: 1 }
    );
    // One that nothing follows is a crash at once.
    assert_eq!(
        see(&written(), &one, &[failed(1, 1)]),
        Verdict::Crashing {
            failures: 1,
            restarting: false,
            last: TaskFailure {
                id: "t1".to_owned(),
                ..last
            }
        }
    );
}

#[test]
fn a_missing_image_is_told_from_a_crash() {
    let one = service(replicated(1), None);
    let rejected = |id| task(id, 1, "n2", "rejected", "shutdown", "No such image: app:1");
    let next = task(9, 1, "n2", "preparing", "running", "");
    let tasks = [rejected(1), rejected(2), next];
    match see(&written(), &one, &tasks) {
        Verdict::ImageMissing { failures, last, .. } => {
            assert_eq!(failures, 2);
            assert_eq!((last.image.as_str(), last.exit_code), ("app:1", None));
            assert_eq!(last.node, "host-n2");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_may_end_well_has_converged_when_it_has() {
    let ended = [task(1, 1, "n1", "complete", "shutdown", "")];
    let mut spec = replicated(1);
    assert!(matches!(
        see(&written(), &service(spec.clone(), None), &ended),
        Verdict::Progressing { .. }
    ));
    spec["TaskTemplate"] = json!({"RestartPolicy": {"Condition": "on-failure"}});
    assert_eq!(
        see(&written(), &service(spec.clone(), None), &ended),
        Verdict::Completed { tasks: 1 }
    );
    // Of two replicas one still runs.
    spec["Mode"]["Replicated"]["Replicas"] = json!(2);
    let both = [ended[0].clone(), running(2, 2, "n1")];
    assert_eq!(
        see(&written(), &service(spec, None), &both),
        Verdict::Converged { tasks: 2 }
    );
}

#[test]
fn a_one_shot_that_ended_well_has_completed_although_the_engine_calls_that_a_failure() {
    let words = "update paused due to failure or early termination of task t2";
    let look = |target: &ServiceTarget, condition: &str, state: &str, tasks: &[Task]| {
        let mut spec = replicated(2);
        spec["TaskTemplate"] = json!({"RestartPolicy": {"Condition": condition}});
        see(target, &service(spec, Some((state, words))), tasks)
    };
    let ended = |id, slot| task(id, slot, "n1", "complete", "shutdown", "");
    let both = [ended(1, 1), ended(2, 2)];
    for condition in ["none", "on-failure"] {
        assert_eq!(
            look(&written(), condition, "paused", &both),
            Verdict::Completed { tasks: 2 }
        );
        // The engine has stopped before the second, or it is one that failed.
        for tasks in [&both[..1], &[ended(1, 1), failed(2, 2)]] {
            assert!(matches!(
                look(&written(), condition, "paused", tasks),
                Verdict::Paused { .. }
            ));
        }
    }
    // One that should run on has failed by ending.
    assert!(matches!(
        look(&written(), "any", "paused", &both),
        Verdict::Paused { .. }
    ));
    // Taken back is taken back, however well what was restored has ended.
    for state in ["rollback_started", "rollback_completed", "rollback_paused"] {
        let verdict = look(&written(), "none", state, &both);
        assert_eq!(verdict.settled(), None, "{verdict:?}");
    }
    let mut restoring = written();
    restoring.restoring = true;
    assert_eq!(
        look(&restoring, "none", "rollback_paused", &both),
        Verdict::Completed { tasks: 2 }
    );
}

#[test]
fn a_rollback_that_was_asked_for_is_an_update_like_any_other() {
    let mut target = written();
    target.restoring = true;
    let tasks = [running(1, 1, "n1")];
    let look = |state| {
        see(
            &target,
            &service(replicated(1), Some((state, "words"))),
            &tasks,
        )
    };
    assert_eq!(look("rollback_completed"), Verdict::Converged { tasks: 1 });
    assert!(matches!(
        look("rollback_started"),
        Verdict::Progressing { .. }
    ));
    assert!(matches!(
        look("rollback_paused"),
        Verdict::RollbackPaused { .. }
    ));
}

#[test]
fn a_global_service_needs_every_eligible_node() {
    let global = |constraints: Value| {
        service(
            json!({"Name": "g", "Mode": {"Global": {}},
                   "TaskTemplate": {"Placement": {"Constraints": constraints}}}),
            None,
        )
    };
    let everywhere = global(json!([]));
    let tasks = [running(1, 0, "n1")];
    assert!(matches!(
        see(&written(), &everywhere, &tasks),
        Verdict::Progressing {
            done: 1,
            wanted: 2,
            ..
        }
    ));
    assert_eq!(
        see(&written(), &global(json!(["node.id==n1"])), &tasks),
        Verdict::Converged { tasks: 1 }
    );
    assert_eq!(
        see(&written(), &global(json!(["node.role==manager"])), &[]),
        Verdict::Unschedulable {
            reason: "no node satisfies node.role==manager".to_owned()
        }
    );
    // Nothing placed yet: not converged, though no task is missing in the list.
    assert!(matches!(
        see(&written(), &everywhere, &[]),
        Verdict::Progressing { .. }
    ));
    // Undecidable constraints: the engine's count decides.
    let mut by_address = global(json!(["node.ip==10.0.0.1"]));
    assert!(matches!(
        see(&written(), &by_address, &[]),
        Verdict::Progressing { .. }
    ));
    by_address.counts = Some(
        serde_json::from_value(json!({"RunningTasks": 1, "DesiredTasks": 1})).expect("counts"),
    );
    assert_eq!(
        see(&written(), &by_address, &tasks),
        Verdict::Converged { tasks: 1 }
    );
}

fn job_of(completions: u64, policy: Value) -> ServiceObserved {
    service(
        json!({"Name": "j", "TaskTemplate": {"RestartPolicy": policy},
               "Mode": {"ReplicatedJob": {"MaxConcurrent": completions, "TotalCompletions": completions}}}),
        None,
    )
}

fn global_job(policy: Value) -> ServiceObserved {
    service(
        json!({"Name": "j", "TaskTemplate": {"RestartPolicy": policy}, "Mode": {"GlobalJob": {}}}),
        None,
    )
}

/// Tasks of jobs as the engine has them: the first replica without a slot, to be completed.
fn of_job(id: u64, slot: u64, node: &str, state: &str) -> Task {
    let desired = match state {
        "failed" => "shutdown",
        "ready" => "ready",
        _ => "complete",
    };
    let error = match state {
        "failed" => "task: non-zero exit (3)",
        _ => "",
    };
    task(id, slot, node, state, desired, error)
}

#[test]
fn a_job_has_converged_when_its_current_run_completed() {
    let job = job_of(2, json!({}));
    let done = |id, slot| of_job(id, slot, "n1", "complete");
    assert_eq!(
        see(&written(), &job, &[done(1, 0), done(2, 1)]),
        Verdict::Completed { tasks: 2 }
    );
    let mut earlier = done(2, 1);
    earlier.job_iteration = 2;
    assert!(matches!(
        see(&written(), &job, &[done(1, 0), earlier]),
        Verdict::Progressing { done: 1, .. }
    ));
    let everywhere = global_job(json!({}));
    let on = |id, node| of_job(id, 0, node, "complete");
    assert_eq!(
        see(&written(), &everywhere, &[on(1, "n1"), on(2, "n2")]),
        Verdict::Completed { tasks: 2 }
    );
    assert_eq!(
        see(&written(), &job_of(0, json!({})), &[]),
        Verdict::Completed { tasks: 0 }
    );
}

#[test]
fn a_job_that_is_tried_again_has_not_failed() {
    let job = job_of(1, json!({}));
    for state in ["ready", "preparing", "running"] {
        // On another node: it is the same replica all the same.
        let tasks = [of_job(1, 0, "n1", "failed"), of_job(2, 0, "n2", state)];
        let text = see(&written(), &job, &tasks).to_string();
        assert_eq!(
            text,
            format!(
                "0/1 tasks: 0 of 1 tasks; j.0 is {state}; j.0 on host-n1 exited with code 3: task: non-zero exit (3)"
            )
        );
        let everywhere = global_job(json!({}));
        let mut tasks = vec![of_job(1, 0, "n1", "failed"), of_job(2, 0, "n1", state)];
        assert!(matches!(
            see(&written(), &everywhere, &tasks),
            Verdict::Progressing {
                done: 0,
                wanted: 1,
                ..
            }
        ));
        tasks[1] = of_job(2, 0, "n1", "complete");
        assert_eq!(
            see(&written(), &everywhere, &tasks),
            Verdict::Completed { tasks: 1 }
        );
    }
    let tasks = [of_job(1, 0, "n1", "failed"), of_job(2, 0, "n2", "complete")];
    assert_eq!(
        see(&written(), &job, &tasks),
        Verdict::Completed { tasks: 1 }
    );
}

#[test]
fn a_job_has_failed_when_it_is_not_tried_again_or_was_too_often() {
    let crashes = |job: &ServiceObserved, failures: u64, retry: Option<&str>| {
        let mut tasks: Vec<Task> = (1..=failures)
            .map(|id| of_job(id, 0, "n1", "failed"))
            .collect();
        tasks.extend(retry.map(|state| of_job(9, 0, "n1", state)));
        match see(&written(), job, &tasks) {
            Verdict::Crashing {
                failures: told,
                restarting,
                last,
            } => {
                assert_eq!((told, last.exit_code), (failures, Some(3)));
                Some(restarting)
            }
            Verdict::Progressing { .. } => None,
            other => panic!("{other:?}"),
        }
    };
    let (none, limited, unlimited, within) = (
        json!({"Condition": "none"}),
        json!({"Condition": "any", "MaxAttempts": 4}),
        json!({}),
        json!({"Condition": "on-failure", "MaxAttempts": 1, "Window": 60_000_000_000_u64}),
    );
    for job in [|policy| job_of(1, policy), global_job] {
        assert_eq!(crashes(&job(none.clone()), 1, None), Some(false));
        // As the engine does once another replica has failed too.
        assert_eq!(crashes(&job(none.clone()), 1, Some("ready")), Some(true));
        // As often as is allowed, and no less.
        assert_eq!(crashes(&job(limited.clone()), 4, Some("ready")), None);
        assert_eq!(crashes(&job(limited.clone()), 5, None), Some(false));
        assert_eq!(crashes(&job(limited.clone()), 5, Some("ready")), Some(true));
        // One that still runs may end well.
        assert_eq!(crashes(&job(limited.clone()), 5, Some("running")), None);
        assert_eq!(crashes(&job(unlimited.clone()), 2, Some("ready")), None);
        assert_eq!(
            crashes(&job(unlimited.clone()), 3, Some("ready")),
            Some(true)
        );
        assert_eq!(crashes(&job(within.clone()), 2, Some("ready")), None);
        assert_eq!(crashes(&job(within.clone()), 3, Some("ready")), Some(true));
    }
}

#[test]
fn what_belongs_to_a_node_that_does_not_fit_is_unschedulable() {
    let global = service(json!({"Name": "g", "Mode": {"Global": {}}}), None);
    let pending = |desired| {
        let why = "insufficient resources on 1 node";
        [
            task(1, 0, "n1", "running", desired, ""),
            task(2, 0, "n2", "pending", desired, why),
        ]
    };
    let verdict = Verdict::Unschedulable {
        reason: "host-n2: insufficient resources on 1 node".to_owned(),
    };
    assert_eq!(see(&written(), &global, &pending("running")), verdict);
    let job = global_job(json!({}));
    assert_eq!(see(&written(), &job, &pending("complete")), verdict);
    let why = "no suitable node (unsupported platform on 2 nodes)";
    let nowhere = task(1, 0, "", "pending", "complete", why);
    assert_eq!(
        see(&written(), &job_of(1, json!({})), &[nowhere]),
        Verdict::Unschedulable {
            reason: why.to_owned()
        }
    );
    // What a node says while it prepares a task is another matter.
    let prepares = task(2, 0, "n2", "preparing", "running", "something");
    assert!(matches!(
        see(&written(), &global, &[running(1, 0, "n1"), prepares]),
        Verdict::Progressing { done: 1, .. }
    ));
}

#[test]
fn what_a_node_that_does_not_fit_has_been_spared_is_no_crash() {
    let away = |id| {
        let why = "assigned node no longer meets constraints";
        task(id, 0, "n2", "rejected", "shutdown", why)
    };
    let pending = |why| task(9, 0, "n2", "pending", "ready", why);
    let unschedulable = |why: &str| Verdict::Unschedulable {
        reason: format!("host-n2: {why}"),
    };
    let global = service(json!({"Name": "g", "Mode": {"Global": {}}}), None);
    let look = |more: Vec<Task>| {
        let mut tasks = vec![running(1, 0, "n1"), away(2), away(3), away(4)];
        tasks.extend(more);
        see(&written(), &global, &tasks)
    };
    let why = "insufficient resources on 1 node";
    assert_eq!(look(vec![pending(why)]), unschedulable(why));
    let why = "assigned node no longer meets constraints";
    assert_eq!(look(vec![pending("")]), unschedulable(why));
    assert_eq!(look(Vec::new()), unschedulable(why));
    // It fits again.
    let prepares = task(9, 0, "n2", "preparing", "running", "");
    assert!(matches!(
        look(vec![prepares]),
        Verdict::Progressing { done: 1, .. }
    ));
    assert_eq!(
        look(vec![running(9, 0, "n2")]),
        Verdict::Converged { tasks: 2 }
    );
}

#[test]
fn nodes_that_have_left_count_neither_for_nor_against() {
    let look = |service: &ServiceObserved, tasks: &[Task]| {
        let mut all = nodes();
        all.push(
            Node::from_json(json!({
                "ID": "n3", "Description": {"Hostname": "host-n3"},
                "Spec": {"Availability": "drain", "Role": "worker"},
                "Status": {"State": "ready"},
            }))
            .expect("node"),
        );
        judge(
            &written(),
            Some(service),
            tasks,
            &all,
            &WaitOptions::default(),
        )
    };
    let on = |id, node, state| of_job(id, 0, node, state);
    let job = global_job(json!({"Condition": "none"}));
    let mut tasks = vec![
        on(1, "n1", "complete"),
        on(2, "n3", "complete"),
        on(3, "n2", "failed"),
    ];
    assert!(matches!(
        look(&job, &tasks),
        Verdict::Crashing { failures: 1, .. }
    ));
    tasks[2] = on(3, "n2", "running");
    assert!(matches!(
        look(&job, &tasks),
        Verdict::Progressing {
            done: 2,
            wanted: 3,
            ..
        }
    ));
    // A node that came after the job gets no task of it by that.
    assert_eq!(look(&job, &tasks[..2]), Verdict::Completed { tasks: 2 });
    assert!(matches!(
        look(&job, &[]),
        Verdict::Progressing {
            done: 0,
            wanted: 2,
            ..
        }
    ));
    let ended = service(
        json!({"Name": "g", "Mode": {"Global": {}},
               "TaskTemplate": {"RestartPolicy": {"Condition": "on-failure"}}}),
        None,
    );
    let tasks = [
        task(1, 0, "n1", "complete", "shutdown", ""),
        task(2, 0, "n3", "complete", "shutdown", ""),
        task(3, 0, "n2", "failed", "shutdown", ""),
    ];
    assert!(matches!(
        look(&ended, &tasks),
        Verdict::Crashing { failures: 1, .. }
    ));
    let everywhere = service(json!({"Name": "g", "Mode": {"Global": {}}}), None);
    let tasks = [
        running(1, 0, "n1"),
        running(2, 0, "n2"),
        task(3, 0, "n3", "failed", "shutdown", ""),
    ];
    assert_eq!(look(&everywhere, &tasks), Verdict::Converged { tasks: 2 });
    assert!(matches!(
        look(&everywhere, &tasks[1..]),
        Verdict::Progressing {
            done: 1,
            wanted: 2,
            ..
        }
    ));
}

proptest! {
    /// Whatever the tasks: a rolled back write is never a success, a paused one only where all
    /// tasks have ended well, and a success has exactly the wanted replicas.
    #[test]
    fn success_means_the_wanted_replicas_run(
        replicas in 0u64..4,
        rows in proptest::collection::vec(
            (1u64..5, 0usize..3, 0usize..8, 0usize..3), 0..12),
        status in 0usize..7,
        condition in 0usize..3,
    ) {
        const STATES: [&str; 8] = [
            "pending", "preparing", "running", "complete", "shutdown", "failed", "rejected", "odd",
        ];
        let tasks: Vec<Task> = rows
            .iter()
            .zip(1..)
            .map(|((slot, node, state, desired), id)| {
                task(
                    id, *slot, ["n1", "n2", ""][*node], STATES[*state],
                    ["running", "shutdown", "ready"][*desired], "",
                )
            })
            .collect();
        let status = [
            None, Some("updating"), Some("paused"), Some("completed"), Some("rollback_started"),
            Some("rollback_paused"), Some("rollback_completed"),
        ][status];
        let condition = ["any", "on-failure", "none"][condition];
        let mut spec = replicated(replicas);
        spec["TaskTemplate"] = json!({"RestartPolicy": {"Condition": condition}});
        let observed = service(spec, status.map(|state| (state, "")));
        let verdict = see(&written(), &observed, &tasks);
        let good = |task: &&Task| {
            task.is_running() || (condition != "any" && task.state == TaskState::Complete)
        };
        if let Verdict::Converged { tasks: count } = verdict {
            prop_assert!(matches!(status, None | Some("completed")));
            let slots: std::collections::BTreeSet<_> = tasks
                .iter()
                .filter(good)
                .map(|task| task.slot)
                .collect();
            prop_assert!(slots.len() as u64 >= replicas);
            prop_assert!(condition != "any" || slots.len() as u64 == replicas);
            prop_assert_eq!(count, replicas);
        }
        if let Verdict::Completed { tasks: count } = verdict {
            prop_assert!(matches!(status, None | Some("completed" | "paused")));
            prop_assert!(condition != "any" && !tasks.iter().any(Task::is_running));
            prop_assert_eq!(count, replicas);
        }
    }

    /// Whatever the tasks of a job: it has completed when so many have, and has failed only where
    /// a replica is not tried again, or was as often as it may be.
    #[test]
    fn a_job_ends_when_its_tasks_have(
        completions in 0u64..4,
        retries in 0u64..4,
        rows in proptest::collection::vec((0u64..4, 0usize..2, 0usize..6), 0..12),
    ) {
        const STATES: [&str; 6] = ["failed", "ready", "pending", "preparing", "running", "complete"];
        let tasks: Vec<Task> = rows
            .iter()
            .zip(1..)
            .map(|((slot, node, state), id)| of_job(id, *slot, ["n1", "n2"][*node], STATES[*state]))
            .collect();
        let verdict = see(&written(), &job_of(completions, json!({"MaxAttempts": retries})), &tasks);
        let complete = tasks.iter().filter(|task| task.state == TaskState::Complete).count() as u64;
        prop_assert_eq!(verdict.settled(), (complete >= completions).then_some(complete));
        match verdict {
            Verdict::Crashing { failures, restarting, .. } => {
                let allowed = if retries == 0 { 3 } else { retries + 1 };
                prop_assert!(!restarting || failures >= allowed);
            }
            verdict => prop_assert!(
                matches!(verdict, Verdict::Completed { .. } | Verdict::Progressing { .. }),
                "{verdict:?}"
            ),
        }
    }
}
