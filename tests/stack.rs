//! Stacks on a lab's swarm, by the real `phoenix stack` and beside the docker CLI: every way in
//! which a service can end, what is left alone, what is rotated, removed, and survived.

mod stack {
    mod commands;
    pub(crate) mod fixture;
    pub(crate) mod followed;
    mod leader;
    pub(crate) mod outcomes;
}

use std::collections::BTreeSet;
use std::time::Duration;

use phoenix_lab::{Service, ServiceAction};
use serde_json::Value;
use stack::fixture::Swarm;

/// Short times, so that failures come soon.
const QUICK: &str = "stop_grace_period: 1s";

/// A compose file of one service `one`.
fn one(image: &str, more: &str) -> String {
    format!("services:\n  one:\n    image: {image}\n    {QUICK}\n{more}")
}

fn deploy(more: &str) -> String {
    format!(
        "    deploy:\n      restart_policy: {{ delay: 100ms }}\n      update_config: {{ monitor: 2s{more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_has_its_words_and_its_exit_code() {
    let swarm = Swarm::start(&["m1"], &["w1"]).await;
    converged_and_then_nothing_to_do(&swarm).await;
    a_rollback_is_a_failure_and_is_remembered(&swarm).await;
    a_paused_update(&swarm).await;
    what_cannot_run(&swarm).await;
    jobs_and_one_shots(&swarm).await;
    dependencies_come_first_and_block(&swarm).await;
    a_look_at_stacks(&swarm).await;
    what_a_rollback_would_need_is_kept(&swarm).await;
    swarm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_that_the_engine_hides_or_calls_otherwise() {
    let swarm = Swarm::start(&["m1"], &["w1"]).await;
    stack::outcomes::of_all_kinds(&swarm).await;
    swarm.stop().await;
}

async fn converged_and_then_nothing_to_do(swarm: &Swarm) {
    swarm.write("fine.yml", &one("busybox:1.37", &deploy("")));
    let run = swarm.deploy("fine.yml", "fine", &[]).await.expect(0);
    assert!(
        run.stdout.contains("Converged: 1 service; 2 changes."),
        "{run}"
    );
    let before = swarm.services().await;
    let run = swarm.deploy("fine.yml", "fine", &[]).await.expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    assert_eq!(swarm.services().await, before, "something was written");
    let run = swarm.stack(&["diff", "fine.yml", "--name", "fine", "--detailed-exitcode"]);
    let run = run.await.expect(0);
    assert_eq!(run.stdout, "No changes: 1 service as declared.\n");
}

async fn a_rollback_is_a_failure_and_is_remembered(swarm: &Swarm) {
    let back = ", failure_action: rollback";
    swarm.write("back.yml", &one("busybox:1.37", &deploy(back)));
    swarm.deploy("back.yml", "back", &[]).await.expect(0);
    swarm.write("back.yml", &one("crash:1", &deploy(back)));
    let run = swarm.deploy("back.yml", "back", &[]).await.expect(1);
    for part in [
        "rolled back",
        "exited with code 3",
        "| cannot open the database",
    ] {
        assert!(run.stdout.contains(part), "{part}: {run}");
    }
    assert!(swarm.image("back_one").await.starts_with("busybox:1.37"));

    let before = swarm.services().await;
    let run = swarm.deploy("back.yml", "back", &[]).await.expect(1);
    let said = "is left alone: this spec was rolled back at ";
    assert!(run.stdout.contains(said), "{run}");
    assert_eq!(swarm.services().await, before, "it was tried again");
    let run = swarm
        .stack(&["diff", "back.yml", "--name", "back"])
        .await
        .expect(1);
    assert!(
        run.stdout.contains("this spec was rolled back at "),
        "{run}"
    );
    assert!(run.stdout.contains("--retry-rolled-back"), "{run}");

    let run = swarm
        .deploy("back.yml", "back", &["--retry-rolled-back"])
        .await
        .expect(1);
    assert!(run.stdout.contains("rolled back"), "{run}");
    assert_ne!(swarm.services().await, before, "it was not tried again");
    // Another spec is another matter.
    swarm.write("back.yml", &one("alpine:3.20", &deploy(back)));
    swarm.deploy("back.yml", "back", &[]).await.expect(0);
    // Asked for, it is no failure.
    let run = swarm.stack(&["rollback", "back"]).await.expect(0);
    assert!(run.stdout.contains("converged, 1 task"), "{run}");
    assert!(swarm.image("back_one").await.starts_with("busybox:1.37"));
    // What an operator took back is remembered as well.
    let run = swarm.deploy("back.yml", "back", &[]).await.expect(1);
    assert!(run.stdout.contains("is left alone"), "{run}");
    // The engine keeps the spec that was left: once more is there again.
    swarm.stack(&["rollback", "back", "one"]).await.expect(0);
    assert!(swarm.image("back_one").await.starts_with("alpine:3.20"));
    let run = swarm.stack(&["rollback", "fine"]).await.expect(0);
    assert!(
        run.stderr.contains("has no other spec to return to"),
        "{run}"
    );
    swarm.remove("back").await;
}

async fn a_paused_update(swarm: &Swarm) {
    swarm.write("paused.yml", &one("busybox:1.37", &deploy("")));
    swarm.deploy("paused.yml", "paused", &[]).await.expect(0);
    swarm.write("paused.yml", &one("crash:1", &deploy("")));
    let run = swarm.deploy("paused.yml", "paused", &[]).await.expect(11);
    assert!(run.stdout.contains("paused"), "{run}");
    assert!(run.stdout.contains("exited with code 3"), "{run}");
    swarm.remove("paused").await;
}

async fn what_cannot_run(swarm: &Swarm) {
    let nowhere = "    deploy: { placement: { constraints: [node.labels.disk == fast] } }\n";
    let cases = [
        ("nowhere", one("busybox:1.37", nowhere), 12, "unschedulable"),
        (
            "crash",
            one("crash:1", &deploy("")),
            13,
            "exited with code 3",
        ),
        ("sick", one("unhealthy:1", &deploy("")), 13, "unhealthy"),
        (
            "lost",
            one("nobody/has-this:7", &deploy("")),
            14,
            "is missing",
        ),
    ];
    for (name, text, code, said) in &cases {
        let file = format!("{name}.yml");
        swarm.write(&file, text);
        let run = swarm.deploy(&file, name, &["--json"]).await.expect(*code);
        let end = run.events().pop().expect("an end");
        assert_eq!(end["event"], "finished", "{run}");
        assert_eq!(end["exit_code"], *code, "{run}");
        let outcome = &end["outcomes"][0];
        let text = outcome["text"].as_str().expect("words");
        assert!(text.contains(said), "{text}");
        if *name == "crash" {
            assert_eq!(outcome["outcome"], "crash-loop");
            assert_eq!(outcome["exit_code"], 3);
            assert_eq!(outcome["log"][0], "cannot open the database");
        }
        if *name == "lost" {
            assert!(["m1", "w1"].contains(&outcome["node"].as_str().expect("a node")));
        }
        swarm.remove(name).await;
    }
    // One that never becomes healthy, and never fails.
    let slow = "    healthcheck: { test: [CMD, sleep, \"600\"], timeout: 600s }\n";
    swarm.write("slow.yml", &one("busybox:1.37", slow));
    let run = swarm
        .deploy("slow.yml", "slow", &["--timeout", "6s"])
        .await
        .expect(4);
    assert!(run.stdout.contains("not converged after"), "{run}");
    swarm.remove("slow").await;
}

async fn jobs_and_one_shots(swarm: &Swarm) {
    let job = |code: u8| {
        one(
            "busybox:1.37",
            &format!(
                "    command: [sh, -c, \"echo ran; exit {code}\"]\n    deploy: {{ mode: replicated-job, restart_policy: {{ condition: none }} }}\n"
            ),
        )
    };
    swarm.write("job.yml", &job(0));
    let run = swarm.deploy("job.yml", "job", &[]).await.expect(0);
    assert!(run.stdout.contains("completed, 1 task"), "{run}");
    let before = swarm.services().await;
    let tasks = swarm.task_ids().await;
    swarm.deploy("job.yml", "job", &[]).await.expect(0);
    assert_eq!(swarm.services().await, before);
    assert_eq!(swarm.task_ids().await, tasks, "the job ran again");
    swarm.write("job.yml", &job(5));
    let run = swarm.deploy("job.yml", "job", &[]).await.expect(15);
    assert!(run.stdout.contains("job failed"), "{run}");
    assert!(run.stdout.contains("exited with code 5"), "{run}");
    assert!(run.stdout.contains("| ran"), "{run}");
    swarm.remove("job").await;

    let once =
        "    command: [sh, -c, \"exit 0\"]\n    deploy: { restart_policy: { condition: none } }\n";
    swarm.write("once.yml", &one("busybox:1.37", once));
    let run = swarm.deploy("once.yml", "once", &[]).await.expect(0);
    assert!(run.stdout.contains("completed, 1 task"), "{run}");
    swarm.remove("once").await;

    // It runs for longer than the engine watches it for, and is waited for all the same.
    let migrated = "services:
  migrate: { image: busybox:1.37, command: [sh, -c, \"sleep 9\"] }
  app:
    image: busybox:1.37
    command: [sh, -c, \"sleep 1000\"]
    stop_grace_period: 1s
    depends_on: { migrate: { condition: service_completed_successfully } }
";
    swarm.write("migrated.yml", migrated);
    let compose = ["--dialect", "compose"];
    let run = swarm.deploy("migrated.yml", "migrated", &compose).await;
    let run = run.expect(0);
    assert!(
        run.stdout
            .contains("service migrated_migrate completed, 1 task"),
        "{run}"
    );
    swarm
        .deploy("migrated.yml", "migrated", &compose)
        .await
        .expect(0);
    swarm.remove("migrated").await;
}

async fn dependencies_come_first_and_block(swarm: &Swarm) {
    let file = |image: &str| {
        format!(
            "services:
  web: {{ image: busybox:1.37, {QUICK}, depends_on: [db], deploy: {{ update_config: {{ monitor: 1s }} }} }}
  db: {{ image: {image}, {QUICK}, deploy: {{ restart_policy: {{ delay: 100ms }}, update_config: {{ monitor: 1s }} }} }}
"
        )
    };
    swarm.write("order.yml", &file("crash:1"));
    let run = swarm.deploy("order.yml", "order", &[]).await.expect(13);
    assert!(
        run.stdout
            .contains("service order_web was not written: it depends on db"),
        "{run}"
    );
    assert!(!swarm.services().await.contains_key("order_web"));
    swarm.write("order.yml", &file("busybox:1.37"));
    let run = swarm.deploy("order.yml", "order", &[]).await.expect(0);
    let at = |text: &str| {
        run.stdout
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {run}"))
    };
    assert!(
        at("= service order_db converged") < at("+ service order_web"),
        "{run}"
    );
    swarm.remove("order").await;
}

async fn a_look_at_stacks(swarm: &Swarm) {
    let run = swarm.stack(&["ls", "--json"]).await.expect(0);
    let stacks: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(stacks["stacks"].as_array().map(Vec::len), Some(1), "{run}");
    assert_eq!(stacks["stacks"][0]["name"], "fine");
    assert_eq!(stacks["stacks"][0]["converged"], 1);
    let run = swarm.stack(&["services", "fine", "--json"]).await.expect(0);
    let services: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(services["services"][0]["replicas"], "1/1");
    assert_eq!(services["services"][0]["image"], "busybox:1.37");
    let run = swarm.stack(&["ps", "fine"]).await.expect(0);
    assert!(run.stdout.contains("fine_one.1"), "{run}");
    assert!(run.stdout.contains("running"), "{run}");
    swarm.stack(&["services", "nobody"]).await.expect(1);

    let talk = "    command: [sh, -c, \"echo out; echo err >&2; sleep 1000\"]\n";
    swarm.write("talk.yml", &one("busybox:1.37", talk));
    swarm.deploy("talk.yml", "talk", &[]).await.expect(0);
    let run = swarm
        .stack(&["logs", "talk", "one", "--json"])
        .await
        .expect(0);
    let said: BTreeSet<(String, String)> = run
        .events()
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (text("stream"), text("text"))
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        said,
        BTreeSet::from([pair("stdout", "out"), pair("stderr", "err")])
    );
    followed_logs(swarm).await;
    swarm.remove("talk").await;
}

/// What is written is printed as it comes, also by tasks of a later spec, until a signal comes.
async fn followed_logs(swarm: &Swarm) {
    let counting = "    command: [sh, -c, \"i=0; while true; do i=$$((i+1)); echo $$WORD $$i; sleep 0.1; done\"]\n    \
                    tty: true\n    environment: { WORD: first }\n";
    swarm.write("talk.yml", &one("busybox:1.37", counting));
    swarm.deploy("talk.yml", "talk", &[]).await.expect(0);
    let arguments = ["logs", "talk", "--follow", "--tail", "1", "--timestamps"];
    let mut followed = swarm.follow(&arguments);
    followed.until("first ").await;
    let counting = counting.replace("WORD: first", "WORD: second");
    swarm.write("talk.yml", &one("busybox:1.37", &counting));
    swarm.deploy("talk.yml", "talk", &[]).await.expect(0);
    let line = followed.until("second ").await;
    assert!(line.starts_with("20"), "a time: {line}");
    assert!(
        line.contains("Z talk_one.1@") && line.contains("1 | second "),
        "{line}"
    );
    followed.interrupt(0).await;

    let run = swarm
        .stack(&["logs", "talk", "--since", "1h", "--tail", "2"])
        .await
        .expect(0);
    assert!(run.stdout.contains("second "), "{run}");
    let run = swarm
        .stack(&["logs", "talk", "--since", "2100-01-01T00:00:00Z"])
        .await
        .expect(0);
    assert_eq!(run.stdout, "", "{run}");
    // A reader that goes away ends it, too.
    let mut followed = swarm.follow(&["logs", "talk", "-f"]);
    followed.until("second ").await;
    followed.close(0).await;
    swarm.stack(&["logs", "nobody", "-f"]).await.expect(1);
}

/// No old versions are asked for; those of the previous spec stay all the same.
async fn what_a_rollback_would_need_is_kept(swarm: &Swarm) {
    for action in ["pause", "rollback"] {
        let action = format!(", failure_action: {action}");
        let text = one(
            "busybox:1.37",
            &format!(
                "    secrets: [word]\n    configs: [page]\n{}secrets: {{ word: {{ file: word.txt }} }}\nconfigs: {{ page: {{ file: page.txt }} }}\n",
                deploy(&action)
            ),
        );
        swarm.write("kept.yml", &text);
        let deploy = async |content: &str| {
            swarm.write("word.txt", content);
            swarm.write("page.txt", content);
            let run = swarm.deploy("kept.yml", "kept", &["--keep", "0"]).await;
            (run.expect(0), swarm.objects().await)
        };
        let read = async || {
            let argv = ["cat", "/run/secrets/word", "/page"];
            swarm.exec("kept_one", &argv).await
        };
        let (_, first) = deploy("1").await;
        assert_eq!(first.len(), 2, "{first:?}");
        let (run, both) = deploy("2").await;
        assert!(
            both.is_superset(&first) && both.len() == 4,
            "{both:?}: {run}"
        );
        assert_eq!(read().await, "22");
        // Neither another look nor `--prune` takes them.
        let run = swarm.deploy("kept.yml", "kept", &["--keep", "0", "--prune"]);
        let run = run.await.expect(0);
        assert!(run.stdout.contains("nothing to change"), "{run}");
        assert_eq!(swarm.objects().await, both);

        swarm.stack(&["rollback", "kept"]).await.expect(0);
        assert_eq!(read().await, "11");
        assert_eq!(swarm.objects().await, both);
        // What neither the current spec nor the previous one refers to goes.
        let (run, last) = deploy("3").await;
        assert!(
            last.is_superset(&first) && last.len() == 4,
            "{last:?}: {run}"
        );
        assert_eq!(last.intersection(&both).count(), 2, "{last:?}: {run}");
        assert_eq!(read().await, "33");
        swarm.stack(&["rollback", "kept"]).await.expect(0);
        assert_eq!(read().await, "11");
        swarm.remove("kept").await;
    }
}

const BOTH: &str = "
services:
  web:
    image: nginx:1.27-alpine
    stop_grace_period: 1s
    environment: { LEVEL: debug, EMPTY: \"\" }
    ports: [\"8081:80\"]
    secrets: [password]
    configs: [{ source: settings, target: /etc/settings }]
    volumes: [\"data:/data\"]
    deploy: { replicas: 2, update_config: { monitor: 1s } }
  worker:
    image: busybox:1.37
    stop_grace_period: 1s
    networks: [back, default]
networks: { back: { internal: true } }
volumes: { data: {} }
secrets: { password: { file: password.txt } }
configs: { settings: { file: settings.txt } }
";

#[tokio::test(flavor = "multi_thread")]
async fn either_tool_takes_over_from_the_other_and_restarts_nothing() {
    let swarm = Swarm::start(&["m1"], &["w1"]).await;
    swarm.write("both.yml", &format!("version: \"3.8\"\n{BOTH}"));
    swarm.write("password.txt", "hunter2-of-the-stack");
    swarm.write("settings.txt", "level=1\n");
    // docker first.
    swarm
        .docker(&["stack", "deploy", "-c", "both.yml", "both"])
        .await;
    swarm.until_running(3).await;
    let (containers, objects) = (swarm.containers().await, swarm.objects().await);
    let run = swarm.deploy("both.yml", "both", &[]).await.expect(0);
    assert!(
        run.stdout
            .contains("secret both_password (taken over as it is)"),
        "{run}"
    );
    assert_eq!(swarm.containers().await, containers, "{run}");
    assert_eq!(swarm.objects().await, objects, "{run}");
    let run = swarm.deploy("both.yml", "both", &[]).await.expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    // And docker over that.
    swarm
        .docker(&["stack", "deploy", "-c", "both.yml", "both"])
        .await;
    assert_eq!(swarm.containers().await, containers);
    assert_eq!(swarm.objects().await, objects);

    // Another content of a secret that docker has relabelled: found out, and rotated.
    swarm.write("password.txt", "another-of-the-stack");
    let run = swarm.deploy("both.yml", "both", &[]).await.expect(0);
    assert!(run.stdout.contains("secret both_password-"), "{run}");
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains("of-the-stack"), "{run}");
    }
    swarm.remove("both").await;

    // Phoenix first.
    swarm.deploy("both.yml", "both", &[]).await.expect(0);
    let (containers, objects) = (swarm.containers().await, swarm.objects().await);
    assert!(objects.contains("secret both_password") && objects.contains("config both_settings"));
    swarm
        .docker(&["stack", "deploy", "-c", "both.yml", "both"])
        .await;
    assert_eq!(swarm.containers().await, containers);
    assert_eq!(swarm.objects().await, objects);

    a_removed_stack_leaves_nothing_and_can_come_back_at_once(&swarm).await;
    what_is_left_out_goes_when_it_is_asked_for(&swarm).await;
    what_docker_is_still_removing_is_in_nobodys_way(&swarm).await;
    swarm.stop().await;
}

async fn a_removed_stack_leaves_nothing_and_can_come_back_at_once(swarm: &Swarm) {
    let volumes = swarm.volumes("both").await;
    assert!(!volumes.is_empty());
    let run = swarm.stack(&["rm", "both"]).await.expect(0);
    assert!(run.stdout.contains("Removed: stack both"), "{run}");
    assert_eq!(swarm.left_of("both").await, Vec::<String>::new());
    swarm.deploy("both.yml", "both", &[]).await.expect(0);
    // The manager's volumes only: no way to the other engine is given.
    let run = swarm.stack(&["rm", "both", "--volumes"]).await.expect(4);
    assert!(run.stderr.contains("may be left on w1"), "{run}");
    let run = swarm
        .stack_everywhere(&["rm", "both", "--volumes"])
        .await
        .expect(0);
    assert!(run.stderr.is_empty(), "{run}");
    assert_eq!(swarm.volumes("both").await, BTreeSet::new());
    let run = swarm.stack(&["rm", "both"]).await.expect(0);
    assert_eq!(run.stdout, "Nothing is there of stack both.\n");
}

async fn what_is_left_out_goes_when_it_is_asked_for(swarm: &Swarm) {
    swarm.deploy("both.yml", "part", &[]).await.expect(0);
    let worker = format!("services: {{ worker: {{ image: \"busybox:1.37\", {QUICK} }} }}\n");
    swarm.write("part.yml", &worker);
    let run = swarm.deploy("part.yml", "part", &[]).await.expect(0);
    let left = "service part_web is not in the compose file; it is left alone";
    assert!(run.stderr.contains(left), "{run}");
    assert!(swarm.services().await.contains_key("part_web"));
    let run = swarm
        .deploy("part.yml", "part", &["--prune"])
        .await
        .expect(0);
    for gone in [
        "service part_web",
        "network part_back",
        "secret part_password",
        "config part_settings",
    ] {
        assert!(run.stdout.contains(&format!("- {gone} (")), "{gone}: {run}");
    }
    assert_eq!(swarm.objects().await, BTreeSet::new());
    let services: Vec<String> = swarm.services().await.into_keys().collect();
    assert_eq!(services, ["part_worker"]);
    let run = swarm
        .deploy("part.yml", "part", &["--prune"])
        .await
        .expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    swarm.remove("part").await;
}

/// `docker stack rm` comes back while tasks run and networks stand, and some of those are listed
/// although the swarm has forgotten them.
async fn what_docker_is_still_removing_is_in_nobodys_way(swarm: &Swarm) {
    let text = "
services:
  web:
    image: hang:1
    stop_grace_period: 2s
    ports: [\"8082:80\"]
    networks: [back, default]
    secrets: [password]
    configs: [settings]
    deploy: { replicas: 2, update_config: { monitor: 1s } }
networks: { back: { internal: true } }
secrets: { password: { file: password.txt } }
configs: { settings: { file: settings.txt } }
";
    swarm.write("dying.yml", text);
    swarm.deploy("dying.yml", "dying", &[]).await.expect(0);
    for _ in 0..2 {
        swarm.docker(&["stack", "rm", "dying"]).await;
        swarm.stack(&["rm", "dying"]).await.expect(0);
        assert_eq!(swarm.left_of("dying").await, Vec::<String>::new());
        swarm.deploy("dying.yml", "dying", &[]).await.expect(0);
    }
    for _ in 0..3 {
        swarm.docker(&["stack", "rm", "dying"]).await;
        let run = swarm.deploy("dying.yml", "dying", &[]).await.expect(0);
        assert!(run.stdout.contains("converged, 2 tasks"), "{run}");
        swarm.until_running(2).await;
        let run = swarm.deploy("dying.yml", "dying", &[]).await.expect(0);
        assert!(run.stdout.contains("nothing to change"), "{run}");
    }
    swarm.remove("dying").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_reaches_every_replica_while_requests_are_answered() {
    let swarm = Swarm::start(&["m1"], &["w1"]).await;
    let text = "
services:
  web:
    image: nginx:1.27-alpine
    stop_grace_period: 1s
    command: [sh, -c, \"cp /run/secrets/word /www/word; exec httpd -f -p 80 -h /www\"]
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, \"http://127.0.0.1/word\"], interval: 1s, retries: 10 }
    secrets: [word]
    deploy: { replicas: 2, endpoint_mode: dnsrr, update_config: { order: start-first, monitor: 2s } }
  client: { image: busybox:1.37, stop_grace_period: 1s }
secrets: { word: { file: word.txt } }
";
    swarm.write("turn.yml", text);
    swarm.write("word.txt", "first");
    swarm.deploy("turn.yml", "turn", &[]).await.expect(0);
    let watch = swarm
        .watch("turn_web", "turn_client", "http://web/word")
        .await;
    swarm.write("word.txt", "second");
    let run = swarm.deploy("turn.yml", "turn", &[]).await.expect(0);
    let seen = watch.end().await;
    assert!(seen.requests > 20, "{seen:?}");
    assert_eq!(seen.unanswered, 0, "{seen:?}: {run}");
    assert!(seen.fewest_running >= 2, "{seen:?}: {run}");
    assert!(
        seen.answers.contains("first") && seen.answers.contains("second"),
        "{seen:?}"
    );
    let watch = swarm
        .watch("turn_web", "turn_client", "http://web/word")
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen = watch.end().await;
    assert_eq!(
        seen.answers,
        BTreeSet::from(["second".to_owned()]),
        "{seen:?}"
    );
    // The version before it is kept, and the next one takes its place.
    assert_eq!(swarm.objects().await.len(), 2);
    swarm.write("word.txt", "third");
    swarm.deploy("turn.yml", "turn", &[]).await.expect(0);
    assert_eq!(swarm.objects().await.len(), 2);
    let before = swarm.services().await;
    let run = swarm.deploy("turn.yml", "turn", &[]).await.expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    assert_eq!(swarm.services().await, before);
    swarm.remove("turn").await;
    swarm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_outlives_the_leader() {
    let swarm = Swarm::start(&["m1", "m2", "m3"], &[]).await;
    let mut text = "services:\n".to_owned();
    for index in 0..10 {
        let after = if index == 0 {
            String::new()
        } else {
            format!(", depends_on: [s{}]", index / 2)
        };
        let after = if index == 1 { String::new() } else { after };
        text.push_str(&format!(
            "  s{index}: {{ image: busybox:1.37, {QUICK}, deploy: {{ update_config: {{ monitor: 1s }} }}{after} }}\n"
        ));
    }
    swarm.write("ten.yml", &text);
    let leader = swarm.leader().await;
    let running = swarm.spawn_everywhere(&["deploy", "ten.yml", "--name", "ten"]);
    swarm.until_services(2).await;
    let node = swarm.lab().node(&leader).expect("the leader");
    node.service(Service::Dockerd, ServiceAction::Kill)
        .await
        .expect("killed");
    let run = running.expect(0).await;
    assert!(run.stdout.contains("Converged: 10 services"), "{run}");
    let names: BTreeSet<String> = swarm.services_at_another(&leader).await;
    assert_eq!(
        names,
        (0..10).map(|index| format!("ten_s{index}")).collect()
    );
    node.service(Service::Dockerd, ServiceAction::Start)
        .await
        .expect("started");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let run = swarm
        .stack_everywhere(&["deploy", "ten.yml", "--name", "ten"])
        .await
        .expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    swarm.stop().await;
}
