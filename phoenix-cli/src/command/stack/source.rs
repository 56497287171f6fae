//! The compose files that a command names, and the variables they are read with.

use std::collections::BTreeMap;

use phoenix_core::ground::causes;
use phoenix_core::stack::{Compat, ComposeFile, Dialect, LoadOptions, read_variables};

use crate::arguments::{CompatName, DialectName, StackSource};
use crate::error::{self, CommandError};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render::Severity;

/// The stack that `source` declares; its warnings are told.
pub(super) fn load(
    source: &StackSource,
    printer: &Printer,
) -> std::result::Result<ComposeFile, CommandError> {
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
        return Err(CommandError::new(Exit::Usage, message));
    }
    if dialect == Dialect::Swarm && !source.profile.is_empty() {
        let message = "only files of --dialect compose have profiles";
        return Err(CommandError::new(Exit::Usage, message));
    }
    let options = LoadOptions::default()
        .with_dialect(dialect)
        .with_compat(compat)
        .with_variables(variables(source, dialect)?)
        .with_profiles(source.profile.clone());
    let file =
        ComposeFile::load_files(&source.files, &source.name, &options).map_err(|problems| {
            CommandError::of_problems(problems.0).because("the stack's files cannot be used")
        })?;
    if !file.warnings().is_empty() {
        let layout = printer.err_layout();
        printer.err(&error::problems(layout, Severity::Warning, file.warnings()));
    }
    Ok(file)
}

/// The variables of the files that were named, and of the environment of this process.
fn variables(
    source: &StackSource,
    dialect: Dialect,
) -> std::result::Result<BTreeMap<String, String>, CommandError> {
    // What is no text cannot stand in a file either.
    let own: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut variables = BTreeMap::new();
    for path in &source.env_file {
        let cannot = |error: &dyn std::error::Error| {
            let what = format!("{}: {}", path.display(), causes(error));
            CommandError::new(Exit::Usage, what)
        };
        let content = std::fs::read(path).map_err(|error| cannot(&error))?;
        let read = read_variables(&content, dialect, &own).map_err(|error| cannot(&error))?;
        variables.extend(read);
    }
    variables.extend(own);
    Ok(variables)
}
