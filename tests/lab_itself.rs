//! The lab itself, independent of Phoenix: its engines and agents answer, a swarm made by hand
//! pulls from its mirror, its services can be steered, and nothing of it stays behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use phoenix_lab::lab::{self, PORTAINER_IMAGE};
use phoenix_lab::place::Places;
use phoenix_lab::process::{self, Running};
use phoenix_lab::{Lab, LabOptions, Node, Result, Service, ServiceAction, site};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A command of the guest agent and its answer.
async fn agent(node: &Node, command: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(node.qga_socket()).await?;
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    tokio::time::timeout(Duration::from_secs(10), reader.read_line(&mut line)).await??;
    serde_json::from_str(&line).map_err(std::io::Error::other)
}

/// Polls until `probe` has an answer.
async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe().await.expect(what) {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not in a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The states of a service's tasks that are meant to run.
async fn tasks(manager: &Node, service: &str) -> Result<Vec<Value>> {
    let filter = json!({ "service": [service], "desired-state": ["running"] }).to_string();
    let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    let tasks = manager
        .docker()
        .get(&format!("/tasks?filters={filter}"))
        .await?;
    Ok(tasks.as_array().cloned().unwrap_or_default())
}

async fn make_swarm(lab: &Lab) {
    let [manager, workers @ ..] = lab.nodes() else {
        panic!("a lab without nodes");
    };
    let address = manager.ip().to_string();
    let wish = json!({
        "ListenAddr": "0.0.0.0:2377",
        "AdvertiseAddr": address,
        "DefaultAddrPool": [lab.network().overlay_pool()],
        "SubnetSize": 24,
    });
    let docker = manager.docker();
    docker.post("/swarm/init", wish).await.expect("init");
    let swarm = docker.get("/swarm").await.expect("swarm");
    for worker in workers {
        let wish = json!({
            "ListenAddr": "0.0.0.0:2377",
            "AdvertiseAddr": worker.ip().to_string(),
            "RemoteAddrs": [format!("{address}:2377")],
            "JoinToken": swarm["JoinTokens"]["Worker"],
        });
        worker
            .docker()
            .post("/swarm/join", wish)
            .await
            .expect("join");
    }
}

/// What of a lab this machine has: containers, networks, volumes, mounts, processes.
async fn traces(engine: &phoenix_lab::engine::Engine, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    if engine.answers().await {
        for (path, list) in [
            ("/containers/json?all=1", ""),
            ("/networks", ""),
            ("/volumes", "Volumes"),
        ] {
            let answer = engine.get(path).await.expect("list");
            let entries = if list.is_empty() {
                &answer
            } else {
                &answer[list]
            };
            for entry in entries.as_array().into_iter().flatten() {
                if entry.to_string().contains(name) {
                    found.push(format!("{path}: {entry}"));
                }
            }
        }
    }
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(name))
            .map(|line| format!("mount {line}")),
    );
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        // The reaper sees within 200 ms that the lab is gone.
        if command.contains(name) && !command.contains("reap") {
            found.push(format!("process {command:?}"));
        }
    }
    found
}

