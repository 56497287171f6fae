//! What Phoenix makes of compose files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phoenix_core::stack::{ComposeFile, RenderContext};
use serde_json::json;

use super::case::Case;
use super::compare::{Bodies, Kind};
use super::docker::STACK;

/// Whether Phoenix is to do as docker does, or what it finds right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Docker,
    Phoenix,
}

/// The bodies of a case, or everything that is wrong with it.
pub(crate) fn ours(
    case: &Case,
    environment: &BTreeMap<String, String>,
    context: &RenderContext,
    _mode: As,
) -> Result<Bodies, String> {
    let [path] = case.files.as_slice() else {
        return Err("several files".to_owned());
    };
    let file = ComposeFile::load(path, STACK, environment).map_err(|error| error.to_string())?;
    let rendered = file.render(context);
    let mut bodies = Bodies::new();
    for network in rendered.networks {
        bodies.insert((Kind::Network, network.name), network.json);
    }
    for config in rendered.configs {
        let json = json!({
            "Name": config.logical_name,
            "Labels": config.labels,
            "Data": STANDARD.encode(&config.content),
        });
        bodies.insert((Kind::Config, config.logical_name), json);
    }
    for service in rendered.services {
        bodies.insert((Kind::Service, service.name), service.json);
    }
    Ok(bodies)
}
