//! Files of the compose dialect, brought into the form that the reader knows: variables replaced
//! (with those of `.env`), services that extend others and included files put together, services
//! of other profiles left out, and what `docker compose` writes in another form written in ours.
//!
//! Invariants: nodes keep their positions; a relative path in a file from elsewhere is absolute
//! before that file is merged; what cannot be done is left for the reader to refuse.

mod extends;
mod forms;
mod left_out;
mod paths;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::ground::document::{Document, Map, Node, Position, Problem, Value, child_path, quoted};

use super::environment::read_dotenv;
use super::findings::{Findings, map, map_mut};
use super::interpolate::{Grammar, Variables, interpolate, nested};
use super::load::{content, directory_of, end_of_files, of_file, text_of};
use super::merge::{self, Rules};
use super::options::LoadOptions;
use super::tags;
use super::volumes::without_dots;

/// How deep files may include and extend each other.
const DEPTH: usize = 16;
/// How many files may be included. (What each includes again counts again.)
const MOST: usize = 1000;

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
    let variables = match with_dotenv(given, directory) {
        Ok((variables, odd)) => {
            for warning in odd {
                findings.add_warning(start, warning);
            }
            variables
        }
        Err(problem) => {
            findings.add(start, problem);
            return None;
        }
    };
    let mut composer = Composer {
        findings,
        including: Vec::new(),
        included: 0,
        trees: BTreeMap::new(),
    };
    let mut root = composer.project(files, directory, &variables)?;
    paths::of_volumes(&mut root, directory);
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
    // What is odd is told when the files are read.
    let (variables, _) = with_dotenv(options.variables.clone(), &directory_of(first))?;
    for (path, text) in files.iter().rev() {
        let document = Document::parse(*path, text)?;
        let name = map(document.root()).and_then(|root| root.get("name"));
        let Some((node, text)) = name.and_then(|node| Some((node, node.text()?))) else {
            continue;
        };
        let name = nested(text, &variables).map(|(name, _)| Some(name));
        return name.map_err(|message| {
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

/// `variables`, and those in the `.env` of `directory` that they have not; and what is odd there.
fn with_dotenv(
    variables: Variables,
    directory: &Path,
) -> Result<(Variables, Vec<Problem>), Problem> {
    let dotenv = directory.join(".env");
    if dotenv.is_file() {
        return with_files(&variables, &[dotenv]);
    }
    Ok((variables, Vec::new()))
}

/// `variables`, and those in `files` that they have not; and what is odd there.
fn with_files(
    variables: &Variables,
    files: &[PathBuf],
) -> Result<(Variables, Vec<Problem>), Problem> {
    let mut all = Variables::new();
    let mut odd = Vec::new();
    for path in files {
        let content = content(path)
            .map_err(|error| of_file(path, format!("the file cannot be read: {error}")))?;
        let (read, notes) = read_dotenv(&content, variables).map_err(|error| {
            let message = error.message().to_owned();
            match error.line() {
                Some(line) => of_line(path, line, "", message),
                None => of_file(path, message),
            }
        })?;
        all.extend(read);
        let notes = notes.into_iter();
        odd.extend(notes.map(|note| of_line(path, note.line, &note.name, note.message)));
    }
    all.extend(variables.clone());
    Ok((all, odd))
}

/// A problem in a file of variables, of which no line is shown.
fn of_line(path: &Path, line: usize, name: &str, message: String) -> Problem {
    Problem {
        path: format!("${name}"),
        position: Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: 1,
        },
        ..of_file(path, message)
    }
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
    /// How many files were included so far, each as often as it was.
    included: usize,
    /// The files of services that others extend, with the variables that were replaced in each.
    trees: BTreeMap<PathBuf, Vec<(Variables, Rc<Node>)>>,
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
                Some(base) => merge::merge(base, root, Rules::Compose, self.findings),
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
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.including.push(without_dots(&path));
        let mut below: Option<Node> = None;
        for (index, item) in items.iter().enumerate() {
            let included =
                self.included(item, &format!("include[{index}]"), directory, variables)?;
            below = Some(match below {
                None => included,
                Some(base) => merge::merge(base, included, Rules::Compose, self.findings),
            });
        }
        self.including.pop();
        Some(match below {
            Some(base) => merge::merge(base, root, Rules::Compose, self.findings),
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
            Ok((own, odd)) => {
                for warning in odd {
                    self.findings.add_warning(item.position, warning);
                }
                own
            }
            Err(problem) => {
                self.refuse(item, at, problem.to_string());
                return None;
            }
        };
        let mut files = Vec::new();
        for path in &paths {
            let path = without_dots(&directory.join(path));
            self.included += 1;
            if self.included > MOST {
                let message = format!(
                    "more than {MOST} files are included, each counted as often as it is named"
                );
                self.refuse(item, at, message);
                return None;
            }
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
