//! Services that extend others, of the same file or of another one.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::ground::document::{Map, Node, Value, child_path, nearest};

use super::super::findings::{map, map_mut};
use super::super::interpolate::Variables;
use super::super::load::{directory_of, text_of};
use super::super::merge::{self, Rules};
use super::super::volumes::without_dots;
use super::{Composer, DEPTH, paths};

/// A file whose services extend others.
struct File<'a> {
    path: &'a Path,
    /// What its relative paths are relative to.
    directory: &'a Path,
    services: &'a Map,
    variables: &'a Variables,
}

impl Composer<'_> {
    /// `root` with every service whole. Relative paths are those of `directory`.
    pub(super) fn extended(
        &mut self,
        mut root: Node,
        path: &Path,
        directory: &Path,
        variables: &Variables,
    ) -> Option<Node> {
        let Some(Value::Map(services)) = map(&root)?.get("services").map(|node| &node.value) else {
            return Some(root);
        };
        let services = services.clone();
        let extending = |node: &Node| map(node).is_some_and(|map| map.get("extends").is_some());
        if !services.iter().any(|entry| extending(&entry.value)) {
            return Some(root);
        }
        let file = File {
            path,
            directory,
            services: &services,
            variables,
        };
        let mut whole = Vec::new();
        for entry in &services {
            let value = self.service(&entry.key, &file, &mut Vec::new())?;
            whole.push((entry.key.as_str(), value));
        }
        let own = map_mut(&mut root)?.get_mut("services").and_then(map_mut)?;
        for (key, value) in whole {
            if let Some(node) = own.get_mut(key) {
                *node = value;
            }
        }
        Some(root)
    }

    /// The service `key` of `file` with what it extends. `way` are the services that led here.
    fn service(
        &mut self,
        key: &str,
        file: &File<'_>,
        way: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        let mut service = file.services.get(key)?.clone();
        let at = child_path(&child_path("services", key), "extends");
        let Some(extends) = map_mut(&mut service).and_then(|map| map.remove("extends")) else {
            return Some(service);
        };
        let node = extends.value;
        let step = (file.path.to_owned(), key.to_owned());
        if way.contains(&step) || way.len() > DEPTH {
            self.refuse(&node, &at, "these services extend each other");
            return None;
        }
        way.push(step);
        let (name, other) = match &node.value {
            Value::Map(long) => (
                long.get("service").and_then(Node::text),
                long.get("file").and_then(Node::text),
            ),
            _ => (node.text(), None),
        };
        let Some(name) = name else {
            self.refuse(
                &node,
                &at,
                "the name of a service is expected here: `service: NAME`",
            );
            return None;
        };
        let base = match other {
            None => {
                if !self.knows(&node, &at, name, file.services) {
                    return None;
                }
                self.service(name, file, way)?
            }
            Some(other) => {
                let path = without_dots(&file.directory.join(other));
                self.of_other_file(name, &path, file, way, (&node, &at))?
            }
        };
        way.pop();
        let mut whole = base;
        let path = child_path("services", key);
        merge::merge_service(&mut whole, service, &path, Rules::Compose, self.findings);
        Some(whole)
    }

    fn of_other_file(
        &mut self,
        name: &str,
        path: &Path,
        from: &File<'_>,
        way: &mut Vec<(PathBuf, String)>,
        (node, at): (&Node, &str),
    ) -> Option<Node> {
        let root = self.tree(path, from.variables, (node, at))?;
        let directory = directory_of(path);
        let none = Map::default();
        let services = map(&root)?.get("services").and_then(map).unwrap_or(&none);
        if !self.knows(node, at, name, services) {
            return None;
        }
        let file = File {
            path,
            directory: &directory,
            services,
            variables: from.variables,
        };
        let mut service = self.service(name, &file, way)?;
        if let Some(service) = map_mut(&mut service) {
            paths::of_service(service, &directory);
        }
        Some(service)
    }

    /// The tree of the file at `path`, parsed once.
    fn tree(
        &mut self,
        path: &Path,
        variables: &Variables,
        (node, at): (&Node, &str),
    ) -> Option<Rc<Node>> {
        let known = self.trees.get(path).into_iter().flatten();
        for (own, root) in known {
            if own == variables {
                return Some(root.clone());
            }
        }
        let text = match text_of(path) {
            Ok(text) => text,
            Err(message) => {
                self.refuse(node, at, format!("{}: {message}", path.display()));
                return None;
            }
        };
        let root = Rc::new(self.parse(path, &text, variables)?);
        let trees = self.trees.entry(path.to_owned()).or_default();
        trees.push((variables.clone(), root.clone()));
        Some(root)
    }

    fn knows(&mut self, node: &Node, at: &str, name: &str, services: &Map) -> bool {
        let found = services.get(name).is_some();
        if !found {
            let known = services.iter().map(|entry| entry.key.as_str());
            self.findings.refuse(
                node.position,
                at,
                Some(name),
                "no service of this name is there to be extended",
                nearest(name, known).map(str::to_owned),
            );
        }
        found
    }
}
