//! Nodes, services, secrets, networks, volumes and tasks against a scripted engine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::testing::{Reply, Scripted, Seen, ok, refused, soon};
use super::super::*;
use crate::ground::{Deadline, SecretBytes};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn labels_are_written_over_a_fresh_read_until_the_version_holds() {
    let (server, engine) = Scripted::unix(|seen| {
        let (method, round) = (seen.method.as_str(), seen.nth);
        match (method, seen.path.as_str()) {
            ("GET", "/nodes/n1") => ok(&json!({
                "ID": "n1",
                "Version": {"Index": 10 + round},
                "Spec": {
                    "Role": "worker", "Availability": "active", "Future": {"kept": true},
                    "Labels": if round == 2 { json!({"zone": "a", "mine": "x"}) }
                              else { json!({"mine": "x", "old": "y"}) },
                },
            })),
            ("POST", "/nodes/n1/update") if round == 0 => refused(
                500,
                "rpc error: code = Unknown desc = update out of sequence",
            ),
            ("POST", "/nodes/n1/update") => Reply::With(200, String::new()),
            _ => refused(404, "node not found"),
        }
    });
    let set = labels(&[("zone", "a")]);
    let remove = ["old".to_owned()];
    let changed = engine.set_node_labels("n1", &set, &remove, soon()).await;
    assert!(changed.expect("written"));
    let writes: Vec<Seen> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "POST")
        .collect();
    assert_eq!(writes[0].query("version"), Some("10"));
    assert_eq!(writes[1].query("version"), Some("11"));
    assert_eq!(
        writes[1].json(),
        json!({
            "Role": "worker", "Availability": "active", "Future": {"kept": true},
            "Labels": {"mine": "x", "zone": "a"},
        })
    );
    // Nothing differs any more: nothing is written.
    let changed = engine.set_node_labels("n1", &set, &remove, soon()).await;
    assert!(!changed.expect("read"));
    assert_eq!(server.seen().len(), 5);
    let missing = engine.set_node_labels("n9", &set, &remove, soon()).await;
    assert!(matches!(missing, Err(NodeError::NotFound { .. })));
}

#[tokio::test]
async fn a_service_is_modified_as_the_json_the_engine_gave() {
    let spec = json!({
        "Name": "web", "Labels": {},
        "TaskTemplate": {"ContainerSpec": {
            "Image": "nginx:1", "Healthcheck": {"Test": ["CMD", "true"]}, "New": [1, null],
        }},
    });
    let given = spec.clone();
    let (server, engine) = Scripted::unix(move |seen| match seen.method.as_str() {
        "GET" => ok(&json!({
            "ID": "s1", "Version": {"Index": 5 + seen.nth}, "Spec": given,
            "PreviousSpec": {"Name": "web"},
            "UpdateStatus": {"State": "completed", "Message": "update completed"},
        })),
        _ if seen.nth == 0 => refused(500, "update out of sequence"),
        _ => ok(&json!({"Warnings": ["careful"]})),
    });
    let change = |spec: &mut Value| {
        spec["TaskTemplate"]["ForceUpdate"] = json!(1);
        true
    };
    let auth = RegistryAuth::new("r.example", "u", &SecretBytes::from("p".to_owned()));
    let written = engine
        .modify_service("web", auth.as_ref(), soon(), change)
        .await
        .expect("written")
        .expect("changed");
    assert_eq!(written.min_version, 7);
    assert_eq!(written.warnings, ["careful"]);
    let write = server.seen().pop().expect("a write");
    assert_eq!(write.operation(), "POST /services/s1/update");
    assert_eq!(write.query("version"), Some("6"));
    assert!(write.headers.contains_key("X-Registry-Auth"));
    let mut expected = spec;
    expected["TaskTemplate"]["ForceUpdate"] = json!(1);
    assert_eq!(write.json(), expected);
    let error = engine
        .update_service("s1", 1, &expected, None, soon())
        .await
        .expect("accepted now");
    assert_eq!(error.min_version, 2);
    let unchanged = engine.modify_service("web", None, soon(), |_| false).await;
    assert_eq!(unchanged.expect("read"), None);
}

