//! The vocabulary in which the site file's format is written down: once, for the loader (which
//! keys are allowed and needed) and for the JSON Schema.

use super::names::NameRule;
use crate::ground::document::{Cursor, Fields, Value, nearest};

/// What a value of the site file looks like.
pub(super) enum Shape {
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    Argument,
    /// A text that follows a rule.
    Name(&'static NameRule),
    /// A text of a form that a regular expression describes.
    Form(&'static str),
    /// A path on the machine Phoenix runs on.
    LocalPath,
    /// An absolute path in a guest.
    GuestPath,
    /// `true` or `false`.
    Boolean,
    /// A whole number, both ends included.
    Integer(i64, i64),
    /// A duration with its unit.
    Duration,
    /// Permission bits.
    Mode,
    /// One of some words.
    Words(fn() -> Vec<&'static str>),
    /// A list.
    List(&'static Shape),
    /// A map with keys that the operator chooses.
    Map(Names, &'static Shape),
    /// A map of scalars.
    Texts(Names),
    /// A map with keys that the format knows.
    Object(&'static Object),
    /// A map with keys that the format knows, or nothing for all of their defaults.
    Optional(&'static Object),
    /// One of several.
    Either(&'static [Shape]),
}

/// The keys of a [`Shape::Map`].
#[derive(Clone, Copy)]
pub(super) enum Names {
    /// Any that are not empty.
    Any,
    /// Those that follow a rule.
    Rule(&'static NameRule),
}

/// A map with keys that the format knows.
pub(super) struct Object {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What it declares.
    pub(super) about: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Key],
    /// Exactly one of these keys must be there.
    pub(super) one_of: &'static [&'static str],
    /// No two of these keys may be there.
    pub(super) at_most_one: &'static [&'static str],
}

/// A key of an [`Object`].
pub(super) struct Key {
    /// The key.
    pub(super) name: &'static str,
    /// Whether it must be there.
    pub(super) needed: bool,
    /// What its value looks like.
    pub(super) shape: Shape,
    /// What it declares, with its unit and default.
    pub(super) about: &'static str,
}

/// A key that may be left out.
pub(super) const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        needed: false,
        shape,
        about,
    }
}

/// A key that must be there.
pub(super) const fn needed(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        needed: true,
        shape,
        about,
    }
}

impl Object {
    /// The fields of the map at `cursor`, after unknown, missing and contradicting keys were
    /// reported. `None` when it is no map.
    pub(super) fn open<'d>(&self, cursor: &Cursor<'d>) -> Option<Fields<'d>> {
        let names: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
        let fields = cursor.fields(&names)?;
        // A misspelt key has been reported, with the one that it stands for.
        let misspelt: Vec<&str> = match &cursor.node().value {
            Value::Map(map) => map
                .iter()
                .filter(|entry| !names.contains(&entry.key.as_str()))
                .filter_map(|entry| {
                    let free = names.iter().copied().filter(|name| map.get(name).is_none());
                    nearest(&entry.key, free)
                })
                .collect(),
            _ => Vec::new(),
        };
        for key in self.keys.iter().filter(|key| key.needed) {
            if !misspelt.contains(&key.name) {
                // Reported by the call itself.
                let _ = fields.required(key.name);
            }
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|key| misspelt.contains(key)) {
            let _ = fields.one_of(self.one_of);
        }
        let mut first: Option<&str> = None;
        for name in self.at_most_one {
            let Some(value) = fields.get(name) else {
                continue;
            };
            match first {
                None => first = Some(name),
                Some(first) => {
                    value.refuse(format!("`{name}` cannot be together with `{first}`"));
                }
            }
        }
        Some(fields)
    }
}
