//! Compose files from their text to the model: parse, replace variables, merge, validate.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::ground::document::{Cursor, Fields, Node, Position, Problem, Problems, Reader, Value};

use super::declared::{self, Declaring, check_name, section};
use super::findings::Findings;
use super::interpolate::{Grammar, interpolate};
use super::merge::{self, Rules};
use super::model::{
    ConfigDeclaration, NetworkDeclaration, ObjectSource, Place, SecretDeclaration, Service,
    VolumeDeclaration,
};
use super::options::{Dialect, LoadOptions};
use super::reading::extensible;
use super::service::{Declared, Names, service};
use super::{environment, habits, repeats, scalars, tags, versions, waits};

/// Compose files that describe a stack, validated: every reference within them resolves.
#[derive(Debug, Clone)]
pub struct ComposeFile {
    pub(super) source: PathBuf,
    pub(super) stack: String,
    pub(super) services: IndexMap<String, Service>,
    pub(super) networks: IndexMap<String, NetworkDeclaration>,
    pub(super) volumes: IndexMap<String, VolumeDeclaration>,
    pub(super) configs: IndexMap<String, ConfigDeclaration>,
    pub(super) secrets: IndexMap<String, SecretDeclaration>,
    warnings: Vec<Problem>,
}

impl ComposeFile {
    /// Reads the compose file at `path` that is deployed as `stack`. Relative paths in the file
    /// are relative to its directory; files it names (`env_file`, configs) are read too.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its position.
    pub fn load(path: &Path, stack: &str, options: &LoadOptions) -> Result<Self, Problems> {
        Self::load_files(&[path], stack, options)
    }

    /// As [`Self::load`], from several files, of which each is laid over those before it as
    /// `docker stack deploy -c A -c B` does. Relative paths in all of them are relative to the
    /// directory of the first.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each with its file and position.
    pub fn load_files<P: AsRef<Path>>(
        paths: &[P],
        stack: &str,
        options: &LoadOptions,
    ) -> Result<Self, Problems> {
        let mut texts = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            let path = path.as_ref();
            match read(path) {
                Ok(text) => texts.push((path, text)),
                Err(message) => problems.push(of_file(path, message)),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let texts: Vec<(&Path, &str)> = texts
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        Self::parse_files(&texts, stack, options)
    }

    /// As [`Self::load`], from the `text` of the file at `path`.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        stack: &str,
        options: &LoadOptions,
    ) -> Result<Self, Problems> {
        Self::parse_files(&[(path, text)], stack, options)
    }

    /// As [`Self::load_files`], from the texts of the files.
    ///
    /// # Errors
    /// As for [`Self::load_files`].
    pub fn parse_files(
        files: &[(&Path, &str)],
        stack: &str,
        options: &LoadOptions,
    ) -> Result<Self, Problems> {
        let Some((first, _)) = files.first() else {
            return Err(of_file(Path::new(""), "no compose file is named".to_owned()).into());
        };
        let directory = directory_of(first);
        let mut findings = Findings::default();
        let prepared = match options.dialect {
            Dialect::Swarm => swarm_files(files, stack, &directory, options, &mut findings),
            Dialect::Compose => {
                super::compose::files(files, stack, &directory, options, &mut findings)
            }
        };
        // What is wrong beside variables that could not be replaced is told in the same run. (Of
        // several files of the swarm's dialect each has been looked at by itself.)
        if let Some((root, options)) = &prepared
            && !findings.is_clean()
            && (files.len() == 1 || options.dialect == Dialect::Compose)
        {
            findings.check(root, |reader| {
                file(&reader.root(), stack, &directory, options, true);
            });
        }
        let veil = findings.veil();
        let veiled = |problems: Problems| -> Problems {
            let problems = problems.0.into_iter().map(|problem| veil.over(problem));
            Problems(problems.collect())
        };
        let Some((root, options)) = prepared.filter(|_| findings.is_clean()) else {
            return Err(match findings.finish() {
                Err(problems) => veiled(problems),
                // Unreachable as long as whatever is not prepared was reported; an empty list of
                // problems would be worse than one without words.
                Ok(_) => of_file(first, "the file cannot be understood".to_owned()).into(),
            });
        };
        let (sources, mut warnings) = findings.finish()?;
        let document = sources.joined(root);
        let reader = Reader::new(&document);
        let read = file(&reader.root(), stack, &directory, &options, true);
        warnings.extend(reader.finish().map_err(veiled)?);
        let warnings = veiled(Problems(warnings)).0;
        match read {
            Some(file) => Ok(Self {
                source: first.to_path_buf(),
                warnings,
                ..file
            }),
            None => Err(of_file(first, "the file cannot be understood".to_owned()).into()),
        }
    }

