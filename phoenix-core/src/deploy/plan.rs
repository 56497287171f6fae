//! What differs between a compose file and the swarm, in a form that can be shown and serialised.

use std::fmt;

use serde::{Serialize, Serializer};
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use crate::docker::{ObjectKind, TaskFailure};
use crate::stack::FieldChange;

/// What differs, and what would be done about it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StackPlan {
    /// The stack's name.
    pub stack: String,
    /// Networks that are made because they are missing.
    pub networks: Vec<String>,
    /// The secrets and configs that the stack makes from files.
    pub objects: Vec<ObjectPlan>,
    /// The services, in the order of the file.
    pub services: Vec<ServicePlan>,
    /// What is removed.
    pub removals: Vec<Removal>,
    /// What the stack refers to and nobody has made.
    pub missing: Vec<Missing>,
    /// What the stack makes is there already, and somebody else's.
    pub taken: Vec<Taken>,
    /// Worth knowing.
    pub warnings: Vec<String>,
}

impl StackPlan {
    /// Whether anything would be written. A service that is declared so and has not converged is
    /// no change: it is waited for.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes()
            .iter()
            .any(|change| change.verb != Verb::Await)
    }

    /// What would be done, in order: what would be written, and what would be waited for.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        let (early, late): (Vec<_>, Vec<_>) = self
            .removals
            .iter()
            .partition(|removal| removal.kind == "service");
        changes.extend(early.into_iter().map(Removal::change));
        for network in &self.networks {
            changes.push(Change::new(
                Verb::Create,
                format!("network {network}"),
                "missing",
            ));
        }
        changes.extend(self.objects.iter().filter_map(ObjectPlan::change));
        changes.extend(self.services.iter().filter_map(ServicePlan::change));
        changes.retain(|change| !self.taken.iter().any(|taken| taken.what() == change.what));
        changes.extend(late.into_iter().map(Removal::change));
        changes
    }

    /// The services whose declared spec was rolled back before, and is not written again.
    pub fn rolled_back(&self) -> impl Iterator<Item = (&str, &RolledBack)> {
        self.services
            .iter()
            .filter_map(|service| match &service.action {
                ServiceAction::RolledBack(rolled) => Some((service.name.as_str(), rolled)),
                _ => None,
            })
    }
}

/// A secret or config of the stack.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ObjectPlan {
    /// `secret` or `config`.
    #[serde(serialize_with = "displayed")]
    pub kind: ObjectKind,
    /// Its key in the file.
    pub key: String,
    /// The name that its versions share.
    pub logical: String,
    /// The real name of the version that the services get.
    pub name: String,
    /// What is done.
    pub action: ObjectAction,
}

/// What is done about a secret or config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObjectAction {
    /// Nothing: a version with this content is there.
    Unchanged,
    /// It is made, for the first time.
    Create,
    /// Another version is made, because the content changed.
    Rotate,
    /// The labels of the version that is there are set.
    Label,
    /// Only the engine can tell whether a secret that somebody else made has this content. It is
    /// asked when the plan is applied: the secret is taken over when it has, and rotated when it
    /// has not.
    Ask,
}

impl ObjectPlan {
    fn change(&self) -> Option<Change> {
        let (verb, why) = match self.action {
            ObjectAction::Unchanged => return None,
            ObjectAction::Create => (Verb::Create, "missing"),
            ObjectAction::Rotate => (Verb::Create, "the content changed"),
            ObjectAction::Label => (Verb::Update, "labels differ"),
            ObjectAction::Ask => (
                Verb::Update,
                "made by another tool, or by Phoenix with another key: taken over if it has this content, else replaced by another version",
            ),
        };
        Some(Change::new(
            verb,
            format!("{} {}", self.kind, self.name),
            why,
        ))
    }
}

fn displayed<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A service of the stack.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ServicePlan {
    /// Its key in the file.
    pub key: String,
    /// Its real name.
    pub name: String,
    /// What is done.
    #[serde(flatten)]
    pub action: ServiceAction,
    /// What differs from the running spec.
    pub changes: Vec<FieldChange>,
    /// How it stands, where its spec is in place: `converged, 2 tasks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// How many tasks run or have completed, where it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
}

/// What is done about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServiceAction {
    /// Nothing: the declared spec is in place.
    Unchanged,
    /// It is made.
    Create,
    /// The declared spec is written.
    Update,
    /// The declared spec is in place and is written again, for the engine to go on with the update
    /// that it paused.
    Resume,
    /// Nothing: the declared spec was rolled back before.
    RolledBack(RolledBack),
}

