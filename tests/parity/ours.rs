//! What Phoenix makes of compose files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phoenix_core::stack::model::ObjectSource;
use phoenix_core::stack::{Compat, ComposeFile, LoadOptions, RenderContext};
use serde_json::{Value, json};

use super::case::Case;
use super::compare::{Bodies, Kind};
use super::docker::STACK;

/// The bodies of a case, or everything that is wrong with it.
pub(crate) fn ours(
    case: &Case,
    environment: &BTreeMap<String, String>,
    context: &RenderContext,
    compat: Compat,
) -> Result<Bodies, String> {
    let options = LoadOptions::default()
        .with_compat(compat)
        .with_variables(environment.clone());
    let file = ComposeFile::load_files(&case.files, STACK, &options)
        .map_err(|problems| problems.to_string())?;
    let wire = file.wire();
    let mut bodies = Bodies::new();
    let mut put = |kind, body: Value| {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        assert!(!name.is_empty(), "{}: a body without a name", case.name);
        assert!(
            bodies.insert((kind, name), body).is_none(),
            "{}: two bodies of one name",
            case.name
        );
    };
    for body in wire.networks {
        put(Kind::Network, body);
    }
    for mut body in wire.secrets {
        let secrets = file.secrets();
        let secret = secrets.iter().find(|secret| body["Name"] == secret.name);
        if let Some(ObjectSource::File(path)) = secret.map(|secret| &secret.source) {
            assert_eq!(
                body["Data"],
                Value::Null,
                "the content of a secret is shown"
            );
            let content =
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            body["Data"] = json!(STANDARD.encode(&content));
            if let (true, Some(body)) = (content.is_empty(), body.as_object_mut()) {
                body.remove("Data");
            }
        }
        put(Kind::Secret, body);
    }
    for body in wire.configs {
        put(Kind::Config, body);
    }
    // Of what was looked up `wire` knows nothing; the rest of its services is the same.
    let plain = file.render(context).services;
    for (service, shown) in plain.into_iter().zip(wire.services) {
        if context.images.is_empty() {
            assert_eq!(
                without_ids(&service.json),
                without_ids(&shown),
                "{}: rendered and shown",
                case.name
            );
        }
        put(Kind::Service, service.json);
    }
    Ok(bodies)
}

/// A service without what only an engine knows.
fn without_ids(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "SecretID" | "ConfigID"))
            .filter(|(key, value)| key.as_str() != "Config" || !value.is_string())
            .map(|(key, value)| (key.clone(), without_ids(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_ids).collect(),
        other => other.clone(),
    }
}
