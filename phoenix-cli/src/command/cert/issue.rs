//! `phoenix cert issue`.
//!
//! The files are written whole under other names (`cert.pem.new`, …) first. Then `cert.pem` of
//! before is taken away, `ca.pem` and `key.pem` are put in place, and the new `cert.pem` last:
//! killed in between, there is no `cert.pem` at all, never one beside the key of another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use phoenix_core::pki::{Bundle, CertificateFile, CertificateRequest, EmbeddedCa};
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;
use time::OffsetDateTime;

use super::super::{Result, ca};
use super::describe::Described;
use crate::arguments::CertIssue;
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const CA: &str = "ca.pem";

/// Ends the name of a file that is not in its place yet.
const NEW: &str = ".new";

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    certificate: &'a Described,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    /// Whether the CA was made just now.
    ca_created: bool,
    root_fingerprint_sha256: String,
}

/// Issues a certificate and writes it with its key and root.
pub(super) fn issue(printer: &Printer, arguments: &CertIssue) -> Result {
    let request = CertificateRequest::new(
        &arguments.cn,
        arguments.profile,
        arguments.sans.clone(),
        arguments.lifetime,
        arguments.key,
    )
    .map_err(|error| {
        let refused = CommandError::from_error(Exit::Usage, &error);
        if arguments.sans.is_empty() {
            refused.hint("name what it is valid for with --san; it may be repeated")
        } else {
            refused
        }
    })?;
    let out = arguments.out.as_path();
    refuse_to_replace(out, arguments.force)?;
    refuse_the_cas_own(&arguments.ca, out)?;

    let passphrase = ca::passphrase(printer, &arguments.passphrase)?;
    let parameters = ca::usual_parameters()
        .map_err(|error| ca::refused(&error))?
        .with_passphrase(passphrase);
    let (ca, created) = EmbeddedCa::open_or_create(&arguments.ca, &parameters)
        .map_err(|error| ca::refused(&error))?;
    // A certificate knows whole seconds alone; 90 days of validity are 90 days left then.
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let bundle = ca
        .issue_at(&request, now)
        .map_err(|error| ca::refused(&error))?;
    write(&bundle, out).map_err(|(path, error)| {
        CommandError::new(
            Exit::Failed,
            format!("cannot write {}: {error}", path.display()),
        )
    })?;

    for warning in ca.warnings(now, request.lifetime()) {
        printer.err(&render::warning(printer.err_layout(), &warning));
    }
    if let Some(name) = request.uncovered_common_name() {
        let message = format!(
            "the common name {name} is none of the certificate's names, and clients look at \
             those alone: add --san {name} where that is one"
        );
        printer.err(&render::warning(printer.err_layout(), &message));
    }
    let issued = CertificateFile::of(bundle.chain_der())
        .map_err(|error| CommandError::from_error(Exit::Failed, &error))?;
    let certificate = Described::new(issued.leaf(), now);
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            certificate: &certificate,
            cert: out.join(CERT),
            key: out.join(KEY),
            ca: out.join(CA),
            ca_created: created,
            root_fingerprint_sha256: bundle.root().fingerprint_hex(),
        });
        return Ok(Exit::Success);
    }
    let mut text = String::new();
    if created {
        text.push_str(&format!(
            "Made a CA in {}: it holds the root's key, so back it up and keep it to yourself.\n",
            escape::line(&arguments.ca.display().to_string())
        ));
    }
    text.push_str(&render::described(printer.layout(), &certificate));
    let place = |name| escape::line(&out.join(name).display().to_string()).into_owned();
    text.push_str(&format!(
        "{}  the certificate, then the intermediate\n{}   its private key\n{}    the root, for \
         peers to trust\n",
        place(CERT),
        place(KEY),
        place(CA)
    ));
    printer.out(&text);
    Ok(Exit::Success)
}

fn refuse_to_replace(out: &Path, force: bool) -> std::result::Result<(), CommandError> {
    let present = |name: &&str| out.join(name).symlink_metadata().is_ok();
    let there: Vec<&str> = [CERT, KEY, CA].into_iter().filter(present).collect();
    if force || there.is_empty() {
        return Ok(());
    }
    let mut message = format!("{} holds {} already", out.display(), there.join(", "));
    if there.contains(&KEY) && !there.contains(&CERT) {
        message.push_str(", but no cert.pem: an earlier run was stopped half-way");
    }
    Err(CommandError::new(Exit::Usage, message).hint("--force replaces them"))
}

/// The directory of a CA holds nothing else.
fn refuse_the_cas_own(ca: &Path, out: &Path) -> std::result::Result<(), CommandError> {
    let resolved = |path: &Path| {
        std::path::absolute(path).and_then(|path| match path.exists() {
            true => path.canonicalize(),
            false => Ok(path),
        })
    };
    match (resolved(ca), resolved(out)) {
        (Ok(ca), Ok(out)) if ca == out => Err(CommandError::new(
            Exit::Usage,
            "--ca and --out are the same directory: the CA needs one of its own",
        )),
        _ => Ok(()),
    }
}

/// Writes a file that is not in its place yet. What a run that was killed left there goes.
fn stage(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The umask may have taken bits away; it can never have added any.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

fn write(bundle: &Bundle, out: &Path) -> std::result::Result<(), (PathBuf, io::Error)> {
    let at = |path: PathBuf| move |error| (path, error);
    fs::create_dir_all(out).map_err(at(out.to_owned()))?;
    let key = bundle.key_pem();
    let files: [(&str, &[u8], u32); 3] = [
        (CA, &bundle.root_pem().into_bytes(), 0o644),
        (KEY, key.expose(), 0o600),
        (CERT, &bundle.chain_pem().into_bytes(), 0o644),
    ];
    let new = |name: &str| out.join(format!("{name}{NEW}"));
    for (name, content, mode) in files {
        stage(&new(name), content, mode).map_err(at(new(name)))?;
    }
    let cert = out.join(CERT);
    match fs::remove_file(&cert) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((cert, error)),
        _ => {}
    }
    let settle = || File::open(out).and_then(|directory| directory.sync_all());
    settle().map_err(at(out.to_owned()))?;
    for (name, ..) in files {
        let path = out.join(name);
        fs::rename(new(name), &path).map_err(at(path))?;
        settle().map_err(at(out.to_owned()))?;
    }
    Ok(())
}
