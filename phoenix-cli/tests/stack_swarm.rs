//! `phoenix stack` without any engine: what it refuses, and how it says so.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};

/// Exit code, stdout and stderr of a run.
fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phoenix"));
    command
        .current_dir(directory)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .args(["stack"])
        .args(arguments);
    let output = command.output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = "services: {web: {image: \"nginx:${TAG}\"}}\n";
    std::fs::write(folder.path().join("web.yml"), file).unwrap();
    folder
}

const SOCKET: &str = "unix:///nowhere/docker.sock";

#[test]
fn a_swarm_must_be_named() {
    let here = folder();
    let (code, out, err) = run(here.path(), &["ls"], &[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no phoenix.yaml in"), "{err}");
    assert!(
        err.contains("hint: name a manager's engine with --host"),
        "{err}"
    );
    let cases = [
        ("tcp://10.0.0.1:2376", "a TCP address needs TLS"),
        ("tcp://10.0.0.1", "written like tcp://HOST:PORT"),
        (
            "unix://relative.sock",
            "written like unix:///run/docker.sock",
        ),
        (
            "ssh://me@there",
            "written like unix:///PATH or tcp://HOST:PORT",
        ),
    ];
    for (host, said) in cases {
        let (code, out, err) = run(here.path(), &["ls", "--host", host], &[]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with(&format!("error: {host}: ")), "{err}");
        assert!(err.contains(said), "{err}");
    }
}

#[test]
fn an_engine_that_is_not_there_is_unreachable() {
    let here = folder();
    let (code, out, err) = run(here.path(), &["ls"], &[("DOCKER_HOST", SOCKET)]);
    assert_eq!((code, out.as_str()), (4, ""));
    assert!(err.contains("there is no such socket"), "{err}");
    let both = [
        "ls",
        "--json",
        "--host",
        SOCKET,
        "--host",
        "unix:///elsewhere/docker.sock",
    ];
    let (code, out, _) = run(here.path(), &both, &[]);
    assert_eq!(code, 4);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&said["event"], &said["exit_code"]),
        (&"error".into(), &4.into())
    );
}

#[test]
fn a_wrong_compose_file_is_told_before_anything_is_asked() {
    let here = folder();
    std::fs::write(here.path().join("bad.yml"), "services:\n  web: {imag: x}\n").unwrap();
    for command in ["deploy", "diff"] {
        let arguments = [command, "bad.yml", "--name", "shop", "--host", SOCKET];
        let (code, out, err) = run(here.path(), &arguments, &[]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("bad.yml:2:9"), "{err}");
    }
    // Variables are those of the environment.
    let arguments = ["diff", "web.yml", "--name", "shop", "--host", SOCKET];
    let (code, _, _) = run(here.path(), &arguments, &[("TAG", "1")]);
    assert_eq!(code, 4);
}

#[test]
fn credentials_that_a_program_keeps_are_refused() {
    let here = folder();
    std::fs::write(
        here.path().join("config.json"),
        "{\"auths\": [1, \"pass\"]}",
    )
    .unwrap();
    let home = here.path().to_str().unwrap();
    let arguments = [
        "diff",
        "web.yml",
        "--name",
        "shop",
        "--with-registry-auth",
        "--host",
        SOCKET,
    ];
    let variables = [("TAG", "1"), ("DOCKER_CONFIG", home)];
    let (code, _, err) = run(here.path(), &arguments, &variables);
    assert_eq!(code, 2);
    assert!(
        err.contains("not a configuration file of the docker CLI"),
        "{err}"
    );
    assert!(!err.contains("pass"), "{err}");
}
