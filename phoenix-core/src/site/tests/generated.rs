//! Generated sites load; broken ones are refused inside the file.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value as Json, json};

use super::super::schema;
use super::schema::{json_of, violations};
use super::{EXAMPLE, load};
use crate::ground::document::{Document, Problems};

/// What a site is made of.
#[derive(Debug, Clone)]
struct Parts {
    guests: Vec<(bool, bool)>,
    networks: usize,
    secrets: usize,
    certificates: Vec<(u8, u32, Vec<usize>)>,
    stacks: Vec<Vec<usize>>,
    text: String,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        prop::collection::vec(any::<(bool, bool)>(), 0..6),
        0..4_usize,
        0..4_usize,
        prop::collection::vec(
            (0..3_u8, 2..400_u32, prop::collection::vec(0..6_usize, 0..3)),
            0..5,
        ),
        prop::collection::vec(prop::collection::vec(any::<usize>(), 0..3), 0..5),
        // What YAML could take for something else than text.
        prop_oneof![
            "[ -~äß€]{0,12}",
            "0[0-7]{3}",
            "(yes|no|null|~|true|1e3|0x1F|-|: |# a|12:30)"
        ],
    )
        .prop_map(
            |(guests, networks, secrets, certificates, stacks, text)| Parts {
                guests,
                networks,
                secrets,
                certificates,
                stacks,
                text,
            },
        )
}

fn site(parts: &Parts) -> Json {
    let mut guests = Map::new();
    guests.insert(
        "manager".into(),
        json!({ "docker": { "address": "unix:///run/docker.sock" }, "swarm": { "role": "manager" } }),
    );
    for (index, (managed, worker)) in parts.guests.iter().enumerate() {
        let mut guest = json!({ "vmid": 100 + index, "docker": { "address": format!("tcp://10.0.0.{index}:2376") } });
        guest["docker"][if *managed { "managed" } else { "tls" }] = if *managed {
            json!({ "restart": ["/bin/restart", parts.text.replace(|c: char| !c.is_ascii(), "")] })
        } else {
            json!({ "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem" })
        };
        if *worker {
            guest["swarm"] = json!({ "role": "worker", "labels": { "text": parts.text } });
        }
        guests.insert(format!("guest-{index}"), guest);
    }
    let certificates: Map<String, Json> = parts
        .certificates
        .iter()
        .enumerate()
        .map(|(index, (profile, days, deliveries))| {
            let deliver: Vec<Json> = deliveries
                .iter()
                .enumerate()
                .map(|(number, guest)| match parts.guests.len() {
                    0 => json!({ "secrets": { "key": format!("c{index}-{number}") } }),
                    count => json!({
                        "guest": format!("guest-{}", guest % count),
                        "files": [{ "part": "bundle", "path": format!("/etc/c{index}/{number}.pem"), "mode": "0600" }],
                    }),
                })
                .collect();
            let certificate = json!({
                "common_name": format!("c{index}.lan"),
                "profile": (["server", "client", "peer"][usize::from(*profile)]),
                "sans": [format!("c{index}.lan"), format!("10.1.0.{index}")],
                "lifetime": format!("{days}d"),
                "deliver": deliver,
            });
            (format!("c{index}"), certificate)
        })
        .collect();
    let stacks: Map<String, Json> = parts
        .stacks
        .iter()
        .enumerate()
        .map(|(index, after)| {
            let after: std::collections::BTreeSet<String> = after
                .iter()
                .filter(|_| index > 0)
                .map(|earlier| format!("stack-{}", earlier % index.max(1)))
                .collect();
            let stack = json!({ "compose": format!("{index}.yml"), "after": after, "variables": { "TEXT": parts.text } });
            (format!("stack-{index}"), stack)
        })
        .collect();
    json!({
        "site": "generated",
        "proxmox": { "url": "https://pve:8006", "token": { "file": "token" } },
        "guests": guests,
        "networks": (0..parts.networks).map(|n| (format!("net-{n}"), Json::Null)).collect::<Map<_, _>>(),
        "secrets": (0..parts.secrets).map(|n| (format!("secret-{n}"), json!({ "env": format!("S{n}") }))).collect::<Map<_, _>>(),
        "certificates": certificates,
        "stacks": stacks,
    })
}