/// A spec that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RolledBack {
    /// When, where the engine says.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// The engine's words.
    pub message: String,
    /// The task that failed, where the swarm remembers one.
    #[serde(serialize_with = "optional")]
    pub cause: Option<TaskFailure>,
}

fn optional<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this spec was rolled back")?;
        if let Some(at) = self.at {
            let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
            if let Ok(at) = at.to_offset(UtcOffset::UTC).format(format) {
                write!(f, " at {at} UTC")?;
            }
        }
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None if self.message.is_empty() => Ok(()),
            None => write!(f, ": {}", self.message),
        }
    }
}

/// Why a service is written again as it is.
pub(super) const RESUMED: &str = "its update is paused, and is to go on";

impl ServicePlan {
    /// What would be done about it, with the reasons.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let what = format!("service {}", self.name);
        let differences = || self.changes.iter().map(ToString::to_string).collect();
        match &self.action {
            ServiceAction::Create => Some(Change::new(Verb::Create, what, "missing")),
            ServiceAction::Update => Some(Change {
                verb: Verb::Update,
                what,
                why: differences(),
            }),
            ServiceAction::Resume => Some(Change::new(Verb::Update, what, RESUMED)),
            ServiceAction::RolledBack(_) => None,
            ServiceAction::Unchanged => match (&self.standing, self.settled) {
                (Some(standing), None) => Some(Change::new(Verb::Await, what, standing.clone())),
                _ => None,
            },
        }
    }
}

/// Something that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removal {
    /// `service`, `network`, `secret`, `config` or `volume`.
    pub kind: &'static str,
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

impl Removal {
    pub(super) fn change(&self) -> Change {
        Change::new(
            Verb::Remove,
            format!("{} {}", self.kind, self.name),
            self.why,
        )
    }
}

/// What a stack refers to and nobody has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Missing {
    /// What kind.
    pub kind: MissingKind,
    /// Its name.
    pub name: String,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum MissingKind {
    Network,
    Secret,
    Config,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MissingKind::Network => "swarm-scoped network",
            MissingKind::Secret => "secret",
            MissingKind::Config => "config",
        };
        write!(f, "there is no {kind} {}", self.name)
    }
}

/// Something that the stack makes, of whose name there is one already that is not its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Taken {
    /// `service`, `network`, `secret` or `config`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The stack that it belongs to, where there is one.
    pub owner: Option<String>,
}

impl Taken {
    pub(super) fn new(kind: &'static str, name: &str, owner: Option<&str>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
        }
    }

    fn what(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} exists already and belongs to ",
            self.kind, self.name
        )?;
        match &self.owner {
            Some(owner) => write!(f, "stack {owner}"),
            None => f.write_str("no stack"),
        }
    }
}

/// One thing that would be done, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The kind of change.
    pub verb: Verb,
    /// What is changed, in words: `service shop_web`.
    pub what: String,
    /// Why, one reason each.
    pub why: Vec<String>,
}

impl Change {
    pub(super) fn new(verb: Verb, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            verb,
            what: what.into(),
            why: vec![why.into()],
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Remove => "remove",
            Verb::Await => "await",
        };
        write!(f, "{verb} {}", self.what)
    }
}

/// Kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verb {
    /// Made anew.
    Create,
    /// Changed in place.
    Update,
    /// Taken away.
    Remove,
    /// Waited for, and nothing written.
    Await,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(standing: &str, networks: &[&str]) -> StackPlan {
        StackPlan {
            stack: "st".to_owned(),
            networks: networks.iter().map(|name| (*name).to_owned()).collect(),
            objects: Vec::new(),
            services: vec![ServicePlan {
                key: "web".to_owned(),
                name: "st_web".to_owned(),
                action: ServiceAction::Unchanged,
                changes: Vec::new(),
                standing: Some(standing.to_owned()),
                settled: None,
            }],
            removals: Vec::new(),
            missing: Vec::new(),
            taken: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_only_waited_for_is_no_change() {
        let crashing = plan("crashed 3 times", &[]);
        assert!(!crashing.has_changes());
        assert_eq!(crashing.changes()[0].verb, Verb::Await);
        assert!(plan("crashed 3 times", &["st_default"]).has_changes());
    }
}
