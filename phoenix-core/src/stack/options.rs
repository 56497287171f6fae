//! How compose files are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::interpolate::Variables;

/// Which keys a compose file may have, and what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// What `docker stack deploy` reads: version 3 of the format.
    #[default]
    Swarm,
    /// What `docker compose` reads and `docker compose config` writes. A key that a swarm cannot
    /// do is refused all the same.
    Compose,
}

/// What becomes of what `docker stack deploy` drops or changes without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compat {
    /// It is done as it was meant, or refused.
    #[default]
    Phoenix,
    /// It is dropped or changed as docker does, with a warning. Of the swarm's dialect only.
    Docker,
}

/// How compose files are read. The default takes files of the swarm's dialect, without variables.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The dialect.
    pub dialect: Dialect,
    /// What becomes of what docker drops in silence.
    pub compat: Compat,
    /// The variables for `${NAME}`. The environment of the process is not used.
    pub variables: BTreeMap<String, String>,
    /// What `~` stands for at the beginning of a path, where docker's ways are asked for. Default:
    /// the variable `HOME`.
    pub home: Option<PathBuf>,
    /// The profiles whose services are part of the stack (of the compose dialect only).
    pub profiles: Vec<String>,
}

impl LoadOptions {
    /// These options with another dialect.
    #[must_use]
    pub fn with_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// These options with another answer to what docker drops in silence.
    #[must_use]
    pub fn with_compat(self, compat: Compat) -> Self {
        Self { compat, ..self }
    }

    /// These options with other variables.
    #[must_use]
    pub fn with_variables(self, variables: BTreeMap<String, String>) -> Self {
        Self { variables, ..self }
    }

    /// These options with another home directory.
    #[must_use]
    pub fn with_home(self, home: impl Into<PathBuf>) -> Self {
        Self {
            home: Some(home.into()),
            ..self
        }
    }

    /// These options with other profiles.
    #[must_use]
    pub fn with_profiles(self, profiles: Vec<String>) -> Self {
        Self { profiles, ..self }
    }

    /// Whether docker's ways are asked for.
    pub(super) fn as_docker(&self) -> bool {
        self.dialect == Dialect::Swarm && self.compat == Compat::Docker
    }

    pub(super) fn variables(&self) -> &Variables {
        &self.variables
    }
}
