use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::stack::{
    ComposeFile, LoadOptions, Platform, RenderContext, ResolvedImage, ResolvedObject,
};

const TOP: &str = "
networks: {front: , back: {external: true}}
volumes: {data: {labels: {empty: \"\"}}, nfs: {driver: local, driver_opts: {o: secret}}}
secrets: {key: {external: true}, cert: {external: true}}
configs: {settings: {external: true}}
";

/// Parts of a service that can be put together freely.
const PARTS: &[&str] = &[
    "command: [run, \"\", x]",
    "entrypoint: [/bin/run]",
    "environment: {A: \"1\", EMPTY: \"\", UNSET: , PASSWORD: hunter2}",
    "labels: {a: b, empty: \"\"}",
    "ports: [80, \"8080:80\", \"53:53/udp\", {target: 9, published: 9, mode: host}]",
    "volumes: [\"data:/data\", \"nfs:/nfs:ro\", \"/srv:/srv:rslave\", /anonymous]",
    "tmpfs: [\"/run:size=64m,mode=1777\"]",
    "networks: {front: {aliases: [www, a]}, back: }",
    "configs: [{source: settings, target: /x, mode: 0}]",
    "secrets: [key, {source: cert, uid: \"5\", mode: 0400}, {source: key, target: again}]",
    "healthcheck: {test: [CMD, x], interval: 5s, retries: 2}",
    "hostname: h\n    user: \"1\"\n    working_dir: /w\n    stop_signal: SIGINT",
    "stop_grace_period: 0s",
    "init: false",
    "tty: true\n    stdin_open: true\n    read_only: true",
    "extra_hosts: [\"b:10.0.0.2\", \"a:10.0.0.1\"]",
    "dns: [10.0.0.53]\n    dns_search: [example.org]",
    "cap_add: [NET_ADMIN]\n    cap_drop: [ALL]",
    "sysctls: {net.core.somaxconn: 1024}",
    "ulimits: {nofile: 5, nproc: {soft: 0, hard: 9}}",
    "logging: {driver: json-file, options: {max-size: 10m}}",
];

/// Parts of `deploy` that can be put together freely.
const DEPLOY: &[&str] = &[
    "labels: {public: \"true\"}",
    "endpoint_mode: vip",
    "placement: {constraints: [node.role == manager, a.b != c], preferences: [{spread: a}], max_replicas_per_node: 1}",
    "resources: {limits: {cpus: \"0.5\", memory: 64M, pids: 9}, reservations: {memory: 32M, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}]}}",
    "restart_policy: {condition: on-failure, delay: 0s, max_attempts: 3, window: 1m}",
    "update_config: {parallelism: 0, delay: 1s, failure_action: rollback, monitor: 9s, max_failure_ratio: 0.3, order: start-first}",
    "rollback_config: {}",
];
const MODES: &[&str] = &[
    "replicas: 0",
    "replicas: 3",
    "mode: global",
    "mode: replicated",
];

fn body(parts: &[bool], deploy: &[bool], mode: usize) -> Value {
    let chosen = |all: &[&str], picked: &[bool], indent: &str| -> String {
        all.iter()
            .zip(picked)
            .filter(|(_, picked)| **picked)
            .map(|(part, _)| format!("{indent}{part}\n"))
            .collect()
    };
    let text = format!(
        "services:\n  w:\n    image: nginx:1\n{}    deploy:\n      {}\n{}{TOP}",
        chosen(PARTS, parts, "    "),
        MODES[mode],
        chosen(DEPLOY, deploy, "      ")
    );
    let file = ComposeFile::parse(Path::new("/c/f.yaml"), &text, "st", &LoadOptions::default())
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let object = |name: &str| {
        let object = ResolvedObject {
            name: format!("{name}-1"),
            id: Some(format!("id-{name}")),
        };
        (name.to_owned(), object)
    };
    let platform = |architecture: &str| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
    };
    let context = RenderContext {
        secrets: [object("key"), object("cert")].into(),
        configs: [object("settings")].into(),
        images: [(
            "nginx:1".to_owned(),
            ResolvedImage {
                digest: "sha256:1".to_owned(),
                platforms: vec![platform("arm64"), platform("amd64")],
            },
        )]
        .into(),
        ..RenderContext::default()
    };
    file.render(&context).services[0].json.clone()
}

fn any_body() -> impl Strategy<Value = Value> {
    (
        proptest::collection::vec(any::<bool>(), PARTS.len()),
        proptest::collection::vec(any::<bool>(), DEPLOY.len()),
        0..MODES.len(),
    )
        .prop_map(|(parts, deploy, mode)| body(&parts, &deploy, mode))
}

fn full_body(mode: usize) -> Value {
    body(&[true; PARTS.len()], &[true; DEPLOY.len()], mode)
}

/// A spec as an engine returns it: defaults filled in, empty parts made explicit, what the client
/// left empty gone, order kept where it is kept.
fn normalise_like_engine(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for key in ["UpdateConfig", "RollbackConfig"] {
        let Some(config) = spec.get_mut(key) else {
            continue;
        };
        for (key, value) in [
            ("FailureAction", json!("pause")),
            ("Order", json!("stop-first")),
            ("Monitor", json!(5_000_000_000_i64)),
        ] {
            if config.get(key).is_none_or(|value| *value == "") {
                config[key] = value;
            }
        }
    }
    if let Some(replicated) = spec["Mode"].get_mut("Replicated")
        && replicated.get("Replicas").is_none()
    {
        replicated["Replicas"] = json!(1);
    }
    if spec["EndpointSpec"].get("Mode").is_none() {
        spec["EndpointSpec"]["Mode"] = json!("vip");
    }
    let task = &mut spec["TaskTemplate"];
    task["Runtime"] = json!("container");
    task["ForceUpdate"] = json!(7);
    for key in ["Limits", "Reservations"] {
        if task["Resources"].get(key).is_none() {
            task["Resources"][key] = json!({});
        }
    }
    if let Some(Value::Array(platforms)) = task["Placement"].get_mut("Platforms") {
        platforms.reverse();
    }
    let container = &mut task["ContainerSpec"];
    container["Isolation"] = json!("default");
    container["Privileges"]["NoNewPrivileges"] = json!(false);
    for (key, value) in [
        ("DNSConfig", json!({})),
        ("StopGracePeriod", json!(10_000_000_000_i64)),
        ("Configs", Value::Null),
        ("Args", json!([])),
    ] {
        if container.get(key).is_none() {
            container[key] = value;
        }
    }
    spec
}

/// The ways to every leaf that says something.
fn leaf_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaf_pointers(value, format!("{at}/{}", escaped(key)), pointers);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaf_pointers(item, format!("{at}/{index}"), pointers);
            }
        }
        Value::Null => {}
        _ if at.ends_with("/ForceUpdate") => {}
        _ => pointers.push(at),
    }
}

