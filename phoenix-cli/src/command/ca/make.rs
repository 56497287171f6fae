//! `phoenix ca init`, `import`, `rotate` and `reencrypt`: what makes keys or writes them.

use std::path::Path;
use std::time::Duration;

use phoenix_core::ground::SecretBytes;
use phoenix_core::pki::{CaError, CaParameters, EmbeddedCa, ImportedCa};
use time::OffsetDateTime;

use super::super::Result;
use super::{Overview, Place, refused, secret};
use crate::arguments::{CaImport, CaInit, CaReencrypt, CaRotate, Global};
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;

/// Of a CA that no site declares: as a site's, when that does not say otherwise.
const NAME: &str = "Phoenix CA";
const DAY: Duration = Duration::from_secs(86_400);
const ROOT_DAYS: u32 = 3650;
const INTERMEDIATE_DAYS: u32 = 1825;

/// Parameters of a CA of which nothing is declared.
pub(in super::super) fn usual_parameters() -> std::result::Result<CaParameters, CaError> {
    CaParameters::new(
        NAME,
        DAY * ROOT_DAYS,
        DAY * INTERMEDIATE_DAYS,
        phoenix_core::pki::KeyType::default(),
    )
}

/// Makes a CA where there is none.
pub(super) fn init(global: &Global, printer: &Printer, arguments: &CaInit) -> Result {
    let place = Place::new(global, &arguments.place)?;
    let passphrase = place.passphrase(printer, &arguments.passphrase)?;
    let there = |ca: &EmbeddedCa| {
        let message = format!(
            "{} holds a CA already ({})",
            place.directory.display(),
            ca.root().subject
        );
        CommandError::new(Exit::Failed, message).hint(
            "`phoenix ca show` shows it, `phoenix ca rotate` makes another intermediate; for \
             another root choose another directory",
        )
    };
    if let Some(ca) = EmbeddedCa::observe(&place.directory).map_err(|error| refused(&error))? {
        return Err(there(&ca));
    }
    let usual = usual_parameters().map_err(|error| refused(&error))?;
    let (common_name, root, intermediate, key_type) = match &place.declared {
        Some(declared) => (
            declared.common_name.clone(),
            declared.root_lifetime,
            declared.intermediate_lifetime,
            declared.key_type,
        ),
        None => (
            usual.common_name,
            usual.root_lifetime,
            usual.intermediate_lifetime,
            usual.key_type,
        ),
    };
    let root = arguments.root_lifetime.unwrap_or(root);
    let parameters = CaParameters::new(
        arguments.cn.clone().unwrap_or(common_name),
        root,
        // One that was not asked for follows a shorter root.
        arguments
            .intermediate_lifetime
            .unwrap_or(intermediate.min(root)),
        arguments.key.unwrap_or(key_type),
    )
    .map_err(|error| CommandError::from_error(Exit::Usage, &error))?
    .with_passphrase(passphrase);
    let (ca, created) = EmbeddedCa::open_or_create(&place.directory, &parameters)
        .map_err(|error| refused(&error))?;
    if !created {
        return Err(there(&ca));
    }
    let done = format!(
        "Made a CA in {}: it holds the root's key, so back it up and keep it to yourself.\n\n",
        escape::line(&place.directory.display().to_string())
    );
    Overview::new(&ca, false, OffsetDateTime::now_utc())?.print(printer, &done);
    Ok(Exit::Success)
}

/// Brings in a CA from elsewhere.
pub(super) fn import(global: &Global, printer: &Printer, arguments: &CaImport) -> Result {
    let place = Place::new(global, &arguments.place)?;
    let passphrase = place.passphrase(printer, &arguments.passphrase)?;
    let imported = ImportedCa {
        root_pem: read(&arguments.root)?,
        root_key: match &arguments.root_key {
            Some(file) => Some(SecretBytes::new(read(file)?)),
            None => None,
        },
        intermediate_pem: read(&arguments.intermediate)?,
        intermediate_key: SecretBytes::new(read(&arguments.intermediate_key)?),
        passphrase: secret(
            printer,
            arguments.input_passphrase_file.as_deref(),
            arguments.input_passphrase_env.as_deref(),
        )?,
    };
    let ca =
        EmbeddedCa::import(&place.directory, &imported, passphrase.as_ref()).map_err(|error| {
            let needed = matches!(
                &error,
                CaError::Key {
                    source: phoenix_core::pki::KeyError::PassphraseNeeded,
                    ..
                }
            );
            if needed {
                CommandError::from_error(Exit::Failed, &error).hint(
                    "name the passphrase of the given keys with --input-passphrase-file or \
                     --input-passphrase-env",
                )
            } else {
                refused(&error)
            }
        })?;
    let done = format!(
        "Imported a CA into {}{}.\n\n",
        escape::line(&place.directory.display().to_string()),
        match ca.has_root_key() {
            true => ": it holds the root's key, so back it up and keep it to yourself",
            false => " without its root's key, which is needed to make another intermediate",
        }
    );
    Overview::new(&ca, false, OffsetDateTime::now_utc())?.print(printer, &done);
    Ok(Exit::Success)
}

fn read(file: &Path) -> std::result::Result<Vec<u8>, CommandError> {
    std::fs::read(file).map_err(|error| {
        CommandError::new(
            Exit::Failed,
            format!("cannot read {}: {error}", file.display()),
        )
    })
}

/// Makes another intermediate.
pub(super) fn rotate(global: &Global, printer: &Printer, arguments: &CaRotate) -> Result {
    let place = Place::new(global, &arguments.place)?;
    let passphrase = place.passphrase(printer, &arguments.passphrase)?;
    place.require()?;
    let ca = EmbeddedCa::rotate(&place.directory, arguments.lifetime, passphrase.as_ref())
        .map_err(|error| match &error {
            CaError::Parameters(_) | CaError::IntermediateOutlivesRoot { .. } => {
                CommandError::from_error(Exit::Usage, &error)
            }
            _ => refused(&error),
        })?;
    let done = format!(
        "{} signs from now on; what earlier intermediates have signed stays valid.\n\n",
        escape::line(&ca.intermediate().subject)
    );
    Overview::new(&ca, false, OffsetDateTime::now_utc())?.print(printer, &done);
    Ok(Exit::Success)
}

/// Encrypts the keys anew.
pub(super) fn reencrypt(global: &Global, printer: &Printer, arguments: &CaReencrypt) -> Result {
    let place = Place::new(global, &arguments.place)?;
    let old = place.passphrase(printer, &arguments.passphrase)?;
    let new = secret(
        printer,
        arguments.new_passphrase_file.as_deref(),
        arguments.new_passphrase_env.as_deref(),
    )?;
    place.require()?;
    EmbeddedCa::reencrypt(&place.directory, old.as_ref(), new.as_ref())
        .map_err(|error| refused(&error))?;
    let ca = place.open(new.as_ref())?;
    let done = match new {
        Some(_) => "All keys are encrypted with the new passphrase.\n\n",
        None => "All keys are in the clear.\n\n",
    };
    Overview::new(&ca, false, OffsetDateTime::now_utc())?.print(printer, done);
    Ok(Exit::Success)
}
