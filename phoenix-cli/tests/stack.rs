//! `phoenix stack` without any engine: what it refuses, and how it says so.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use program::{Ended, interrupted, phoenix};

/// Exit code, stdout and stderr of a run.
fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = phoenix(directory);
    command
        .envs(variables.iter().copied())
        .args(["stack"])
        .args(arguments);
    let Ended { code, out, err } = command.output().unwrap().into();
    (code.unwrap(), out, err)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = "services: {web: {image: \"nginx:${TAG}\"}}\n";
    std::fs::write(folder.path().join("web.yml"), file).unwrap();
    folder
}

const SOCKET: &str = "unix:///nowhere/docker.sock";
/// A command that needs docker's credentials.
const WITH_AUTH: [&str; 7] = [
    "diff",
    "web.yml",
    "--name",
    "shop",
    "--with-registry-auth",
    "--host",
    SOCKET,
];

#[test]
fn a_swarm_must_be_named() {
    let here = folder();
    // A site that is named wins over DOCKER_HOST.
    for arguments in [&["ls", "--config", "none.yaml"][..], &["ls"]] {
        let variables = [("DOCKER_HOST", SOCKET), ("PHOENIX_CONFIG", "none.yaml")];
        let (code, out, err) = run(here.path(), arguments, &variables);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("none.yaml"), "{err}");
        assert!(
            err.contains("hint: name a manager's engine with --host"),
            "{err}"
        );
    }
    let cases = [
        ("tcp://10.0.0.1:2376", "a TCP address needs TLS"),
        ("tcp://10.0.0.1", "written like tcp://HOST:PORT"),
        (
            "unix://relative.sock",
            "written like unix:///run/docker.sock",
        ),
        (
            "ssh://me@there",
            "hint: Phoenix starts no ssh: forward the socket with `ssh -nNT -L \
             /tmp/swarm.sock:/var/run/docker.sock ssh://me@there`, and name unix:///tmp/swarm.sock\n",
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
    let variables = [("TAG", "1"), ("DOCKER_CONFIG", home)];
    let (code, _, err) = run(here.path(), &WITH_AUTH, &variables);
    assert_eq!(code, 2);
    assert!(
        err.contains("not a configuration file of the docker CLI"),
        "{err}"
    );
    assert!(!err.contains("pass"), "{err}");
}

#[test]
fn credentials_that_are_not_there_are_missed_aloud() {
    let here = folder();
    let home = here.path().to_str().unwrap();
    let variables = [("TAG", "1"), ("DOCKER_CONFIG", home)];
    let path = here.path().join("config.json");
    let said = |why: &str| {
        format!(
            "warning: --with-registry-auth finds no credentials: {} {why}\n",
            path.display()
        )
    };
    let (code, _, err) = run(here.path(), &WITH_AUTH, &variables);
    assert_eq!(code, 4);
    assert!(err.starts_with(&said("is not there")), "{err}");
    std::fs::write(&path, "{\"credsStore\": \"desktop\"}").unwrap();
    let (code, _, err) = run(here.path(), &WITH_AUTH, &variables);
    assert_eq!(code, 4);
    assert!(err.starts_with(&said("names no registry")), "{err}");
}

#[test]
fn the_key_of_the_fingerprints_can_be_named() {
    let here = folder();
    let deploy = ["deploy", "web.yml", "--name", "shop", "--host", SOCKET];
    let nowhere = [("TAG", "1"), ("HOME", "/proc/nope")];
    let (code, out, err) = run(here.path(), &deploy, &nowhere);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with(
            "error: the key of the fingerprints cannot be used: /proc/nope/.local/state/phoenix: "
        ),
        "{err}"
    );
    assert!(
        err.ends_with(
            "hint: name another file with --fingerprint-key FILE or PHOENIX_FINGERPRINT_KEY\n"
        ),
        "{err}"
    );
    // Made where there is none, and then used.
    let named = [&deploy[..], &["--fingerprint-key", "own.key"]].concat();
    let (code, _, _) = run(here.path(), &named, &nowhere);
    assert_eq!(code, 4);
    let key = std::fs::read(here.path().join("own.key")).unwrap();
    let variable = [&nowhere[..], &[("PHOENIX_FINGERPRINT_KEY", "own.key")]].concat();
    let (code, _, _) = run(here.path(), &deploy, &variable);
    assert_eq!(code, 4);
    assert_eq!(std::fs::read(here.path().join("own.key")).unwrap(), key);
    std::fs::write(here.path().join("own.key"), "no key").unwrap();
    let (code, _, err) = run(here.path(), &named, &nowhere);
    assert_eq!(code, 1);
    assert!(err.contains("own.key"), "{err}");
}

