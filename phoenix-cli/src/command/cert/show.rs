//! `phoenix cert show`.

use std::sync::Arc;
use std::time::Duration;

use phoenix_core::ground::{Deadline, SecretBytes, causes};
use phoenix_core::pki::{CertificateFile, ServedError, peer_chain};
use time::OffsetDateTime;

use super::super::{Result, interrupted, open, until_interrupted, warn};
use super::describe::Description;
use super::source::Source;
use super::{read, trusted};
use crate::arguments::{CertShow, Global};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// How long a guest or a server may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Shows what certificates are somewhere. What they are worth does not count: whoever wants to
/// know by the exit code verifies them.
pub(super) fn show(global: &Global, printer: &Arc<Printer>, arguments: &CertShow) -> Result {
    let what = arguments.what.as_str();
    let source = Source::new(what);
    if arguments.server_name.is_some() && !matches!(source, Source::Endpoint { .. }) {
        let message = format!("--server-name is for a server, and {what} is none");
        return Err(CommandError::new(Exit::Usage, message)
            .hint("a server is named by HOST:PORT, or [ADDRESS]:PORT for IPv6"));
    }
    let trusted = trusted(arguments.ca.as_deref())?;
    let file = match &source {
        Source::File(path) => read(path).map_err(|problem| {
            CommandError::new(Exit::Failed, format!("{what}: {problem}")).hint(
                "a PEM or DER file is expected, or GUEST:/PATH of the site, or HOST:PORT of a \
                 TLS server",
            )
        }),
        Source::Guest { guest, path } => in_guest(global, printer, guest, path),
        Source::Endpoint { host, port } => {
            served(printer, host, *port, arguments.server_name.as_deref())
        }
    }?;
    let roots = match &trusted {
        Some(trusted) => trusted
            .certificates()
            .iter()
            .map(|root| root.der().clone())
            .collect(),
        None => file.roots(),
    };
    let mut description = Description::new(what, &file, &roots, OffsetDateTime::now_utc());
    if let Source::Endpoint { host, .. } = &source {
        let name = arguments.server_name.as_deref().unwrap_or(host);
        description = description.asked_for(name, &file);
    }
    if printer.json() {
        printer.json_line(&description);
    } else {
        let own = trusted.is_none();
        printer.out(&render::certificates(printer.layout(), &description, own));
    }
    Ok(Exit::Success)
}

fn in_guest(
    global: &Global,
    printer: &Arc<Printer>,
    guest: &str,
    path: &str,
) -> std::result::Result<CertificateFile, CommandError> {
    let session = open(global, printer, |site| {
        super::super::exec::known(site, guest)
    })?;
    warn(&session, printer);
    let content = until_interrupted(
        printer,
        session.read(guest, path, Deadline::after(PATIENCE)),
    )?
    .map_err(interrupted)?
    .map_err(|failure| {
        CommandError::of_failure(format!("{path} cannot be read in guest {guest}"), failure)
    })?
    .map(SecretBytes::new);
    let failed = |problem: &str| {
        CommandError::new(Exit::Failed, format!("{path} in guest {guest}: {problem}"))
    };
    let content = content.ok_or_else(|| failed("there is no such file"))?;
    CertificateFile::read(content.expose()).map_err(|error| failed(&causes(&error)))
}

fn served(
    printer: &Arc<Printer>,
    host: &str,
    port: u16,
    name: Option<&str>,
) -> std::result::Result<CertificateFile, CommandError> {
    let asked = peer_chain(host, port, name, Deadline::after(PATIENCE));
    let chain = until_interrupted(printer, asked)?
        .map_err(interrupted)?
        .map_err(|error| {
            let exit = match &error {
                ServedError::ServerName { .. } => Exit::Usage,
                ServedError::Connect { .. } | ServedError::Elapsed { .. } => Exit::Unreachable,
                _ => Exit::Failed,
            };
            let said = CommandError::from_error(exit, &error);
            match &error {
                ServedError::Handshake { .. } => said
                    .hint("does it speak TLS, and know the name? --server-name asks for another"),
                _ => said,
            }
        })?;
    CertificateFile::of(chain).map_err(|error| CommandError::from_error(Exit::Failed, &error))
}
