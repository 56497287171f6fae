//! Services that end in ways that the engine itself mistakes, hides or says by halves: jobs that are
//! tried again or are not, what finds no node, one-shots, tasks that take their time to stop.
//!
//! What is awaited for long is awaited at once.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
use serde_json::Value;

use super::fixture::Swarm;

/// A compose file of one service `one` that runs a line of shell.
fn shell(line: &str, more: &str) -> String {
    format!(
        "services:\n  one:\n    image: busybox:1.37\n    stop_grace_period: 1s\n    \
         command: [sh, -c, \"{line}\"]\n{more}"
    )
}

/// Deploys `text` as the stack `name` and demands the exit code; the outcome of its one service.
async fn outcome(swarm: &Swarm, name: &str, text: &str, code: i32) -> Value {
    let file = format!("{name}.yml");
    swarm.write(&file, text);
    let run = swarm.deploy(&file, name, &["--json"]).await.expect(code);
    let end = run.events().pop().expect("an end");
    assert_eq!(end["exit_code"], code, "{run}");
    end["outcomes"][0].clone()
}

/// That it ended so, in words that contain `said`.
fn check(outcome: &Value, kind: &str, said: &str) {
    assert_eq!(outcome["outcome"], kind, "{outcome}");
    let text = outcome["text"].as_str().expect("words");
    assert!(text.contains(said), "{said}: {outcome}");
}

pub(crate) async fn of_all_kinds(swarm: &Swarm) {
    all(vec![
        a_job_that_is_tried_again(swarm).boxed_local(),
        jobs_that_fail(swarm).boxed_local(),
        what_finds_no_node(swarm).boxed_local(),
        one_shots(swarm).boxed_local(),
        none_at_all(swarm).boxed_local(),
        a_port_that_is_let_go_of_late(swarm).boxed_local(),
    ])
    .await;
}

/// Awaits all, so that each that fails says so.
async fn all(runs: Vec<LocalBoxFuture<'_, ()>>) {
    let runs = runs
        .into_iter()
        .map(|run| AssertUnwindSafe(run).catch_unwind());
    let failed = join_all(runs)
        .await
        .iter()
        .filter(|run| run.is_err())
        .count();
    assert_eq!(failed, 0, "see above");
}

async fn a_job_that_is_tried_again(swarm: &Swarm) {
    // The first attempt on each node fails, and the others take longer than it is waited for
    // another attempt to begin.
    let job = shell(
        "mkdir /state/been && exit 3; sleep 5",
        "    volumes: [\"state:/state\"]\n    \
         deploy: { mode: replicated-job, restart_policy: { delay: 100ms, max_attempts: 3 } }\n\
         volumes: { state: {} }\n",
    );
    let ended = outcome(swarm, "again", &job, 0).await;
    check(&ended, "completed", "completed, 1 task");
    let run = swarm.stack(&["ps", "again", "--all"]).await.expect(0);
    assert!(run.stdout.contains("again_one.0"), "{run}");
    assert!(run.stdout.contains("failed"), "no attempt failed: {run}");
}

async fn jobs_that_fail(swarm: &Swarm) {
    let twice = shell(
        "echo no luck; exit 7",
        "    deploy: { mode: replicated-job, restart_policy: { delay: 100ms, max_attempts: 1 } }\n",
    );
    let everywhere = shell(
        "exit 5",
        "    deploy: { mode: global-job, restart_policy: { condition: none } }\n",
    );
    let (twice, everywhere) = tokio::join!(
        outcome(swarm, "twice", &twice, 15),
        outcome(swarm, "everywhere", &everywhere, 15),
    );
    check(
        &twice,
        "job-failed",
        "job failed: crashed 2 times: twice_one.0 on ",
    );
    assert_eq!(twice["exit_code"], 7);
    assert_eq!(twice["log"][0], "no luck");
    check(&everywhere, "job-failed", "exited with code 5");
    assert_eq!(everywhere["exit_code"], 5);
    swarm.remove("everywhere").await;
}