/// Every map key in `value`, as pointer to the map and key.
fn keys(value: &Json, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                found.push((pointer.to_owned(), key.clone()));
                let escaped = key.replace('~', "~0").replace('/', "~1");
                keys(value, &format!("{pointer}/{escaped}"), found);
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                keys(value, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn assert_inside(problems: &Problems, text: &str) {
    assert!(!problems.0.is_empty());
    for problem in &problems.0 {
        let line = problem.position.line as usize;
        let length = text
            .lines()
            .nth(line - 1)
            .map_or(0, |line| line.chars().count());
        assert!(line <= text.lines().count().max(1), "{problem}");
        assert!(
            problem.position.column as usize <= length + 1,
            "{problem}\n{text}"
        );
        assert!(!problem.to_string().contains('\n'));
        assert!(
            problem
                .excerpt(text)
                .is_some_and(|shown| shown.contains('^'))
                || text.is_empty()
        );
    }
}

#[derive(Debug, Clone)]
enum Change {
    Delete,
    Rename(String),
    Replace(Json),
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        Just(Json::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!(true)),
        "[ -~é]{0,10}".prop_map(Json::from),
        Just(json!("9999999999999999999y")),
        Just(json!("tcp://[::1")),
    ];
    prop_oneof![
        Just(Change::Delete),
        "[a-z_ .]{0,4}".prop_map(Change::Rename),
        value.prop_map(Change::Replace),
    ]
}

fn apply(document: &mut Json, at: &Index, change: &Change) {
    let mut found = Vec::new();
    keys(document, "", &mut found);
    if found.is_empty() {
        return;
    }
    let (pointer, key) = &found[at.index(found.len())];
    let Some(Json::Object(map)) = document.pointer_mut(pointer) else {
        panic!("{pointer} is no map")
    };
    match change {
        Change::Delete => {
            map.shift_remove(key);
        }
        Change::Rename(suffix) => {
            let value = map.shift_remove(key).expect("key");
            map.insert(format!("{key}{suffix}"), value);
        }
        Change::Replace(value) => {
            map.insert(key.clone(), value.clone());
        }
    }
}

fn yaml(document: &Json) -> String {
    serde_saphyr::to_string(document).expect("renders")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_sites_load_from_yaml_and_json_alike(parts in parts()) {
        let document = site(&parts);
        let text = yaml(&document);
        let loaded = match load(&text) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}\n{text}"),
        };
        let from_json = load(&document.to_string()).expect("JSON loads");
        prop_assert_eq!(format!("{:?}", loaded.site), format!("{:?}", from_json.site));
        prop_assert_eq!(loaded.site.guests.len(), parts.guests.len() + 1);
        prop_assert_eq!(loaded.site.networks.len(), parts.networks);
        prop_assert_eq!(loaded.site.certificates.len(), parts.certificates.len());
        prop_assert_eq!(loaded.site.stacks.len(), parts.stacks.len());
        for stack in loaded.site.stacks.values() {
            prop_assert_eq!(&stack.variables["TEXT"], &parts.text);
        }
        let schema = schema();
        prop_assert_eq!(violations(&schema, &document, &schema, ""), Vec::<String>::new());
    }

    #[test]
    fn a_changed_site_loads_or_is_refused_inside_the_file(
        changes in prop::collection::vec((any::<Index>(), change()), 1..4),
    ) {
        let mut document = json_of(Document::parse("x", EXAMPLE).expect("parses").root());
        for (at, change) in &changes {
            apply(&mut document, at, change);
        }
        let text = yaml(&document);
        match load(&text) {
            Err(problems) => assert_inside(&problems, &text),
            Ok(_) => {
                // What the loader takes, an editor with the schema must not mark.
                let schema = schema();
                prop_assert_eq!(violations(&schema, &document, &schema, ""), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn a_cut_file_is_refused_inside_it_or_loads(at in any::<Index>()) {
        let end = at.index(EXAMPLE.len());
        prop_assume!(EXAMPLE.is_char_boundary(end));
        let text = &EXAMPLE[..end];
        if let Err(problems) = load(text) {
            for problem in &problems.0 {
                prop_assert!(problem.position.line as usize <= text.lines().count() + 1, "{}", problem);
            }
        }
    }
}