fn changed(leaf: &Value) -> Value {
    match leaf {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => json!(number + 1),
            None => json!(number.as_f64().unwrap() / 2.0),
        },
        other => json!(format!("{}x", other.as_str().unwrap())),
    }
}

fn assert_every_leaf_counts(spec: &Value) {
    let mut pointers = Vec::new();
    leaf_pointers(spec, String::new(), &mut pointers);
    let running = normalise_like_engine(spec);
    for pointer in pointers {
        let mut other = spec.clone();
        let leaf = other.pointer_mut(&pointer).unwrap();
        *leaf = changed(leaf);
        assert_ne!(difference(&other, &running), [], "{pointer}");
        assert_ne!(difference(&running, &other), [], "{pointer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_engine_stored_does_not_differ(spec in any_body()) {
        prop_assert_eq!(difference(&spec, &normalise_like_engine(&spec)), []);
        prop_assert_eq!(difference(&spec, &spec), []);
    }

    #[test]
    fn two_specs_differ_both_ways_or_not_at_all(one in any_body(), other in any_body()) {
        let forth = difference(&one, &other);
        let mut back = difference(&other, &one);
        for change in &mut back {
            std::mem::swap(&mut change.from, &mut change.to);
        }
        prop_assert_eq!(&forth, &back);
    }

    #[test]
    fn no_value_of_a_variable_is_shown(one in any_body(), other in any_body()) {
        for change in difference(&one, &other) {
            let shown = change.to_string();
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
        }
    }
}

/// Specs that were sent to an engine (20.10.24), each with what it stored.
#[test]
fn what_a_real_engine_stored_does_not_differ() {
    let pairs: Vec<(Value, Value)> =
        serde_json::from_str(include_str!("stored.json")).expect("pairs");
    assert_eq!(pairs.len(), 6);
    for (sent, stored) in pairs {
        assert_eq!(difference(&sent, &stored), []);
        assert_ne!(sent, stored);
    }
}

#[test]
fn a_change_of_any_leaf_differs() {
    for mode in 0..MODES.len() {
        assert_every_leaf_counts(&full_body(mode));
    }
}

#[test]
fn an_item_more_or_less_differs() {
    let spec = full_body(0);
    let mut lists = Vec::new();
    fn walk(value: &Value, at: String, lists: &mut Vec<String>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| walk(value, format!("{at}/{key}"), lists)),
            Value::Array(items) if !items.is_empty() => lists.push(at),
            _ => {}
        }
    }
    walk(&spec, String::new(), &mut lists);
    assert!(lists.len() > 15, "{lists:?}");
    for list in lists {
        let mut other = spec.clone();
        if let Some(Value::Array(items)) = other.pointer_mut(&list) {
            items.pop();
        }
        assert_ne!(difference(&other, &spec), [], "{list}");
    }
}

