//! The built command: stdout, stderr and exit status together.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use program::{Ended, interrupted, phoenix};

fn run(directory: &Path, arguments: &[&str]) -> Ended {
    phoenix(directory).args(arguments).output().unwrap().into()
}

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A directory with a site file of this text.
fn site(text: &str) -> tempfile::TempDir {
    let directory = empty();
    std::fs::write(directory.path().join("phoenix.yaml"), text).unwrap();
    directory
}

const GOOD: &str = "\
site: lab
proxmox:
  url: https://127.0.0.1:1
  token: { env: LAB_TOKEN }
  fingerprint: \"00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\"
guests:
  web:
    vmid: 100
";

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let here = empty();
    let help = run(here.path(), &["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for word in [
        "sync",
        "plan",
        "exec",
        "status",
        "check",
        "schema",
        "completions",
        "--config",
        "--json",
        "--color",
        "--verbose",
        "PHOENIX_CONFIG",
        "PHOENIX_LOG",
        "NO_COLOR",
        "\n    3  changes are pending",
        "\n  130  interrupted",
    ] {
        assert!(help.out.contains(word), "{word:?} in {}", help.out);
    }
    let help = run(here.path(), &["sync", "all", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "--reset-portainer",
        "--dry-run",
        "--detailed-exitcode",
        "Exit codes",
    ] {
        assert!(help.out.contains(word), "{word:?} in {}", help.out);
    }
}

#[test]
fn the_version_is_said() {
    let version = run(empty().path(), &["--version"]);
    assert_eq!(
        version,
        Ended {
            code: Some(0),
            out: format!("phoenix {}\n", env!("CARGO_PKG_VERSION")),
            err: String::new(),
        }
    );
}

#[test]
fn wrong_usage_is_told_apart() {
    let here = empty();
    for wrong in [
        &["sync"][..],
        &["sync", "some"],
        &["sync", "all", "--detailed-exitcode"],
        &["exec", "web", "ls"],
        &["exec", "web", "--"],
        &["exec", "web", "--timeout", "0s", "--", "ls"],
        &["completions", "tcl"],
        &["plan", "--colour"],
        &[],
    ] {
        let ended = run(here.path(), wrong);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(!ended.err.is_empty(), "{wrong:?}");
    }
}

#[test]
fn wrong_usage_is_an_error_event_under_json() {
    let ended = run(empty().path(), &["plan", "--json", "--colour"]);
    assert_eq!(ended.code, Some(2));
    let lines = json_lines(&ended.out);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["event"], "error");
    assert_eq!(lines[0]["format"], 1);
    assert_eq!(lines[0]["exit_code"], 2);
    assert!(lines[0]["message"].as_str().unwrap().contains("--colour"));
    assert!(ended.err.contains("--colour"));
}

