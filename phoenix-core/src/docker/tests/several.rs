//! Several managers, any of which will do.

use std::time::Duration;

use serde_json::json;

use super::super::testing::{Authority, Reply, Scripted, ok, refused, soon};
use super::super::*;
use crate::ground::Deadline;

const NO_LEADER: &str = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online.";

fn spec() -> serde_json::Value {
    json!({"Name": "web"})
}

#[tokio::test]
async fn the_next_is_asked_where_one_is_not_reached_and_stays_the_first() {
    let gone = tempfile::tempdir().expect("directory");
    let gone = Engine::unix(gone.path().join("none.sock"));
    let (server, engine) = Scripted::unix(|_| ok(&json!([])));
    let any = Engine::any_of([gone, engine]).expect("engines");
    any.nodes(soon()).await.expect("nodes");
    any.networks(soon()).await.expect("networks");
    assert_eq!(server.operations(), ["GET /nodes", "GET /networks"]);
    assert!(Engine::any_of([]).is_none());
}

#[tokio::test]
async fn a_write_that_was_refused_for_want_of_a_leader_goes_to_the_next() {
    let (first, without) = Scripted::unix(|_| refused(500, NO_LEADER));
    let (second, with) = Scripted::unix(|_| ok(&json!({"ID": "s1"})));
    let any = Engine::any_of([without, with]).expect("engines");
    let written = any.create_service(&spec(), None, soon()).await;
    assert_eq!(written.expect("written").id, "s1");
    assert_eq!(first.operations(), ["POST /services/create"]);
    assert_eq!(second.operations(), ["POST /services/create"]);
}

#[tokio::test]
async fn a_write_that_may_have_run_goes_nowhere_else_and_a_read_does() {
    let (_first, deaf) = Scripted::unix(|_| Reply::Nothing);
    let (second, other) = Scripted::unix(|_| ok(&json!([])));
    let any = Engine::any_of([deaf, other]).expect("engines");
    let error = any.create_service(&spec(), None, soon()).await;
    match error.expect_err("no answer") {
        ServiceError::Engine { source } => assert!(source.may_have_run(), "{source:?}"),
        other => panic!("{other:?}"),
    }
    assert!(second.operations().is_empty());
    any.nodes(soon()).await.expect("nodes");
    assert_eq!(second.operations(), ["GET /nodes"]);
}

