//! Compose files as a whole: what is read, what is refused and where, and what is rendered.

mod compose;
mod dialect;
mod differences;
mod files;
mod keys;
mod parity;
mod refusals;
mod trees;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::ground::document::Problems;

use super::model::{Mode, ObjectSource};
use super::*;

pub(super) fn parse(text: &str) -> Result<ComposeFile, Problems> {
    let variables = [
        ("TAG", "1.27"),
        ("N", "3"),
        ("YES", "yes"),
        ("EMPTY", ""),
        ("MODE", "0440"),
    ];
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let options = LoadOptions::default().with_variables(variables);
    ComposeFile::parse(Path::new("/compose/stack.yaml"), text, "st", &options)
}

/// A file with one service `w`, of which `lines` are the rest.
pub(super) fn service_text(lines: &str) -> String {
    let mut text = "services:\n  w:\n    image: nginx\n".to_owned();
    for line in lines.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

fn rendered(text: &str, context: &RenderContext) -> Value {
    let file = parse(text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    file.render(context).services[0].json.clone()
}

/// The value at `pointer` of the one service with `lines`.
fn of_service(lines: &str, pointer: &str) -> Value {
    rendered(&service_text(lines), &RenderContext::default())
        .pointer(pointer)
        .cloned()
        .unwrap_or(Value::Null)
}

const CONTAINER: &str = "/TaskTemplate/ContainerSpec";

fn of_container(lines: &str, key: &str) -> Value {
    of_service(lines, &format!("{CONTAINER}/{key}"))
}

#[test]
fn texts_that_variables_brought_in_become_numbers_and_booleans() {
    let replicas = "/Mode/Replicated/Replicas";
    assert_eq!(
        of_service("deploy: {replicas: \"${N}\"}", replicas),
        json!(3)
    );
    assert_eq!(of_container("tty: ${YES}", "TTY"), json!(true));
    assert_eq!(of_container("init: \"${NO:-no}\"", "Init"), json!(false));
    let image = rendered(
        "services: {w: {image: \"nginx:$TAG\"}}",
        &RenderContext::default(),
    );
    assert_eq!(
        image["TaskTemplate"]["ContainerSpec"]["Image"],
        "nginx:1.27"
    );
    assert_eq!(image["Labels"][IMAGE_LABEL], "nginx:1.27");
    assert!(parse(&service_text("deploy: {replicas: \"2\"}")).is_err());
    assert!(parse(&service_text("tty: \"yes\"")).is_err());
    assert!(parse(&service_text("tty: ${N}")).is_err());
}

#[test]
fn an_empty_variable_stays_empty_and_one_without_value_is_looked_up_in_the_declared_ones() {
    // Set in every process, so that taking it from there would show.
    assert!(std::env::var_os("PATH").is_some());
    let lines = "environment:\n  PATH: \"\"\n  HOME:\n  TAG:\n  EMPTY:";
    assert_eq!(
        of_container(lines, "Env"),
        json!(["EMPTY=", "HOME", "PATH=", "TAG=1.27"])
    );
    let lines = "environment: [PATH, A=, TAG]";
    assert_eq!(
        of_container(lines, "Env"),
        json!(["A=", "PATH", "TAG=1.27"])
    );
}

#[test]
fn octal_modes_are_octal_and_decimal_ones_are_suspicious() {
    let with = |mode: &str| {
        format!(
            "{}secrets: {{s: {{external: true}}}}\n",
            service_text(&format!("secrets: [{{source: s, mode: {mode}}}]"))
        )
    };
    for (written, bits, warnings) in [
        ("0440", 0o440, 0),
        ("0o440", 0o440, 0),
        ("\"${MODE}\"", 0o440, 0),
        ("440", 440, 1),
        ("288", 0o440, 1),
    ] {
        let file = parse(&with(written)).expect(written);
        assert_eq!(file.services()["w"].secrets[0].mode, bits, "{written}");
        assert_eq!(file.warnings().len(), warnings, "{written}");
    }
}

#[test]
fn words_that_yaml_once_took_for_booleans_are_texts() {
    let lines = "environment: {A: yes, B: off, C: n}\nhostname: on";
    assert_eq!(of_container(lines, "Env"), json!(["A=yes", "B=off", "C=n"]));
    assert_eq!(of_container(lines, "Hostname"), json!("on"));
}

#[test]
fn a_service_may_keep_scratch_files_in_memory() {
    let mounts = of_container("tmpfs:\n  - /run:size=64m,mode=1777\n  - /tmp", "Mounts");
    assert_eq!(
        mounts,
        json!([
            {"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 67_108_864, "Mode": 0o1777}},
            {"Type": "tmpfs", "Target": "/tmp"},
        ])
    );
    assert_eq!(
        of_container("tmpfs: /run", "Mounts"),
        json!([{"Type": "tmpfs", "Target": "/run"}])
    );
}

#[test]
fn the_older_restart_key_counts() {
    let policy = "/TaskTemplate/RestartPolicy";
    assert_eq!(
        of_service("restart: always", policy),
        json!({"Condition": "any"})
    );
    assert_eq!(
        of_service("restart: \"no\"", policy),
        json!({"Condition": "none"})
    );
    assert_eq!(
        of_service("restart: on-failure:3", policy),
        json!({"Condition": "on-failure", "MaxAttempts": 3})
    );
}

#[test]
fn anchors_merge_keys_and_extensions_are_understood() {
    let text = "x-base: &base\n  image: nginx:${TAG}\n  x-note: $nothing\n  init: true\n\
                x-unused: ${NOT_SET}\nservices:\n  w:\n    <<: *base\n    init: false\n";
    let container = &rendered(text, &RenderContext::default())["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Image"], "nginx:1.27");
    assert_eq!(container["Init"], false);
}

#[test]
fn service_labels_of_the_site_are_added() {
    let label = |key: &str| BTreeMap::from([(key.to_owned(), "1".to_owned())]);
    let context = RenderContext {
        service_labels: BTreeMap::from([
            ("*".to_owned(), label("all")),
            ("w".to_owned(), label("own")),
            ("other".to_owned(), label("foreign")),
        ]),
        ..RenderContext::default()
    };
    let body = rendered(&service_text("deploy: {labels: {file: x}}"), &context);
    assert_eq!(
        body["Labels"],
        json!({"all": "1", "own": "1", "file": "x", IMAGE_LABEL: "nginx", STACK_LABEL: "st"})
    );
}

const SECRETS: &str = "\
services:
  w:
    image: nginx
    networks: [front, back]
    secrets:
      - key
      - {source: cert, target: /etc/cert.pem, mode: 0400}
    configs: [settings]
networks: {front: {external: true, name: shared}, back: }
secrets:
  key: {external: true, name: tls-key}
  cert: {external: true}
configs:
  settings: {external: true}
";

#[test]
fn external_secrets_are_known_by_logical_names_and_mounted_under_stable_ones() {
    let object = |name: &str| ResolvedObject {
        name: name.to_owned(),
        id: Some(format!("id-{name}")),
    };
    let context = RenderContext {
        secrets: BTreeMap::from([
            ("tls-key".to_owned(), object("tls-key-0123")),
            ("cert".to_owned(), object("cert-4567")),
        ]),
        configs: BTreeMap::from([("settings".to_owned(), object("settings"))]),
        networks: BTreeMap::from([
            ("shared".to_owned(), "aaa".to_owned()),
            ("st_back".to_owned(), "zzz".to_owned()),
        ]),
        ..RenderContext::default()
    };
    let service = &parse(SECRETS).unwrap().render(&context).services[0];
    assert!(service.unresolved.is_empty());
    let task = &service.json["TaskTemplate"];
    assert_eq!(
        task["ContainerSpec"]["Secrets"],
        json!([
            {"File": {"Name": "/etc/cert.pem", "UID": "0", "GID": "0", "Mode": 0o400},
             "SecretID": "id-cert-4567", "SecretName": "cert-4567"},
            {"File": {"Name": "key", "UID": "0", "GID": "0", "Mode": 0o444},
             "SecretID": "id-tls-key-0123", "SecretName": "tls-key-0123"},
        ])
    );
    // Sorted by name, though the ids would sort the other way round.
    assert_eq!(
        task["Networks"],
        json!([{"Target": "aaa", "Aliases": ["w"]}, {"Target": "zzz", "Aliases": ["w"]}])
    );
}

#[test]
fn what_does_not_exist_yet_is_rendered_by_name_and_listed() {
    let service = &parse(SECRETS)
        .unwrap()
        .render(&RenderContext::default())
        .services[0];
    assert_eq!(
        service.unresolved,
        [
            Unresolved::Secret("cert".to_owned()),
            Unresolved::Secret("tls-key".to_owned()),
            Unresolved::Config("settings".to_owned()),
        ]
    );
    let container = &service.json["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Secrets"][0].get("SecretID"), None);
    assert_eq!(container["Secrets"][1]["SecretName"], "tls-key");
    assert_eq!(
        service.json["TaskTemplate"]["Networks"][0]["Target"],
        "shared"
    );
}

#[test]
fn references_to_the_outside_have_places() {
    let references = parse(SECRETS).unwrap().references();
    assert_eq!(references.networks.len(), 1);
    assert_eq!(references.networks[0].name, "shared");
    assert_eq!(references.networks[0].place.path, "services.w.networks[0]");
    assert_eq!(references.networks[0].place.position.line, 4);
    let secrets: Vec<(&str, u32)> = references
        .secrets
        .iter()
        .map(|secret| (secret.name.as_str(), secret.place.position.line))
        .collect();
    assert_eq!(secrets, [("tls-key", 11), ("cert", 12)]);
    assert_eq!(references.configs[0].name, "settings");
    assert_eq!(references.images[0].0.familiar(), "nginx:latest");
    assert_eq!(references.images[0].1.path, "services.w.image");

    let problem = parse(SECRETS).unwrap().problem(
        &references.secrets[0].place,
        Some("tls-key"),
        "no secret of this name",
        Some("tls-keys".to_owned()),
    );
    assert_eq!(
        problem.to_string(),
        "/compose/stack.yaml:11:31: secrets.key.name: no secret of this name (got `tls-key`; did you mean `tls-keys`?)"
    );
}

#[test]
fn predefined_networks_and_unused_declarations_are_no_references() {
    let text = "services: {w: {image: a, networks: [host], volumes: [\"v:/v\", \"out:/o\"]}}\n\
                networks: {host: {external: true}, unused: {external: true}}\n\
                volumes: {v: , out: {external: true}}\nsecrets: {s: {external: true}}\n";
    let file = parse(text).unwrap();
    let references = file.references();
    assert!(references.networks.is_empty() && references.secrets.is_empty());
    assert_eq!(references.predefined_networks[0].name, "host");
    let volumes: Vec<(&str, bool)> = references
        .volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.external))
        .collect();
    assert_eq!(volumes, [("st_v", false), ("out", true)]);
    let rendered = file.render(&RenderContext::default());
    assert!(rendered.networks.is_empty());
    assert_eq!(
        rendered.services[0].json["TaskTemplate"]["Networks"],
        json!([{"Target": "host"}])
    );
}