/// Runs a lab's part of a test, so that a failed assertion still takes it down (by its drop).
async fn with_lab<const N: usize>(guests: [(&str, u32); N], test: impl AsyncFnOnce(&mut Lab)) {
    let mut lab = Lab::start(LabOptions::test().with_guests(guests))
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    test(&mut lab).await;
    lab.down()
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_make_a_swarm_that_pulls_from_the_mirror_and_leave_nothing() {
    let lab = Lab::start(LabOptions::test())
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let (name, engine) = (lab.name().to_owned(), lab.outer());
    assert_eq!(lab.nodes().len(), 3);
    for node in lab.nodes() {
        assert!(node.docker().answers().await, "{}", node.name());
        let pong = agent(node, &json!({ "execute": "guest-ping" }))
            .await
            .expect("ping");
        assert_eq!(pong, json!({ "return": {} }), "{}", node.name());
        let info = node.docker().get("/info").await.expect("info");
        assert_eq!(info["Driver"], "overlay2", "{}", node.name());
    }

    make_swarm(&lab).await;
    let manager = &lab.nodes()[0];
    let wish = json!({
        "Name": "web",
        "TaskTemplate": { "ContainerSpec": { "Image": "traefik/whoami:v1.10" } },
        "Mode": { "Global": {} },
        "EndpointSpec": { "Ports": [
            { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host" },
        ] },
    });
    manager
        .docker()
        .post("/services/create", wish)
        .await
        .expect("service");
    until("three running tasks", async || {
        let tasks = tasks(manager, "web").await?;
        let running = tasks
            .iter()
            .filter(|task| task["Status"]["State"] == "running");
        Ok((running.count() == 3).then_some(()))
    })
    .await;
    for node in lab.nodes() {
        let web = phoenix_lab::wire::Endpoint::Tcp((node.ip(), 8080).into());
        let page = web.ask("GET", "/", Default::default()).await.expect("page");
        assert_eq!(&page.body[..], b"it works\n", "{}", node.name());
    }

    // An image that the mirror lacks is refused at once instead of after a resolver's time.
    let wish = json!({
        "Name": "missing",
        "TaskTemplate": {
            "ContainerSpec": { "Image": "nginx:no-such-tag" },
            "RestartPolicy": { "Condition": "none" },
        },
    });
    manager
        .docker()
        .post("/services/create", wish)
        .await
        .expect("service");
    let filter: String =
        url::form_urlencoded::byte_serialize(br#"{"service":["missing"]}"#).collect();
    until("a rejected task", async || {
        let tasks = manager
            .docker()
            .get(&format!("/tasks?filters={filter}"))
            .await?;
        Ok((tasks[0]["Status"]["State"] == "rejected").then_some(()))
    })
    .await;

    assert!(!traces(&engine, &name).await.is_empty());
    lab.down().await.expect("down");
    assert_eq!(traces(&engine, &name).await, Vec::<String>::new());
    let places = Places::of_this_user().expect("places");
    assert!(!lab::names(&places).expect("names").contains(&name));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_a_node_are_steered_one_by_one() {
    with_lab([("alone", 1101)], async |lab| {
        let node = &lab.nodes()[0];
        node.service(Service::Dockerd, ServiceAction::Kill)
            .await
            .expect("kill");
        assert!(!node.docker().answers().await);
        agent(node, &json!({ "execute": "guest-ping" }))
            .await
            .expect("the agent is another service");
        node.service(Service::Dockerd, ServiceAction::Start)
            .await
            .expect("start");
        node.wait().await.expect("back");

        node.service(Service::GuestAgent, ServiceAction::Stop)
            .await
            .expect("stop");
        assert!(UnixStream::connect(node.qga_socket()).await.is_err());
        node.service(Service::GuestAgent, ServiceAction::Start)
            .await
            .expect("start");
        node.wait().await.expect("back");

        // What ends by itself is started again.
        let pid = node.sh("cat /run/svc/qga/pid").await.expect("pid").text();
        node.sh("kill -9 $(cat /run/svc/qga/pid)")
            .await
            .expect("kill");
        until("another agent", async || {
            let now = node.sh("cat /run/svc/qga/pid").await?.text();
            Ok((!now.is_empty() && now != pid).then_some(()))
        })
        .await;
        node.wait().await.expect("back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_docker_says_whether_it_came_up() {
    with_lab([("alone", 1101)], async |lab| {
        let node = &lab.nodes()[0];
        let restart = ["/usr/local/bin/restart-docker"];
        let path = "/etc/docker/daemon.json";
        let settings = node.read_file(path).await.expect("settings");
        let before = node.sh("cat /run/svc/dockerd/pid").await.expect("pid");
        let fine = node.exec(&restart).await.expect("exec");
        assert_eq!(fine.code, 0, "{fine:?}");
        assert!(node.docker().answers().await);
        let after = node.sh("cat /run/svc/dockerd/pid").await.expect("pid");
        assert_ne!(before.text(), after.text());

        node.write_file(path, 0o644, b"{ \"hosts\": ")
            .await
            .expect("write");
        let failed = node.exec(&restart).await.expect("exec");
        assert_eq!(failed.code, 1, "{failed:?}");
        let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(
            stderr.contains("did not start") && stderr.contains("daemon.json"),
            "{stderr}"
        );
        assert!(!node.docker().answers().await);

        node.write_file(path, 0o644, &settings)
            .await
            .expect("write");
        let fine = node.exec(&restart).await.expect("exec");
        assert_eq!(fine.code, 0, "{fine:?}");

        // Settings are all in the file, so that a host added there is obeyed.
        let mut settings: Value = serde_json::from_slice(&settings).expect("JSON");
        settings["hosts"]
            .as_array_mut()
            .expect("hosts")
            .push(json!("tcp://127.0.0.1:2375"));
        let settings = serde_json::to_vec(&settings).expect("JSON");
        node.write_file(path, 0o644, &settings)
            .await
            .expect("write");
        node.exec(&restart)
            .await
            .and_then(phoenix_lab::Output::success)
            .expect("restart");
        let seen = node
            .sh("docker -H tcp://127.0.0.1:2375 version --format '{{.Server.Version}}'")
            .await
            .and_then(phoenix_lab::Output::success)
            .expect("version");
        assert!(seen.starts_with("26."), "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_switched_off_and_on_like_a_guest() {
    with_lab([("alone", 1101)], async |lab| {
        let node = &lab.nodes()[0];
        node.write_file("/etc/kept", 0o600, b"still here")
            .await
            .expect("write");
        // No answer comes: the guest is going down.
        let _ = agent(node, &json!({ "execute": "guest-shutdown" })).await;
        until("the guest's end", async || {
            Ok((!node.running().await?).then_some(()))
        })
        .await;
        assert!(UnixStream::connect(node.qga_socket()).await.is_err());
        node.start().await.expect("start");
        node.wait().await.expect("ready");
        assert_eq!(
            node.read_file("/etc/kept").await.expect("read"),
            b"still here"
        );

        node.pause().await.expect("pause");
        assert!(!node.docker().answers().await, "it is paused");
        node.unpause().await.expect("unpause");
        assert!(node.docker().answers().await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_behave_as_they_are_made_to() {
    with_lab([("alone", 1101)], async |lab| {
        let node = &lab.nodes()[0];
        let run = async |argv: &str| {
            let line = format!("docker run --rm {argv}");
            node.sh(&line).await.expect("run")
        };
        let crashed = run("crash:1").await;
        assert_eq!(crashed.code, 3);
        let stderr = String::from_utf8_lossy(&crashed.stderr).into_owned();
        assert!(stderr.contains("cannot open the database"), "{stderr}");

        let own = lab.busybox().expect("image").cmd(["echo", "made here"]);
        let digest = lab.push_image("acme/own:2", &own).await.expect("push");
        assert_eq!(run("acme/own:2").await.text(), "made here\n");
        let image = node
            .docker()
            .get("/images/acme/own:2/json")
            .await
            .expect("image");
        assert_eq!(image["RepoDigests"], json!([format!("acme/own@{digest}")]));

        let version = run(&format!("{PORTAINER_IMAGE} --version")).await;
        assert_eq!(version.code, 0, "{version:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxmox_api_reaches_the_guests() {
    with_lab([("alone", 1101), ("other", 1102)], async |lab| {
        let (server, access) = site::serve(site::server_options(lab).expect("options"))
            .await
            .expect("server");
        let root = reqwest::Certificate::from_pem(access.ca_pem.as_bytes()).expect("root");
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .build()
            .expect("client");
        let ask = async |path: &str| -> Value {
            let url = format!("{}/api2/json{path}", access.url);
            let request = client
                .get(url)
                .header("authorization", format!("PVEAPIToken={}", access.token));
            let answer = request.send().await.expect(path);
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.json().await.expect(path)
        };
        let guests = ask("/cluster/resources?type=vm").await;
        let mut names: Vec<_> = guests["data"]
            .as_array()
            .expect("list")
            .iter()
            .map(|guest| (guest["vmid"].clone(), guest["status"].clone()))
            .collect();
        names.sort_by_key(|(vmid, _)| vmid.as_u64());
        assert_eq!(
            names,
            [
                (json!(1101), json!("running")),
                (json!(1102), json!("running"))
            ]
        );
        let host = ask("/nodes/pve2/qemu/1102/agent/get-host-name").await;
        assert_eq!(host["data"]["result"]["host-name"], "other");
        server.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_whose_owner_is_gone_is_taken_down() {
    let dir = tempfile::tempdir().expect("dir");
    let mut command = Command::new("sleep");
    command.arg("1000");
    let owner = process::start_detached(command, &dir.path().join("log")).expect("owner");
    let options = LabOptions::test().with_guests([("alone", 1101)]);
    let name = options.name.clone();
    let lab = Lab::start_for(options, owner).await.expect("lab");
    let engine = lab.outer();
    // As if the process had ended without a chance to clean up.
    std::mem::forget(lab);
    owner.end(Duration::from_secs(5)).await.expect("end");
    let places = Places::of_this_user().expect("places");
    until("the reaper's work", async || {
        Ok((!places.lab(&name).exists()).then_some(()))
    })
    .await;
    assert_eq!(traces(&engine, &name).await, Vec::<String>::new());
    assert!(Running::this().expect("proc").alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_written_with_its_secrets_private_and_other_folders_are_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    with_lab([("alone", 1101)], async |lab| {
        let dir = tempfile::tempdir().expect("dir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir(&from).expect("dir");
        std::fs::write(
            from.join("phoenix.yaml"),
            "url: @PROXMOX_URL@\nguest: @ALONE@\npool: @OVERLAY_POOL@\n",
        )
        .expect("write");
        let (_server, access) = site::serve(site::server_options(lab).expect("options"))
            .await
            .expect("server");
        for _ in 0..2 {
            site::write(lab, &access, &from, &to).expect("site");
        }
        let text = std::fs::read_to_string(to.join("phoenix.yaml")).expect("read");
        assert_eq!(
            text,
            format!(
                "url: {}\nguest: {}\npool: {}\n",
                access.url,
                lab.nodes()[0].ip(),
                lab.network().overlay_pool()
            )
        );
        for private in ["proxmox.token", "secrets/portainer_admin_password"] {
            let mode = std::fs::metadata(to.join(private))
                .expect("stat")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{private}");
        }
        site::write(lab, &access, &from, &from).expect_err("not a lab's folder");
        assert!(Path::new(&from).join("phoenix.yaml").exists());
        site::remove(&to).expect("remove");
        assert!(!to.exists());
    })
    .await;
}