#[tokio::test]
async fn a_write_that_a_manager_passed_on_without_an_answer_may_have_run_too() {
    for (status, message) in [
        (500, "context deadline exceeded"),
        (500, "rpc error: code = DeadlineExceeded desc = late"),
        (
            503,
            "rpc error: code = Unavailable desc = transport is closing",
        ),
    ] {
        let (first, cut_off) = Scripted::unix(move |_| refused(status, message));
        let (second, other) = Scripted::unix(|_| ok(&json!([])));
        let any = Engine::any_of([cut_off, other]).expect("engines");
        let error = any.create_service(&spec(), None, soon()).await;
        match error.expect_err("no answer") {
            ServiceError::Engine {
                source: source @ EngineError::Ambiguous { .. },
            } => {
                assert!(source.may_have_run() && source.refusal().is_none());
                let said = crate::ground::causes(&source);
                let words = message.rsplit("desc = ").next().expect("words");
                assert!(said.ends_with(&format!("({status}): {words}")), "{said}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(first.operations(), ["POST /services/create"]);
        assert!(second.operations().is_empty());
        any.nodes(soon()).await.expect("nodes");
        assert_eq!(second.operations(), ["GET /nodes"]);
    }
}

#[tokio::test]
async fn what_all_of_them_refuse_is_refused() {
    let refuse = |_: &_| refused(400, "that is wrong");
    let (first, one) = Scripted::unix(refuse);
    let (second, two) = Scripted::unix(refuse);
    let any = Engine::any_of([one, two]).expect("engines");
    let error = any.nodes(soon()).await.expect_err("refused");
    assert_eq!(error.refusal(), Some(Refusal::Other));
    assert_eq!(first.operations().len() + second.operations().len(), 1);
}

#[tokio::test]
async fn one_that_lets_connect_and_says_nothing_is_not_waited_for() {
    // The kernel takes the connection; nobody ever answers the TLS handshake.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("port");
    let port = silent.local_addr().expect("address").port();
    let authority = Authority::new();
    let identity = authority.identity(&authority.client());
    let silent_engine = Engine::tcp_tls("127.0.0.1", port, &identity).expect("identity");
    let (server, engine) = Scripted::unix(|_| ok(&json!({"ID": "s1"})));
    let any = Engine::any_of([silent_engine, engine]).expect("engines");
    // A write, too: it was not sent.
    let written = any.create_service(&spec(), None, soon()).await;
    assert_eq!(written.expect("written").id, "s1");
    assert_eq!(server.operations(), ["POST /services/create"]);
    drop(silent);
}

#[tokio::test]
async fn only_managers_of_one_swarm_stand_for_it() {
    let engine = |swarm: serde_json::Value| {
        Scripted::unix(move |seen| match seen.path.as_str() {
            "/info" => ok(&json!({ "Swarm": swarm })),
            _ => ok(&json!([])),
        })
    };
    let manager = |cluster: &str| {
        json!({
            "LocalNodeState": "active", "NodeID": "m", "NodeAddr": "10.0.0.1", "Error": "",
            "ControlAvailable": true, "Cluster": {"ID": cluster},
            "RemoteManagers": [{"NodeID": "m", "Addr": "10.0.0.1:2377"}],
        })
    };
    let (first, worker) = engine(json!({
        "LocalNodeState": "active", "NodeID": "w", "NodeAddr": "10.0.0.2", "Error": "",
        "ControlAvailable": false, "RemoteManagers": [{"NodeID": "m", "Addr": "10.0.0.1:2377"}],
    }));
    let (_alone, outside) = engine(json!({"LocalNodeState": "inactive", "RemoteManagers": null}));
    let (second, one) = engine(manager("c1"));
    let (_third, same) = engine(manager("c1"));
    let (_fourth, other) = engine(manager("c2"));
    let gone = tempfile::tempdir().expect("directory");
    let gone = Engine::unix(gone.path().join("none.sock"));

    let all = [gone, worker.clone(), outside.clone(), one.clone(), same];
    let managers = Managers::among(all, soon()).await.expect("managers");
    assert_eq!(managers.silent.len(), 1);
    managers.engine.networks(soon()).await.expect("networks");
    assert_eq!(first.operations(), ["GET /info"]);
    assert_eq!(second.operations(), ["GET /info", "GET /networks"]);

    let error = Managers::among([one, other], soon())
        .await
        .expect_err("two");
    assert!(matches!(error, ManagersError::Different { .. }), "{error}");
    let error = Managers::among([worker, outside], soon())
        .await
        .expect_err("none");
    let text = error.to_string();
    assert!(
        text.contains("is a worker of managers at 10.0.0.1:2377; "),
        "{text}"
    );
    assert!(text.ends_with("is in no swarm"), "{text}");
    let error = Managers::among([], soon()).await.expect_err("none");
    assert!(matches!(error, ManagersError::None), "{error}");
}

#[tokio::test]
async fn a_read_is_repeated_while_the_only_manager_knows_no_leader() {
    let (server, engine) = Scripted::unix(|seen| match seen.nth {
        0 => refused(500, NO_LEADER),
        1 => refused(503, "connection error: desc = \"transport: dial\""),
        _ => ok(&json!([])),
    });
    engine.nodes(soon()).await.expect("nodes");
    assert_eq!(server.operations(), ["GET /nodes"; 3]);
    // As long as there is time, and only what passes.
    let (server, engine) = Scripted::unix(|seen| match seen.path.as_str() {
        "/nodes" => refused(500, NO_LEADER),
        _ => refused(500, "something else"),
    });
    let brief = Deadline::after(Duration::from_millis(1200));
    let error = engine.nodes(brief).await.expect_err("no leader");
    assert!(error.is(Refusal::NoLeader), "{error}");
    assert!(server.operations().len() > 1);
    engine.networks(soon()).await.expect_err("refused");
    let asked = server.operations();
    assert_eq!(
        asked.iter().filter(|one| *one == "GET /networks").count(),
        1
    );
}

#[tokio::test]
async fn logs_are_asked_for_again_while_there_is_no_leader() {
    let (server, engine) = Scripted::unix(|seen| match seen.nth {
        0 => refused(500, NO_LEADER),
        _ => Reply::With(200, String::new()),
    });
    let logs = engine
        .logs(LogSource::Service("s1"), LogOptions::default(), soon())
        .await;
    assert!(logs.expect("logs").is_empty());
    assert_eq!(server.operations(), ["GET /services/s1/logs"; 2]);
    let (server, engine) = Scripted::unix(|seen| match seen.nth {
        0 => refused(500, NO_LEADER),
        _ => Reply::With(200, String::new()),
    });
    engine
        .follow_logs(LogSource::Service("s1"), LogOptions::default(), soon())
        .await
        .expect("logs");
    assert_eq!(server.operations(), ["GET /services/s1/logs"; 2]);
}