#[test]
fn networks_are_made_when_a_service_uses_them() {
    let text = "services: {w: {image: a}, v: {image: b, networks: [front]}}\n\
                networks: {front: {name: own, internal: true}, unused: {}}\n";
    let networks = parse(text)
        .unwrap()
        .render(&RenderContext::default())
        .networks;
    let names: Vec<&str> = networks
        .iter()
        .map(|network| network.name.as_str())
        .collect();
    assert_eq!(names, ["own", "st_default"]);
    assert_eq!(networks[0].json["Internal"], true);
    assert_eq!(networks[1].json["Driver"], "overlay");
    assert_eq!(networks[1].json["Labels"], json!({STACK_LABEL: "st"}));
}

#[test]
fn files_become_versions_of_configs_and_secrets_for_somebody_else_to_make() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("app.conf"), "one").unwrap();
    std::fs::write(directory.path().join("key.pem"), "private").unwrap();
    let path = directory.path().join("stack.yaml");
    let text = "services: {w: {image: a, configs: [app], secrets: [key]}}\n\
                configs: {app: {file: ./app.conf, labels: {a: b}}}\n\
                secrets: {key: {file: key.pem}}\n";
    std::fs::write(&path, text).unwrap();
    let load = || ComposeFile::load(&path, "st", &LoadOptions::default()).unwrap();
    let file = load();
    let rendered = file.render(&RenderContext::default());
    let config = &rendered.configs[0];
    assert_eq!(
        (config.name.as_str(), config.content.as_slice()),
        ("st_app", &b"one"[..])
    );
    assert_eq!(config.labels.len(), 2);
    let service = &rendered.services[0];
    let container = &service.json["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Configs"][0]["ConfigName"], "st_app");
    assert_eq!(container["Configs"][0]["File"]["Name"], "app");
    assert_eq!(container["Secrets"][0]["SecretName"], "st_key");
    assert_eq!(container["Secrets"][0]["File"]["Name"], "key");
    let secrets = file.secrets();
    assert_eq!(
        (secrets[0].key.as_str(), secrets[0].name.as_str()),
        ("key", "st_key")
    );
    assert_eq!(
        secrets[0].source,
        ObjectSource::File(directory.path().join("key.pem"))
    );
    assert_eq!(secrets[0].labels[STACK_LABEL], "st");
    assert!(matches!(file.secrets["key"].source, ObjectSource::File(_)));
    assert!(!format!("{file:?}{rendered:?}").contains("private"));

    std::fs::write(directory.path().join("app.conf"), "two").unwrap();
    let other = &load().render(&RenderContext::default()).configs[0];
    assert_eq!(
        (other.name.as_str(), other.content.as_slice()),
        ("st_app", &b"two"[..])
    );
}

