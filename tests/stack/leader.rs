//! Stacks while the swarm changes under the command: leaders that go away at any moment, workers
//! that are down, others that deploy too, names that are somebody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use phoenix_lab::harness::until;
use phoenix_lab::{Node, Service, ServiceAction};
use serde_json::Value;
use tokio::time::timeout;

use super::fixture::Swarm;

/// How long a deployment may take to begin: far longer than it does.
const LONG: Duration = Duration::from_secs(60);

const QUICK: &str = "stop_grace_period: 1s, deploy: { update_config: { monitor: 1s } }";

/// How many networks, secrets and configs each the wide stack has.
const WIDTH: usize = 8;

/// A stack that takes a while to make: many networks, secrets and configs, and three services.
fn wide(swarm: &Swarm) -> String {
    let each = |line: &dyn Fn(usize) -> String| -> String { (0..WIDTH).map(line).collect() };
    let all = |prefix: &str| -> String {
        let names: Vec<String> = (0..WIDTH).map(|index| format!("{prefix}{index}")).collect();
        names.join(", ")
    };
    for index in 0..WIDTH {
        swarm.write(&format!("s{index}.txt"), &format!("secret {index}"));
        swarm.write(&format!("c{index}.txt"), &format!("config {index}"));
    }
    let mut text = "services:\n".to_owned();
    for service in ["one", "two", "three"] {
        text.push_str(&format!(
            "  {service}: {{ image: busybox:1.37, {QUICK}, networks: [{}], secrets: [{}], configs: [{}] }}\n",
            all("n"),
            all("s"),
            all("c"),
        ));
    }
    text.push_str("networks:\n");
    text.push_str(&each(&|index| format!("  n{index}: {{}}\n")));
    text.push_str("secrets:\n");
    text.push_str(&each(&|index| {
        format!("  s{index}: {{ file: s{index}.txt }}\n")
    }));
    text.push_str("configs:\n");
    text.push_str(&each(&|index| {
        format!("  c{index}: {{ file: c{index}.txt }}\n")
    }));
    text
}

/// What a manager has of a stack: services, networks, secrets and configs.
async fn of_stack(node: &Node, stack: &str, path: &str) -> Vec<String> {
    let found = node.docker().get(path).await.expect(path);
    let found = found.as_array().cloned().unwrap_or_default();
    let labels = |one: &Value| match path {
        "/networks" => one["Labels"].clone(),
        _ => one["Spec"]["Labels"].clone(),
    };
    let name = |one: &Value| match path {
        "/networks" => one["Name"].clone(),
        _ => one["Spec"]["Name"].clone(),
    };
    let own = found
        .iter()
        .filter(|one| labels(one)["com.docker.stack.namespace"] == stack);
    own.map(|one| name(one).as_str().expect("a name").to_owned())
        .collect()
}

const KINDS: [&str; 4] = ["/networks", "/secrets", "/configs", "/services"];

impl Swarm {
    fn at(&self, name: &str) -> &Node {
        self.lab().node(name).expect("a node")
    }

