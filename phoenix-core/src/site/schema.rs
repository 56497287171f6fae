//! The JSON Schema of the site file, made from the same tables that the loader uses.

use serde_json::{Map, Value, json};

use super::format;
use super::shape::{Names, Object, Shape};

/// The JSON Schema (draft 2020-12) of the site file.
///
/// It describes shapes only: references between parts, cycles and what files hold are checked by
/// [`super::Site::load`].
///
/// ```
/// let schema = phoenix_core::site::schema();
/// assert_eq!(schema["additionalProperties"], false);
/// assert!(schema["properties"]["guests"].is_object());
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = object(&format::SITE, &mut definitions);
    if let Value::Object(root) = &mut root {
        let mut whole = Map::from_iter([
            (
                "$schema".to_owned(),
                json!("https://json-schema.org/draft/2020-12/schema"),
            ),
            ("title".to_owned(), json!("Phoenix site")),
        ]);
        whole.append(root);
        definitions.sort_keys();
        whole.insert("$defs".to_owned(), Value::Object(definitions));
        return Value::Object(whole);
    }
    root
}

fn object(object: &'static Object, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut value = shape(&key.shape, definitions);
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), json!(key.about));
        }
        properties.insert(key.name.to_owned(), value);
    }
    let needed: Vec<&str> = object
        .keys
        .iter()
        .filter(|key| key.needed)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "description": object.about,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    if !object.one_of.is_empty() {
        let alternatives: Vec<Value> = object
            .one_of
            .iter()
            .map(|name| json!({ "required": [name] }))
            .collect();
        schema["oneOf"] = json!(alternatives);
    }
    if !object.at_most_one.is_empty() {
        schema["not"] = json!({ "required": object.at_most_one });
    }
    schema
}

fn reference(target: &'static Object, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(target.name) {
        definitions.insert(target.name.to_owned(), Value::Null);
        let schema = object(target, definitions);
        definitions.insert(target.name.to_owned(), schema);
    }
    json!({ "$ref": format!("#/$defs/{}", target.name) })
}

fn shape(shape_of: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape_of {
        // YAML reads `1001` and `true` as no strings; the loader takes them as they are written.
        Shape::Text => json!({ "type": ["string", "number", "boolean"], "minLength": 1 }),
        Shape::Argument => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Name(rule) => json!({
            "type": ["string", "number", "boolean"],
            "pattern": rule.pattern,
            "maxLength": rule.longest,
        }),
        Shape::Form(pattern) => {
            json!({ "type": ["string", "number"], "pattern": pattern })
        }
        Shape::LocalPath => json!({ "type": "string", "minLength": 1 }),
        Shape::GuestPath => json!({ "type": "string", "pattern": "^/[ -~]*[!-.0-~]$" }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Duration => json!({
            "type": "string",
            "pattern": "^([0-9]+ *[A-Za-zµ]+ *)+$",
            "examples": ["90d", "1h 30m", "10s"],
        }),
        Shape::Mode => json!({
            "type": ["string", "integer"],
            "pattern": "^(0o?)?[0-7]{3}$",
            "maximum": 0o777,
            "examples": ["0600", "0644"],
        }),
        Shape::Words(words) => json!({ "enum": words() }),
        Shape::List(item) => json!({ "type": "array", "items": shape(item, definitions) }),
        Shape::Map(names, value) => map(*names, shape(value, definitions)),
        Shape::Texts(names) => map(*names, json!({ "type": ["string", "number", "boolean"] })),
        Shape::Object(target) => reference(target, definitions),
        Shape::Optional(target) => {
            json!({ "anyOf": [reference(target, definitions), { "type": "null" }] })
        }
        Shape::Either(shapes) => {
            let shapes: Vec<Value> = shapes
                .iter()
                .map(|alternative| shape(alternative, definitions))
                .collect();
            json!({ "anyOf": shapes })
        }
    }
}

fn map(names: Names, values: Value) -> Value {
    let names = match names {
        Names::Any => json!({ "minLength": 1 }),
        Names::Rule(rule) => json!({ "pattern": rule.pattern, "maxLength": rule.longest }),
    };
    json!({ "type": "object", "propertyNames": names, "additionalProperties": values })
}
