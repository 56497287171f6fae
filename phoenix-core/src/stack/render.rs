//! A compose file rendered into the bodies that the engine's API takes.
//!
//! Invariants: the bodies are those of `docker stack deploy`, with its sorting, so that a stack
//! made by either is not restarted by the other; what was not looked up yet (an object that does
//! not exist, an image that no registry answered for) leaves a body that can be compared and
//! must not be sent, and is listed with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::bodies;
use super::image::{Image, ResolvedImage};
use super::load::ComposeFile;
use super::model::{
    Attachment, CredentialSpec, Dependency, FileReference, Mode, Mount, MountKind,
    NetworkDeclaration, Service,
};
use super::references::is_predefined;
use super::{IMAGE_LABEL, STACK_LABEL};

/// What was looked up for rendering. What is missing here is rendered by its name.
#[derive(Debug, Clone, Default)]
pub struct RenderContext {
    /// Secrets by logical name: an external one's name outside the file, `<stack>_<key>` for one
    /// from a file.
    pub secrets: BTreeMap<String, ResolvedObject>,
    /// Configs by logical name: an external one's name outside the file, `<stack>_<key>` for one
    /// from a file.
    pub configs: BTreeMap<String, ResolvedObject>,
    /// Ids of networks by real name, predefined ones included. The engine names networks by id in
    /// the specs it returns: without an id here the service differs from the running one.
    pub networks: BTreeMap<String, String>,
    /// What registries say, by [`Image::familiar`].
    pub images: BTreeMap<String, ResolvedImage>,
    /// Labels added to services: by the service's key, or `*` for all.
    pub service_labels: BTreeMap<String, BTreeMap<String, String>>,
}

/// A secret or config as the swarm knows it, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedObject {
    /// Its real name.
    pub name: String,
    /// Its id; absent until it is created.
    pub id: Option<String>,
}

/// The bodies of a stack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rendered {
    /// Networks to create when missing, sorted by name.
    pub networks: Vec<NetworkBody>,
    /// Configs that the stack makes, in the order of the file.
    pub configs: Vec<ConfigToCreate>,
    /// Services to create or update, in the order of the file.
    pub services: Vec<ServiceBody>,
}

/// A network of the stack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkBody {
    /// Its key in the file.
    pub key: String,
    /// Its real name.
    pub name: String,
    /// The body of `POST /networks/create`.
    pub json: Value,
}

/// A config of the stack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConfigToCreate {
    /// Its key in the file.
    pub key: String,
    /// Its name as the docker CLI gives it: versions of one config share it as their logical name,
    /// and the first one has it.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// What replaces templates in it when it is mounted.
    pub template_driver: Option<String>,
    /// Its labels, that of the stack included.
    pub labels: BTreeMap<String, String>,
}

/// A service of the stack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceBody {
    /// Its key in the file.
    pub key: String,
    /// Its real name.
    pub name: String,
    /// The body of `POST /services/create` and `POST /services/{id}/update`.
    pub json: Value,
    /// Its image as declared.
    pub image: Image,
    /// How many tasks it has.
    pub mode: Mode,
    /// The services that come first, and what must be true of each.
    pub depends_on: Vec<Dependency>,
    /// What has no id yet. The engine refuses the body until this is empty.
    pub unresolved: Vec<Unresolved>,
}

/// Something a body refers to that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unresolved {
    /// A secret, by its real name.
    Secret(String),
    /// A config, by its real name.
    Config(String),
}

impl ComposeFile {
    /// Renders the file.
    #[must_use]
    pub fn render(&self, context: &RenderContext) -> Rendered {
        Rendered {
            networks: self.network_bodies(),
            configs: self.configs_to_create(),
            services: self
                .services
                .iter()
                .map(|(key, service)| self.service_body(key, service, context))
                .collect(),
        }
    }

