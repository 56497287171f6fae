//! API tokens and what they may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Effective privileges of a token (those of its user, cut down to its own).
#[derive(Debug, Clone, Default)]
pub struct Privileges {
    all: bool,
    everywhere: BTreeSet<String>,
    paths: BTreeMap<String, BTreeSet<String>>,
}

impl Privileges {
    /// Every privilege on every path.
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// None: a fresh token with separated privileges.
    pub fn none() -> Self {
        Self::default()
    }

    /// These on every path.
    pub fn of<'a>(privileges: impl IntoIterator<Item = &'a str>) -> Self {
        let everywhere = privileges.into_iter().map(str::to_owned).collect();
        Self {
            everywhere,
            ..Self::default()
        }
    }

    /// What Phoenix needs: see guests, run programs in them, turn them on and off.
    pub fn operator() -> Self {
        Self::of(["VM.Audit", "VM.PowerMgmt", "VM.GuestAgent.Unrestricted"])
    }

    /// These on one path as well, such as `/vms/100`.
    pub fn on<'a>(mut self, path: &str, privileges: impl IntoIterator<Item = &'a str>) -> Self {
        let here = self.paths.entry(path.to_owned()).or_default();
        here.extend(privileges.into_iter().map(str::to_owned));
        self
    }

    pub(super) fn allow(&self, path: &str, privilege: &str) -> bool {
        self.all
            || self.everywhere.contains(privilege)
            || self
                .paths
                .get(path)
                .is_some_and(|here| here.contains(privilege))
    }
}

/// An API token.
#[derive(Clone)]
pub struct Token {
    /// `USER@REALM!ID`.
    pub id: String,
    /// Its secret, a UUID on a real server.
    pub secret: String,
    /// What it may do.
    pub privileges: Privileges,
}

impl Token {
    /// A token that may do everything.
    pub fn administrator(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            privileges: Privileges::all(),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("id", &self.id)
            .field("privileges", &self.privileges)
            .finish_non_exhaustive()
    }
}

/// The value after `key=` or `key ` in a header, up to a `;`, decoded.
pub(super) fn auth_value(header: Option<&str>, key: &str) -> Option<String> {
    let header = header?;
    let at = header.match_indices(key).find(|(at, _)| {
        let before = header[..*at].chars().next_back();
        let after = header[at + key.len()..].chars().next();
        before.is_none_or(char::is_whitespace) && matches!(after, Some('=' | ' '))
    })?;
    let value = header[at.0 + key.len() + 1..]
        .split(';')
        .next()
        .unwrap_or_default();
    (!value.is_empty()).then(|| super::schema::unescape(value.as_bytes(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_headers() {
        let value = |header| auth_value(Some(header), "PVEAPIToken");
        assert_eq!(value("PVEAPIToken=a@pve!b=c").as_deref(), Some("a@pve!b=c"));
        assert_eq!(
            value("PVEAPIToken a@pve%21b=c; x").as_deref(),
            Some("a@pve!b=c")
        );
        assert_eq!(value("Bearer x"), None);
        assert_eq!(value("XPVEAPIToken=a"), None);
    }

    #[test]
    fn privileges_by_path() {
        let some = Privileges::of(["VM.Audit"]).on("/vms/100", ["VM.PowerMgmt"]);
        assert!(some.allow("/vms/101", "VM.Audit"));
        assert!(some.allow("/vms/100", "VM.PowerMgmt"));
        assert!(!some.allow("/vms/101", "VM.PowerMgmt"));
        assert!(!Privileges::none().allow("/", "Sys.Audit"));
    }
}
