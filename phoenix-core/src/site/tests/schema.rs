//! The schema, the loader and the documentation agree.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::super::format;
use super::super::names::{self, NameRule};
use super::super::schema;
use super::super::shape::{Object, Shape};
use super::{EXAMPLE, ISSUERS, load};
use crate::ground::document::{Document, Node, Value, child_path};
use crate::pki::{KeyType, Profile};

/// What the example leaves out because it has the alternative.
const ALTERNATIVES: &str = "
site: other
proxmox:
  url: https://pve:8006
  token: { file: token }
  fingerprint: 'abababababababababababababababababababababababababababababababab'
guests:
  m: { docker: { address: 'unix:///run/docker.sock' }, swarm: { role: manager } }
secrets: { password: { file: password } }
stacks: { p: { compose: p.yml } }
portainer:
  stack: p
  url: https://m:9443
  fingerprint: 'abababababababababababababababababababababababababababababababab'
  admin_password: password
";
const MORE_ALTERNATIVES: &str = "
site: other
guests:
  m: { docker: { address: 'unix:///run/docker.sock' }, swarm: { role: manager } }
secrets: { password: { env: PASSWORD } }
stacks: { p: { compose: p.yml } }
portainer: { stack: p, url: 'https://m:9443', ca: ca.pem, admin_password: password }
certificates:
  a:
    common_name: a
    profile: client
    deliver: [ { secrets: { certificate: c1, chain: c2, key: c3, ca: c4, bundle: c5 } } ]
";

