//! What is found in the trees of compose files before they are read into the model, and helpers
//! to walk and change such trees.

use std::collections::BTreeMap;

use super::interpolate::Variables;
use crate::ground::document::{
    Entry, Map, Node, Position, Problem, Problems, Reader, Sources, Value, quoted,
};

/// The files read so far, and what is wrong or suspicious in them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) sources: Sources,
    problems: Vec<(Position, Problem)>,
    warnings: Vec<(Position, Problem)>,
    /// Variables that were replaced, and their values: a problem shows the former, since the
    /// latter may be secret.
    replaced: BTreeMap<String, String>,
}

/// Shorter values are in too many texts, and no secrets.
const SHORTEST_VALUE: usize = 4;

impl Findings {
    /// Records a problem at `position` in a tree.
    pub(super) fn refuse(
        &mut self,
        position: Position,
        path: &str,
        offending: Option<&str>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let problem = self.problem(position, path, offending, message.into(), suggestion);
        self.problems.push((position, problem));
    }

    /// Records something suspicious at `position` in a tree.
    pub(super) fn warn(
        &mut self,
        position: Position,
        path: &str,
        offending: Option<&str>,
        message: impl Into<String>,
    ) {
        let problem = self.problem(position, path, offending, message.into(), None);
        self.warnings.push((position, problem));
    }

    /// Records which of `variables` the text uses.
    pub(super) fn uses(&mut self, text: &str, variables: &Variables) {
        let names = text.split('$').skip(1).map(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            &rest[..end.unwrap_or(rest.len())]
        });
        for name in names {
            if let Some(value) = variables.get(name)
                && value.len() >= SHORTEST_VALUE
            {
                self.replaced.insert(name.to_owned(), value.clone());
            }
        }
    }

    /// What hides the values of the variables that were replaced.
    pub(super) fn veil(&self) -> Veil {
        Veil(self.replaced.clone())
    }

    /// Takes over a problem that has its place already.
    pub(super) fn add(&mut self, position: Position, problem: Problem) {
        self.problems.push((position, problem));
    }

    /// Takes over something suspicious that has its place already.
    pub(super) fn add_warning(&mut self, position: Position, warning: Problem) {
        self.warnings.push((position, warning));
    }

    fn problem(
        &self,
        position: Position,
        path: &str,
        offending: Option<&str>,
        message: String,
        suggestion: Option<String>,
    ) -> Problem {
        let (source, position) = self.sources.locate(position);
        Problem {
            source,
            position,
            path: path.to_owned(),
            offending: offending.map(quoted),
            message,
            suggestion,
        }
    }

    /// Reads `root` with `read`, and takes over what is found, but at places of which something is
    /// told already: what could not be replaced there is wrong in other ways too. `None` when there
    /// were problems.
    pub(super) fn read<T>(
        &mut self,
        root: &Node,
        read: impl FnOnce(&Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let document = self.sources.clone().joined(root.clone());
        let reader = Reader::new(&document);
        let result = read(&reader);
        let at = root.position;
        match reader.finish() {
            Ok(warnings) => {
                let warnings = warnings.into_iter().map(|warning| (at, warning));
                self.warnings.extend(warnings);
                result
            }
            Err(Problems(problems)) => {
                let (source, start) = self.sources.locate(at);
                let before = self.problems.len();
                for problem in problems {
                    let told = self.problems[..before].iter().any(|(_, other)| {
                        (&other.source, other.position) == (&problem.source, problem.position)
                    });
                    // Its place in the tree, if it is in the file that this begins with.
                    let line = (at.line - start.line).saturating_add(problem.position.line);
                    let place = match problem.source == source {
                        true => Position {
                            line,
                            ..problem.position
                        },
                        false => at,
                    };
                    if !told {
                        self.problems.push((place, problem));
                    }
                }
                None
            }
        }
    }

    /// Takes over what is wrong with `root`. What is only suspicious is left to a later reading.
    pub(super) fn check(&mut self, root: &Node, read: impl FnOnce(&Reader<'_>)) {
        let before = self.warnings.len();
        self.read(root, |reader| {
            read(reader);
            Some(())
        });
        self.warnings.truncate(before);
    }

    /// Whether nothing has been refused yet.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is suspicious, unless something was refused.
    ///
    /// # Errors
    /// Everything that was refused, in the order of the files.
    pub(super) fn finish(self) -> Result<(Sources, Vec<Problem>), Problems> {
        let sorted = |mut list: Vec<(Position, Problem)>| -> Vec<Problem> {
            list.sort_by_key(|(position, _)| *position);
            list.dedup();
            list.into_iter().map(|(_, problem)| problem).collect()
        };
        if self.problems.is_empty() {
            Ok((self.sources, sorted(self.warnings)))
        } else {
            Err(Problems(sorted(self.problems)))
        }
    }
}

/// The map that `node` is.
pub(super) fn map(node: &Node) -> Option<&Map> {
    match &node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// The map that `node` is.
pub(super) fn map_mut(node: &mut Node) -> Option<&mut Map> {
    match &mut node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// The values of the map under `key` of the map `root`, with their keys.
pub(super) fn children<'n>(
    root: &'n mut Node,
    key: &str,
) -> impl Iterator<Item = (&'n str, &'n mut Node)> {
    map_mut(root)
        .and_then(|map| map.get_mut(key))
        .and_then(map_mut)
        .into_iter()
        .flat_map(Map::values_mut)
}

/// The items of the list under `key` of `map`.
pub(super) fn items<'n>(
    map: &'n mut Map,
    key: &str,
) -> impl Iterator<Item = (usize, &'n mut Node)> {
    let list = match map.get_mut(key).map(|node| &mut node.value) {
        Some(Value::List(items)) => items.as_mut_slice(),
        _ => &mut [],
    };
    list.iter_mut().enumerate()
}

/// An entry of which key and value stand at one place.
pub(super) fn entry(key: &str, value: Node) -> Entry {
    Entry {
        key: key.to_owned(),
        key_position: value.position,
        value,
    }
}

/// A text that was written as one.
pub(super) fn text_node(text: impl Into<String>, position: Position) -> Node {
    Node::new(Value::String(text.into()), position)
}

/// Whether the keys that lead to a value match `pattern`: keys with points between them, `*` for
/// any key, `[]` for any item of a list.
pub(super) fn matches(pattern: &str, way: &[&str]) -> bool {
    let mut parts = pattern.split('.');
    way.iter().all(|step| match parts.next() {
        Some("*") => *step != "[]",
        Some(part) => part == *step,
        None => false,
    }) && parts.next().is_none()
}

/// Hides the values of variables in problems.
#[derive(Debug)]
pub(super) struct Veil(BTreeMap<String, String>);

impl Veil {
    /// The problem with the names of variables in place of their values.
    pub(super) fn over(&self, mut problem: Problem) -> Problem {
        let texts = [
            problem.offending.as_mut(),
            Some(&mut problem.message),
            problem.suggestion.as_mut(),
        ];
        for text in texts.into_iter().flatten() {
            for (name, value) in &self.0 {
                if text.contains(value) {
                    *text = text.replace(value, &format!("${{{name}}}"));
                }
            }
        }
        problem
    }
}