    /// Waits until all managers reach each other, and all nodes are ready, as one of them sees it.
    async fn until_whole(&self, at: &str, count: usize) {
        let node = self.at(at);
        until("the swarm is whole", async || {
            let Ok(nodes) = node.docker().get("/nodes").await else {
                return false;
            };
            let nodes = nodes.as_array().cloned().unwrap_or_default();
            let ready = nodes.iter().filter(|one| {
                let manager = &one["ManagerStatus"]["Reachability"];
                one["Status"]["State"] == "ready" && (manager.is_null() || manager == "reachable")
            });
            ready.count() == count
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_leader_goes_one_follower_is_enough() {
    let names = ["m1", "m2", "m3"];
    let swarm = Swarm::start(&names, &[]).await;
    swarm.write("wide.yml", &wide(&swarm));
    // What is there when the leader is killed: at least one of these, and not all.
    let mut cut = BTreeSet::new();
    for (round, path) in KINDS.into_iter().enumerate() {
        let leader = swarm.leader().await;
        let mut others = names.iter().filter(|name| **name != leader);
        let (follower, third) = (others.next().expect("one"), others.next().expect("two"));
        let stack = format!("wide{round}");
        let running = swarm.spawn_at(
            &[follower],
            &["deploy", "wide.yml", "--name", &stack, "--json"],
        );
        // Without a pause: it is over soon.
        let first = async {
            loop {
                let count = of_stack(swarm.at(third), &stack, path).await.len();
                if count > 0 {
                    break count;
                }
            }
        };
        let count = timeout(LONG, first).await.expect("something is made");
        let killed = swarm.at(&leader);
        killed
            .service(Service::Dockerd, ServiceAction::Kill)
            .await
            .expect("killed");
        let whole = if path == "/services" { 3 } else { WIDTH };
        if count < whole {
            cut.insert(path);
        }
        let run = running.expect(0).await;
        let end = run.events().pop().expect("an end");
        assert_eq!(end["outcomes"].as_array().map(Vec::len), Some(3), "{run}");
        for path in KINDS {
            let found: BTreeSet<String> = of_stack(swarm.at(follower), &stack, path)
                .await
                .into_iter()
                .collect();
            let expected: BTreeSet<String> = match path {
                "/services" => ["one", "two", "three"]
                    .map(|name| format!("{stack}_{name}"))
                    .into(),
                path => (0..WIDTH)
                    .map(|index| format!("{stack}_{}{index}", &path[1..2]))
                    .collect(),
            };
            assert_eq!(found, expected, "{path}: {run}");
        }
        killed
            .service(Service::Dockerd, ServiceAction::Start)
            .await
            .expect("started");
        swarm.until_whole(follower, 3).await;
        let run = swarm
            .stack_at(&[follower], &["deploy", "wide.yml", "--name", &stack])
            .await
            .expect(0);
        assert!(run.stdout.contains("nothing to change"), "{run}");
        swarm.stack_at(&[follower], &["rm", &stack]).await.expect(0);
    }
    assert!(cut.len() >= 3, "the leader outlived what it made: {cut:?}");
    swarm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_and_do_is_borne_or_refused() {
    let swarm = Swarm::start(&["m1"], &["w1"]).await;
    two_deployments_at_once(&swarm).await;
    names_that_are_somebody_elses(&swarm).await;
    a_worker_that_is_down(&swarm).await;
    swarm.stop().await;
}

/// The first round also finds no key of the fingerprints yet.
async fn two_deployments_at_once(swarm: &Swarm) {
    swarm.write("wide.yml", &wide(swarm));
    for round in 0..3 {
        let stack = format!("both{round}");
        let deploy = ["deploy", "wide.yml", "--name", &stack];
        let both = [
            swarm.spawn_at(&["m1"], &deploy),
            swarm.spawn_at(&["m1"], &deploy),
        ];
        for one in both {
            let run = one.expect(0).await;
            assert!(run.stdout.contains("Converged: 3 services"), "{run}");
        }
        let services = of_stack(swarm.at("m1"), &stack, "/services").await;
        assert_eq!(services.len(), 3);
        let secrets = of_stack(swarm.at("m1"), &stack, "/secrets").await;
        assert_eq!(secrets.len(), WIDTH);
        swarm.remove(&stack).await;
    }
}

async fn names_that_are_somebody_elses(swarm: &Swarm) {
    let text = |name: &str| {
        format!(
            "services: {{ one: {{ image: \"busybox:1.37\", {QUICK}, secrets: [key], configs: [app] }} }}
secrets: {{ key: {{ file: s0.txt, name: {name}_key }} }}
configs: {{ app: {{ file: c0.txt, name: {name}_app }} }}
"
        )
    };
    swarm.write("mine.yml", &text("shared"));
    swarm.deploy("mine.yml", "theirs", &[]).await.expect(0);
    swarm
        .docker(&["network", "create", "--driver", "overlay", "mine_default"])
        .await;
    let refused = [
        "network mine_default exists already and belongs to no stack",
        "secret shared_key exists already and belongs to stack theirs",
        "config shared_app exists already and belongs to stack theirs",
    ];
    let before = swarm.objects().await;
    let run = swarm
        .stack(&["diff", "mine.yml", "--name", "mine"])
        .await
        .expect(1);
    for said in refused {
        assert!(run.stdout.contains(&format!("! {said}")), "{said}: {run}");
    }
    assert!(!run.stdout.contains("+ secret"), "{run}");
    let run = swarm.deploy("mine.yml", "mine", &[]).await.expect(1);
    for said in refused {
        assert!(run.stderr.contains(said), "{said}: {run}");
    }
    assert!(run.stderr.contains("another name"), "{run}");
    assert_eq!(swarm.objects().await, before);
    assert!(!swarm.services().await.contains_key("mine_one"));
    swarm.docker(&["network", "rm", "mine_default"]).await;
    swarm.remove("theirs").await;
    swarm.deploy("mine.yml", "mine", &[]).await.expect(0);
    swarm.remove("mine").await;
}

async fn a_worker_that_is_down(swarm: &Swarm) {
    let service = |name: &str| {
        format!(
            "  {name}: {{ image: busybox:1.37, stop_grace_period: 1s, secrets: [key], configs: [app], networks: [default, {name}], deploy: {{ mode: global, update_config: {{ monitor: 1s }} }} }}\n"
        )
    };
    let rest = "secrets: { key: { file: s0.txt } }\nconfigs: { app: { file: c0.txt } }\n";
    let (one, two) = (service("one"), service("two"));
    swarm.write(
        "away.yml",
        &format!("services:\n{one}{two}{rest}networks: {{ one: {{}}, two: {{}} }}\n"),
    );
    swarm.deploy("away.yml", "away", &[]).await.expect(0);
    let worker = swarm.at("w1");
    worker
        .service(Service::Dockerd, ServiceAction::Kill)
        .await
        .expect("killed");
    let down = "node w1 is down";
    swarm.write(
        "away.yml",
        &format!("services:\n{one}{rest}networks: {{ one: {{}} }}\n"),
    );
    let run = swarm
        .deploy("away.yml", "away", &["--prune"])
        .await
        .expect(0);
    assert!(run.stderr.contains(down), "{run}");
    for gone in ["- service away_two (", "- network away_two ("] {
        assert!(run.stdout.contains(gone), "{gone}: {run}");
    }
    let run = swarm.stack(&["rm", "away"]).await.expect(0);
    assert!(run.stderr.contains(down), "{run}");
    for gone in [
        "service away_one",
        "network away_default",
        "network away_one",
        "secret away_key",
        "config away_app",
    ] {
        assert!(run.stdout.contains(&format!("- {gone} (")), "{gone}: {run}");
    }
    for path in KINDS {
        let left = of_stack(swarm.at("m1"), "away", path).await;
        assert_eq!(left, Vec::<String>::new(), "{path}");
    }
    // Volumes may be left there: that is another matter.
    let run = swarm
        .stack_everywhere(&["rm", "away", "--volumes"])
        .await
        .expect(4);
    assert_eq!(run.stderr.matches("may be left on").count(), 1, "{run}");
    assert!(run.stderr.contains("may be left on w1: "), "{run}");

    worker
        .service(Service::Dockerd, ServiceAction::Start)
        .await
        .expect("started");
    until("the worker lets go of what it ran", async || {
        let found = worker.docker().get("/containers/json").await;
        found.is_ok_and(|found| found.as_array().is_some_and(Vec::is_empty))
    })
    .await;
    swarm.until_whole("m1", 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(swarm.left_of("away").await, Vec::<String>::new());
}