#[test]
fn without_a_site_file_the_way_to_name_one_is_said() {
    let here = empty();
    for command in [&["check"][..], &["plan"], &["status"], &["sync", "all"]] {
        let ended = run(here.path(), command);
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(2), ""),
            "{command:?}"
        );
        assert!(
            ended.err.starts_with("error: no phoenix.yaml in "),
            "{}",
            ended.err
        );
        assert!(
            ended
                .err
                .ends_with("hint: name the site file with --config FILE or PHOENIX_CONFIG\n"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn an_unreadable_site_file_is_named() {
    let ended = run(
        empty().path(),
        &["check", "--config", "absent\u{1b}[2J.yaml"],
    );
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("absent\\u{1b}[2J.yaml"), "{}", ended.err);
    assert!(!ended.err.contains('\u{1b}'), "{}", ended.err);
}

#[test]
fn the_schema_is_json() {
    let here = empty();
    for arguments in [&["schema"][..], &["schema", "--json"]] {
        let ended = run(here.path(), arguments);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert!(
            schema["$schema"]
                .as_str()
                .unwrap()
                .contains("json-schema.org")
        );
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    let here = empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(here.path(), &["completions", shell]);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{shell}");
        assert!(ended.out.contains("reset-portainer"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_does_no_harm() {
    let here = empty();
    let mut child = phoenix(here.path())
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = phoenix(empty().path())
        .arg("schema")
        .stdout(full)
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.starts_with("error: cannot write to stdout: "),
        "{}",
        ended.err
    );
}

#[test]
fn a_wrong_log_filter_is_refused() {
    let here = site(GOOD);
    let output = phoenix(here.path())
        .arg("check")
        .env("PHOENIX_LOG", "a=b=c")
        .output()
        .unwrap();
    let ended = Ended::from(output);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(
        ended.err.starts_with("error: PHOENIX_LOG: "),
        "{}",
        ended.err
    );
}

#[test]
fn a_good_site_file_is_summed_up() {
    let here = site(GOOD);
    let expected = Ended {
        code: Some(0),
        out: "phoenix.yaml: site lab is valid: \
              1 guest, 0 networks, 0 certificates, 0 secrets, 0 stacks\n"
            .to_owned(),
        err: String::new(),
    };
    assert_eq!(
        run(here.path(), &["check", "--config", "phoenix.yaml"]),
        expected
    );
    let below = here.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let found = run(&below, &["check"]);
    assert_eq!((found.code, found.err.as_str()), (Some(0), ""));
    assert!(found.out.ends_with(&expected.out), "{}", found.out);
    let named = phoenix(&below)
        .arg("check")
        .env("PHOENIX_CONFIG", here.path().join("phoenix.yaml"))
        .output()
        .unwrap();
    assert!(Ended::from(named).out.ends_with(&expected.out));

    let json = run(here.path(), &["check", "--json"]);
    let lines = json_lines(&json.out);
    assert_eq!(
        (lines.len(), json.code, json.err.as_str()),
        (1, Some(0), "")
    );
    assert_eq!(lines[0]["format"], 1);
    assert_eq!(lines[0]["site"], "lab");
    assert_eq!(lines[0]["valid"], true);
    assert_eq!(lines[0]["problems"], serde_json::json!([]));
}

#[test]
fn everything_wrong_in_a_site_file_is_shown_with_its_place() {
    let here = site(&GOOD.replace("vmid: 100", "vmid: many\n    nodde: pve1"));
    let checked = run(here.path(), &["check", "--config", "phoenix.yaml"]);
    assert_eq!((checked.code, checked.out.as_str()), (Some(2), ""));
    for part in [
        " --> phoenix.yaml:8:11\n",
        "\n8 |     vmid: many\n  |           ^^^^\n",
        " --> phoenix.yaml:9:5\n",
        "did you mean `node`?",
        "guests.web.vmid",
    ] {
        assert!(checked.err.contains(part), "{part:?} in {}", checked.err);
    }
    assert!(checked.err.ends_with("\n2 errors\n"), "{}", checked.err);
    assert!(!checked.err.contains('\u{1b}'), "{}", checked.err);

    for command in [
        &["plan"][..],
        &["status"],
        &["sync", "all"],
        &["exec", "web", "--", "ls"],
    ] {
        let mut arguments = command.to_vec();
        arguments.splice(0..0, ["--config", "phoenix.yaml"]);
        assert_eq!(run(here.path(), &arguments), checked, "{command:?}");
    }

    let json = run(here.path(), &["check", "--json"]);
    assert_eq!(json.code, Some(2));
    let lines = json_lines(&json.out);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["valid"], false);
    assert_eq!(lines[0]["problems"][0]["severity"], "error");
    assert_eq!(lines[0]["problems"][0]["line"], 8);
    assert_eq!(lines[0]["problems"].as_array().unwrap().len(), 2);
    assert!(json.err.ends_with("\n2 errors\n"));

    let planned = run(here.path(), &["plan", "--json"]);
    let lines = json_lines(&planned.out);
    assert_eq!((planned.code, lines.len()), (Some(2), 1));
    assert_eq!(lines[0]["event"], "error");
    assert_eq!(lines[0]["exit_code"], 2);
    assert_eq!(lines[0]["problems"][1]["line"], 9);
}

#[test]
fn color_is_for_those_who_ask() {
    let here = site("site: [");
    for (arguments, no_color, colored) in [
        (&["check"][..], false, false),
        (&["check", "--color=always"], false, true),
        (&["check", "--color=always"], true, true),
        (&["check", "--color=never"], false, false),
    ] {
        let mut command = phoenix(here.path());
        command.args(arguments);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code, Some(2));
        assert_eq!(
            ended.err.contains('\u{1b}'),
            colored,
            "{arguments:?}: {}",
            ended.err
        );
    }
}

#[test]
fn a_missing_token_is_named_before_anything_is_contacted() {
    let here = site(GOOD);
    for command in [
        &["plan"][..],
        &["status"],
        &["sync", "all"],
        &["exec", "web", "--", "ls"],
    ] {
        let ended = run(here.path(), command);
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(2), ""),
            "{command:?}"
        );
        assert!(ended.err.contains("LAB_TOKEN"), "{}", ended.err);
    }
    assert!(
        !here.path().join(".phoenix").exists(),
        "something was written"
    );
}

#[test]
fn an_unknown_guest_is_wrong_usage() {
    let here = site(GOOD);
    let ended = run(here.path(), &["exec", "wbe", "--", "ls"]);
    assert_eq!(
        ended,
        Ended {
            code: Some(2),
            out: String::new(),
            err: "error: there is no guest `wbe`\nhint: did you mean `web`?\n".to_owned(),
        }
    );
}

#[test]
fn an_interruption_ends_in_order() {
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let here = site(GOOD);
        // It waits for the end of stdin, which stays open.
        let mut child = phoenix(here.path())
            .args(["-v", "--json", "exec", "web", "--", "cat"])
            .env(
                "LAB_TOKEN",
                "phoenix@pve!lab=00000000-0000-0000-0000-000000000000",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let rest = interrupted(&mut child, signal);
        let mut out = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(
            rest.contains(&format!("error: interrupted by {name}\n")),
            "{rest}"
        );
        let lines = json_lines(&out);
        assert_eq!(
            (lines.len(), &lines[0]["exit_code"]),
            (1, &serde_json::json!(130))
        );
    }
}

#[test]
fn what_is_no_certificate_fails_the_check_and_names_the_file() {
    let here = empty();
    std::fs::write(here.path().join("x.pem"), "nothing").unwrap();
    let wrong = run(here.path(), &["cert", "check", "--days", "5", "x.pem"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(1), ""));
    assert!(wrong.err.contains("x.pem"), "{}", wrong.err);
    let missing = run(here.path(), &["cert", "check", "--days", "5", "no.pem"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("no.pem"), "{}", missing.err);
    assert_eq!(
        run(here.path(), &["cert", "check", "--days", "5"]).code,
        Some(2)
    );
}
