//! The specs here were sent to engines of 20.10, 26.1 and 28.5, and what came back is what the
//! tests say.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn api(minor: u16) -> ApiVersion {
    ApiVersion { major: 1, minor }
}

fn everything() -> Value {
    json!({
        "Name": "all",
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "busybox:1.37",
                "Healthcheck": {
                    "Test": ["CMD", "true"],
                    "Interval": 1_000_000_000,
                    "StartPeriod": 1_000_000_000,
                    "StartInterval": 1_000_000_000
                },
                "Privileges": {
                    "CredentialSpec": null,
                    "Seccomp": {"Mode": "unconfined"},
                    "AppArmor": {"Mode": "disabled"},
                    "NoNewPrivileges": true
                },
                "OomScoreAdj": 100,
                "CapabilityAdd": ["NET_ADMIN"],
                "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
                "Sysctls": {"net.core.somaxconn": "1024"},
                "Mounts": [
                    {
                        "Type": "volume",
                        "Source": "v",
                        "Target": "/v",
                        "VolumeOptions": {"Subpath": "s", "NoCopy": true}
                    },
                    {
                        "Type": "tmpfs",
                        "Target": "/t",
                        "TmpfsOptions": {"SizeBytes": 1_000_000, "Options": [["noexec"]]}
                    },
                    {
                        "Type": "bind",
                        "Source": "/etc",
                        "Target": "/b",
                        "BindOptions": {
                            "Propagation": "rslave",
                            "NonRecursive": true,
                            "CreateMountpoint": true
                        }
                    }
                ]
            },
            "Resources": {
                "Limits": {"Pids": 10},
                "SwapBytes": 1000,
                "MemorySwappiness": 20
            },
            "Placement": {"MaxReplicas": 1}
        },
        "Mode": {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    })
}

fn ignored(version: ApiVersion) -> Vec<String> {
    ignored_by(version, &everything())
        .into_iter()
        .map(|ignored| ignored.path.replace("TaskTemplate.", ""))
        .collect()
}

#[test]
fn each_engine_leaves_out_what_is_newer() {
    assert_eq!(
        ignored(api(41)),
        [
            "ContainerSpec.Healthcheck.StartInterval",
            "ContainerSpec.Mounts[/b].BindOptions.CreateMountpoint",
            "ContainerSpec.Mounts[/t].TmpfsOptions.Options",
            "ContainerSpec.Mounts[/v].VolumeOptions.Subpath",
            "ContainerSpec.OomScoreAdj",
            "ContainerSpec.Privileges.AppArmor",
            "ContainerSpec.Privileges.NoNewPrivileges",
            "ContainerSpec.Privileges.Seccomp",
            "Resources.MemorySwappiness",
            "Resources.SwapBytes",
        ]
    );
    assert_eq!(
        ignored(api(45)),
        [
            "ContainerSpec.Mounts[/b].BindOptions.CreateMountpoint",
            "ContainerSpec.Mounts[/t].TmpfsOptions.Options",
            "ContainerSpec.OomScoreAdj",
            "Resources.MemorySwappiness",
            "Resources.SwapBytes",
        ]
    );
    assert_eq!(
        ignored(api(51)),
        [
            "ContainerSpec.Mounts[/b].BindOptions.CreateMountpoint",
            "Resources.MemorySwappiness",
            "Resources.SwapBytes",
        ]
    );
}

#[test]
fn what_is_ignored_is_told_with_the_release_that_heeds_it() {
    let told: Vec<String> = ignored_by(api(41), &everything())
        .iter()
        .map(ToString::to_string)
        .collect();
    for one in [
        "TaskTemplate.ContainerSpec.Healthcheck.StartInterval (since Docker 25)",
        "TaskTemplate.ContainerSpec.Mounts[/v].VolumeOptions.Subpath (since Docker 26)",
        "TaskTemplate.ContainerSpec.OomScoreAdj (since Docker 27)",
        "TaskTemplate.Resources.SwapBytes (since Docker 29)",
        "TaskTemplate.ContainerSpec.Mounts[/b].BindOptions.CreateMountpoint (no swarm heeds it)",
    ] {
        assert!(told.iter().any(|told| told == one), "{one}: {told:#?}");
    }
}

#[test]
fn nothing_is_missed_where_nothing_is_said() {
    let spec = json!({"TaskTemplate": {"ContainerSpec": {
        "Healthcheck": {"StartInterval": 0},
        "Privileges": {"Seccomp": null, "NoNewPrivileges": false},
        "Mounts": [{"Target": "/v", "VolumeOptions": {"Subpath": ""}}, {"Target": "/w"}],
        "OomScoreAdj": 0
    }}});
    assert_eq!(ignored_by(api(41), &spec), []);
    assert_eq!(without_ignored(api(41), &spec), spec);
    assert_eq!(ignored_by(api(41), &json!({"TaskTemplate": null})), []);
    assert_eq!(ignored_by(api(41), &json!("no spec")), []);
}

