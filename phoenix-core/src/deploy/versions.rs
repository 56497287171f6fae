//! Versions of the secrets and configs that a stack makes from files.
//!
//! Docker's secrets and configs cannot be changed, so another content is another object. The first
//! version has the name that the docker CLI gives (`<stack>_<key>`, or `name:`), so that either
//! tool finds the other's; a later one is called `<logical>-<12 digits>`. A config's content is
//! compared; a secret's, which cannot be read, by a keyed fingerprint in a label, or where there is
//! none under this key, by the engine itself: it accepts an update with the same content and
//! refuses one with another.
//!
//! Pure: what is decided here follows from what was observed.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::ObjectAction;
use super::{FINGERPRINT_LABEL, LOGICAL_LABEL};
use crate::docker::{ObjectKind, ObjectObserved, sha256};
use crate::ground::{FingerprintKey, SecretBytes};
use crate::stack::STACK_LABEL;

/// The digits of the content that the name of a later version carries.
const DIGITS: usize = 12;
/// The most that Docker takes as a name.
const NAME_LIMIT: usize = 64;

/// A secret or config as the compose file has it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) kind: ObjectKind,
    pub(super) key: String,
    pub(super) logical: String,
    pub(super) content: SecretBytes,
    /// What replaces templates in it when it is mounted.
    pub(super) template_driver: Option<String>,
    /// Labels that the current version must have.
    pub(super) labels: BTreeMap<String, String>,
    /// What is known of the content without showing it.
    pub(super) mark: Mark,
}

/// By which a content is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// A config's SHA-256.
    Sha256(String),
    /// A secret's fingerprint, and the label it stands in.
    Keyed { label: String, fingerprint: String },
    /// Nothing: there is no key.
    None,
}

impl Mark {
    pub(super) fn of(
        kind: ObjectKind,
        logical: &str,
        content: &SecretBytes,
        key: Option<&FingerprintKey>,
    ) -> Self {
        match (kind, key) {
            (ObjectKind::Config, _) => Self::Sha256(sha256(content.expose())),
            (ObjectKind::Secret, None) => Self::None,
            (ObjectKind::Secret, Some(key)) => {
                // Says which key it is, and nothing about it.
                let which = key.fingerprint("which key", b"");
                let domain = format!("stack secret {logical}");
                Self::Keyed {
                    label: format!("{FINGERPRINT_LABEL}.{}", &which.as_str()[..8]),
                    fingerprint: key.fingerprint(&domain, content.expose()).to_string(),
                }
            }
        }
    }

    /// Whether `object` has this content; `None` when it does not say.
    fn matches(&self, object: &ObjectObserved) -> Option<bool> {
        match self {
            Self::Sha256(hash) => Some(object.sha256.as_ref() == Some(hash)),
            Self::Keyed { label, fingerprint } => Some(object.labels.get(label)? == fingerprint),
            Self::None => None,
        }
    }

    fn digits(&self) -> Option<&str> {
        match self {
            Self::Sha256(hash) => hash.get(..DIGITS),
            Self::Keyed { fingerprint, .. } => fingerprint.get(..DIGITS),
            Self::None => None,
        }
    }
}

impl Wanted {
    /// The labels of a version that is made or taken over.
    pub(super) fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(LOGICAL_LABEL.to_owned(), self.logical.clone());
        if let Mark::Keyed { label, fingerprint } = &self.mark {
            labels.insert(label.clone(), fingerprint.clone());
        }
        labels
    }

    /// Whether `object` is a version of this one, whatever it holds.
    pub(super) fn is_version(&self, object: &ObjectObserved) -> bool {
        if let Some(logical) = object.labels.get(LOGICAL_LABEL) {
            return *logical == self.logical
                && object.labels.get(STACK_LABEL) == self.labels.get(STACK_LABEL);
        }
        if object.name == self.logical {
            // One of another stack is not taken away from it.
            let stack = object.labels.get(STACK_LABEL);
            return stack.is_none() || stack == self.labels.get(STACK_LABEL);
        }
        let digits = object
            .name
            .strip_prefix(stem(&self.logical))
            .and_then(|rest| rest.strip_prefix('-'));
        digits.is_some_and(|digits| {
            digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }) && object.labels.get(STACK_LABEL) == self.labels.get(STACK_LABEL)
    }

    /// The name of a version that is made: the logical one while that is free.
    fn new_name(&self, versions: &[&ObjectObserved], random: &str) -> String {
        if versions.iter().all(|object| object.name != self.logical) {
            return self.logical.clone();
        }
        let stem = stem(&self.logical);
        let named = |digits: &str| format!("{stem}-{digits}");
        let own = self.mark.digits().map(named);
        // The same content with another template driver may have that name.
        own.filter(|name| versions.iter().all(|object| object.name != *name))
            .unwrap_or_else(|| named(random))
    }

    /// Whether `object` is this, content and all; `None` when its content is not known.
    fn is_same(&self, object: &ObjectObserved) -> Option<bool> {
        if object.template_driver != self.template_driver {
            return Some(false);
        }
        self.mark.matches(object)
    }
}