pub(super) fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::String(value) => json!(value),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(map) => map
            .iter()
            .map(|entry| (entry.key.clone(), json_of(&entry.value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn parse(text: &str) -> Json {
    json_of(Document::parse("x", text).expect("parses").root())
}

/// A JSON Schema validator for the keywords that the schema uses; any other is a failure.
pub(super) fn violations(schema: &Json, value: &Json, root: &Json, at: &str) -> Vec<String> {
    let keywords = schema.as_object().expect("schema is an object");
    let mut wrong = Vec::new();
    let mut no = |what: String| wrong.push(format!("{at}: {what}"));
    let kind = |value: &Json| match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_i64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    let mut nested = Vec::new();
    for (keyword, rule) in keywords {
        match (keyword.as_str(), value) {
            ("$schema" | "$defs" | "title" | "description" | "examples", _) => {}
            ("type", value) => {
                let allowed: Vec<&str> = match rule {
                    Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).collect(),
                    kind => kind.as_str().into_iter().collect(),
                };
                let kind = kind(value);
                let whole = kind == "integer" && allowed.contains(&"number");
                if !allowed.contains(&kind) && !whole {
                    no(format!("{kind} is none of {allowed:?}"));
                }
            }
            ("enum", value) => {
                if !rule.as_array().expect("list").contains(value) {
                    no(format!("{value} is none of {rule}"));
                }
            }
            ("pattern", Json::String(text)) => {
                let pattern = regex::Regex::new(rule.as_str().expect("text")).expect("pattern");
                if !pattern.is_match(text) {
                    no(format!("{text} does not match {rule}"));
                }
            }
            ("minLength", Json::String(text)) => {
                if (text.chars().count() as u64) < rule.as_u64().expect("number") {
                    no("too short".into());
                }
            }
            ("maxLength", Json::String(text)) => {
                if text.chars().count() as u64 > rule.as_u64().expect("number") {
                    no("too long".into());
                }
            }
            ("minimum", Json::Number(number)) => {
                if number.as_f64() < rule.as_f64() {
                    no("too small".into());
                }
            }
            ("maximum", Json::Number(number)) => {
                if number.as_f64() > rule.as_f64() {
                    no("too large".into());
                }
            }
            ("items", Json::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    nested.extend(violations(rule, item, root, &format!("{at}/{index}")));
                }
            }
            ("required", Json::Object(map)) => {
                for key in rule.as_array().expect("list") {
                    if !map.contains_key(key.as_str().expect("text")) {
                        no(format!("{key} is missing"));
                    }
                }
            }
            ("properties", Json::Object(map)) => {
                for (key, value) in map {
                    if let Some(rule) = rule.get(key) {
                        nested.extend(violations(rule, value, root, &format!("{at}/{key}")));
                    }
                }
            }
            ("additionalProperties", Json::Object(map)) => {
                for (key, value) in map {
                    if keywords
                        .get("properties")
                        .is_some_and(|p| p.get(key).is_some())
                    {
                        continue;
                    }
                    match rule {
                        Json::Bool(false) => no(format!("{key} is unknown")),
                        rule => {
                            nested.extend(violations(rule, value, root, &format!("{at}/{key}")))
                        }
                    }
                }
            }
            ("propertyNames", Json::Object(map)) => {
                for key in map.keys() {
                    nested.extend(violations(rule, &json!(key), root, at));
                }
            }
            ("anyOf", value) => {
                let choices = rule.as_array().expect("list");
                if choices
                    .iter()
                    .all(|choice| !violations(choice, value, root, at).is_empty())
                {
                    no(format!("{value} matches none of {rule}"));
                }
            }
            ("oneOf", value) => {
                let fitting = rule.as_array().expect("list").iter();
                let count = fitting
                    .filter(|choice| violations(choice, value, root, at).is_empty())
                    .count();
                if count != 1 {
                    no(format!("matches {count} of {rule}"));
                }
            }
            ("not", value) => {
                if violations(rule, value, root, at).is_empty() {
                    no(format!("matches {rule}"));
                }
            }
            ("$ref", value) => {
                let pointer = rule
                    .as_str()
                    .and_then(|r| r.strip_prefix('#'))
                    .expect("reference");
                let target = root.pointer(pointer).expect("reference leads somewhere");
                nested.extend(violations(target, value, root, at));
            }
            (
                "pattern"
                | "minLength"
                | "maxLength"
                | "minimum"
                | "maximum"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties"
                | "propertyNames",
                _,
            ) => {}
            (other, _) => panic!("keyword {other} is unknown to this validator"),
        }
    }
    wrong.extend(nested);
    wrong
}

#[test]
fn the_example_follows_the_schema() {
    let schema = schema();
    for text in [EXAMPLE, ALTERNATIVES, MORE_ALTERNATIVES, ISSUERS] {
        assert_eq!(
            violations(&schema, &parse(text), &schema, ""),
            Vec::<String>::new()
        );
        load(text).expect("loads");
    }
}

/// A place in a document where the format has a key.
struct Place {
    object: &'static Object,
    key: &'static str,
    pointer: String,
    path: String,
}

fn places(
    object: &'static Object,
    value: &Json,
    pointer: &str,
    path: &str,
    found: &mut Vec<Place>,
) {
    let Json::Object(map) = value else { return };
    for key in object.keys {
        let Some(value) = map.get(key.name) else {
            continue;
        };
        let pointer = format!("{pointer}/{}", key.name);
        let path = if path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{path}.{}", key.name)
        };
        places_in(&key.shape, value, &pointer, &path, found);
        found.push(Place {
            object,
            key: key.name,
            pointer,
            path,
        });
    }
}

fn places_in(
    shape: &'static Shape,
    value: &Json,
    pointer: &str,
    path: &str,
    found: &mut Vec<Place>,
) {
    match (shape, value) {
        (Shape::Object(object) | Shape::Optional(object), value) => {
            places(object, value, pointer, path, found);
        }
        (Shape::List(item), Json::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                places_in(
                    item,
                    value,
                    &format!("{pointer}/{index}"),
                    &format!("{path}[{index}]"),
                    found,
                );
            }
        }
        (Shape::Map(_, values), Json::Object(map)) => {
            for (name, value) in map {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                places_in(
                    values,
                    value,
                    &format!("{pointer}/{escaped}"),
                    &child_path(path, name),
                    found,
                );
            }
        }
        (Shape::Either(shapes), value) => {
            for shape in *shapes {
                places_in(shape, value, pointer, path, found);
            }
        }
        _ => {}
    }
}