#[tokio::test]
async fn a_creation_whose_leader_was_lost_is_sent_again_and_may_find_its_name_taken() {
    let (server, engine) = Scripted::unix(|seen: &Seen| match seen.nth {
        0 => refused(
            500,
            "raft: failed to process the request: node lost leader status",
        ),
        _ => refused(
            409,
            "name conflicts with an existing object: service web already exists",
        ),
    });
    let error = engine
        .create_service(&json!({"Name": "web"}), None, soon())
        .await;
    assert!(matches!(error, Err(ServiceError::Exists { .. })));
    assert_eq!(server.operations(), ["POST /services/create"; 2]);
}

/// The labels of a network are those of its body; a secret's are given.
#[tokio::test]
async fn a_creation_without_an_answer_is_looked_for_and_made_again_where_it_is_not_there() {
    let made = json!([{
        "ID": "x1", "Id": "x1", "Name": "it", "Scope": "swarm", "Labels": {"by": "phoenix"},
        "Driver": "overlay", "Spec": {"Name": "it", "Labels": {"by": "phoenix"}},
    }]);
    let mine = labels(&[("by", "phoenix")]);
    let content = SecretBytes::from("hunter2".to_owned());
    let body = json!({"Name": "it", "Labels": {"by": "phoenix"}});
    let mut spec = NetworkSpec::overlay("it");
    spec.labels = mine.clone();
    let create = async |engine: &Engine, what: &str, deadline| match what {
        "secrets" => engine
            .create_object(ObjectKind::Secret, "it", &mine, &content, None, deadline)
            .await
            .map_err(|error| crate::ground::causes(&error)),
        "network from" => engine
            .create_network_from(&body, deadline)
            .await
            .map_err(|error| crate::ground::causes(&error)),
        _ => engine
            .create_network(&spec, deadline)
            .await
            .map_err(|error| crate::ground::causes(&error)),
    };
    for what in ["secrets", "network from", "network"] {
        let path = if what == "secrets" { what } else { "networks" };
        let (post, get) = (format!("POST /{path}/create"), format!("GET /{path}"));
        // Broken off before it ran.
        let (server, engine) = Scripted::unix(|seen| match (seen.method.as_str(), seen.nth) {
            ("POST", 0) => Reply::Nothing,
            ("POST", _) if seen.path == "/secrets/create" => ok(&json!({"ID": "x2"})),
            ("POST", _) => ok(&json!({"Id": "x2"})),
            _ => ok(&json!([])),
        });
        assert_eq!(create(&engine, what, soon()).await, Ok("x2".to_owned()));
        assert_eq!(
            server.operations(),
            [&post, &get, &post].map(String::as_str)
        );
        // It ran, and the time for it has passed without an answer.
        let listed = made.clone();
        let (server, engine) = Scripted::unix(move |seen| match seen.method.as_str() {
            "POST" => Reply::Silence,
            _ => ok(&listed),
        });
        let brief = Deadline::after(Duration::from_millis(300));
        assert_eq!(create(&engine, what, brief).await, Ok("x1".to_owned()));
        assert_eq!(server.operations(), [&post, &get].map(String::as_str));
        // Sent again by a manager.
        let listed = made.clone();
        let (_server, engine) =
            Scripted::unix(move |seen| match (seen.method.as_str(), seen.nth) {
                ("POST", 0) => refused(503, "connection error: desc = \"transport: dial\""),
                ("POST", _) => refused(409, "it already exists"),
                _ => ok(&listed),
            });
        assert_eq!(create(&engine, what, soon()).await, Ok("x1".to_owned()));
        // Another's.
        let listed = json!([{
            "ID": "x3", "Id": "x3", "Name": "it", "Scope": "swarm", "Labels": {"by": "hand"},
            "Driver": "overlay", "Spec": {"Name": "it", "Labels": {"by": "hand"}},
        }]);
        let (server, engine) = Scripted::unix(move |seen| match seen.method.as_str() {
            "POST" => refused(409, "it already exists"),
            _ => ok(&listed),
        });
        let error = create(&engine, what, soon()).await.expect_err("taken");
        assert!(error.contains("exists"), "{error}");
        assert_eq!(server.operations(), [&post, &get].map(String::as_str));
        // Never answered, never made.
        let (_server, engine) = Scripted::unix(|seen| match seen.method.as_str() {
            "POST" => Reply::Nothing,
            _ => ok(&json!([])),
        });
        let brief = Deadline::after(Duration::from_millis(700));
        let error = create(&engine, what, brief).await.expect_err("not made");
        assert!(error.contains("it may have run"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_is_checked_before_it_is_sent_and_found_again_after_a_conflict() {
    let (server, engine) = Scripted::unix(|seen| match seen.operation().as_str() {
        "POST /secrets/create" if seen.json()["Name"] == "fresh" => ok(&json!({"ID": "new"})),
        "POST /secrets/create" if seen.json()["Name"] == "lost" => Reply::Nothing,
        "POST /secrets/create" => refused(409, "secret x already exists"),
        "GET /secrets" => ok(&json!([
            {"ID": "s1", "Spec": {"Name": "mine", "Labels": {"by": "phoenix"}}},
            {"ID": "s2", "Spec": {"Name": "theirs", "Labels": {"by": "hand"}}},
            {"ID": "s3", "Spec": {"Name": "lost", "Labels": {"by": "phoenix"}}},
        ])),
        "DELETE /secrets/s1" => refused(
            400,
            "rpc error: code = InvalidArgument desc = secret 'mine' is in use by the following services: a_web, b_db",
        ),
        "DELETE /secrets/s2" => Reply::With(204, String::new()),
        _ => refused(404, "secret not found"),
    });
    let mine = labels(&[("by", "phoenix")]);
    let content = SecretBytes::new(b"\0\xff?>~".to_vec());
    let create = async |name: &str, content: &SecretBytes| {
        engine
            .create_object(ObjectKind::Secret, name, &mine, content, None, soon())
            .await
    };
    let long = "a".repeat(65);
    for name in ["", "-a", "a.", "a b", long.as_str(), "ä"] {
        let error = create(name, &content).await.expect_err("name");
        assert!(matches!(error, ObjectError::Name { .. }), "{error}");
    }
    for size in [0, 512_000] {
        let error = create("a", &SecretBytes::new(vec![1; size])).await;
        assert!(matches!(error, Err(ObjectError::Size { .. })));
    }
    assert!(server.seen().is_empty());

    assert_eq!(create("fresh", &content).await.expect("created"), "new");
    assert_eq!(server.seen()[0].json()["Data"], "AP8/Pn4=");
    let largest = SecretBytes::new(vec![1; 511_999]);
    assert_eq!(create("fresh", &largest).await.expect("created"), "new");
    assert_eq!(create("mine", &content).await.expect("adopted"), "s1");
    assert_eq!(create("lost", &content).await.expect("looked for"), "s3");
    let error = create("theirs", &content).await.expect_err("foreign");
    assert!(matches!(error, ObjectError::Exists { .. }), "{error}");

    let remove = async |id: &str| engine.remove_object(ObjectKind::Secret, id, soon()).await;
    match remove("s1").await {
        Err(ObjectError::InUse { services, .. }) => assert_eq!(services, ["a_web", "b_db"]),
        other => panic!("{other:?}"),
    }
    assert!(remove("s2").await.expect("removed"));
    assert!(!remove("s9").await.expect("was not there"));
}

#[tokio::test]
async fn a_join_that_goes_on_in_the_background_is_waited_for() {
    let state = |state: &str| json!({"Swarm": {"LocalNodeState": state, "NodeID": "w1", "RemoteManagers": null}});
    let script = move |end: &'static str| {
        move |seen: &Seen| match seen.operation().as_str() {
            "GET /swarm" => ok(&json!({
                "ID": "c1",
                "JoinTokens": {"Worker": "SWMTKN-1-worker", "Manager": "SWMTKN-1-manager"},
            })),
            "POST /swarm/join" => refused(
                503,
                "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node.",
            ),
            "GET /info" if seen.nth == 0 => ok(&state("pending")),
            "GET /info" => ok(&state(end)),
            other => panic!("{other}"),
        }
    };
    let options = JoinOptions {
        remote_addrs: vec!["10.0.0.1".to_owned()],
        ..JoinOptions::default()
    };
    let (server, engine) = Scripted::unix(script("active"));
    let token = engine
        .join_token(NodeRole::Worker, soon())
        .await
        .expect("token");
    assert!(!format!("{token:?}").contains("SWMTKN"));
    let joined = engine
        .join_swarm(&token, &options, soon())
        .await
        .expect("joined");
    assert_eq!(joined.node_id, "w1");
    assert!(!joined.manager);
    let body = server.seen()[1].json();
    assert_eq!(body["JoinToken"], "SWMTKN-1-worker");
    assert_eq!(body["RemoteAddrs"], json!(["10.0.0.1"]));

    let (_server, engine) = Scripted::unix(script("error"));
    let error = engine.join_swarm(&token, &options, soon()).await;
    assert!(
        matches!(error, Err(SwarmError::JoinFailed { .. })),
        "{error:?}"
    );

    let (_server, engine) = Scripted::unix(script("pending"));
    let brief = Deadline::after(Duration::from_millis(600));
    let error = engine.join_swarm(&token, &options, brief).await;
    assert!(
        matches!(
            error,
            Err(SwarmError::StillJoining {
                state: SwarmState::Pending,
                ..
            })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_swarm_is_initialised_with_nothing_but_what_was_asked() {
    let (server, engine) = Scripted::unix(|seen| {
        if seen.nth == 0 {
            ok(&json!("node-1"))
        } else {
            refused(
                503,
                "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.",
            )
        }
    });
    let options = InitOptions {
        advertise: Some("10.0.0.1".to_owned()),
        heartbeat: Some(Duration::from_secs(1)),
        ..InitOptions::default()
    };
    let node = engine
        .init_swarm(&options, soon())
        .await
        .expect("initialised");
    assert_eq!(node, "node-1");
    assert_eq!(
        server.seen()[0].json(),
        json!({
            "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "10.0.0.1",
            "Spec": {"Dispatcher": {"HeartbeatPeriod": 1_000_000_000}},
        })
    );
    let error = engine.init_swarm(&options, soon()).await;
    assert!(matches!(error, Err(SwarmError::AlreadyInSwarm { .. })));
}

const LATE: &str = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";

#[tokio::test]
async fn an_engine_is_looked_at_after_a_request_about_its_swarm_without_an_answer() {
    let state = |state: &str, manager: bool| {
        json!({"Swarm": {
            "LocalNodeState": state, "NodeID": "m1", "ControlAvailable": manager,
            "RemoteManagers": null,
        }})
    };
    for (found, managing, made) in [
        ("active", true, true),
        ("active", false, false),
        ("inactive", false, false),
    ] {
        let (server, engine) = Scripted::unix(move |seen| match seen.operation().as_str() {
            "POST /swarm/init" => refused(500, LATE),
            "GET /info" => ok(&state(found, managing)),
            other => panic!("{other}"),
        });
        let node = engine.init_swarm(&InitOptions::default(), soon()).await;
        match node {
            Ok(node) => assert_eq!((node.as_str(), made), ("m1", true)),
            Err(SwarmError::Engine { source }) => assert!(source.may_have_run() && !made),
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(server.operations(), ["POST /swarm/init", "GET /info"]);
    }

    let options = JoinOptions {
        remote_addrs: vec!["10.0.0.1".to_owned()],
        ..JoinOptions::default()
    };
    for (found, joins) in [("active", true), ("inactive", false)] {
        let (server, engine) = Scripted::unix(move |seen| match seen.operation().as_str() {
            "GET /swarm" => ok(&json!({"ID": "c1", "JoinTokens": {"Worker": "w", "Manager": "m"}})),
            "POST /swarm/join" => refused(500, LATE),
            "GET /info" => ok(&state(found, false)),
            other => panic!("{other}"),
        });
        let token = engine
            .join_token(NodeRole::Worker, soon())
            .await
            .expect("token");
        match engine.join_swarm(&token, &options, soon()).await {
            Ok(joined) => assert!(joins && joined.node_id == "m1"),
            Err(error @ SwarmError::JoinFailed { .. }) => {
                assert!(!joins);
                // That it is in no swarm now is not all that is known.
                let said = crate::ground::causes(&error);
                assert!(said.contains("it is inactive"), "{said}");
                assert!(said.ends_with("context deadline exceeded"), "{said}");
            }
            Err(other) => panic!("{other:?}"),
        }
        let operations = server.operations();
        assert_eq!(operations, ["GET /swarm", "POST /swarm/join", "GET /info"]);
    }
}

#[tokio::test]
async fn a_secret_is_looked_for_after_a_creation_that_got_lost_between_managers() {
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let secret = SecretBytes::from("hunter2".to_owned());
    for made in [true, false] {
        let (server, engine) = Scripted::unix(move |seen| match seen.operation().as_str() {
            "POST /secrets/create" => refused(503, "transport is closing"),
            "GET /secrets" if made => {
                ok(&json!([{"ID": "s1", "Spec": {"Name": "key", "Labels": {"a": "b"}}}]))
            }
            "GET /secrets" => ok(&json!([])),
            other => panic!("{other}"),
        });
        let kind = ObjectKind::Secret;
        let brief = Deadline::after(Duration::from_millis(1200));
        let limit = if made { soon() } else { brief };
        let created = engine
            .create_object(kind, "key", &labels, &secret, None, limit)
            .await;
        match created {
            Ok(id) => assert!(made && id == "s1"),
            Err(ObjectError::Engine { source, .. }) => assert!(source.may_have_run() && !made),
            Err(other) => panic!("{other:?}"),
        }
        // What is not there is made again, never without a look.
        let asked = server.operations();
        assert_eq!(asked.len() > 2, !made, "{asked:?}");
        for pair in asked.chunks(2) {
            assert_eq!(pair[0], "POST /secrets/create");
            assert!(pair.get(1).is_none_or(|look| look == "GET /secrets"));
        }
    }
}

#[test]
fn the_local_states_of_a_swarm_are_told_apart() {
    let read = |value: Value| serde_json::from_value::<SwarmState>(value).expect("state");
    assert_eq!(read(json!({"LocalNodeState": ""})), SwarmState::Inactive);
    assert_eq!(
        read(json!({"LocalNodeState": "locked"})),
        SwarmState::Locked
    );
    assert_eq!(
        read(json!({"LocalNodeState": "hibernating"})),
        SwarmState::Unknown {
            state: "hibernating".to_owned()
        }
    );
    let text = "The swarm does not have a leader. It's possible that too few managers are online.";
    match read(json!({
        "LocalNodeState": "active", "NodeID": "m", "ControlAvailable": true, "Error": text,
        "RemoteManagers": [{"NodeID": "m", "Addr": "10.0.0.1:2377"}],
    })) {
        SwarmState::Active(active) => {
            assert!(active.manager && active.is_leaderless() && !active.can_manage());
            assert_eq!(active.cluster_id, None);
            assert_eq!(active.managers, ["10.0.0.1:2377"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn networks_are_compared_only_in_what_was_wanted() {
    let found = json!([{
        "Name": "t", "Id": "n1", "Scope": "swarm", "Driver": "overlay", "Attachable": true,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]},
        "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"},
        "Labels": {"other": "x"},
    }]);
    let (server, engine) = Scripted::unix(move |seen| match seen.operation().as_str() {
        "GET /networks" => ok(&found),
        "POST /networks/create" if seen.nth == 0 => {
            Reply::With(201, json!({"Id": "n2", "Warning": ""}).to_string())
        }
        "POST /networks/create" => refused(409, "network with name t already exists"),
        "DELETE /networks/n1" if seen.nth == 0 => refused(
            400,
            "rpc error: code = FailedPrecondition desc = network n1 is in use by task x",
        ),
        "DELETE /networks/n1" => Reply::With(204, String::new()),
        other => panic!("{other}"),
    });
    let observed = engine
        .find_network("t", soon())
        .await
        .expect("list")
        .expect("found");
    let mut spec = NetworkSpec::overlay("t");
    spec.attachable = true;
    assert_eq!(spec.differences(&observed), []);
    spec.driver = "macvlan".to_owned();
    spec.subnets = vec!["10.2.0.0/24".to_owned()];
    spec.labels = labels(&[("by", "phoenix")]);
    let what: Vec<String> = spec
        .differences(&observed)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        what,
        [
            r#"driver is "overlay" instead of "macvlan""#,
            r#"subnets is "10.1.0.0/24" instead of "10.2.0.0/24""#,
            r#"label by is "" instead of "phoenix""#,
        ]
    );
    assert_eq!(
        engine.create_network(&spec, soon()).await.expect("made"),
        "n2"
    );
    let body = server.seen()[1].json();
    assert_eq!(body["Name"], "t");
    assert_eq!(body["IPAM"]["Config"][0]["Subnet"], "10.2.0.0/24");
    let error = engine.create_network(&spec, soon()).await;
    assert!(
        matches!(error, Err(NetworkError::Exists { .. })),
        "{error:?}"
    );
    assert!(engine.remove_network("n1", soon()).await.expect("removed"));
}

#[tokio::test]
async fn a_network_is_waited_for_until_the_swarm_has_set_it_up() {
    let network = |driver: &str, config: Value| {
        json!([{
            "Name": "t", "Id": "n1", "Scope": "swarm", "Driver": driver, "Attachable": true,
            "IPAM": {"Driver": "", "Options": null, "Config": config},
            "Options": null, "Labels": null,
        }])
    };
    let (server, engine) = Scripted::unix(move |seen| match seen.nth {
        0 => ok(&json!([])),
        1 => ok(&network("", Value::Null)),
        _ => ok(&network("overlay", json!([{"Subnet": "10.1.0.0/24"}]))),
    });
    let found = engine.await_network("t", soon()).await.expect("set up");
    assert_eq!(found.driver, "overlay");
    assert!(!found.is_pending());
    assert_eq!(server.seen().len(), 3);

    let (_server, engine) = Scripted::unix(move |_| ok(&network("", Value::Null)));
    let found = engine.find_network("t", soon()).await.expect("list");
    let found = found.expect("found");
    assert!(found.is_pending());
    let mut spec = NetworkSpec::overlay("t");
    spec.attachable = true;
    spec.subnets = vec!["10.1.0.0/24".to_owned()];
    spec.options = labels(&[("a", "b")]);
    assert_eq!(spec.differences(&found), []);
    spec.internal = true;
    assert_eq!(spec.differences(&found).len(), 1);
    let brief = Deadline::after(Duration::from_millis(100));
    let error = engine.await_network("t", brief).await.expect_err("pending");
    assert!(matches!(error, NetworkError::Pending { .. }), "{error:?}");
}

#[tokio::test]
async fn a_volume_in_use_is_waited_for_and_odd_names_never_leave() {
    let (server, engine) = Scripted::unix(|seen| match seen.operation().as_str() {
        "GET /volumes" => ok(&json!({"Volumes": [{
            "Name": "p_data", "Driver": "local", "Mountpoint": "/x", "Scope": "local",
            "Labels": {"com.docker.stack.namespace": "p"}, "Options": null,
            "CreatedAt": "2024-01-02T03:04:05Z",
        }], "Warnings": null})),
        "DELETE /volumes/p_data" if seen.nth == 0 => {
            refused(409, "remove p_data: volume is in use - [0123456789ab]")
        }
        "DELETE /volumes/p_data" => Reply::With(204, String::new()),
        "DELETE /volumes/stuck" => refused(409, "remove stuck: volume is in use - [0123]"),
        _ => refused(404, "get x: no such volume"),
    });
    let volumes = engine.volumes(soon()).await.expect("list");
    assert_eq!(volumes[0].labels["com.docker.stack.namespace"], "p");
    assert!(
        engine
            .remove_volume("p_data", soon())
            .await
            .expect("removed")
    );
    assert!(!engine.remove_volume("x", soon()).await.expect("none"));
    let brief = Deadline::after(Duration::from_millis(100));
    let error = engine.remove_volume("stuck", brief).await;
    assert!(matches!(error, Err(VolumeError::InUse { .. })), "{error:?}");
    let sent = server.seen().len();
    for name in ["../secrets/x", "a?b", "", ".hidden"] {
        let error = engine.remove_volume(name, soon()).await;
        assert!(matches!(error, Err(VolumeError::Name { .. })));
    }
    assert_eq!(server.seen().len(), sent);
}

#[tokio::test]
async fn tasks_of_removed_services_are_waited_for_without_a_filter() {
    let (server, engine) = Scripted::unix(|seen| {
        if seen.path == "/nodes" {
            return ok(&json!([]));
        }
        let state = if seen.nth == 0 { "running" } else { "shutdown" };
        ok(&json!([
            {"ID": "t1", "ServiceID": "s1", "Status": {"State": state}, "DesiredState": "remove"},
            {"ID": "t2", "ServiceID": "other", "Status": {"State": "running"}},
        ]))
    });
    let gone = ["s1".to_owned()];
    let lost = engine.await_tasks_gone(&gone, soon()).await.expect("gone");
    assert!(lost.is_empty());
    assert_eq!(
        server.operations(),
        ["GET /tasks", "GET /nodes", "GET /tasks"]
    );
    assert_eq!(server.seen()[0].query("filters"), None);
    let stays = ["other".to_owned()];
    let brief = Deadline::after(Duration::from_millis(50));
    let error = engine
        .await_tasks_gone(&stays, brief)
        .await
        .expect_err("stays");
    assert!(
        error.to_string().contains("t2 on no node (running)"),
        "{error}"
    );
}

#[tokio::test]
async fn tasks_on_nodes_that_are_down_are_not_waited_for() {
    let (_server, engine) = Scripted::unix(|seen| {
        if seen.path == "/nodes" {
            // The swarm finds out late that the first one is down.
            let node = |id: &str, name: &str, state: &str| {
                json!({
                    "ID": id, "Spec": {"Role": "worker", "Availability": "active"},
                    "Description": {"Hostname": name}, "Status": {"State": state},
                })
            };
            let state = if seen.nth == 0 { "unknown" } else { "down" };
            return ok(&json!([node("n1", "w1", state), node("n2", "w2", "ready")]));
        }
        let state = if seen.nth < 2 { "running" } else { "shutdown" };
        ok(&json!([
            {"ID": "t1", "ServiceID": "s1", "NodeID": "n1", "Status": {"State": "running"}, "DesiredState": "remove"},
            {"ID": "t2", "ServiceID": "s1", "NodeID": "n1", "Status": {"State": "running"}, "DesiredState": "remove"},
            {"ID": "t3", "ServiceID": "s1", "NodeID": "n2", "Status": {"State": state}, "DesiredState": "remove"},
            {"ID": "t4", "ServiceID": "stays", "NodeID": "n2", "Status": {"State": "running"}},
        ]))
    });
    let gone = ["s1".to_owned()];
    let lost = engine.await_tasks_gone(&gone, soon()).await.expect("gone");
    assert_eq!(lost, ["w1"]);
    let stays = ["s1".to_owned(), "stays".to_owned()];
    let brief = Deadline::after(Duration::from_millis(50));
    let error = engine
        .await_tasks_gone(&stays, brief)
        .await
        .expect_err("stays");
    let said = error.to_string();
    assert!(said.contains("a task of"), "{said}");
    assert!(said.contains("t4 on w2 (running)"), "{said}");
}

#[tokio::test]
async fn a_digest_is_asked_of_the_registry_with_the_image_as_a_path() {
    let (server, engine) = Scripted::unix(|_| {
        ok(&json!({
            "Descriptor": {"mediaType": "x", "digest": "sha256:ab", "size": 1},
            "Platforms": [{"architecture": "amd64", "os": "linux"}, {"os": "unknown"}],
        }))
    });
    let image = engine
        .distribution("r.example:5000/team/app:1.2", None, soon())
        .await
        .expect("image");
    assert_eq!(image.digest, "sha256:ab");
    assert_eq!(image.platforms.len(), 2);
    assert_eq!(
        server.operations(),
        ["GET /distribution/r.example%3A5000/team/app%3A1.2/json"]
    );
}