    /// What files of the compose dialect call their stack: the last of them that has a top-level
    /// `name`. `None` where none has one, or the dialect is the swarm's.
    ///
    /// # Errors
    /// What keeps the name from being read, with its position.
    pub fn declared_name(
        files: &[(&Path, &str)],
        options: &LoadOptions,
    ) -> Result<Option<String>, Problem> {
        match options.dialect {
            Dialect::Swarm => Ok(None),
            Dialect::Compose => super::compose::name(files, options),
        }
    }

    /// The file it was read from, the first of several.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The stack's name.
    #[must_use]
    pub fn stack(&self) -> &str {
        &self.stack
    }

    /// The services by their keys, in the order of the files.
    #[must_use]
    pub fn services(&self) -> &IndexMap<String, Service> {
        &self.services
    }

    /// What is suspicious in the files and allowed, and what is dropped or changed where docker's
    /// ways are asked for.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A problem at `place` in its file, for what only its user can find out.
    #[must_use]
    pub fn problem(
        &self,
        place: &Place,
        offending: Option<&str>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) -> Problem {
        Problem {
            source: place.source.clone(),
            position: place.position,
            path: place.path.clone(),
            offending: offending.map(crate::ground::document::quoted),
            message: message.into(),
            suggestion,
        }
    }

    /// The name in the swarm of what has `key` in the file: `<stack>_<key>`.
    #[must_use]
    pub fn scoped(&self, key: &str) -> String {
        scoped(&self.stack, key)
    }
}

/// The name in the swarm of what has `key` in the file of `stack`.
pub(super) fn scoped(stack: &str, key: &str) -> String {
    format!("{stack}_{key}")
}

/// The text of the file at `path`, which its user named.
fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))
}

/// The content of a file that another file names: a pipe or device could keep us for ever.
pub(super) fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() || path == Path::new("/dev/null") {
        return std::fs::read(path);
    }
    let message = if metadata.is_dir() {
        "it is a directory"
    } else {
        "it is no file"
    };
    Err(std::io::Error::other(message))
}

/// The text of a file that another file names.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
    let content = content(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    String::from_utf8(content).map_err(|_| "the file is not UTF-8 text".to_owned())
}

pub(super) fn of_file(path: &Path, message: String) -> Problem {
    Problem {
        source: path.into(),
        position: Position { line: 1, column: 1 },
        path: String::new(),
        offending: None,
        message,
        suggestion: None,
    }
}

/// The absolute path of the directory that the file at `path` is in.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Fails on an empty path only.
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

/// The merged tree of files of the swarm's dialect. Each must be right by itself.
fn swarm_files(
    files: &[(&Path, &str)],
    stack: &str,
    directory: &Path,
    options: &LoadOptions,
    findings: &mut Findings,
) -> Option<(Node, LoadOptions)> {
    let grammar = if options.as_docker() {
        Grammar::Docker
    } else {
        Grammar::Careful
    };
    let mut first_version = None;
    let mut merged: Option<Node> = None;
    for (path, text) in files {
        let mut root = match findings.sources.parse(*path, text) {
            Ok(root) => root,
            Err(problem) => {
                findings.add(end_of_files(), problem);
                continue;
            }
        };
        tags::check(root.position, path, text, options.as_docker(), findings);
        if options.as_docker() {
            scalars::apply(&mut root, text, findings);
        }
        let minor = versions::version(&root, findings);
        versions::refuse_later_keys(&root, minor, findings);
        if *first_version.get_or_insert(minor) != minor {
            let at = versions::place(&root);
            findings.refuse(
                at,
                "version",
                None,
                "all files of a stack have the same version; the key can be left out of all",
                None,
            );
        }
        let mut root = interpolate(&root, grammar, options.variables(), findings);
        repeats::refuse(&root, findings);
        if options.as_docker() {
            habits::apply(&mut root, options, findings);
        }
        if files.len() > 1 {
            let clean = findings.is_clean();
            findings.check(&root, |reader| {
                file(&reader.root(), stack, directory, options, false);
            });
            if clean && findings.is_clean() {
                environment::resolve(&mut root, directory, options, findings);
            }
        }
        let rules = if options.as_docker() {
            Rules::Docker
        } else {
            Rules::Phoenix
        };
        merged = Some(match merged {
            None => root,
            Some(base) if findings.is_clean() => merge::merge(base, root, rules, findings),
            Some(base) => base,
        });
    }
    merged.map(|root| (root, options.clone()))
}

/// Behind everything that is in a file.
pub(super) fn end_of_files() -> Position {
    Position {
        line: u32::MAX,
        column: 1,
    }
}