fn objects(object: &'static Object, found: &mut Vec<&'static Object>) {
    fn of(shape: &'static Shape, found: &mut Vec<&'static Object>) {
        match shape {
            Shape::Object(object) | Shape::Optional(object) => objects(object, found),
            Shape::List(shape) | Shape::Map(_, shape) => of(shape, found),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| of(shape, found)),
            _ => {}
        }
    }
    if found.iter().all(|known| known.name != object.name) {
        found.push(object);
        object.keys.iter().for_each(|key| of(&key.shape, found));
    }
}

fn all_objects() -> Vec<&'static Object> {
    let mut found = Vec::new();
    objects(&format::SITE, &mut found);
    found
}

/// The other direction holds by construction: the loader refuses what is not in the tables that
/// the schema is made of.
#[test]
fn the_loader_reads_every_key_that_the_schema_has() {
    let mut read = BTreeSet::new();
    for text in [EXAMPLE, ALTERNATIVES, MORE_ALTERNATIVES, ISSUERS] {
        let document = parse(text);
        let mut found = Vec::new();
        places(&format::SITE, &document, "", "", &mut found);
        for place in found {
            let mut broken = document.clone();
            *broken.pointer_mut(&place.pointer).expect("place") = json!([[[]]]);
            let problems = load(&broken.to_string()).expect_err(&place.path);
            assert!(
                problems
                    .0
                    .iter()
                    .any(|problem| problem.path.starts_with(&place.path)),
                "{}: {problems}",
                place.path
            );
            read.insert((place.object.name, place.key));
        }
    }
    let all: BTreeSet<_> = all_objects()
        .iter()
        .flat_map(|object| object.keys.iter().map(|key| (object.name, key.name)))
        .collect();
    let unread: Vec<_> = all.difference(&read).collect();
    assert!(unread.is_empty(), "no example has {unread:?}");
}

#[test]
fn schema_and_loader_refuse_unknown_keys_everywhere() {
    let schema = schema();
    let document = parse(EXAMPLE);
    let mut found = Vec::new();
    places(&format::SITE, &document, "", "", &mut found);
    for place in found {
        let mut broken = document.clone();
        let (parent, _) = place.pointer.rsplit_once('/').expect("parent");
        broken.pointer_mut(parent).expect("place")["unheard_of"] = json!(1);
        assert!(
            !violations(&schema, &broken, &schema, "").is_empty(),
            "{}",
            place.path
        );
        load(&broken.to_string()).expect_err("unknown key");
    }
}

#[test]
fn every_definition_describes_itself() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for object in all_objects().iter().skip(1) {
        let definition = &definitions[object.name];
        assert_eq!(definition["additionalProperties"], false, "{}", object.name);
        for (key, property) in definition["properties"].as_object().expect("properties") {
            assert!(
                property["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 4),
                "{}.{key}",
                object.name
            );
        }
    }
}

#[test]
fn words_are_those_of_the_types() {
    let names = |list: Vec<&'static str>| list;
    assert_eq!(
        format::PROFILES
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>(),
        names(Profile::ALL.into_iter().map(Profile::as_str).collect())
    );
    assert_eq!(
        format::KEY_TYPES
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>(),
        names(KeyType::ALL.into_iter().map(KeyType::as_str).collect())
    );
    for (word, part) in format::PARTS {
        assert_eq!(json!(part), json!(word));
    }
}

const RULES: [&NameRule; 7] = [
    &names::SITE_NAME,
    &names::HOST_NAME,
    &names::PLAIN_NAME,
    &names::SECRET_NAME,
    &names::STACK_NAME,
    &names::VARIABLE_NAME,
    &names::ACCOUNT_NAME,
];

#[test]
fn rules_in_words_have_the_right_length() {
    for rule in RULES {
        if rule.words.starts_with("at most") {
            assert!(
                rule.words.contains(&format!("at most {} ", rule.longest)),
                "{}",
                rule.words
            );
        }
    }
}

proptest! {
    #[test]
    fn patterns_and_rules_agree(name in "[ab0Z._/ -]{0,5}", rule in 0..RULES.len()) {
        let rule = RULES[rule];
        let pattern = regex::Regex::new(rule.pattern).expect("pattern");
        prop_assert_eq!(rule.allows(&name), pattern.is_match(&name), "{} {}", rule.pattern, name);
    }
}
