//! The bodies of one large file beside those that docker CLI 28.2.2 sent for it to an engine that
//! recorded them (and answered `sha256:abab…` for every image, and `id-NAME` for every object).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::*;

const SENT: &str = include_str!("parity.json");

/// A body without what says nothing (absent, null, empty), and without the two things that CLI
/// versions differ in: the order of ports, and platforms named `unknown`.
fn plain(value: &Value, key: &str) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !matches!(value, Value::Null))
                .filter(|(key, value)| {
                    key.as_str() == "Init"
                        || **value != json!(false) && **value != json!("")
                        || !key.starts_with(|c: char| c.is_ascii_uppercase())
                })
                .map(|(key, value)| (key.clone(), plain(value, key)))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| plain(item, "")).collect();
            if key == "Ports" {
                for port in &mut items {
                    let port = port.as_object_mut().unwrap();
                    port.entry("Protocol").or_insert(json!("tcp"));
                    port.entry("PublishMode").or_insert(json!("ingress"));
                }
                items.sort_by_key(|port| {
                    (port["PublishedPort"].as_i64(), port["TargetPort"].as_i64())
                });
                items = items.iter().map(|item| plain(item, "")).collect();
            }
            if key == "Platforms" {
                items.retain(|platform| platform["OS"] != "unknown");
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn file() -> (ComposeFile, RenderContext, Value) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stack/tests");
    let path = directory.join("parity.yaml");
    let file = ComposeFile::load(&path, "st", &LoadOptions::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let sent = SENT.replace("@DIRECTORY@", directory.to_str().unwrap());
    let objects = |names: &[&str]| {
        names
            .iter()
            .map(|name| {
                let object = ResolvedObject {
                    name: (*name).to_owned(),
                    id: Some(format!("id-{name}")),
                };
                ((*name).to_owned(), object)
            })
            .collect()
    };
    let platform = |os: &str, architecture: &str| Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
    };
    let resolved = ResolvedImage {
        digest: format!("sha256:{}", "ab".repeat(32)),
        platforms: vec![
            platform("linux", "amd64"),
            platform("unknown", "unknown"),
            platform("linux", "arm"),
            platform("linux", "arm64"),
        ],
    };
    let context = RenderContext {
        secrets: objects(&["tls-key", "password"]),
        configs: objects(&["settings", "other-v1"]),
        images: file
            .references()
            .images
            .iter()
            .map(|(image, _)| (image.familiar(), resolved.clone()))
            .collect(),
        ..RenderContext::default()
    };
    (file, context, serde_json::from_str(&sent).unwrap())
}

#[test]
fn the_bodies_are_those_of_the_docker_cli() {
    let (file, context, mut sent) = file();
    // Two files of one secret: the docker CLI leaves their order to chance.
    for service in sent["services"].as_array_mut().unwrap() {
        let container = &mut service["TaskTemplate"]["ContainerSpec"];
        if let Some(Value::Array(secrets)) = container.get_mut("Secrets") {
            secrets.sort_by_key(|secret| {
                format!("{} {}", secret["SecretName"], secret["File"]["Name"])
            });
        }
    }
    let rendered = file.render(&context);
    for (own, theirs) in rendered
        .networks
        .iter()
        .zip(sent["networks"].as_array().unwrap())
    {
        assert_eq!(plain(&own.json, ""), plain(theirs, ""));
    }
    assert_eq!(
        rendered.services.len(),
        sent["services"].as_array().unwrap().len()
    );
    for theirs in sent["services"].as_array().unwrap() {
        let own = rendered
            .services
            .iter()
            .find(|own| own.name == theirs["Name"])
            .unwrap();
        assert!(own.unresolved.is_empty());
        assert_eq!(plain(&own.json, ""), plain(theirs, ""), "{}", own.name);
    }
}

#[test]
fn a_stack_of_the_docker_cli_does_not_differ() {
    let (file, context, sent) = file();
    for own in file.render(&context).services {
        let theirs = sent["services"].as_array().unwrap();
        let theirs = theirs
            .iter()
            .find(|theirs| own.name == theirs["Name"])
            .unwrap();
        assert_eq!(difference(&own.json, theirs), []);
    }
}
