//! What a compose file refers to outside itself, so that whoever knows the outside can check it
//! and say where a reference dangles.

use std::collections::BTreeMap;

use super::image::Image;
use super::load::ComposeFile;
use super::model::{CredentialSpec, MountKind, ObjectSource, Place};

/// What the services of a compose file refer to outside it. What is declared and used by no
/// service is left out, as it is when the stack is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct References {
    /// External networks by their real names, without those that every engine has.
    pub networks: Vec<Reference>,
    /// Networks that every engine has (`host`, `bridge`, `none`). The swarm has one of its own for
    /// each, whose id `GET /networks/{name}?scope=swarm` tells (the list of networks does not), and
    /// by which the specs of services name it.
    pub predefined_networks: Vec<Reference>,
    /// External secrets by their names outside the file.
    pub secrets: Vec<Reference>,
    /// External configs by their names outside the file.
    pub configs: Vec<Reference>,
    /// Images, each with the first place that names it.
    pub images: Vec<(Image, Place)>,
    /// Named volumes by their real names, those of the stack and external ones.
    pub volumes: Vec<Reference>,
}

/// A name and where it is used first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name outside the file.
    pub name: String,
    /// Whether it exists apart from the stack.
    pub external: bool,
    /// Where a service uses it.
    pub place: Place,
}

/// A secret that the stack makes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackSecret {
    /// Its key in the compose file.
    pub key: String,
    /// Its logical name in the swarm, `<stack>_<key>` unless the file gives another: the key of
    /// [`super::RenderContext::secrets`].
    pub name: String,
    /// Where its content comes from; never [`ObjectSource::External`].
    pub source: ObjectSource,
    /// What replaces templates in it when it is mounted.
    pub template_driver: Option<String>,
    /// Its labels, that of the stack included.
    pub labels: BTreeMap<String, String>,
    /// Where it is declared.
    pub place: Place,
}

/// Networks that every engine has.
pub(super) fn is_predefined(network: &str) -> bool {
    matches!(network, "host" | "bridge" | "none" | "default")
}

impl ComposeFile {
    /// What the services refer to outside the file.
    #[must_use]
    pub fn references(&self) -> References {
        let mut references = References::default();
        for service in self.services.values() {
            if !references
                .images
                .iter()
                .any(|(image, _)| *image == service.image)
            {
                let image = (service.image.clone(), service.image_place.clone());
                references.images.push(image);
            }
            for attachment in &service.networks {
                let name = self.network_name(&attachment.network);
                let external = self
                    .networks
                    .get(&attachment.network)
                    .is_some_and(|n| n.external);
                if external {
                    let list = if is_predefined(&name) {
                        &mut references.predefined_networks
                    } else {
                        &mut references.networks
                    };
                    add(list, name, true, &attachment.place);
                }
            }
            for secret in &service.secrets {
                if let Some(declared) = self.secrets.get(&secret.source)
                    && declared.source == ObjectSource::External
                {
                    let name = declared.name.as_ref().unwrap_or(&secret.source).clone();
                    add(&mut references.secrets, name, true, &declared.place);
                }
            }
            let credential_spec = match &service.credential_spec {
                Some(CredentialSpec::Config(source)) => Some(source),
                _ => None,
            };
            let files = service.configs.iter().map(|config| &config.source);
            for source in files.chain(credential_spec) {
                if let Some(declared) = self.configs.get(source)
                    && declared.content.is_none()
                {
                    let name = declared.name.as_ref().unwrap_or(source).clone();
                    add(&mut references.configs, name, true, &declared.place);
                }
            }
            for mount in &service.mounts {
                let named = match &mount.kind {
                    MountKind::Volume { key, .. } => key.as_ref(),
                    MountKind::Cluster { source } if !source.starts_with("group:") => Some(source),
                    _ => None,
                };
                if let Some(key) = named {
                    let external = self.volumes.get(key).is_some_and(|volume| volume.external);
                    add(
                        &mut references.volumes,
                        self.volume_name(key),
                        external,
                        &mount.place,
                    );
                }
            }
        }
        references
    }

    /// The secrets that the stack makes, whether or not a service uses them.
    #[must_use]
    pub fn secrets(&self) -> Vec<StackSecret> {
        let made = |(key, secret): (&String, &super::model::SecretDeclaration)| {
            (secret.source != ObjectSource::External).then(|| StackSecret {
                key: key.clone(),
                name: secret.name.clone().unwrap_or_else(|| self.scoped(key)),
                source: secret.source.clone(),
                template_driver: secret.template_driver.clone(),
                labels: self.labelled(&secret.labels),
                place: secret.place.clone(),
            })
        };
        self.secrets.iter().filter_map(made).collect()
    }

    /// The real name of the network with `key`.
    #[must_use]
    pub fn network_name(&self, key: &str) -> String {
        match self
            .networks
            .get(key)
            .and_then(|network| network.name.as_ref())
        {
            Some(name) => name.clone(),
            None => self.scoped(key),
        }
    }

    /// The real name of the volume with `key`: an external one keeps its key.
    #[must_use]
    pub fn volume_name(&self, key: &str) -> String {
        match self.volumes.get(key) {
            Some(volume) => match &volume.name {
                Some(name) => name.clone(),
                None if volume.external => key.to_owned(),
                None => self.scoped(key),
            },
            None => self.scoped(key),
        }
    }

    /// The name outside the file of the secret with `key` in it: the logical one of an external
    /// secret, `<stack>_<key>` otherwise.
    #[must_use]
    pub fn secret_name(&self, key: &str) -> String {
        let declared = self.secrets.get(key);
        let external = declared.is_some_and(|secret| secret.source == ObjectSource::External);
        match declared.and_then(|secret| secret.name.clone()) {
            Some(name) => name,
            None if external => key.to_owned(),
            None => self.scoped(key),
        }
    }

    pub(super) fn labelled(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = labels.clone();
        labels.insert(super::STACK_LABEL.to_owned(), self.stack.clone());
        labels
    }
}

fn add(list: &mut Vec<Reference>, name: String, external: bool, place: &Place) {
    if !list.iter().any(|reference| reference.name == name) {
        list.push(Reference {
            name,
            external,
            place: place.clone(),
        });
    }
}
