//! Reading a document into types, collecting every problem on the way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Document, Node, Position, Problem, Problems, Value, child_path, quoted};

/// Collects what is wrong in one document. Reading goes on after a problem, so that an operator
/// sees all of them at once; whoever built something from the values must ask [`Reader::finish`]
/// before using it.
#[derive(Debug)]
pub struct Reader<'d> {
    document: &'d Document,
    /// Each with its position in the tree, by which they are sorted.
    problems: RefCell<Vec<(Position, Problem)>>,
    warnings: RefCell<Vec<(Position, Problem)>>,
}

/// A value in a document, the way to it, and the reader that hears what is wrong with it. Methods
/// that read return `None` exactly when they reported a problem.
#[derive(Clone)]
pub struct Cursor<'d> {
    reader: &'d Reader<'d>,
    node: &'d Node,
    path: String,
}

/// A map with a fixed set of keys.
#[derive(Debug, Clone)]
pub struct Fields<'d> {
    at: Cursor<'d>,
}

impl<'d> Reader<'d> {
    /// A reader of `document` that has heard of no problem yet.
    #[must_use]
    pub fn new(document: &'d Document) -> Self {
        Self {
            document,
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The document's root.
    #[must_use]
    pub fn root(&'d self) -> Cursor<'d> {
        Cursor {
            reader: self,
            node: self.document.root(),
            path: String::new(),
        }
    }

    /// The file and the place in it that `position` in the document stands for.
    #[must_use]
    pub fn locate(&self, position: Position) -> (Arc<Path>, Position) {
        self.document.locate(position)
    }

    /// Records a problem at a place that is no value, such as a key.
    pub fn report(
        &self,
        position: Position,
        path: impl Into<String>,
        offending: Option<&str>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let problem = self.problem(position, path, offending, message, suggestion);
        self.problems.borrow_mut().push((position, problem));
    }

    fn problem(
        &self,
        position: Position,
        path: impl Into<String>,
        offending: Option<&str>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) -> Problem {
        let (source, position) = self.document.locate(position);
        Problem {
            source,
            position,
            path: path.into(),
            offending: offending.map(quoted),
            message: message.into(),
            suggestion,
        }
    }

    /// Whether nothing has been refused yet.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// The warnings, when there were no problems; both in the order of the document.
    ///
    /// # Errors
    /// Every problem that was reported.
    pub fn finish(self) -> Result<Vec<Problem>, Problems> {
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        for list in [&mut problems, &mut warnings] {
            list.sort_by_key(|(position, _)| *position);
            // What an alias brings in twice is refused twice at one place.
            list.dedup();
        }
        let without_positions =
            |list: Vec<(Position, Problem)>| list.into_iter().map(|(_, problem)| problem).collect();
        if problems.is_empty() {
            Ok(without_positions(warnings))
        } else {
            Err(Problems(without_positions(problems)))
        }
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} at {})", self.path, self.node.position)
    }
}

impl<'d> Cursor<'d> {
    /// The value.
    #[must_use]
    pub fn node(&self) -> &'d Node {
        self.node
    }