async fn what_finds_no_node(swarm: &Swarm) {
    let huge = "resources: { reservations: { memory: 90000G } }";
    let fast = "placement: { constraints: [node.labels.disk == fast] }";
    let text = |mode: &str, what: &str| {
        shell(
            "sleep 1000",
            &format!("    deploy: {{ mode: {mode}, {what} }}\n"),
        )
    };
    let cases = [
        (
            "r-huge",
            "replicated",
            huge,
            "no suitable node (insufficient resources on 2 nodes",
        ),
        (
            "j-huge",
            "replicated-job",
            huge,
            "no suitable node (insufficient resources on 2 nodes",
        ),
        // Of a task that belongs to a node the scheduler says why that does not fit, and another
        // part of the manager, at times, that it has taken it away.
        ("g-huge", "global", huge, "1: "),
        ("gj-huge", "global-job", huge, "1: "),
        (
            "j-fast",
            "replicated-job",
            fast,
            "scheduling constraints not satisfied on 2 nodes",
        ),
        (
            "g-fast",
            "global",
            fast,
            "no node satisfies node.labels.disk == fast",
        ),
        (
            "gj-fast",
            "global-job",
            fast,
            "no node satisfies node.labels.disk == fast",
        ),
    ];
    let run = async |name: &str, mode: &str, what: &str, said: &str| {
        let ended = outcome(swarm, name, &text(mode, what), 12).await;
        check(&ended, "unschedulable", said);
    };
    let runs = cases
        .iter()
        .map(|(name, mode, what, said)| run(name, mode, what, said));
    join_all(runs).await;
}

async fn one_shots(swarm: &Swarm) {
    let once = |line: &str, action: &str| {
        shell(
            line,
            &format!(
                "    deploy: {{ restart_policy: {{ condition: none }}, update_config: {{ failure_action: {action} }} }}\n"
            ),
        )
    };
    for line in ["echo 1", "echo 2"] {
        let ended = outcome(swarm, "shot", &once(line, "pause"), 0).await;
        check(&ended, "completed", "completed, 1 task");
    }
    // The engine has called the second a failure.
    swarm.write("shot.yml", &once("echo 2", "pause"));
    let run = swarm.deploy("shot.yml", "shot", &[]).await.expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    // Asked to take back what fails, it does so: a warning says that before.
    outcome(swarm, "shot", &once("echo 3", "continue"), 0).await;
    swarm.write("shot.yml", &once("echo 4", "rollback"));
    let run = swarm.deploy("shot.yml", "shot", &[]).await.expect(1);
    let said = "service shot_one: the engine rolls this update back (failure_action)";
    assert!(
        run.stderr.contains(said) || run.stdout.contains(said),
        "{run}"
    );
    assert!(run.stdout.contains("rolled back"), "{run}");
    assert!(run.stdout.contains("exited with code 0"), "{run}");
    assert!(run.stdout.contains("| 4"), "{run}");
}

async fn none_at_all(swarm: &Swarm) {
    let text = |replicas: u32| {
        shell(
            "sleep 1000",
            &format!("    deploy: {{ replicas: {replicas} }}\n"),
        )
    };
    for replicas in [0, 1, 0] {
        let ended = outcome(swarm, "none", &text(replicas), 0).await;
        let said = if replicas == 1 { "1 task" } else { "0 tasks" };
        check(&ended, "converged", said);
    }
    // An update that goes on although tasks fail.
    let stubborn = |line: &str| {
        shell(
            line,
            "    deploy: { restart_policy: { delay: 100ms }, update_config: { failure_action: continue, monitor: 1s } }\n",
        )
    };
    outcome(swarm, "stubborn", &stubborn("sleep 1000"), 0).await;
    let ended = outcome(swarm, "stubborn", &stubborn("exit 4"), 13).await;
    check(&ended, "crash-loop", "exited with code 4");
    assert_eq!(ended["exit_code"], 4);
    outcome(swarm, "stubborn", &stubborn("sleep 2000"), 0).await;
}

/// A port of a node is free only when the task that has it has stopped, which may take longer than
/// a task without a node is given otherwise.
async fn a_port_that_is_let_go_of_late(swarm: &Swarm) {
    let text = |seconds: u32| {
        // The first process of a container does not mind being asked to end.
        let more = "    ports: [{ target: 80, published: 8099, mode: host }]\n    \
                    deploy: { replicas: 2, update_config: { parallelism: 0, monitor: 1s } }\n";
        shell(&format!("sleep {seconds}; true"), more).replace("period: 1s", "period: 20s")
    };
    outcome(swarm, "late", &text(1000), 0).await;
    let ended = outcome(swarm, "late", &text(2000), 0).await;
    check(&ended, "converged", "converged, 2 tasks");
}