/// Reads the stack at `root`, or (unless `whole`) one file of it.
fn file(
    root: &Cursor<'_>,
    stack: &str,
    directory: &Path,
    options: &LoadOptions,
    whole: bool,
) -> Option<ComposeFile> {
    let refused: &[(&str, &str)] = &[
        (
            "name",
            "the stack has its name from where it is declared; the compose dialect knows this key",
        ),
        (
            "include",
            "other files cannot be included; the compose dialect knows this key",
        ),
    ];
    let map = extensible(
        root,
        &[
            "version", "services", "networks", "volumes", "configs", "secrets",
        ],
        refused,
    )?;
    let how = Declaring {
        stack,
        directory,
        options,
        whole,
    };
    let networks = section(&map, "networks", |at, key, _| {
        declared::network(at, key, options)
    });
    let volumes = section(&map, "volumes", |at, _, _| declared::volume(at));
    let configs = section(&map, "configs", |at, key, position| {
        declared::config(at, key, position, how)
    });
    let secrets = section(&map, "secrets", |at, key, position| {
        declared::secret(at, key, position, how)
    });
    const NONE: &str = "a stack needs at least one service";
    let needed = whole && !options.as_docker();
    let services_at = if needed {
        Some(map.required("services")?)
    } else {
        map.get("services")
    };
    let entries = match &services_at {
        Some(at) => at.entries()?,
        None => Vec::new(),
    };
    if whole && entries.is_empty() {
        match &services_at {
            Some(at) if needed => at.refuse(NONE),
            at => at.as_ref().unwrap_or(root).warn(NONE),
        }
    }
    let keys = |section: &str| -> Vec<&str> {
        match map.get(section).map(|at| &at.node().value) {
            Some(Value::Map(map)) => map.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        }
    };
    let declared = Declared {
        directory,
        options,
        whole,
        services: &Names::new(keys("services")),
        networks: &Names::new(keys("networks")),
        volumes: &Names::new(keys("volumes")),
        configs: &Names::new(keys("configs")),
        secrets: &Names::new(keys("secrets")),
    };
    let mut services = IndexMap::new();
    for (key, position, at) in entries {
        check_name(&at, position, "service", &scoped(stack, key));
        if let Some(service) = service(&at, &declared) {
            services.insert(key.to_owned(), service);
        }
    }
    if let Some(at) = &services_at {
        waits::refuse_cycles(at, &services);
    }
    waits::end_what_is_waited_for(&mut services);
    let file = ComposeFile {
        source: PathBuf::new(),
        stack: stack.to_owned(),
        services,
        networks: networks?,
        volumes: volumes?,
        configs: configs?,
        secrets: secrets?,
        warnings: Vec::new(),
    };
    if whole {
        check_network_names(&map, &file);
        refuse_shared_names(&map, &file);
    }
    Some(file)
}

fn check_network_names(map: &Fields<'_>, file: &ComposeFile) {
    let Some(at) = map.get("networks") else {
        return;
    };
    if at.is_null() {
        return;
    }
    for (key, position, value) in at.entries().unwrap_or_default() {
        if let Some(network) = file.networks.get(key)
            && !network.external
        {
            let name = network.name.clone().unwrap_or_else(|| file.scoped(key));
            check_name(&value, position, "network", &name);
        }
    }
}

/// Refuses networks, secrets and configs that would be made under one name.
fn refuse_shared_names(map: &Fields<'_>, file: &ComposeFile) {
    let networks = file
        .networks
        .iter()
        .map(|(key, network)| (key, &network.name, network.external));
    let secrets = file.secrets.iter().map(|(key, secret)| {
        let external = secret.source == ObjectSource::External;
        (key, &secret.name, external)
    });
    let configs = file
        .configs
        .iter()
        .map(|(key, config)| (key, &config.name, config.content.is_none()));
    let mut made: Vec<(&str, String)> = Vec::new();
    let all = (networks.map(|one| ("networks", one)))
        .chain(secrets.map(|one| ("secrets", one)))
        .chain(configs.map(|one| ("configs", one)));
    for (section, (key, name, external)) in all {
        if external {
            continue;
        }
        let name = name.clone().unwrap_or_else(|| file.scoped(key));
        if made.contains(&(section, name.clone())) {
            let declared = map.get(section).and_then(|at| at.child(key));
            let at = declared
                .as_ref()
                .and_then(|at| at.child("name"))
                .or(declared.clone());
            if let Some(at) = at {
                at.refuse(format!(
                    "another one of the {section} has the name `{name}` already"
                ));
            }
        }
        made.push((section, name));
    }
}
