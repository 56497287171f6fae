//! Documents of several files in one tree.
//!
//! Invariant: a position in a tree that was parsed here stands for one place in one file. Lines
//! are counted through all files, in the order in which they were parsed, so that nodes of
//! different files can stand side by side and still say where they come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Document, Node, Position, Problem, Value, parse_tree};

/// The files that a tree was parsed from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    files: Vec<File>,
    /// The lines of all files.
    lines: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct File {
    name: Arc<Path>,
    /// The lines of the files before it.
    before: u32,
}

impl Sources {
    /// Parses the `text` of one more file; `name` is what problems call it.
    ///
    /// # Errors
    /// As for [`Document::parse`]. The place in the problem is one in that file.
    pub fn parse(&mut self, name: impl Into<PathBuf>, text: &str) -> Result<Node, Problem> {
        let name: Arc<Path> = name.into().into();
        let mut root = parse_tree(&name, text)?;
        let before = self.lines;
        if before > 0 {
            shift(&mut root, before);
        }
        // One more than there are line ends, so that the end of the text is in the file.
        let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
        self.lines = before.saturating_add(lines).saturating_add(1);
        self.files.push(File { name, before });
        Ok(root)
    }

    /// The file and the place in it that `position` in a tree stands for.
    #[must_use]
    pub fn locate(&self, position: Position) -> (Arc<Path>, Position) {
        let next = self
            .files
            .partition_point(|file| file.before < position.line);
        match next.checked_sub(1).and_then(|index| self.files.get(index)) {
            Some(file) => {
                let line = position.line - file.before;
                (file.name.clone(), Position { line, ..position })
            }
            None => (Path::new("").into(), position),
        }
    }

    /// `root`, which is made of nodes that were parsed here, as a document.
    #[must_use]
    pub fn joined(self, root: Node) -> Document {
        Document {
            sources: self,
            root,
        }
    }
}

fn shift(node: &mut Node, lines: u32) {
    node.position.line = node.position.line.saturating_add(lines);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, lines)),
        Value::Map(map) => {
            for entry in &mut map.entries {
                entry.key_position.line = entry.key_position.line.saturating_add(lines);
                shift(&mut entry.value, lines);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::document::Reader;

    #[test]
    fn a_place_in_a_joined_tree_is_one_in_its_file() {
        let mut sources = Sources::default();
        let first = sources.parse("a.yaml", "x: 1\ny: 2").expect("parses");
        let second = sources.parse("b.yaml", "\nz: [3]\n").expect("parses");
        let place = |node: &Node| {
            let (name, position) = sources.locate(node.position);
            format!("{}:{position}", name.display())
        };
        let of = |node: &Node, key: &str| match &node.value {
            Value::Map(map) => place(map.get(key).expect("key")),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&first, "y"), "a.yaml:2:4");
        assert_eq!(place(&second), "b.yaml:2:1");
        assert_eq!(of(&second, "z"), "b.yaml:2:4");
        let refused = sources
            .clone()
            .parse("c.yaml", "a: 1\na: 2\n")
            .expect_err("twice");
        assert_eq!(refused.position.line, 2);

        let list = Node::new(
            Value::List(vec![second, first]),
            Position { line: 1, column: 1 },
        );
        let document = sources.joined(list);
        let reader = Reader::new(&document);
        for item in reader.root().items().expect("a list") {
            item.refuse("no");
        }
        let shown = reader.finish().expect_err("refused").to_string();
        assert_eq!(shown, "a.yaml:1:1: [1]: no\nb.yaml:2:1: [0]: no");
    }
}