#[test]
fn what_is_absent_null_empty_or_default_is_one() {
    let short = json!({"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "a"}}});
    let long = json!({
        "Name": "s",
        "Labels": {},
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {
            "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_i64,
            "MaxFailureRatio": 0, "Order": "stop-first",
        },
        "RollbackConfig": {
            "Parallelism": 1, "Delay": 0, "FailureAction": "pause",
            "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0.0, "Order": "stop-first",
        },
        "EndpointSpec": {"Mode": "vip", "Ports": null},
        "Networks": null,
        "TaskTemplate": {
            "ForceUpdate": 3,
            "Runtime": "container",
            "Networks": [],
            "LogDriver": null,
            "Placement": {"Constraints": null, "Platforms": [{"OS": "unknown", "Architecture": "unknown"}]},
            "Resources": {"Limits": {}, "Reservations": {"GenericResources": null}},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0},
            "ContainerSpec": {
                "Image": "a",
                "Env": [],
                "TTY": false,
                "Isolation": "default",
                "DNSConfig": {"Nameservers": []},
                "StopGracePeriod": 10_000_000_000_i64,
                "Privileges": {"CredentialSpec": null, "SELinuxContext": null},
                "Healthcheck": {},
            },
        },
    });
    assert_eq!(difference(&short, &long), []);
    assert_eq!(difference(&long, &short), []);
}

#[test]
fn zero_is_not_the_default_where_it_means_something() {
    for (pointer, key, value) in [
        ("/Mode/Replicated", "Replicas", json!(0)),
        ("/UpdateConfig", "Parallelism", json!(0)),
        ("/TaskTemplate/RestartPolicy", "Delay", json!(0)),
        ("/TaskTemplate/ContainerSpec", "StopGracePeriod", json!(0)),
        ("/TaskTemplate/ContainerSpec", "Init", json!(false)),
    ] {
        let plain = json!({
            "Mode": {"Replicated": {}},
            "UpdateConfig": {"Parallelism": 1},
            "TaskTemplate": {"ContainerSpec": {"Image": "a"}, "RestartPolicy": {}},
        });
        let mut other = plain.clone();
        other.pointer_mut(pointer).unwrap()[key] = value;
        let changes = difference(&other, &plain);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].path.ends_with(key));
    }
}

#[test]
fn order_counts_only_where_it_means_something() {
    let with = |key: &str, items: Value| json!({"TaskTemplate": {"ContainerSpec": {key: items}}});
    for (key, one, other) in [
        ("Env", json!(["A=1", "B=2"]), json!(["B=2", "A=1"])),
        (
            "CapabilityAdd",
            json!(["CAP_A", "CAP_B"]),
            json!(["CAP_B", "CAP_A"]),
        ),
        (
            "Mounts",
            json!([{"Target": "/a"}, {"Target": "/b", "ReadOnly": true}]),
            json!([{"Target": "/b", "ReadOnly": true}, {"Target": "/a", "Type": "volume"}]),
        ),
    ] {
        assert_eq!(difference(&with(key, one), &with(key, other)), [], "{key}");
    }
    for key in ["Args", "Command", "Hosts"] {
        let (one, other) = (json!(["a", "b"]), json!(["b", "a"]));
        assert_eq!(
            difference(&with(key, one), &with(key, other)).len(),
            2,
            "{key}"
        );
    }
}

