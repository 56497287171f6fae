//! Which of several engines manage a swarm, and that it is one swarm.
//!
//! An engine that is no manager refuses what is asked of the swarm, but not all of it: the networks
//! that it lists are its own. Engines of two swarms would each do a part of what is asked of one.

use std::time::Duration;

use futures_util::future::join_all;

use super::engine::Engine;
use super::swarm::SwarmState;
use crate::ground::{Deadline, causes};

/// How long one engine may take to say what it is.
const LIMIT: Duration = Duration::from_secs(5);

/// Engines by their parts in a swarm.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Managers {
    /// The swarm, through those that manage it; those that did not answer come last, as they may
    /// be managers.
    pub engine: Engine,
    /// Those that did not answer, each with why.
    pub silent: Vec<(String, String)>,
}

/// Engines do not stand for a swarm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagersError {
    /// There are no engines.
    #[error("no engine is named")]
    None,
    /// None of them is a manager.
    #[error("{}", listed(.found))]
    NoManager {
        /// Each of them, with what it is.
        found: Vec<(String, String)>,
    },
    /// Two of them manage different swarms.
    #[error("{one} and {other} are managers of different swarms")]
    Different {
        /// One.
        one: String,
        /// The other.
        other: String,
    },
}

fn listed(found: &[(String, String)]) -> String {
    let texts: Vec<String> = found
        .iter()
        .map(|(engine, what)| format!("{engine} {what}"))
        .collect();
    texts.join("; ")
}

impl Managers {
    /// Asks each of `engines` once what it is. The managers' order is kept.
    ///
    /// # Errors
    /// [`ManagersError`]. That one does not answer is none.
    pub async fn among(
        engines: impl IntoIterator<Item = Engine>,
        deadline: Deadline,
    ) -> Result<Self, ManagersError> {
        let asked = engines.into_iter().map(async |engine| {
            let info = engine.info(deadline.at_most(LIMIT)).await;
            (engine, info)
        });
        let mut managers = Vec::new();
        let mut unknown = Vec::new();
        let mut silent = Vec::new();
        let mut others = Vec::new();
        let mut swarm: Option<(String, String)> = None;
        for (engine, info) in join_all(asked).await {
            let name = engine.endpoint().to_string();
            let active = match info {
                Err(error) => {
                    silent.push((name, causes(&error)));
                    unknown.push(engine);
                    continue;
                }
                Ok(info) => match info.swarm {
                    SwarmState::Active(active) => active,
                    SwarmState::Locked => {
                        others.push((name, "is locked: its swarm needs the unlock key".to_owned()));
                        continue;
                    }
                    _ => {
                        others.push((name, "is in no swarm".to_owned()));
                        continue;
                    }
                },
            };
            if !active.manager {
                let known = match active.managers.as_slice() {
                    [] => String::new(),
                    known => format!(" of managers at {}", known.join(", ")),
                };
                others.push((name, format!("is a worker{known}")));
                continue;
            }
            if let Some(cluster) = active.cluster_id {
                match &swarm {
                    Some((one, first)) if *first != cluster => {
                        let one = one.clone();
                        return Err(ManagersError::Different { one, other: name });
                    }
                    Some(_) => {}
                    None => swarm = Some((name, cluster)),
                }
            }
            managers.push(engine);
        }
        managers.extend(unknown);
        match Engine::any_of(managers) {
            Some(engine) => Ok(Self { engine, silent }),
            None if others.is_empty() => Err(ManagersError::None),
            None => Err(ManagersError::NoManager { found: others }),
        }
    }
}
