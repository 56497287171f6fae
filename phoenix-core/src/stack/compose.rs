//! Files of the compose dialect, brought into the form that the reader knows: variables replaced
//! (with those of `.env`), services that extend others and included files put together, services
//! of other profiles left out, and what `docker compose` writes in another form written in ours.
//!
//! Invariants: nodes keep their positions; a relative path in a file from elsewhere is absolute
//! before that file is merged; what cannot be done is left for the reader to refuse.

mod extends;
mod forms;
mod paths;

use std::path::{Path, PathBuf};

use crate::ground::document::{Document, Map, Node, Position, Problem, Value, child_path, quoted};

use super::environment::read_variables;
use super::findings::{Findings, map, map_mut};
use super::interpolate::{Grammar, Variables, interpolate, nested};
use super::load::{content, directory_of, end_of_files, of_file, text_of};
use super::merge::{self, Rules};
use super::options::{Dialect, LoadOptions};
use super::tags;

/// How deep files may include and extend each other.
const DEPTH: usize = 16;

/// The merged tree of `files`, and the options with the variables that hold for it.
pub(super) fn files(
    files: &[(&Path, &str)],
    stack: &str,
    directory: &Path,
    options: &LoadOptions,
    findings: &mut Findings,
) -> Option<(Node, LoadOptions)> {
    let mut given = options.variables.clone();
    given
        .entry("COMPOSE_PROJECT_NAME".to_owned())
        .or_insert_with(|| stack.to_owned());
    let start = Position { line: 1, column: 1 };
    let mut failure = None;
    let variables = with_dotenv(given, directory)
        .map_err(|message| failure = Some(message))
        .ok();
    let mut composer = Composer {
        findings,
        including: Vec::new(),
    };
    let variables = variables.unwrap_or_default();
    let mut root = composer.project(files, directory, &variables)?;
    if let Some(message) = failure {
        findings.refuse(start, "", None, message, None);
        return None;
    }
    let own = map_mut(&mut root)?;
    own.remove("version");
    if let Some(name) = own.remove("name")
        && name.value.text() != Some(stack)
    {
        findings.warn(
            name.value.position,
            "name",
            name.value.text(),
            format!("the stack is deployed as {stack}, whatever its file calls itself"),
        );
    }
    let mut profiles = options.profiles.clone();
    if let Some(chosen) = variables.get("COMPOSE_PROFILES") {
        let chosen = chosen.split(',').map(str::trim);
        profiles.extend(chosen.filter(|one| !one.is_empty()).map(str::to_owned));
    }
    leave_out(own, &profiles);
    forms::apply(&mut root, findings);
    let options = options.clone().with_variables(variables);
    Some((root, options))
}

/// What the last of `files` that has a top-level `name` calls the stack.
pub(super) fn name(
    files: &[(&Path, &str)],
    options: &LoadOptions,
) -> Result<Option<String>, Problem> {
    let Some((first, _)) = files.first() else {
        return Ok(None);
    };
    let variables = with_dotenv(options.variables.clone(), &directory_of(first))
        .map_err(|message| of_file(first, message))?;
    for (path, text) in files.iter().rev() {
        let document = Document::parse(*path, text)?;
        let name = map(document.root()).and_then(|root| root.get("name"));
        let Some((node, text)) = name.and_then(|node| Some((node, node.text()?))) else {
            continue;
        };
        return nested(text, &variables).map(Some).map_err(|message| {
            let (source, position) = document.locate(node.position);
            Problem {
                source,
                position,
                path: "name".to_owned(),
                offending: Some(quoted(text)),
                message,
                suggestion: None,
            }
        });
    }
    Ok(None)
}

/// `variables`, and those in the `.env` of `directory` that they have not.
fn with_dotenv(variables: Variables, directory: &Path) -> Result<Variables, String> {
    let dotenv = directory.join(".env");
    if dotenv.is_file() {
        return with_files(&variables, &[dotenv]);
    }
    Ok(variables)
}

/// `variables`, and those in `files` that they have not.
fn with_files(variables: &Variables, files: &[PathBuf]) -> Result<Variables, String> {
    let mut all = Variables::new();
    for path in files {
        let content = content(path)
            .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
        let read = read_variables(&content, Dialect::Compose, variables)
            .map_err(|error| format!("in {}: {error}", path.display()))?;
        all.extend(read);
    }
    all.extend(variables.clone());
    Ok(all)
}

/// Takes services out that belong to profiles of which none is chosen.
fn leave_out(root: &mut Map, chosen: &[String]) {
    let Some(services) = root.get_mut("services").and_then(map_mut) else {
        return;
    };
    let left_out: Vec<String> = services
        .iter()
        .filter(|entry| {
            let profiles = map(&entry.value).and_then(|service| service.get("profiles"));
            match profiles.map(|node| &node.value) {
                Some(Value::List(profiles)) if !profiles.is_empty() => {
                    !profiles.iter().any(|profile| {
                        chosen
                            .iter()
                            .any(|one| one == "*" || Some(one.as_str()) == profile.text())
                    })
                }
                _ => false,
            }
        })
        .map(|entry| entry.key.clone())
        .collect();
    for key in left_out {
        services.remove(&key);
    }
    for (_, service) in services.values_mut() {
        if let Some(service) = map_mut(service)
            && matches!(
                service.get("profiles").map(|node| &node.value),
                Some(Value::List(_))
            )
        {
            service.remove("profiles");
        }
    }
}