#[test]
fn changes_are_told_by_what_identifies_an_item() {
    let desired = json!({"TaskTemplate": {
        "ContainerSpec": {
            "Image": "a:2",
            "Env": ["LEVEL=debug", "NEW=x"],
            "Secrets": [{"File": {"Name": "key", "Mode": 292}, "SecretID": "2", "SecretName": "key-2"}],
        },
        "Networks": [{"Target": "n1"}, {"Target": "n2"}],
    }, "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}});
    let running = json!({"TaskTemplate": {
        "ContainerSpec": {
            "Image": "a:1",
            "Env": ["LEVEL=info", "OLD=x"],
            "Secrets": [{"File": {"Name": "key", "Mode": 292}, "SecretID": "1", "SecretName": "key-1"}],
        },
        "Networks": [{"Target": "n1"}],
    }});
    let shown: Vec<String> = difference(&desired, &running)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "EndpointSpec.Ports[8080:80/tcp].PublishMode: + ingress",
            "TaskTemplate.ContainerSpec.Env[LEVEL]: (hidden) -> (hidden)",
            "TaskTemplate.ContainerSpec.Env[NEW]: + (hidden)",
            "TaskTemplate.ContainerSpec.Env[OLD]: - (hidden)",
            "TaskTemplate.ContainerSpec.Image: a:1 -> a:2",
            "TaskTemplate.ContainerSpec.Secrets[key].SecretID: 1 -> 2",
            "TaskTemplate.ContainerSpec.Secrets[key].SecretName: key-1 -> key-2",
            "TaskTemplate.Networks[n2].Attached: + true",
        ]
    );
}

#[test]
fn options_of_drivers_are_hidden() {
    let with = |value: &str| {
        json!({"TaskTemplate": {
            "LogDriver": {"Name": "splunk", "Options": {"splunk-token": value}},
            "ContainerSpec": {"Mounts": [
                {"Target": "/a", "VolumeOptions": {"DriverConfig": {"Options": {"o": value}}}}
            ]},
        }})
    };
    let changes = difference(&with("token-one"), &with("token-two"));
    assert_eq!(changes.len(), 2);
    assert!(!format!("{changes:?}").contains("token-"), "{changes:?}");
}

#[test]
fn a_digest_is_kept_when_only_the_registry_is_silent() {
    let spec = |image: &str| json!({"TaskTemplate": {"ContainerSpec": {"Image": image}}});
    let mut running = spec("nginx:1@sha256:12");
    running["TaskTemplate"]["Placement"] = json!({"Platforms": [{"OS": "linux"}]});

    let mut same = spec("nginx:1");
    same["TaskTemplate"]["Placement"] = json!({});
    assert!(carry_digest(&mut same, &running));
    assert_eq!(difference(&same, &running), []);

    for image in ["nginx:2", "nginx:1@sha256:34", "nginx"] {
        let mut other = spec(image);
        assert!(!carry_digest(&mut other, &running), "{image}");
        assert_eq!(other, spec(image));
    }
    let mut same = spec("nginx:1");
    assert!(!carry_digest(&mut same, &spec("nginx:1")));
    assert!(!carry_digest(&mut same, &Value::Null));
    assert!(!carry_digest(&mut Value::Null, &running));
}

#[test]
fn a_spec_of_another_shape_is_compared_without_panic() {
    for odd in [
        json!(null),
        json!([]),
        json!({"Mode": 1, "TaskTemplate": [], "EndpointSpec": {"Ports": [1, null]}}),
        json!({"TaskTemplate": {"Networks": ["x", 1, {}], "Placement": []}, "Networks": 1}),
        json!({"TaskTemplate": {"ContainerSpec": {"Env": [1], "Mounts": ["x"], "Secrets": [{}]}}}),
    ] {
        let _ = difference(&odd, &json!({}));
        let _ = difference(&json!({}), &odd);
        assert_eq!(difference(&odd, &odd), []);
    }
}
