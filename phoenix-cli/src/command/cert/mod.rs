//! `phoenix cert`: certificates in files, guests and servers, and those of the site.

mod check;
mod describe;
mod issue;
mod list;
mod show;
mod source;
mod verify;

use std::path::Path;
use std::sync::Arc;

use phoenix_core::ground::{SecretBytes, causes};
use phoenix_core::pki::CertificateFile;

use super::Result;
use crate::arguments::{Cert, Global};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;

pub(super) use describe::hexadecimal;
pub(crate) use describe::{Described, Description};
#[cfg(test)]
pub(crate) use describe::{NameCheck, Verdict};
pub(crate) use verify::Checked;

/// Carries out what `command` asks for.
pub(super) fn cert(global: &Global, printer: &Arc<Printer>, command: &Cert) -> Result {
    match command {
        Cert::List => list::list(global, printer),
        Cert::Show(show) => show::show(global, printer, show),
        Cert::Verify(verify) => verify::verify(printer, verify),
        Cert::Check(check) => check::check(global, printer, check),
        Cert::Issue(issue) => issue::issue(printer, issue),
    }
}

/// The certificates in a local file, or what is wrong with it.
pub(super) fn read(file: &Path) -> std::result::Result<CertificateFile, String> {
    // There may be a key in it.
    let content = std::fs::read(file)
        .map(SecretBytes::new)
        .map_err(|error| error.to_string())?;
    CertificateFile::read(content.expose()).map_err(|error| causes(&error))
}

/// The certificates in the file that `--ca` names.
fn trusted(file: Option<&Path>) -> std::result::Result<Option<CertificateFile>, CommandError> {
    file.map(|file| {
        read(file).map_err(|problem| {
            CommandError::new(Exit::Usage, format!("{}: {problem}", file.display()))
                .hint("--ca wants a PEM or DER file with the roots to trust")
        })
    })
    .transpose()
}
