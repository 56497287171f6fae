//! A sync that is killed anywhere loses nothing, doubles nothing and leaves nothing readable: the
//! next one goes on from there.

use std::process::Stdio;

use phoenix_lab::harness::{ALONE, Harness};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

const SITE: &str = r#"
networks: { front: {} }
secrets:
  word: { file: word }
certificates:
  web:
    common_name: web.lab.lan
    profile: peer
    sans: [web.lab.lan]
    deliver:
      - guest: alone
        files:
          - { part: chain, path: /etc/web/tls.pem }
          - { part: key, path: /etc/web/tls.key }
        reload: [/bin/sh, -c, "echo reloaded >> /etc/web/reloads"]
      - secrets: { bundle: web_tls }
stacks:
  web: { compose: web.yml }
"#;

const STACK: &str = r#"
services:
  one:
    image: busybox:1.37
    networks: [front]
    secrets: [word, web_tls]
    stop_grace_period: 1s
    deploy:
      update_config: { monitor: 1s }
networks:
  front: { external: true }
secrets:
  word: { external: true }
  web_tls: { external: true }
"#;

/// Runs a sync and kills it as soon as it has said so many lines; whether it was still running.
async fn killed_after(harness: &Harness, lines: usize) -> bool {
    let mut command = harness.command(["--json", "sync", "all"]);
    let mut program = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("phoenix");
    let mut output = BufReader::new(program.stdout.take().expect("its output")).lines();
    for _ in 0..lines {
        if output.next_line().await.expect("a line").is_none() {
            program.wait().await.expect("its end");
            return false;
        }
    }
    program.kill().await.expect("killed");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_anywhere_is_taken_up_by_the_next() {
    let files = [
        ("phoenix.yaml", &*format!("{ALONE}{SITE}")),
        ("web.yml", STACK),
        ("word", "swordfish"),
    ];
    let harness = Harness::of_files("interrupted", &[("alone", 1101)], &files).await;

    // The first two lines are the beginning and the plan; what follows is written meanwhile.
    let mut killed = 0;
    for lines in [2, 3, 5, 6, 8, 9, 11, 14, 18, 22, 27, 33] {
        killed += usize::from(killed_after(&harness, lines).await);
    }
    assert!(killed >= 6, "only {killed} syncs were killed");
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let again = harness.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(again.report()["changed"], 0, "{again}");

    let node = harness.node("alone");
    let engine = node.docker();
    let names = async |path: &str| -> Vec<String> {
        let found = engine.get(path).await.expect(path);
        let mut names: Vec<String> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|object| object["Spec"]["Name"].as_str())
            .map(|name| name.split('.').next().unwrap_or(name).to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names("/secrets").await,
        ["web_tls", "word"],
        "a secret twice or none"
    );
    assert_eq!(names("/services").await, ["web_one"]);
    let nodes = engine.get("/nodes").await.expect("nodes");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1));

    let left = node
        .sh("find /etc /tmp -name '*.phoenix.*' -o -name '*.proposed'; find /etc/web /etc/docker/phoenix -name '*key*' -perm /077; tail -n 1 /etc/web/reloads")
        .await
        .expect("find");
    assert_eq!(left.text().trim(), "reloaded", "left in the guest");
    assert_private(&harness.path(".phoenix"));
    let journals = std::fs::read_dir(harness.path(".phoenix/journal")).expect("journals");
    assert!(journals.count() >= killed);
    let status = harness.phoenix(&["--json", "status"]).await.expect(0);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["format"], 1);
    harness.stop().await;
}

/// Nothing below `folder` can be read by others, but for the CA's certificates.
fn assert_private(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mode = std::fs::metadata(&path)
            .expect("its mode")
            .permissions()
            .mode();
        if path.is_dir() {
            assert_private(&path);
        }
        let public = ["root.pem", "certificate.pem"];
        if !public.iter().any(|name| path.ends_with(name)) {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
}