    fn network_bodies(&self) -> Vec<NetworkBody> {
        let used: BTreeSet<&str> = self
            .services
            .values()
            .flat_map(|service| match service.networks.as_slice() {
                [] => vec!["default"],
                networks => networks
                    .iter()
                    .map(|network| network.network.as_str())
                    .collect(),
            })
            .collect();
        let default = NetworkDeclaration::default();
        let mut bodies: Vec<NetworkBody> = used
            .into_iter()
            .map(|key| (key, self.networks.get(key).unwrap_or(&default)))
            .filter(|(_, network)| !network.external)
            .map(|(key, network)| {
                let name = self.network_name(key);
                NetworkBody {
                    key: key.to_owned(),
                    json: bodies::network(&name, network, self.labelled(&network.labels)),
                    name,
                }
            })
            .collect();
        bodies.sort_by(|a, b| a.name.cmp(&b.name));
        bodies
    }

    fn configs_to_create(&self) -> Vec<ConfigToCreate> {
        self.configs
            .iter()
            .filter_map(|(key, config)| {
                let content = config.content.as_ref()?;
                Some(ConfigToCreate {
                    key: key.clone(),
                    name: self.config_name(key),
                    content: content.clone(),
                    template_driver: config.template_driver.clone(),
                    labels: self.labelled(&config.labels),
                })
            })
            .collect()
    }

