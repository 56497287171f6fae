//! A YAML (or JSON) document as a tree that keeps positions, and a reader that turns such a tree
//! into types and collects everything that is wrong with it.
//!
//! Invariants: every node and every key has a position inside the document; a key occurs once in
//! its map; a document is one YAML document of bounded depth and size. Scalars are those of
//! YAML 1.2 (only `true` and `false` are booleans) except that `0640` is octal, as people who write
//! file modes expect. Anchors, aliases and merge keys (`<<`) are resolved; what they bring in has
//! the position where it was written.

mod reader;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter as _, Spanned};

pub use reader::{Cursor, Fields, Reader, nearest};
pub use sources::Sources;

/// How deep a document may nest. Parsing recurses, and must fit the stack of any thread.
const DEPTH: usize = 24;

/// The longest offending text that a [`Problem`] quotes, in characters.
const QUOTED: usize = 80;

/// A parsed document, or several that were joined into one tree (see [`Sources`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    sources: Sources,
    root: Node,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins. (A block map begins at its first key.)
    pub position: Position,
    /// A plain scalar as it was written (`1.10`, `0640`); `None` for everything that is no number
    /// or boolean.
    pub written: Option<Box<str>>,
}

/// A place in a document, counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits.
    Integer(i64),
    /// Another finite number. (`.nan` and `.inf` are strings.)
    Float(f64),
    /// Everything else that is a scalar.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
}

/// A map in written order, each key once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// An entry of a [`Map`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key; one that is a number or boolean, as it was written.
    pub key: String,
    /// Where the key is.
    pub key_position: Position,
    /// Its value.
    pub value: Node,
}

/// Something wrong in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The document's file.
    pub source: Arc<Path>,
    /// Where in it.
    pub position: Position,
    /// The way to the value: `services.web.ports[0]`; empty for the document as a whole; `$NAME` for
    /// a variable in a file of variables, or `$` where it has no name.
    pub path: String,
    /// The text that is wrong, shortened to 80 characters.
    pub offending: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

/// Everything wrong in one or more documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Document {
    /// Parses `text`; `name` is what problems call the document.
    ///
    /// # Errors
    /// When `text` is not exactly one YAML document, a key occurs twice in a map, a map has keys
    /// that are no scalars, an alias has no anchor, or nesting or expansion passes its bounds
    /// (24 levels, 250,000 nodes).
    pub fn parse(name: impl Into<PathBuf>, text: &str) -> Result<Self, Problem> {
        let mut sources = Sources::default();
        let root = sources.parse(name, text)?;
        Ok(sources.joined(root))
    }

    /// The file and the place in it that `position` in the tree stands for.
    #[must_use]
    pub fn locate(&self, position: Position) -> (Arc<Path>, Position) {
        self.sources.locate(position)
    }

    /// The value that the document is.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }
}

/// Parses `text` into a tree; `name` is what problems call it.
fn parse_tree(name: &Arc<Path>, text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 250_000,
            max_replay_stack_depth: 32,
        },
    };
    match serde_saphyr::from_str_with_options::<Tree>(text, options) {
        Ok(tree) => tree.into_node(text, start()).map_err(|fault| Problem {
            position: fault.position,
            path: String::new(),
            offending: fault.offending.as_deref().map(quoted),
            message: fault.message.to_owned(),
            suggestion: None,
            source: name.clone(),
        }),
        Err(error) => Err(Problem {
            position: error.location().map_or_else(start, |location| {
                position_of(location).unwrap_or_else(start)
            }),
            path: String::new(),
            offending: match error.without_snippet() {
                serde_saphyr::Error::DuplicateMappingKey { key, .. } => key.as_deref().map(quoted),
                _ => None,
            },
            message: message_of(&error),
            suggestion: None,
            source: name.clone(),
        }),
    }
}

const TWICE: &str = "the key occurs twice in its map";

