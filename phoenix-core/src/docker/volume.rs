//! Volumes of one engine. They belong to the engine, not to the swarm: the node that runs a
//! task makes them, and only there can they be removed.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::engine::Engine;
use super::error::{EngineError, Refusal};
use crate::ground::Deadline;

const IN_USE_PAUSE: Duration = Duration::from_millis(500);

/// A volume of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeObserved {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// When it was made, in the engine's words.
    pub created: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

impl From<models::Volume> for VolumeObserved {
    fn from(volume: models::Volume) -> Self {
        Self {
            name: volume.name,
            driver: volume.driver,
            created: volume.created_at,
            labels: volume.labels.into_iter().collect(),
            options: volume.options.into_iter().collect(),
        }
    }
}

/// Removing a volume failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The name is none that a volume can have.
    #[error("{name:?} is no name of a volume")]
    Name {
        /// The text.
        name: String,
    },
    /// Containers still use it at the deadline.
    #[error("volume {name:?} is still in use")]
    InUse {
        /// The name.
        name: String,
        /// The engine's refusal, which names the containers.
        source: EngineError,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about volumes failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// All volumes of this engine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn volumes(&self, deadline: Deadline) -> Result<Vec<VolumeObserved>, EngineError> {
        let answer = self
            .bollard("GET /volumes", deadline, |docker| async move {
                docker.list_volumes(None::<ListVolumesOptions>).await
            })
            .await?;
        let volumes = answer.volumes.unwrap_or_default();
        Ok(volumes.into_iter().map(VolumeObserved::from).collect())
    }

    /// Removes a volume and what it holds, waiting while a container uses it: containers of a
    /// stopped task linger on its node for a while. Says whether it was there.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] at the deadline, or another [`VolumeError`].
    pub async fn remove_volume(&self, name: &str, deadline: Deadline) -> Result<bool, VolumeError> {
        // bollard splices the name into the URL as it stands.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return Err(VolumeError::Name {
                name: name.to_owned(),
            });
        }
        let operation = format!("DELETE /volumes/{name}");
        loop {
            let removed = self
                .bollard(&operation, deadline, |docker| async move {
                    docker
                        .remove_volume(name, None::<RemoveVolumeOptions>)
                        .await
                })
                .await;
            let source = match removed {
                Ok(()) => return Ok(true),
                Err(error) if error.is(Refusal::NotFound) => return Ok(false),
                Err(error) => error,
            };
            if !source.is(Refusal::InUse) {
                return Err(source.into());
            }
            if deadline.pause(IN_USE_PAUSE).await.is_err() {
                return Err(VolumeError::InUse {
                    name: name.to_owned(),
                    source,
                });
            }
        }
    }
}