#[test]
fn the_api_follows_from_the_release() {
    for (engine, minor) in [
        ("19.03.15", 40),
        ("20.10.24+dfsg1", 41),
        ("23.0.6", 42),
        ("25.0.2", 44),
        ("26.1.5+dfsg1", 45),
        ("27.1.1", 46),
        ("27.5.1-1", 47),
        ("28.0.4", 48),
        ("28.2.2", 50),
        ("28.5.2+dfsg4", 51),
        ("29.1.0-rc.1", 52),
        ("31.0.0", 52),
    ] {
        assert_eq!(ApiVersion::spoken_by(engine), Some(api(minor)), "{engine}");
    }
    for engine in ["", "dev", "library-import", "28", "v28.1.0"] {
        assert_eq!(ApiVersion::spoken_by(engine), None, "{engine}");
    }
}

fn node(name: &str, role: &str, engine: &str, zone: &str) -> Node {
    Node::from_json(json!({
        "ID": format!("id-{name}"),
        "Spec": {"Role": role, "Availability": "active", "Labels": {"zone": zone}},
        "Description": {"Hostname": name, "Engine": {"EngineVersion": engine}},
        "Status": {"State": "ready"}
    }))
    .expect("node")
}

#[test]
fn a_swarm_keeps_what_its_oldest_manager_keeps() {
    let nodes = [
        node("new", "manager", "28.5.2", "a"),
        node("old", "worker", "20.10.24", "a"),
        node("odd", "manager", "dev", "a"),
    ];
    assert_eq!(kept_by(api(47), &nodes), api(47));
    assert_eq!(kept_by(api(41), &nodes), api(41));
    let nodes = [nodes[0].clone(), node("mid", "manager", "26.1.5", "a")];
    assert_eq!(kept_by(api(47), &nodes), api(45));
}

#[test]
fn nodes_that_keep_or_run_a_service_are_told_and_no_others() {
    let nodes = [
        node("manager", "manager", "26.1.5", "none"),
        node("here", "worker", "20.10.24", "a"),
        node("also", "worker", "20.10.24", "a"),
        node("elsewhere", "worker", "20.10.23", "b"),
        node("unknown", "worker", "dev", "a"),
        node("new", "worker", "28.5.2", "a"),
    ];
    let spec = |constraints: &[&str]| {
        json!({"TaskTemplate": {
            "ContainerSpec": {"Healthcheck": {"StartInterval": 5}, "OomScoreAdj": 1},
            "Placement": {"Constraints": constraints}
        }})
    };
    let told = |constraints: &[&str]| -> Vec<String> {
        ignored_on(&nodes, &spec(constraints))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let start = "TaskTemplate.ContainerSpec.Healthcheck.StartInterval (since Docker 25)";
    let oom = "TaskTemplate.ContainerSpec.OomScoreAdj (since Docker 27)";
    let manager = format!("Docker 26.1.5 on manager ignores {oom}");
    let here = format!("Docker 20.10.24 on also, here ignores {start}, {oom}");
    let elsewhere = format!("Docker 20.10.23 on elsewhere ignores {start}, {oom}");
    assert_eq!(
        told(&["node.labels.zone == a"]),
        [here.clone(), manager.clone()]
    );
    // Where the constraint decides nothing, any node may run it.
    assert_eq!(told(&["node.ip == 10.0.0.1"]), [elsewhere, here, manager]);
}

/// JSON out of the keys that matter and others, nested as it happens.
fn any_spec() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "TaskTemplate",
        "ContainerSpec",
        "Healthcheck",
        "StartInterval",
        "Mounts",
        "VolumeOptions",
        "Subpath",
        "Target",
        "Resources",
        "SwapBytes",
        "Image",
        "a/b~c",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        "[a/~]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value| {
        // Deep enough to matter in every case.
        json!({"Name": "x", "TaskTemplate": {
            "ContainerSpec": {"Healthcheck": value.clone(), "Mounts": [value.clone()]},
            "Resources": value
        }})
    })
}

proptest! {
    #[test]
    fn what_is_left_has_nothing_to_ignore_and_newer_engines_ignore_less(
        spec in any_spec(),
        old in 40_u16..54,
        newer in 0_u16..10,
    ) {
        let left = without_ignored(api(old), &spec);
        prop_assert_eq!(ignored_by(api(old), &left), vec![]);
        if ignored_by(api(old), &spec).is_empty() {
            prop_assert_eq!(&left, &spec);
        }
        let less = ignored_by(api(old + newer), &spec);
        let more = ignored_by(api(old), &spec);
        prop_assert!(less.iter().all(|ignored| more.contains(ignored)));
    }
}