/// As much of a logical name as leaves room for the digits.
fn stem(logical: &str) -> &str {
    let mut end = logical.len().min(NAME_LIMIT - DIGITS - 1);
    while !logical.is_char_boundary(end) {
        end -= 1;
    }
    logical[..end].trim_end_matches(['-', '_', '.'])
}

/// Which version of a secret or config the services get.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) wanted: Wanted,
    pub(super) action: ObjectAction,
    /// The version that has the content, or may have it.
    pub(super) current: Option<ObjectObserved>,
    /// Other versions that may have it, when it is to be asked.
    pub(super) others: Vec<ObjectObserved>,
    /// The name of the version that is made when none has it.
    pub(super) new_name: String,
}

impl Decision {
    /// The name of the version that the services get, as far as that is known.
    pub(super) fn name(&self) -> &str {
        self.current
            .as_ref()
            .map_or(&self.new_name, |object| &object.name)
    }
}

/// Decides which of the objects `found` is the version that `wanted` asks for. `used`: the
/// identifiers that services refer to. `random`: twelve digits for a name that nothing else gives.
pub(super) fn decide(
    wanted: Wanted,
    found: &[ObjectObserved],
    used: &BTreeSet<String>,
    random: &str,
) -> Decision {
    let mut versions: Vec<&ObjectObserved> = found
        .iter()
        .filter(|object| wanted.is_version(object))
        .collect();
    // The one in use first, so that nothing restarts; then the one of docker's name, then the
    // newest.
    versions.sort_by_key(|object| {
        (
            !used.contains(&object.id),
            object.name != wanted.logical,
            std::cmp::Reverse(object.created_at),
        )
    });
    let new_name = wanted.new_name(&versions, random);
    let same = versions
        .iter()
        .find(|object| wanted.is_same(object) == Some(true));
    let unknown: Vec<&ObjectObserved> = versions
        .iter()
        .copied()
        .filter(|object| wanted.is_same(object).is_none())
        .collect();
    let (action, current, others) = match (same, unknown.as_slice()) {
        (Some(same), _) => {
            let labelled = wanted
                .labels
                .iter()
                .all(|(key, value)| same.labels.get(key) == Some(value));
            let action = if labelled {
                ObjectAction::Unchanged
            } else {
                ObjectAction::Label
            };
            (action, Some((*same).clone()), Vec::new())
        }
        (None, [first, others @ ..]) => (
            ObjectAction::Ask,
            Some((*first).clone()),
            others.iter().copied().cloned().collect(),
        ),
        (None, []) if versions.is_empty() => (ObjectAction::Create, None, Vec::new()),
        (None, []) => (ObjectAction::Rotate, None, Vec::new()),
    };
    Decision {
        wanted,
        action,
        current,
        others,
        new_name,
    }
}

/// The versions of `wanted` that can go: those beside the `current` one and the newest `keep`, as
/// far as none is `used`, now or after a rollback.
pub(super) fn retired<'o>(
    wanted: &Wanted,
    found: &'o [ObjectObserved],
    current: Option<&str>,
    used: &BTreeSet<String>,
    keep: usize,
) -> Vec<&'o ObjectObserved> {
    let mut old: Vec<&ObjectObserved> = found
        .iter()
        .filter(|object| {
            wanted.is_version(object)
                && object.labels.get(STACK_LABEL) == wanted.labels.get(STACK_LABEL)
                && Some(object.id.as_str()) != current
        })
        .collect();
    old.sort_by_key(|object| std::cmp::Reverse(object.created_at));
    let mut old = old.split_off(keep.min(old.len()));
    old.retain(|object| !used.contains(&object.id));
    old
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