fn message_of(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        // Their own messages name functions and options of the parser.
        serde_saphyr::Error::DuplicateMappingKey { .. } => TWICE.to_owned(),
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "a second YAML document begins here; one is expected".to_owned()
        }
        other => quoted_at(&DefaultMessageFormatter.format_message(other), 2 * QUOTED),
    }
}

fn start() -> Position {
    Position { line: 1, column: 1 }
}

impl Node {
    /// A node of `value` at `position` that was not read from a plain scalar.
    #[must_use]
    pub fn new(value: Value, position: Position) -> Self {
        Self {
            value,
            position,
            written: None,
        }
    }

    /// A scalar as text: a string, or a number or boolean as it was written. `None` for null,
    /// lists and maps.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => self.written.as_deref(),
        }
    }
}

impl Value {
    /// What kind of value it is, in the words of error messages: `a list`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::String(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Map {
    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entries in written order; those a merge key brought in come after the others.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The value under `key`.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let mut entries = self.entries.iter_mut();
        entries
            .find(|entry| entry.key == key)
            .map(|entry| &mut entry.value)
    }

    /// The entries in written order, of which the values may be changed. (A key may not: it would
    /// have to stay different from the others.)
    pub fn values_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries
            .iter_mut()
            .map(|entry| (entry.key.as_str(), &mut entry.value))
    }

    /// Puts `entry` at the place of the one with its key, or at the end.
    pub fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|own| own.key == entry.key) {
            Some(own) => *own = entry,
            None => self.entries.push(entry),
        }
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FromIterator<Entry> for Map {
    /// The last of several entries with one key stays, at the place of the first.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut kept: indexmap::IndexMap<String, Entry> = indexmap::IndexMap::new();
        for entry in entries {
            kept.insert(entry.key.clone(), entry);
        }
        Self {
            entries: kept.into_values().collect(),
        }
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Problem {
    /// Whether it is in a file of variables, of which every line may hold what nobody should see.
    #[must_use]
    pub fn is_of_variables(&self) -> bool {
        // The way to a value begins with no such sign: such a key is quoted.
        self.path.starts_with('$')
    }

    /// The line of `text` the problem is in, under it a mark at its column:
    ///
    /// ```text
    ///   12 |     vmid: many
    ///      |           ^
    /// ```
    ///
    /// What follows the offending text is left out (after a mistake such as a password instead of
    /// a name it may be what nobody should see), except where the document does not parse.
    /// `None` when `text` has no such line, or is one of variables.
    #[must_use]
    pub fn excerpt(&self, text: &str) -> Option<String> {
        if self.is_of_variables() {
            return None;
        }
        let above = usize::try_from(self.position.line.checked_sub(1)?).ok()?;
        let line = text.lines().nth(above)?;
        let before = usize::try_from(self.position.column.saturating_sub(1)).ok()?;
        // A long line is shown around the mark; tabs would shift it.
        let skipped = before.saturating_sub(2 * QUOTED / 3);
        let visible = match &self.offending {
            // Quotes or a colon may be around it.
            Some(offending) => before + offending.chars().count() + 2,
            None if self.path.is_empty() => usize::MAX,
            None => before,
        };
        let cut = line.chars().nth(visible).is_some();
        let mut shown: String = line
            .chars()
            .take(visible)
            .skip(skipped)
            .take(QUOTED)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if cut {
            shown.push('…');
        }
        let number = self.position.line;
        Some(format!(
            "{number:>5} | {}\n      | {:>2$}",
            shown.trim_end(),
            '^',
            before - skipped + 1
        ))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.source.display(), self.position)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match (&self.offending, &self.suggestion) {
            (Some(got), Some(meant)) => write!(f, " (got `{got}`; did you mean `{meant}`?)"),
            (Some(got), None) => write!(f, " (got `{got}`)"),
            (None, Some(meant)) => write!(f, " (did you mean `{meant}`?)"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// `text` as a problem may quote it: on one line, without control characters, shortened.
#[must_use]
pub fn quoted(text: &str) -> String {
    quoted_at(text, QUOTED)
}

fn quoted_at(text: &str, longest: usize) -> String {
    let mut quoted: String = text
        .chars()
        .take(longest)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(longest).is_some() {
        quoted.pop();
        quoted.push('…');
    }
    quoted
}

/// The path of `key` in the map at `parent`.
#[must_use]
pub fn child_path(parent: &str, key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '/');
    if key.is_empty() || !key.chars().all(plain) {
        format!("{parent}[{:?}]", quoted(key))
    } else if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// What serde-saphyr hands over, before positions are resolved against the text.
struct Tree(Spanned<Raw>);

enum Raw {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    List(Vec<Tree>),
    Map(Vec<(Spanned<String>, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        // What does not fit becomes a float, as larger numbers do in YAML anyway; the digits stay
        // in `Node::written`.
        #[allow(clippy::cast_precision_loss)]
        Ok(i64::try_from(value).map_or(Raw::Float(value as f64), Raw::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

fn position_of(location: Location) -> Option<Position> {
    let line = u32::try_from(location.line()).ok()?;
    let column = u32::try_from(location.column()).ok()?;
    (line > 0 && column > 0).then_some(Position { line, column })
}

/// What the parser lets pass and we do not.
struct Fault {
    position: Position,
    offending: Option<String>,
    message: &'static str,
}

/// The text of a value as it stands in the document.
fn written(defined: Location, text: &str) -> Option<&str> {
    let span = defined.span();
    let from = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    text.get(from..from.checked_add(length)?).map(str::trim)
}

impl Tree {
    /// `outer` is the position of what holds it, for a value that has none of its own.
    fn into_node(self, text: &str, outer: Position) -> Result<Node, Fault> {
        let Self(Spanned { value, defined, .. }) = self;
        let position = position_of(defined).unwrap_or(outer);
        let mut plain = None;
        let value = match value {
            Raw::Null => {
                // `!!null` makes nothing of any text.
                let something = written(defined, text).filter(|text| {
                    !matches!(*text, "" | "~" | "null" | "Null" | "NULL" | "\"\"" | "''")
                });
                if let Some(something) = something {
                    return Err(Fault {
                        position,
                        offending: Some(something.to_owned()),
                        message: "this is not nothing, as its tag says",
                    });
                }
                Value::Null
            }
            Raw::Bool(value) => {
                plain = written(defined, text);
                Value::Bool(value)
            }
            Raw::Integer(value) => {
                plain = written(defined, text);
                Value::Integer(value)
            }
            Raw::Float(value) => {
                plain = written(defined, text);
                Value::Float(value)
            }
            // The parser's way to write what is no finite number, and numbers that are too large.
            Raw::String(value) if matches!(value.as_str(), ".inf" | "-.inf" | ".nan") => {
                let own =
                    written(defined, text).filter(|own| !own.starts_with(['"', '\'', '|', '>']));
                Value::String(own.map_or(value, str::to_owned))
            }
            Raw::String(value) => Value::String(value),
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| item.into_node(text, position))
                    .collect::<Result<_, _>>()?,
            ),
            Raw::Map(entries) => {
                let mut map = indexmap::IndexMap::with_capacity(entries.len());
                for (key, value) in entries {
                    let key_position = position_of(key.defined).unwrap_or(position);
                    let entry = Entry {
                        key: key.value,
                        key_position,
                        value: value.into_node(text, key_position)?,
                    };
                    let Some(own) = map.get(&entry.key) else {
                        map.insert(entry.key.clone(), entry);
                        continue;
                    };
                    // Two keys that were not written alike: `1` and `"1"`. What a merge key brings
                    // in stands before the map, and yields to what is written there.
                    if key_position >= position {
                        return Err(Fault {
                            position: key_position,
                            offending: Some(own.key.clone()),
                            message: TWICE,
                        });
                    }
                }
                Value::Map(Map {
                    entries: map.into_values().collect(),
                })
            }
        };
        Ok(Node {
            value,
            position,
            written: plain.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests;
