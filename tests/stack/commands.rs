//! The command line of `phoenix stack` on a swarm: ways to name files, events, keys and advice.

use std::io::{Seek as _, Write as _};

use phoenix_lab::harness::Run;

use super::fixture::Swarm;

/// Short times, so that failures come soon.
const QUICK: &str = "    stop_grace_period: 1s
    deploy:
      restart_policy: { delay: 100ms }
      update_config: { monitor: 2s, failure_action: rollback }
";

fn one(image: &str, more: &str) -> String {
    format!("services:\n  one:\n    image: {image}\n{QUICK}{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_is_true_on_a_swarm() {
    let swarm = Swarm::start(&["m1"], &[]).await;
    files_in_dockers_order_and_from_standard_input(&swarm).await;
    a_service_that_has_not_converged_is_no_change(&swarm).await;
    what_was_rolled_back_can_be_tried_again(&swarm).await;
    another_machine_needs_the_same_key(&swarm).await;
    one_end_of_several_removals(&swarm).await;
    swarm.stop().await;
}

async fn files_in_dockers_order_and_from_standard_input(swarm: &Swarm) {
    let text = one("busybox:1.37", "");
    let mut input = tempfile::tempfile().expect("a file");
    input.write_all(text.as_bytes()).expect("written");
    input.rewind().expect("rewound");
    let mut command = swarm.phoenix(&["deploy", "-", "--name", "fine"], &[swarm.manager()]);
    Run::of(command.stdin(input)).await.expect(0);
    swarm.write("fine.yml", &text);
    let run = swarm.stack(&["deploy", "-c", "fine.yml", "fine", "--json"]);
    let events = run.await.expect(0).events();
    assert_eq!(events[0]["event"], "started");
    assert_eq!(
        (&events[0]["format"], &events[0]["stack"]),
        (&1.into(), &"fine".into())
    );
    let end = events.last().expect("an end");
    assert_eq!(end["changes"], serde_json::json!([]));
}

async fn a_service_that_has_not_converged_is_no_change(swarm: &Swarm) {
    swarm.write("crash.yml", &one("crash:1", ""));
    swarm.deploy("crash.yml", "crash", &[]).await.expect(13);
    let diff = [
        "diff",
        "crash.yml",
        "--name",
        "crash",
        "--detailed-exitcode",
    ];
    let run = swarm.stack(&diff).await.expect(0);
    let mut lines = run.stdout.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("? service crash_one ("), "{run}");
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["Nothing to send; 1 service has not converged."]
    );
    let run = swarm
        .stack(&[&diff[..], &["--json"]].concat())
        .await
        .expect(0);
    assert_eq!(run.events()[0]["changes"], false);
}

async fn what_was_rolled_back_can_be_tried_again(swarm: &Swarm) {
    let hint = "hint: what was rolled back is not tried again as it is: change the stack, or \
                deploy it with --retry-rolled-back\n";
    swarm.write("fine.yml", &one("crash:1", ""));
    for _ in 0..2 {
        let run = swarm.deploy("fine.yml", "fine", &[]).await.expect(1);
        assert!(run.stderr.ends_with(hint), "{run}");
    }
}

async fn another_machine_needs_the_same_key(swarm: &Swarm) {
    swarm.write("password", "s3cr3t");
    let secret = "    secrets: [password]\nsecrets: { password: { file: password } }\n";
    swarm.write("keyed.yml", &one("busybox:1.37", secret));
    let own = ["--fingerprint-key", "own.key"];
    swarm.deploy("keyed.yml", "keyed", &own).await.expect(0);
    let diff = ["diff", "keyed.yml", "--name", "keyed"];
    let run = swarm.stack(&[&diff[..], &own].concat()).await.expect(0);
    assert_eq!(run.stdout, "No changes: 1 service as declared.\n");
    // The key of this user is another one.
    let run = swarm.stack(&diff).await.expect(0);
    assert!(
        run.stdout
            .contains("(made by another tool, or by Phoenix with another key: taken over"),
        "{run}"
    );
}

async fn one_end_of_several_removals(swarm: &Swarm) {
    let run = swarm.stack(&["rm", "fine", "crash", "keyed", "--json"]);
    let events = run.await.expect(0).events();
    let of = |event: &str| {
        let matching = events.iter().filter(|one| one["event"] == event);
        matching
            .map(|one| one["stack"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("started"), ["fine", "crash", "keyed"]);
    assert_eq!(of("removed"), ["fine", "crash", "keyed"]);
    assert_eq!(of("finished").len(), 1);
    assert_eq!(events.last().expect("an end")["exit_code"], 0);
}
