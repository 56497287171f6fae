//! The compose files that a command names, and the variables they are read with.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use phoenix_core::ground::causes;
use phoenix_core::stack::{Compat, ComposeFile, Dialect, LoadOptions, read_variables};

use crate::arguments::{CompatName, DialectName, StackSource, stack_name};
use crate::error::{self, CommandError, STANDARD_INPUT};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render::Severity;

type Result<T> = std::result::Result<T, CommandError>;

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::new(Exit::Usage, message)
}

/// The stack that `source` declares; its warnings are told.
pub(super) fn load(source: &StackSource, printer: &Printer) -> Result<ComposeFile> {
    let dialect = match source.dialect {
        DialectName::Swarm => Dialect::Swarm,
        DialectName::Compose => Dialect::Compose,
    };
    let compat = match source.compat {
        CompatName::Phoenix => Compat::Phoenix,
        CompatName::Docker => Compat::Docker,
    };
    if dialect == Dialect::Compose && compat == Compat::Docker {
        let message = "--compat docker is about `docker stack deploy`, which reads --dialect swarm";
        return Err(usage(message));
    }
    if dialect == Dialect::Swarm && !source.profile.is_empty() {
        return Err(usage("only files of --dialect compose have profiles"));
    }
    let (paths, name) = named(source)?;
    let options = LoadOptions::default()
        .with_dialect(dialect)
        .with_compat(compat)
        .with_variables(variables(source, dialect)?)
        .with_profiles(source.profile.clone());
    let texts = read(paths)?;
    let files: Vec<(&Path, &str)> = texts
        .iter()
        .map(|(path, text)| (path.as_path(), text.as_str()))
        .collect();
    let input = files
        .iter()
        .find(|(path, _)| *path == Path::new(STANDARD_INPUT))
        .map(|(_, text)| *text);
    let refused = |problems| {
        CommandError::of_problems(problems)
            .because("the stack's files cannot be used")
            .with_input(input)
    };
    let name = match name {
        Some(name) => name,
        None => ComposeFile::declared_name(&files, &options)
            .map_err(|problem| refused(vec![problem]))?
            .ok_or_else(|| nameless(dialect))?,
    };
    if let Err(rule) = stack_name(&name) {
        return Err(usage(format!(
            "{name:?} cannot be the stack's name: {rule}"
        )));
    }
    let file = ComposeFile::parse_files(&files, &name, &options).map_err(|problems| {
        let told = refused(problems.0.clone());
        match unread_variables(source, &files) {
            Some((path, more)) if helps(&more, &options, &files, &name, problems.0.len()) => {
                told.hint(format!("--env-file {} gives variables", path.display()))
            }
            _ => told,
        }
    })?;
    if !file.warnings().is_empty() {
        let layout = printer.err_layout();
        let warnings = file.warnings();
        printer.err(&error::problems(layout, Severity::Warning, warnings, input));
    }
    Ok(file)
}

/// The files, and the name where one is given.
fn named(source: &StackSource) -> Result<(&[PathBuf], Option<String>)> {
    if source.compose_files.is_empty() {
        return Ok((&source.words, source.name.clone()));
    }
    let name = match (source.words.as_slice(), &source.name) {
        ([], name) => name.clone(),
        ([word], None) => Some(word.to_string_lossy().into_owned()),
        _ => {
            return Err(usage(
                "with -c FILE the stack's name is given once, and nothing else",
            ));
        }
    };
    Ok((&source.compose_files, name))
}

fn nameless(dialect: Dialect) -> CommandError {
    let told = usage("the stack has no name: give one with --name NAME");
    match dialect {
        Dialect::Compose => told.hint("`name` at the top of a compose file will do, too"),
        _ => told,
    }
}

/// The texts of the files, `-` among them under a name of its own.
fn read(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let standard = |path: &&PathBuf| path.as_path() == Path::new("-");
    if paths.iter().filter(standard).count() > 1 {
        return Err(usage("standard input can be read once"));
    }
    let read = |path: &PathBuf| {
        let (path, text) = if standard(&path) {
            (
                PathBuf::from(STANDARD_INPUT),
                io::read_to_string(io::stdin()),
            )
        } else {
            (path.clone(), std::fs::read_to_string(path))
        };
        match text {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(usage(format!("{} cannot be read: {error}", path.display()))),
        }
    };
    paths.iter().map(read).collect()
}

/// The variables of the files that were named, and of the environment of this process.
fn variables(source: &StackSource, dialect: Dialect) -> Result<BTreeMap<String, String>> {
    // What is no text cannot stand in a file either.
    let own: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut variables = BTreeMap::new();
    for path in &source.env_file {
        let cannot = |error: &dyn std::error::Error| {
            usage(format!("--env-file {}: {}", path.display(), causes(error)))
        };
        let content = std::fs::read(path).map_err(|error| cannot(&error))?;
        let read = read_variables(&content, dialect, &own).map_err(|error| cannot(&error))?;
        variables.extend(read);
    }
    variables.extend(own);
    Ok(variables)
}

/// The `.env` beside the first file, which `docker stack deploy` does not read either, and what is
/// in it; none where it is read, or files of variables are named.
fn unread_variables(
    source: &StackSource,
    files: &[(&Path, &str)],
) -> Option<(PathBuf, BTreeMap<String, String>)> {
    if source.dialect != DialectName::Swarm || !source.env_file.is_empty() {
        return None;
    }
    let path = files.first()?.0.with_file_name(".env");
    let content = std::fs::read(&path).ok()?;
    let read = read_variables(&content, Dialect::Swarm, &BTreeMap::new()).ok()?;
    Some((path, read))
}

/// Whether there are fewer problems than so many with `more` variables.
fn helps(
    more: &BTreeMap<String, String>,
    options: &LoadOptions,
    files: &[(&Path, &str)],
    name: &str,
    problems: usize,
) -> bool {
    let mut variables = more.clone();
    variables.extend(options.variables.clone());
    let options = options.clone().with_variables(variables);
    match ComposeFile::parse_files(files, name, &options) {
        Ok(_) => true,
        Err(left) => left.0.len() < problems,
    }
}
