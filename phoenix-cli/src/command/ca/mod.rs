//! `phoenix ca`: an embedded CA in a directory, a site's or any other.

mod make;
mod overview;
mod revoke;

use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use phoenix_core::ground::SecretBytes;
use phoenix_core::pki::{EmbeddedCa, KeyError};
use phoenix_core::site::{CertificateAuthority, EmbeddedAuthority, ValueSource};

use super::{Result, load, site_file};
use crate::arguments::{Ca, CaPlace, Global, PassphraseSource};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

pub(super) use make::usual_parameters;
pub(crate) use overview::{AuthorityKey, CaCertificate, Overview};

/// Carries out what `command` asks for.
pub(super) fn ca(global: &Global, printer: &Printer, command: &Ca) -> Result {
    match command {
        Ca::Init(init) => make::init(global, printer, init),
        Ca::Show(show) => overview::show(global, printer, show),
        Ca::Import(import) => make::import(global, printer, import),
        Ca::Export(export) => overview::export(global, printer, export),
        Ca::Rotate(rotate) => make::rotate(global, printer, rotate),
        Ca::Reencrypt(reencrypt) => make::reencrypt(global, printer, reencrypt),
        Ca::Revoke(revoke) => revoke::revoke(global, printer, revoke),
        Ca::Crl(crl) => revoke::crl(global, printer, crl),
    }
}

/// A CA's directory, and how a site declares it when it is the site's.
struct Place {
    directory: PathBuf,
    declared: Option<EmbeddedAuthority>,
}

impl Place {
    /// The directory that was named, or that of the site's own CA.
    fn new(global: &Global, place: &CaPlace) -> std::result::Result<Self, CommandError> {
        if let Some(directory) = &place.directory {
            return Ok(Self {
                directory: directory.clone(),
                declared: None,
            });
        }
        if site_file(global).is_err() {
            return Err(CommandError::new(
                Exit::Usage,
                "which CA is not known: there is no phoenix.yaml here or above",
            )
            .hint("name the CA's directory with --ca DIR, or the site file with --config FILE"));
        }
        match load(global)?.site.ca {
            CertificateAuthority::Embedded(declared) => Ok(Self {
                directory: declared.directory.clone(),
                declared: Some(declared),
            }),
            _ => Err(CommandError::new(
                Exit::Usage,
                "the site's CA is a server, and none that Phoenix keeps",
            )
            .hint("name the directory of another CA with --ca DIR")),
        }
    }

    /// What the keys are encrypted with, when they are: what was named, or what the site declares.
    fn passphrase(
        &self,
        printer: &Printer,
        named: &PassphraseSource,
    ) -> std::result::Result<Option<SecretBytes>, CommandError> {
        let given = passphrase(printer, named)?;
        if given.is_some() {
            return Ok(given);
        }
        let declared = self.declared.as_ref();
        match declared.and_then(|declared| declared.passphrase.as_ref()) {
            None => Ok(None),
            Some(ValueSource::File(file)) => from_file(printer, file).map(Some),
            Some(ValueSource::Environment(variable)) => from_environment(variable).map(Some),
            Some(_) => Err(CommandError::new(
                Exit::Usage,
                "the site's passphrase comes from a place that is not known here",
            )
            .hint("name it with --passphrase-file or --passphrase-env")),
        }
    }

    /// The CA, which is there.
    fn open(
        &self,
        passphrase: Option<&SecretBytes>,
    ) -> std::result::Result<EmbeddedCa, CommandError> {
        EmbeddedCa::observe_with(&self.directory, passphrase)
            .map_err(|error| refused(&error))?
            .ok_or_else(|| self.absent())
    }

    /// Refuses a directory without any CA. One that cannot be used is left to what uses it.
    fn require(&self) -> std::result::Result<(), CommandError> {
        match EmbeddedCa::observe(&self.directory) {
            Ok(None) => Err(self.absent()),
            _ => Ok(()),
        }
    }

    fn absent(&self) -> CommandError {
        CommandError::new(
            Exit::Failed,
            format!("there is no CA in {}", self.directory.display()),
        )
        .hint("`phoenix ca init` makes one, `phoenix ca import` brings one from elsewhere")
    }
}

/// The passphrase that was named on the command line, if any.
pub(super) fn passphrase(
    printer: &Printer,
    named: &PassphraseSource,
) -> std::result::Result<Option<SecretBytes>, CommandError> {
    secret(
        printer,
        named.passphrase_file.as_deref(),
        named.passphrase_variable.as_deref(),
    )
}

/// What is in a file or an environment variable.
fn secret(
    printer: &Printer,
    file: Option<&Path>,
    variable: Option<&str>,
) -> std::result::Result<Option<SecretBytes>, CommandError> {
    match (file, variable) {
        (Some(file), _) => from_file(printer, file).map(Some),
        (None, Some(variable)) => from_environment(variable).map(Some),
        (None, None) => Ok(None),
    }
}

fn from_file(printer: &Printer, file: &Path) -> std::result::Result<SecretBytes, CommandError> {
    let content = std::fs::read(file).map(SecretBytes::new).map_err(|error| {
        CommandError::new(
            Exit::Usage,
            format!(
                "the passphrase in {} cannot be read: {error}",
                file.display()
            ),
        )
    })?;
    if let Ok(metadata) = file.metadata()
        && metadata.is_file()
        && metadata.permissions().mode() & 0o077 != 0
    {
        let message = format!(
            "{} holds a passphrase and has mode {:04o}: run chmod go= on it",
            file.display(),
            metadata.permissions().mode() & 0o7777
        );
        printer.err(&render::warning(printer.err_layout(), &message));
    }
    without_end(&content, &file.display().to_string())
}

fn from_environment(variable: &str) -> std::result::Result<SecretBytes, CommandError> {
    let content = std::env::var(variable).map_err(|_| {
        CommandError::new(
            Exit::Usage,
            format!("the environment variable {variable} does not hold a passphrase"),
        )
    })?;
    without_end(&SecretBytes::from(content), variable)
}

/// A passphrase as a site takes it, too: without the white space that ends a file.
fn without_end(
    content: &SecretBytes,
    place: &str,
) -> std::result::Result<SecretBytes, CommandError> {
    let trimmed = content.expose().trim_ascii_end();
    if trimmed.is_empty() {
        let message = format!("{place} holds no passphrase: it is empty");
        return Err(CommandError::new(Exit::Usage, message));
    }
    Ok(SecretBytes::new(trimmed.to_vec()))
}

/// Why a CA could not be used, with what to do about its passphrase.
pub(super) fn refused(error: &(dyn Error + 'static)) -> CommandError {
    let said = CommandError::from_error(Exit::Failed, error);
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(KeyError::PassphraseNeeded) = one.downcast_ref() {
            return said.hint("name its passphrase with --passphrase-file or --passphrase-env");
        }
        cause = one.source();
    }
    said
}