    /// Where it is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.node.position
    }

    /// The way to it: `services.web.ports[0]`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file it is in, and where in it.
    #[must_use]
    pub fn source(&self) -> (Arc<Path>, Position) {
        self.reader.document.locate(self.position())
    }

    /// The reader that problems go to.
    #[must_use]
    pub fn reader(&self) -> &'d Reader<'d> {
        self.reader
    }

    /// Reports that the value is wrong.
    pub fn refuse(&self, message: impl Into<String>) {
        self.refuse_suggesting(message, None);
    }

    /// Reports that the value is wrong and what may have been meant.
    pub fn refuse_suggesting(&self, message: impl Into<String>, suggestion: Option<String>) {
        self.reader.report(
            self.position(),
            &self.path,
            self.node.text(),
            message,
            suggestion,
        );
    }

    /// Reports that the value names nothing that exists among `known`, which are `what`:
    /// `no guest of this name`.
    pub fn refuse_unknown<'n>(&self, what: &str, known: impl IntoIterator<Item = &'n str>) {
        let known: Vec<&str> = known.into_iter().collect();
        let name = self.node.text().unwrap_or_default();
        let meant = nearest(name, known.iter().copied()).map(str::to_owned);
        let message = if meant.is_some() {
            format!("no {what} of this name")
        } else if known.is_empty() {
            format!("no {what} of this name: none is declared")
        } else {
            format!("no {what} of this name; there are: {}", listed(&known))
        };
        self.refuse_suggesting(message, meant);
    }

    /// Reports something that is suspicious but allowed.
    pub fn warn(&self, message: impl Into<String>) {
        let problem =
            self.reader
                .problem(self.position(), &self.path, self.node.text(), message, None);
        self.reader
            .warnings
            .borrow_mut()
            .push((self.position(), problem));
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        let message = match &self.node.value {
            Value::Null => format!("{what} is expected here, and nothing is written"),
            other => format!("{what} is expected here, not {}", other.kind()),
        };
        self.refuse(message);
        None
    }

    /// Whether nothing is written: `key:` or `key: null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// A map whose keys are all among `allowed`; the others are reported, each with the nearest
    /// allowed one.
    #[must_use]
    pub fn fields(&self, allowed: &[&str]) -> Option<Fields<'d>> {
        let Value::Map(map) = &self.node.value else {
            return self.expected("a map");
        };
        for entry in map {
            if allowed.contains(&entry.key.as_str()) {
                continue;
            }
            let free = allowed
                .iter()
                .copied()
                .filter(|name| map.get(name).is_none());
            let meant = nearest(&entry.key, free).map(str::to_owned);
            self.reader.report(
                entry.key_position,
                child_path(&self.path, &entry.key),
                Some(&entry.key),
                format!("unknown key; allowed here: {}", listed(allowed)),
                meant,
            );
        }
        Some(Fields { at: self.clone() })
    }

    /// The value under `key`, when this is a map that has it; otherwise `None` and no problem.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<Cursor<'d>> {
        let Value::Map(map) = &self.node.value else {
            return None;
        };
        Some(Self {
            reader: self.reader,
            node: map.get(key)?,
            path: child_path(&self.path, key),
        })
    }

    /// A map with keys of the operator's choice: each key, where it is, and its value.
    #[must_use]
    pub fn entries(&self) -> Option<Vec<(&'d str, Position, Cursor<'d>)>> {
        let Value::Map(map) = &self.node.value else {
            return self.expected("a map");
        };
        Some(
            map.iter()
                .map(|entry| {
                    let value = Self {
                        reader: self.reader,
                        node: &entry.value,
                        path: child_path(&self.path, &entry.key),
                    };
                    (entry.key.as_str(), entry.key_position, value)
                })
                .collect(),
        )
    }

    /// A map of scalars, as text: `{a: x, b: 1}`.
    #[must_use]
    pub fn texts(&self) -> Option<Vec<(String, String)>> {
        let mut complete = true;
        let texts = self
            .entries()?
            .into_iter()
            .filter_map(|(key, _, value)| {
                let text = value.text();
                complete &= text.is_some();
                Some((key.to_owned(), text?.to_owned()))
            })
            .collect();
        complete.then_some(texts)
    }

    /// A list.
    #[must_use]
    pub fn items(&self) -> Option<Vec<Cursor<'d>>> {
        let Value::List(items) = &self.node.value else {
            return self.expected("a list");
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, node)| Self {
                    reader: self.reader,
                    node,
                    path: format!("{}[{index}]", self.path),
                })
                .collect(),
        )
    }

    /// A list of which each item is read by `read`. What cannot be read is left out of the list,
    /// and has been reported.
    #[must_use]
    pub fn each<T>(&self, read: impl FnMut(Cursor<'d>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.items()?.into_iter().filter_map(read).collect())
    }

    /// A scalar as text; numbers and booleans as they were written.
    #[must_use]
    pub fn text(&self) -> Option<&'d str> {
        match self.node.text() {
            Some(text) => Some(text),
            None => self.expected("a text"),
        }
    }

    /// A text that is not empty.
    #[must_use]
    pub fn nonempty(&self) -> Option<&'d str> {
        let text = self.text()?;
        if text.is_empty() {
            self.refuse("an empty text is not allowed here");
            return None;
        }
        Some(text)
    }

    /// A boolean.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            other => {
                let meant = match self.node.text().map(str::to_ascii_lowercase).as_deref() {
                    Some("yes" | "on" | "true" | "1" | "y") => Some("true".to_owned()),
                    Some("no" | "off" | "false" | "0" | "n") => Some("false".to_owned()),
                    _ => None,
                };
                self.refuse_suggesting(
                    format!("`true` or `false` is expected here, not {}", other.kind()),
                    meant,
                );
                None
            }
        }
    }

    /// A whole number within `range`.
    #[must_use]
    pub fn integer<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let Value::Integer(value) = self.node.value else {
            return self.expected("a whole number");
        };
        match N::try_from(value) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                self.refuse(format!(
                    "a number from {} to {} is expected here",
                    range.start(),
                    range.end()
                ));
                None
            }
        }
    }

    /// A duration above zero, with its unit: `90d`, `1h 30m`, `500ms`.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let Some(text) = self.node.text() else {
            return self.expected("a duration such as `90d` or `1h 30m`");
        };
        match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Some(duration),
            Ok(_) => {
                self.refuse("the duration must be above zero");
                None
            }
            Err(_) => {
                let text = text.trim();
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let (message, meant) = if digits {
                    ("the duration has no unit", Some(format!("{text}s")))
                } else {
                    ("no duration; one is written like `90d` or `1h 30m`", None)
                };
                self.refuse_suggesting(message, meant);
                None
            }
        }
    }

    /// One of `words`.
    #[must_use]
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let meant = nearest(text, known.iter().copied()).map(str::to_owned);
        self.refuse_suggesting(format!("one of {} is expected here", listed(&known)), meant);
        None
    }
}