struct Composer<'a> {
    findings: &'a mut Findings,
    /// The files that include each other, from the outermost to the one at hand.
    including: Vec<PathBuf>,
}

impl Composer<'_> {
    /// The merged tree of the files of one project, whose relative paths are those of `directory`.
    fn project(
        &mut self,
        files: &[(&Path, &str)],
        directory: &Path,
        variables: &Variables,
    ) -> Option<Node> {
        let mut merged: Option<Node> = None;
        for (path, text) in files {
            let root = self.parse(path, text, variables)?;
            let root = self.extended(root, path, directory, variables)?;
            let root = self.with_included(root, path, directory, variables)?;
            merged = Some(match merged {
                None => root,
                Some(base) => merge::merge(base, root, Rules::Phoenix, self.findings),
            });
        }
        merged
    }

    /// The tree of one file, with its variables replaced.
    fn parse(&mut self, path: &Path, text: &str, variables: &Variables) -> Option<Node> {
        let root = match self.findings.sources.parse(path, text) {
            Ok(root) => root,
            Err(problem) => {
                self.findings.add(end_of_files(), problem);
                return None;
            }
        };
        tags::check(root.position, path, text, false, self.findings);
        if map(&root).is_none() {
            self.findings.refuse(
                root.position,
                "",
                None,
                format!("a map is expected here, not {}", root.value.kind()),
                None,
            );
            return None;
        }
        Some(interpolate(
            &root,
            Grammar::Nested,
            variables,
            self.findings,
        ))
    }

    /// `root` with the files under its `include` below it.
    fn with_included(
        &mut self,
        mut root: Node,
        path: &Path,
        directory: &Path,
        variables: &Variables,
    ) -> Option<Node> {
        let Some(include) = map_mut(&mut root)?.remove("include") else {
            return Some(root);
        };
        let Value::List(items) = &include.value.value else {
            if include.value.value == Value::Null {
                return Some(root);
            }
            self.refuse(
                &include.value,
                "include",
                "a list of files is expected here",
            );
            return None;
        };
        self.including
            .push(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let mut below: Option<Node> = None;
        for (index, item) in items.iter().enumerate() {
            let included =
                self.included(item, &format!("include[{index}]"), directory, variables)?;
            below = Some(match below {
                None => included,
                Some(base) => merge::merge(base, included, Rules::Phoenix, self.findings),
            });
        }
        self.including.pop();
        Some(match below {
            Some(base) => merge::merge(base, root, Rules::Phoenix, self.findings),
            None => root,
        })
    }

    /// The tree that one item of an `include` stands for.
    fn included(
        &mut self,
        item: &Node,
        at: &str,
        directory: &Path,
        variables: &Variables,
    ) -> Option<Node> {
        let long = map(item);
        if let Some(long) = long {
            for entry in long {
                if !matches!(
                    entry.key.as_str(),
                    "path" | "project_directory" | "env_file"
                ) {
                    let known = "`path`, `project_directory`, `env_file`";
                    self.findings.refuse(
                        entry.key_position,
                        &child_path(at, &entry.key),
                        Some(&entry.key),
                        format!("unknown key; allowed here: {known}"),
                        None,
                    );
                }
            }
        }
        let paths = match long {
            Some(long) => long.get("path").map(texts).unwrap_or_default(),
            None => texts(item),
        };
        let Some(first) = paths.first() else {
            self.refuse(item, at, "the path of a compose file is expected here");
            return None;
        };
        let project = match long.and_then(|long| long.get("project_directory")?.text()) {
            Some(project) => directory.join(project),
            None => directory_of(&directory.join(first)),
        };
        let env_files: Vec<PathBuf> = match long.and_then(|long| long.get("env_file")) {
            Some(files) => texts(files)
                .iter()
                .map(|file| directory.join(file))
                .collect(),
            None => Some(project.join(".env"))
                .filter(|file| file.is_file())
                .into_iter()
                .collect(),
        };
        let own = match with_files(variables, &env_files) {
            Ok(own) => own,
            Err(message) => {
                self.refuse(item, at, message);
                return None;
            }
        };
        let mut files = Vec::new();
        for path in &paths {
            let path = directory.join(path);
            if self.including.contains(&path) || self.including.len() > DEPTH {
                self.refuse(item, at, "the files include each other");
                return None;
            }
            match text_of(&path) {
                Ok(text) => files.push((path, text)),
                Err(message) => {
                    self.refuse(item, at, format!("{}: {message}", path.display()));
                    return None;
                }
            }
        }
        let files: Vec<(&Path, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str()))
            .collect();
        let mut root = self.project(&files, &project, &own)?;
        paths::absolute(&mut root, &project);
        if let Some(root) = map_mut(&mut root) {
            root.remove("version");
            root.remove("name");
        }
        Some(root)
    }

    fn refuse(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.findings
            .refuse(node.position, path, node.text(), message, None);
    }
}

/// One text, or a list of them.
fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| item.text().map(str::to_owned))
            .collect(),
        _ => node.text().map(str::to_owned).into_iter().collect(),
    }
}
