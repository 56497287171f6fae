//! The releases of Debian that a node's engine may come from.
//!
//! A release stands for the engine it ships: Docker 20.10 in bookworm, 26.1 in trixie, and in sid
//! whatever the mirror has (28 when this was written). Its containerd, runc and iptables come from
//! the same release, because the whole root of the node does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::LabError;

/// A release of Debian, for its Docker engine.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineRelease {
    /// Docker 20.10, which speaks API 1.41.
    Bookworm,
    /// Docker 26.1, which speaks API 1.45.
    #[default]
    Trixie,
    /// The newest that Debian has.
    Sid,
}

impl EngineRelease {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Sid];

    /// The suite's name in Debian's archive.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Packages that a node of this release needs beside those of every node.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            // The client is in the engine's package.
            Self::Bookworm => &[],
            Self::Trixie => &["docker-cli"],
            // Named, because the engine's package would take the whole of systemd otherwise.
            Self::Sid => &["docker-cli", "systemd-standalone-sysusers"],
        }
    }
}

impl fmt::Display for EngineRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suite())
    }
}

impl FromStr for EngineRelease {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        Self::ALL
            .into_iter()
            .find(|release| release.suite() == text)
            .ok_or_else(|| {
                LabError::Unsuitable(format!(
                    "'{text}' is no release the lab has engines of: bookworm, trixie or sid"
                ))
            })
    }
}

/// The releases in a list with commas.
///
/// # Errors
/// Where one of them is none.
pub(crate) fn parse_list(text: &str) -> Result<Vec<EngineRelease>, LabError> {
    text.split(',').map(|word| word.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_they_are_written() {
        for release in EngineRelease::ALL {
            assert_eq!(release.to_string().parse().ok(), Some(release));
            let json = serde_json::to_string(&release).expect("JSON");
            assert_eq!(json, format!("\"{release}\""));
        }
        let list = parse_list("bookworm, sid").expect("a list");
        assert_eq!(list, [EngineRelease::Bookworm, EngineRelease::Sid]);
        assert!(parse_list("bookworm,").is_err());
        assert!("buster".parse::<EngineRelease>().is_err());
    }
}
