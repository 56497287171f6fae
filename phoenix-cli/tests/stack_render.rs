//! `phoenix stack`: stdout, stderr and exit status together.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::path::Path;
use std::process::Stdio;

use program::{Ended, phoenix};
use serde_json::{Value, json};

fn run(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    fed(directory, variables, arguments, Stdio::null())
}

fn fed(
    directory: &Path,
    variables: &[(&str, &str)],
    arguments: &[&str],
    input: impl Into<Stdio>,
) -> Ended {
    phoenix(directory)
        .envs(variables.iter().copied())
        .args(["stack", "render"])
        .args(arguments)
        .stdin(input)
        .output()
        .unwrap()
        .into()
}

fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

const WEB: &str = "\
services:
  web:
    image: nginx:${TAG}
    ports: [\"8080:80\"]
    secrets: [key]
    configs: [page]
secrets:
  key: {file: key.pem}
configs:
  page: {file: page.html}
";

fn web() -> tempfile::TempDir {
    files(&[
        ("web.yml", WEB),
        (
            "over.yml",
            "services: {web: {tty: true, deploy: {replicas: 2}}}\n",
        ),
        ("key.pem", "very private"),
        ("page.html", "hello"),
        ("tag.env", "TAG=1.27\n"),
    ])
}

#[test]
fn a_stack_is_shown_as_it_would_be_sent() {
    let here = web();
    let shown = run(
        here.path(),
        &[("TAG", "1.27")],
        &["web.yml", "over.yml", "--name", "shop"],
    );
    assert_eq!(
        shown,
        Ended {
            code: Some(0),
            out: "\
stack: shop
networks:
  - Name: shop_default
    Attachable: false
    Driver: overlay
    Internal: false
    Labels:
      com.docker.stack.namespace: shop
secrets:
  - Name: shop_key
    Data: null
    Labels:
      com.docker.stack.namespace: shop
configs:
  - Name: shop_page
    Data: \"aGVsbG8=\"
    Labels:
      com.docker.stack.namespace: shop
services:
  - Name: shop_web
    EndpointSpec:
      Ports:
        - Protocol: tcp
          PublishMode: ingress
          PublishedPort: 8080
          TargetPort: 80
    Labels:
      com.docker.stack.image: nginx:1.27
      com.docker.stack.namespace: shop
    Mode:
      Replicated:
        Replicas: 2
    TaskTemplate:
      ContainerSpec:
        Configs:
          - ConfigName: shop_page
            File:
              Name: page
              GID: \"0\"
              Mode: 292
              UID: \"0\"
        Image: nginx:1.27
        Labels:
          com.docker.stack.namespace: shop
        Privileges:
          CredentialSpec: null
          NoNewPrivileges: false
          SELinuxContext: null
        Secrets:
          - File:
              Name: key
              GID: \"0\"
              Mode: 292
              UID: \"0\"
            SecretName: shop_key
        TTY: true
      ForceUpdate: 0
      Networks:
        - Aliases:
            - web
          Target: shop_default
      Placement: {}
      Resources: {}
"
            .to_owned(),
            err: String::new(),
        }
    );
}

#[test]
fn programs_get_one_document() {
    let here = web();
    let arguments = [
        "web.yml",
        "--name",
        "shop",
        "--json",
        "--env-file",
        "tag.env",
    ];
    let shown = run(here.path(), &[], &arguments);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert_eq!(shown.out.matches('\n').count(), 1);
    assert!(!shown.out.contains("private"));
    let document: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(document["format"], 1);
    assert_eq!(document["stack"], "shop");
    assert_eq!(
        document["secrets"],
        json!([{"Name": "shop_key", "Labels": {"com.docker.stack.namespace": "shop"}, "Data": null}])
    );
    assert_eq!(
        document["services"][0]["TaskTemplate"]["ContainerSpec"]["Image"],
        "nginx:1.27"
    );
    assert_eq!(document["networks"][0]["Name"], "shop_default");
    // The environment of the process wins.
    let shown = run(here.path(), &[("TAG", "2")], &arguments);
    assert!(shown.out.contains("nginx:2"), "{}", shown.out);
}

#[test]
fn a_wrong_file_is_told_at_its_place() {
    let here = files(&[
        ("a.yml", "services:\n  web:\n    image: nginx\n"),
        (
            "b.yml",
            "services:\n  web:\n    ports:\n      - 127.0.0.1:80:80\n",
        ),
    ]);
    let arguments = ["a.yml", "b.yml", "--name", "shop"];
    let refused = run(here.path(), &[], &arguments);
    assert_eq!(
        refused,
        Ended {
            code: Some(2),
            out: String::new(),
            err: "\
error: a swarm publishes a port on every address of its nodes, never on one alone: remove the address, or do not publish the port
 --> b.yml:4:9
  |
4 |       - 127.0.0.1:80:80
  |         ^^^^^^^^^^^^^^^
  |
  = note: in `services.web.ports[0]`

1 error
"
            .to_owned(),
        }
    );
    let refused = run(here.path(), &[], &[&arguments[..], &["--json"]].concat());
    assert_eq!(refused.code, Some(2));
    let document: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!(document["message"], "the stack's files cannot be used");
    assert_eq!(document["problems"][0]["file"], "b.yml");
    assert_eq!(document["problems"][0]["line"], 4);
}

#[test]
fn dockers_ways_are_followed_with_a_warning() {
    let here = files(&[(
        "a.yml",
        "services:\n  web:\n    image: nginx\n    ports:\n      - 127.0.0.1:8080:80\n",
    )]);
    let shown = run(
        here.path(),
        &[],
        &["a.yml", "--name", "shop", "--compat", "docker", "--json"],
    );
    assert_eq!(shown.code, Some(0));
    assert_eq!(
        shown.err,
        "\
warning: docker drops the address: the port is open at every address of every node
 --> a.yml:5:9
  |
5 |       - 127.0.0.1:8080:80
  |         ^^^^^^^^^^^^^^^^^
  |
  = note: in `services.web.ports[0]`

"
    );
    let document: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(
        document["services"][0]["EndpointSpec"]["Ports"][0]["PublishedPort"],
        8080
    );
}

#[test]
fn files_of_docker_compose_are_read_when_asked_for() {
    let here = files(&[
        (
            "compose.yaml",
            "name: x\nservices:\n  w: {image: \"a:${T}\"}\n  d: {image: b, profiles: [debug]}\n",
        ),
        (".env", "T='1 2'\n"),
        ("own.env", "T=\"3\"\n"),
    ]);
    let arguments = [
        "compose.yaml",
        "--name",
        "x",
        "--dialect",
        "compose",
        "--json",
    ];
    let images = |more: &[&str]| -> Vec<String> {
        let shown = run(here.path(), &[], &[&arguments[..], more].concat());
        assert_eq!(shown.code, Some(0), "{}", shown.err);
        let document: Value = serde_json::from_str(&shown.out).unwrap();
        let services = document["services"].as_array().unwrap();
        services
            .iter()
            .map(|body| {
                body["Labels"]["com.docker.stack.image"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(images(&["--env-file", "own.env"]), ["a:3"]);
    assert_eq!(
        images(&["--env-file", "own.env", "--profile", "debug"]),
        ["a:3", "b"]
    );
    let refused = run(here.path(), &[("T", "1")], &["compose.yaml", "--name", "x"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("the compose dialect knows this key"),
        "{}",
        refused.err
    );
}

#[test]
fn wrong_usage_is_told() {
    let here = web();
    for (arguments, part) in [
        (
            &["web.yml"][..],
            "error: the stack has no name: give one with --name NAME\n",
        ),
        (&["--name", "x"], "<FILE>"),
        (&["web.yml", "--name", "x", "--dialect", "yaml"], "yaml"),
        (
            &[
                "web.yml",
                "--name",
                "x",
                "--dialect",
                "compose",
                "--compat",
                "docker",
            ],
            "error: --compat docker is about `docker stack deploy`, which reads --dialect swarm\n",
        ),
        (
            &["web.yml", "--name", "x", "--profile", "a"],
            "error: only files of --dialect compose have profiles\n",
        ),
        (
            &["web.yml", "--name", "x", "--env-file", "none.env"],
            "error: --env-file none.env: No such file",
        ),
        (
            &["none.yml", "--name", "x"],
            "error: none.yml cannot be read",
        ),
        (
            &["web.yml", "--name", "we b"],
            "error: invalid value 'we b' for '--name <NAME>': a stack's name is letters, digits",
        ),
        (
            &["-c", "web.yml", "we b"],
            "error: \"we b\" cannot be the stack's name: a stack's name is letters, digits",
        ),
        (
            &["-c", "web.yml", "x", "--name", "x"],
            "error: with -c FILE the stack's name is given once, and nothing else\n",
        ),
        (
            &["-", "-", "--name", "x"],
            "error: standard input can be read once\n",
        ),
    ] {
        let refused = run(here.path(), &[("TAG", "1")], arguments);
        assert_eq!(
            (refused.code, refused.out.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(refused.err.contains(part), "{arguments:?}: {}", refused.err);
    }
    for (text, wrong) in [
        ("A B=1\n", "a blank in the variable's name"),
        (
            "export TAG=1\n",
            "`export` is not known here; write NAME=value",
        ),
    ] {
        std::fs::write(here.path().join("bad.env"), text).unwrap();
        let refused = run(
            here.path(),
            &[],
            &["web.yml", "--name", "x", "--env-file", "bad.env"],
        );
        assert_eq!(
            refused.err,
            format!("error: --env-file bad.env: line 1: {wrong}\n")
        );
    }
}

#[test]
fn standard_input_and_dockers_order_are_understood() {
    let here = web();
    let variables = [("TAG", "1.27")];
    let shown = run(here.path(), &variables, &["web.yml", "--name", "shop"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    let file = || std::fs::File::open(here.path().join("web.yml")).unwrap();
    for arguments in [
        &["-", "--name", "shop"][..],
        &["-c", "-", "shop"],
        &["shop", "--compose-file", "-"],
    ] {
        let other = fed(here.path(), &variables, arguments, file());
        assert_eq!(other, shown, "{arguments:?}");
    }
    let both = run(
        here.path(),
        &variables,
        &["-c", "web.yml", "-c", "over.yml", "shop"],
    );
    assert_eq!(both.code, Some(0), "{}", both.err);
    assert!(both.out.contains("TTY: true"), "{}", both.out);
}

#[test]
fn what_is_wrong_in_standard_input_is_shown() {
    let here = files(&[("bad.yml", "services:\n  web: {imag: x}\n")]);
    let file = std::fs::File::open(here.path().join("bad.yml")).unwrap();
    let refused = fed(here.path(), &[], &["-", "--name", "shop"], file);
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    assert!(
        refused.err.contains(
            "\
 --> <stdin>:2:9
  |
2 |   web: {imag: x}
  |         ^^^^
"
        ),
        "{}",
        refused.err
    );
}

#[test]
fn a_file_of_the_compose_dialect_names_its_stack() {
    let here = files(&[
        ("a.yml", "name: ${NAME:-shop}\nservices:\n  w: {image: a}\n"),
        (
            "b.yml",
            "name: ${NAME:?which}\nservices:\n  w: {image: a}\n",
        ),
        ("c.yml", "services:\n  w: {image: a}\n"),
        ("d.yml", "name: a.b\nservices:\n  w: {image: a}\n"),
    ]);
    let compose = |file: &str, variables: &[(&str, &str)], more: &[&str]| {
        let arguments = [&[file, "--dialect", "compose"], more].concat();
        run(here.path(), variables, &arguments)
    };
    let named = |ended: &Ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out.lines().next().unwrap().to_owned()
    };
    assert_eq!(named(&compose("a.yml", &[], &[])), "stack: shop");
    let given = [("NAME", "other")];
    assert_eq!(named(&compose("a.yml", &given, &[])), "stack: other");
    assert_eq!(
        named(&compose("a.yml", &[], &["--name", "mine"])),
        "stack: mine"
    );
    std::fs::write(here.path().join(".env"), "NAME=dotted\n").unwrap();
    assert_eq!(named(&compose("b.yml", &[], &[])), "stack: dotted");
    std::fs::remove_file(here.path().join(".env")).unwrap();
    for (file, said) in [
        (
            "b.yml",
            "the required variable NAME is not set: which\n --> b.yml:1:7",
        ),
        (
            "c.yml",
            "error: the stack has no name: give one with --name NAME\nhint: `name` at the top of a compose file will do, too\n",
        ),
        ("d.yml", "error: \"a.b\" cannot be the stack's name"),
    ] {
        let refused = compose(file, &[], &[]);
        assert_eq!(
            (refused.code, refused.out.as_str()),
            (Some(2), ""),
            "{file}"
        );
        assert!(refused.err.contains(said), "{file}: {}", refused.err);
    }
}

#[test]
fn a_file_of_variables_beside_the_compose_file_is_pointed_out() {
    let here = files(&[
        ("web.yml", "services:\n  web:\n    image: a:${TAG}\n"),
        (".env", "OTHER=1\n"),
    ]);
    let arguments = ["web.yml", "--name", "x"];
    let hint = "hint: --env-file .env gives variables\n";
    // It would not help.
    let refused = run(here.path(), &[], &arguments);
    assert_eq!(refused.code, Some(2));
    assert!(!refused.err.contains("hint:"), "{}", refused.err);
    std::fs::write(here.path().join(".env"), "TAG=1\n").unwrap();
    let refused = run(here.path(), &[], &arguments);
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    assert!(refused.err.ends_with(hint), "{}", refused.err);
    let shown = run(
        here.path(),
        &[],
        &["web.yml", "--name", "x", "--env-file", ".env"],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.err);
}