/// A site with a stack `shop` on a swarm of which nothing answers.
fn site() -> tempfile::TempDir {
    let here = folder();
    let text = "\
site: lab
guests:
  one:
    docker: { address: \"unix:///nowhere/docker.sock\" }
    swarm: { role: manager }
stacks:
  shop: { compose: web.yml, variables: { TAG: \"1\" } }
";
    std::fs::write(here.path().join("phoenix.yaml"), text).unwrap();
    here
}

#[test]
fn a_command_that_changes_a_sites_stacks_holds_its_lock() {
    let here = site();
    let variables = [("TAG", "1")];
    let whose = "warning: shop is a stack of the site lab: `phoenix sync all` makes it as the site \
                 declares it, with variables, labels and secrets that this command does not know\n";
    let commands: [&[&str]; 3] = [
        &["deploy", "web.yml", "--name", "shop"],
        &["rollback", "shop"],
        &["rm", "shop"],
    ];
    let diff = ["diff", "web.yml", "--name", "shop"];
    for command in commands {
        let (code, _, err) = run(here.path(), command, &variables);
        assert_eq!(code, 4, "{command:?}: {err}");
        assert!(err.starts_with(whose), "{command:?}: {err}");
    }
    let lock = std::fs::File::options()
        .read(true)
        .write(true)
        .open(here.path().join(".phoenix/lock"))
        .unwrap();
    lock.try_lock().unwrap();
    for command in commands {
        let (code, out, err) = run(here.path(), command, &variables);
        assert_eq!((code, out.as_str()), (5, ""), "{command:?}");
        assert!(
            err.contains("another sync of this site is running"),
            "{err}"
        );
        // Another swarm is none of the site's business.
        let elsewhere = [command, &["--host", SOCKET]].concat();
        let (code, _, err) = run(here.path(), &elsewhere, &variables);
        assert_eq!(code, 4, "{command:?}: {err}");
        assert!(!err.contains("warning:"), "{err}");
    }
    let (code, _, err) = run(here.path(), &diff, &variables);
    assert_eq!(code, 4, "{err}");
    assert!(err.starts_with(whose), "{err}");
}

#[test]
fn events_begin_with_their_format() {
    let here = folder();
    for arguments in [
        &["deploy", "web.yml", "--name", "shop"][..],
        &["rollback", "shop"],
        &["rm", "shop"],
    ] {
        let arguments = [arguments, &["--json", "--host", SOCKET]].concat();
        let variables = [("TAG", "1"), ("HOME", here.path().to_str().unwrap())];
        let (code, out, _) = run(here.path(), &arguments, &variables);
        assert_eq!(code, 4);
        let (first, rest) = out.split_once('\n').unwrap();
        assert_eq!(
            first,
            "{\"event\":\"started\",\"format\":1,\"stack\":\"shop\"}"
        );
        assert!(rest.starts_with("{\"event\":\"error\""), "{rest}");
    }
}

#[test]
fn an_interrupted_command_says_how_to_go_on() {
    let here = folder();
    // An engine that does not answer.
    let socket = here.path().join("mute.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    let host = format!("--host=unix://{}", socket.display());
    let again = "hint: run the same command again to go on\n";
    for (arguments, hint) in [
        (&["deploy", "web.yml", "--name", "shop"][..], again),
        (&["rm", "shop"], again),
        (
            &["rollback", "shop"],
            "hint: phoenix stack services shop shows how far it came\n",
        ),
    ] {
        let mut child = phoenix(here.path())
            .env("TAG", "1")
            .env("HOME", here.path())
            .args(["-v", "stack"])
            .args(arguments)
            .arg(&host)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let rest = interrupted(&mut child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let end = format!("error: interrupted by SIGINT\n{hint}");
        assert!(rest.ends_with(&end), "{rest}");
    }
}

#[test]
fn every_help_tells_its_own_exit_codes() {
    let here = folder();
    let codes: [(&str, &[&str]); 9] = [
        ("render", &["0", "2"]),
        (
            "deploy",
            &["0", "1", "2", "4", "5", "11", "12", "13", "14", "15", "130"],
        ),
        (
            "rollback",
            &["0", "1", "2", "4", "5", "11", "12", "13", "14", "15", "130"],
        ),
        ("diff", &["0", "1", "2", "3", "4", "130"]),
        ("rm", &["0", "1", "2", "4", "5", "130"]),
        ("ls", &["0", "1", "2", "4", "130"]),
        ("services", &["0", "1", "2", "4", "130"]),
        ("ps", &["0", "1", "2", "4", "130"]),
        ("logs", &["0", "1", "2", "4", "130"]),
    ];
    for (command, codes) in codes {
        let (code, out, err) = run(here.path(), &[command, "--help"], &[]);
        assert_eq!((code, err.as_str()), (0, ""));
        let (_, listed) = out.split_once("Exit codes:\n").unwrap();
        let listed: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.get(..5))
            .map(str::trim)
            .filter(|code| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        assert_eq!(listed, codes, "{command}");
    }
}