#[test]
fn images_are_pinned_when_a_registry_answered() {
    let context = RenderContext {
        images: BTreeMap::from([(
            "nginx:latest".to_owned(),
            ResolvedImage {
                digest: "sha256:12".to_owned(),
                platforms: vec![Platform {
                    os: "linux".to_owned(),
                    architecture: "amd64".to_owned(),
                }],
            },
        )]),
        ..RenderContext::default()
    };
    let task = &rendered(&service_text(""), &context)["TaskTemplate"];
    assert_eq!(task["ContainerSpec"]["Image"], "nginx:latest@sha256:12");
    assert_eq!(
        task["Placement"]["Platforms"],
        json!([{"Architecture": "amd64", "OS": "linux"}])
    );
}

#[test]
fn dependencies_and_modes_are_kept_for_whoever_orders_the_rollout() {
    let text = "services:\n  a: {image: x, depends_on: [b, c], deploy: {mode: global-job}}\n  \
                b: {image: x}\n  c: {image: x, depends_on: [b]}\n";
    let services = parse(text)
        .unwrap()
        .render(&RenderContext::default())
        .services;
    let needs = |index: usize| -> Vec<&str> {
        let needs = services[index].depends_on.iter();
        needs.map(|need| need.service.as_str()).collect()
    };
    assert_eq!(needs(0), ["b", "c"]);
    assert_eq!(services[0].mode, Mode::GlobalJob);
    assert_eq!(needs(2), ["b"]);
}