    fn service_body(&self, key: &str, service: &Service, context: &RenderContext) -> ServiceBody {
        let name = self.scoped(key);
        let mut labels = service.deploy.labels.clone();
        for added in ["*", key] {
            labels.extend(
                context
                    .service_labels
                    .get(added)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        labels.insert(IMAGE_LABEL.to_owned(), service.image.raw().to_owned());
        labels.insert(STACK_LABEL.to_owned(), self.stack.clone());

        let mut unresolved = Vec::new();
        let secrets = references(
            &service.secrets,
            "Secret",
            |source| self.resolved_secret(source, context),
            |name| unresolved.push(Unresolved::Secret(name)),
        );
        let mut credential_spec = Value::Null;
        let mut runtime = None;
        if let Some(spec) = &service.credential_spec {
            let (mut config, mut file, mut registry) = (Some(String::new()), "", "");
            match spec {
                CredentialSpec::Config(source) => {
                    let object = self.resolved_config(source, context);
                    config.clone_from(&object.id);
                    runtime = Some(object);
                }
                CredentialSpec::File(name) => file = name,
                CredentialSpec::Registry(name) => registry = name,
            }
            credential_spec = json!({"File": file, "Registry": registry});
            if let Some(id) = config {
                credential_spec["Config"] = json!(id);
            }
        }
        let configs = references(
            &service.configs,
            "Config",
            |source| self.resolved_config(source, context),
            |name| unresolved.push(Unresolved::Config(name)),
        );
        let mut configs = configs;
        if let Some(object) = runtime {
            if object.id.is_none() {
                unresolved.push(Unresolved::Config(object.name.clone()));
            }
            // Behind the files of the same config, as the docker CLI sorts them.
            let name = |body: &Value| body["ConfigName"].as_str().map(str::to_owned);
            let after = configs
                .iter()
                .position(|body| name(body).is_some_and(|name| name > object.name))
                .unwrap_or(configs.len());
            configs.insert(after, bodies::runtime_reference(&object));
        }
        let resolved = context.images.get(&service.image.familiar());
        let image = match resolved {
            Some(resolved) => service.image.pinned(&resolved.digest),
            None => service.image.familiar(),
        };

        let mut container = bodies::container(
            service,
            &image,
            self.labelled(&service.labels),
            credential_spec,
        );
        bodies::put_list(&mut container, "Mounts", self.mounts(&service.mounts));
        bodies::put_list(&mut container, "Secrets", secrets);
        bodies::put_list(&mut container, "Configs", configs);

        let platforms = resolved
            .map(ResolvedImage::placement_platforms)
            .unwrap_or_default();
        let mut task = Map::new();
        task.insert("ContainerSpec".to_owned(), Value::Object(container));
        bodies::put_task(&mut task, service, &platforms);
        let networks = self.attachments(key, &service.networks, context);
        bodies::put_list(&mut task, "Networks", networks);

        let mut spec = Map::new();
        spec.insert("Name".to_owned(), json!(name));
        spec.insert("Labels".to_owned(), json!(labels));
        spec.insert("TaskTemplate".to_owned(), Value::Object(task));
        bodies::put_service(&mut spec, service);
        ServiceBody {
            key: key.to_owned(),
            name,
            json: Value::Object(spec),
            image: service.image.clone(),
            mode: service.deploy.mode,
            depends_on: service.depends_on.clone(),
            unresolved,
        }
    }

    fn resolved_secret(&self, source: &str, context: &RenderContext) -> ResolvedObject {
        lookup(&context.secrets, self.secret_name(source))
    }

    fn resolved_config(&self, source: &str, context: &RenderContext) -> ResolvedObject {
        lookup(&context.configs, self.config_name(source))
    }

    fn mounts(&self, mounts: &[Mount]) -> Vec<Value> {
        mounts
            .iter()
            .map(|mount| {
                let named = match &mount.kind {
                    MountKind::Volume { key, .. } => key.as_ref(),
                    // A group of volumes has its name from elsewhere.
                    MountKind::Cluster { source } if !source.starts_with("group:") => Some(source),
                    _ => None,
                };
                let volume = match named {
                    Some(key) => {
                        let declared = self.volumes.get(key).cloned().unwrap_or_default();
                        let labels = self.labelled(&declared.labels);
                        Some((self.volume_name(key), declared, labels))
                    }
                    _ => None,
                };
                bodies::mount(mount, volume)
            })
            .collect()
    }

    fn attachments(
        &self,
        key: &str,
        attachments: &[Attachment],
        context: &RenderContext,
    ) -> Vec<Value> {
        let alone = [("default", &[][..], BTreeMap::new())];
        let declared: Vec<(&str, &[String], BTreeMap<String, String>)> = attachments
            .iter()
            .map(|a| (a.network.as_str(), &a.aliases[..], a.driver_opts.clone()))
            .collect();
        let mut named: Vec<(String, Value)> = if declared.is_empty() {
            &alone[..]
        } else {
            &declared
        }
        .iter()
        .map(|(network, aliases, options)| {
            let name = self.network_name(network);
            let mut aliases = aliases.to_vec();
            if !is_predefined(&name) {
                aliases.push(key.to_owned());
            }
            let target = context.networks.get(&name).unwrap_or(&name);
            (name.clone(), bodies::attachment(target, &aliases, options))
        })
        .collect();
        // By name and not by id, as the docker CLI does: the order is part of the spec.
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.into_iter().map(|(_, body)| body).collect()
    }
}

fn lookup(known: &BTreeMap<String, ResolvedObject>, name: String) -> ResolvedObject {
    match known.get(&name) {
        Some(object) => object.clone(),
        None => ResolvedObject { name, id: None },
    }
}

/// References to secrets or configs (`kind`), sorted by real name and target.
fn references(
    files: &[FileReference],
    kind: &str,
    resolve: impl Fn(&str) -> ResolvedObject,
    mut unresolved: impl FnMut(String),
) -> Vec<Value> {
    let mut resolved: Vec<(ResolvedObject, &FileReference)> = files
        .iter()
        .map(|file| (resolve(&file.source), file))
        .collect();
    resolved
        .sort_by(|(a, left), (b, right)| (&a.name, &left.target).cmp(&(&b.name, &right.target)));
    resolved
        .into_iter()
        .map(|(object, file)| {
            if object.id.is_none() {
                unresolved(object.name.clone());
            }
            bodies::file_reference(kind, &object, file)
        })
        .collect()
}