impl<'d> Fields<'d> {
    /// The map as a value.
    #[must_use]
    pub fn at(&self) -> &Cursor<'d> {
        &self.at
    }

    /// The value under `key`, when the key is there. A key without a value is there, and whoever
    /// reads it says what was expected.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cursor<'d>> {
        self.at.child(key)
    }

    /// The value under `key`; its absence is reported.
    #[must_use]
    pub fn required(&self, key: &str) -> Option<Cursor<'d>> {
        let found = self.get(key);
        if found.is_none() {
            self.at.reader.report(
                self.at.position(),
                &self.at.path,
                None,
                format!("the key `{key}` is missing"),
                None,
            );
        }
        found
    }

    /// Which one of `keys` is there; none or several are reported.
    #[must_use]
    pub fn one_of(&self, keys: &[&'static str]) -> Option<(&'static str, Cursor<'d>)> {
        let mut found = keys
            .iter()
            .filter_map(|key| self.get(key).map(|value| (*key, value)));
        let first = found.next();
        if first.is_none() || found.next().is_some() {
            let count = if first.is_none() { "one" } else { "only one" };
            self.at.reader.report(
                self.at.position(),
                &self.at.path,
                None,
                format!("{count} of the keys {} is needed here", listed(keys)),
                None,
            );
            return None;
        }
        first
    }
}

/// `names` in the order given, each in backquotes; long lists are cut.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 24;
    let mut list = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", quoted(name.as_ref())))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    list
}

/// The one of `candidates` that `word` most likely stands for, if any is near: at most a third of
/// its letters differ, or only case and separators do, or one is the beginning of the other.
#[must_use]
pub fn nearest<'n>(word: &str, candidates: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // The distance takes time with the square of the length.
    const LONGEST: usize = 64;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| -> String {
        text.chars()
            .map(|c| if matches!(c, '_' | ' ' | '.') { '-' } else { c })
            .flat_map(char::to_lowercase)
            .collect()
    };
    let sought = plain(word);
    candidates
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let known = plain(candidate);
            let distance = strsim::damerau_levenshtein(&sought, &known);
            let longer = sought.chars().count().max(known.chars().count());
            let shorter = sought.chars().count().min(known.chars().count());
            let begins = shorter >= 3 && (known.starts_with(&sought) || sought.starts_with(&known));
            (distance <= (longer / 3).max(1) && distance < longer || begins)
                .then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}
