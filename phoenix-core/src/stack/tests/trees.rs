//! Files that are made up: whatever they hold, they are read without panic, and what is wrong
//! with them has a place in them.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;

/// Keys of every level, so that made-up maps are not refused at once.
const KEYS: &[&str] = &[
    "services",
    "networks",
    "volumes",
    "secrets",
    "configs",
    "version",
    "name",
    "include",
    "w",
    "v",
    "image",
    "command",
    "environment",
    "env_file",
    "labels",
    "ports",
    "tmpfs",
    "healthcheck",
    "deploy",
    "restart",
    "depends_on",
    "extends",
    "profiles",
    "extra_hosts",
    "dns",
    "cap_add",
    "sysctls",
    "ulimits",
    "logging",
    "credential_spec",
    "test",
    "interval",
    "replicas",
    "mode",
    "resources",
    "limits",
    "cpus",
    "memory",
    "placement",
    "constraints",
    "update_config",
    "order",
    "type",
    "source",
    "target",
    "bind",
    "volume",
    "read_only",
    "published",
    "external",
    "driver",
    "driver_opts",
    "ipam",
    "config",
    "subnet",
    "file",
    "x-a",
    "path",
    "service",
    "condition",
    "aliases",
    "soft",
    "hard",
    "options",
    "privileged",
    "build",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "w",
    "80:80",
    "1-3:1-3/udp",
    "1.1.1.1:80:80",
    "/a:/b:ro",
    "v:/data",
    "~/a:/b",
    "A=b",
    "=",
    "${A}",
    "${N:-x}",
    "$",
    "${A:?b-c}",
    "1m",
    "50M",
    "3.8",
    "default",
    "host",
    "${N}",
    "always",
    "{{.Node.Hostname}}",
    "a b 'c",
    "::1",
    "\u{0}",
    "é",
];

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|value| json!(value)),
        (-2_i64..100_000).prop_map(|value| json!(value)),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| json!(value)),
        proptest::sample::select(TEXTS).prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(proptest::sample::select(KEYS), inner, 0..6)
                .prop_map(|map| json!(map)),
        ]
    })
}

/// A file of which one service is made up.
fn file() -> impl Strategy<Value = Value> {
    (tree(), tree(), proptest::sample::select(KEYS), tree()).prop_map(|(w, v, key, rest)| {
        let mut service = match w {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        service.entry("image").or_insert(json!("a"));
        let mut file = json!({"services": {"w": service, "v": v}});
        if key != "services" {
            file[key] = rest;
        }
        file
    })
}

fn all_options() -> [LoadOptions; 3] {
    let variables = [("A", "a"), ("N", "7")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let swarm = LoadOptions::default().with_variables(variables.into());
    [
        swarm.clone(),
        swarm.clone().with_compat(Compat::Docker),
        swarm.with_dialect(Dialect::Compose),
    ]
}

fn check(files: &[&str]) -> Result<(), TestCaseError> {
    let path = Path::new("/nowhere/stack.yaml");
    let files: Vec<(&Path, &str)> = files.iter().map(|text| (path, *text)).collect();
    for options in all_options() {
        match ComposeFile::parse_files(&files, "st", &options) {
            Ok(file) => {
                let again = ComposeFile::parse_files(&files, "st", &options);
                prop_assert_eq!(again.unwrap().wire(), file.wire());
            }
            Err(problems) => {
                prop_assert!(!problems.0.is_empty());
                for problem in &problems.0 {
                    let lines = files.iter().map(|(_, text)| text.lines().count()).max();
                    prop_assert!(problem.position.line as usize <= lines.unwrap_or(0) + 1);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_tree_is_read_without_panic(tree in tree()) {
        check(&[&tree.to_string()])?;
    }

    #[test]
    fn any_service_is_read_without_panic(file in file()) {
        check(&[&format!("{file:#}")])?;
    }

    #[test]
    fn any_two_files_are_read_without_panic(a in file(), b in file()) {
        check(&[&a.to_string(), &b.to_string()])?;
    }
}
