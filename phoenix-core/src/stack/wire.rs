//! A stack as it would be sent to an engine on which nothing of it is there yet.
//!
//! Invariant: no content of a secret is in it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use super::bodies;
use super::load::ComposeFile;
use super::model::ObjectSource;
use super::render::{RenderContext, ResolvedObject};

/// The bodies of the requests that make a stack, without what only an engine or a registry knows:
/// ids of secrets and configs, and digests of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Wire {
    /// The stack's name.
    pub stack: String,
    /// Bodies of `POST /networks/create`, sorted by name.
    pub networks: Vec<Value>,
    /// Bodies of `POST /secrets/create` in the order of the file. `Data` is `null` where there is
    /// some: the content of a secret is shown nowhere.
    pub secrets: Vec<Value>,
    /// Bodies of `POST /configs/create` in the order of the file.
    pub configs: Vec<Value>,
    /// Bodies of `POST /services/create` in the order of the file.
    pub services: Vec<Value>,
}

impl ComposeFile {
    /// Renders the stack under the names that `docker stack deploy` gives, asking nobody.
    #[must_use]
    pub fn wire(&self) -> Wire {
        let mut context = RenderContext::default();
        let rendered = self.render(&context);
        // A config that the engine does not have yet has no version in its name.
        let plain: BTreeMap<String, ResolvedObject> = rendered
            .configs
            .iter()
            .map(|config| {
                let object = ResolvedObject {
                    name: config.logical_name.clone(),
                    id: None,
                };
                (config.name.clone(), object)
            })
            .collect();
        context.configs = plain;
        let services = self.render(&context).services;
        Wire {
            stack: self.stack().to_owned(),
            networks: rendered
                .networks
                .into_iter()
                .map(|network| network.json)
                .collect(),
            secrets: self.secret_bodies(),
            configs: rendered
                .configs
                .iter()
                .map(|config| {
                    let mut body = bodies::object(
                        &config.logical_name,
                        &config.labels,
                        config.template_driver.as_deref(),
                    );
                    body.insert("Data".to_owned(), json!(STANDARD.encode(&config.content)));
                    Value::Object(body)
                })
                .collect(),
            services: services.into_iter().map(|service| service.json).collect(),
        }
    }

    fn secret_bodies(&self) -> Vec<Value> {
        let made = self
            .secrets
            .iter()
            .filter(|(_, secret)| secret.source != ObjectSource::External);
        made.map(|(key, secret)| {
            let mut body = bodies::object(
                &self.secret_name(key),
                &self.labelled(&secret.labels),
                secret.template_driver.as_deref(),
            );
            match &secret.source {
                ObjectSource::Driver { name, options } => {
                    body.insert("Driver".to_owned(), bodies::driver(name, options));
                }
                _ => {
                    body.insert("Data".to_owned(), Value::Null);
                }
            }
            Value::Object(body)
        })
        .collect()
    }
}
