//! Another intermediate below the same root, and another passphrase for the keys.

use std::path::Path;
use std::time::Duration;

use rcgen::BasicConstraints;
use time::OffsetDateTime;

use super::create::intermediate_name;
use super::error::CaError;
use super::files::{
    INTERMEDIATES, Place, ROOT, ROOT_KEY, directory_name, io_error, make_directory, parse_key,
    put_directory, read_key, sync_directory,
};
use super::{EmbeddedCa, Inner};
use crate::ground::{SecretBytes, write_atomic};
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::observed::{ObservedCertificate, is_signed_by};
use crate::pki::request::{KeyType, check_lifetime};
use crate::pki::stored_key;
use crate::pki::template::{BACKDATE, ca_params};

/// [`EmbeddedCa::rotate_at`].
pub(super) fn rotate(
    directory: &Path,
    lifetime: Option<Duration>,
    passphrase: Option<&SecretBytes>,
    now: OffsetDateTime,
) -> Result<EmbeddedCa, CaError> {
    let missing = || CaError::Incomplete {
        directory: directory.to_owned(),
        missing: vec![ROOT.to_owned()],
    };
    // One that has expired can still be followed by another.
    let ca = EmbeddedCa::read(directory, passphrase)?.ok_or_else(missing)?;
    ca.check_root_time(now)?;
    let root_key_path = directory.join(ROOT_KEY);
    if !ca.inner.has_root_key {
        return Err(CaError::NoRootKey {
            path: root_key_path,
        });
    }
    let text = read_key(&root_key_path)?;
    let root_key = parse_key(&root_key_path, &text, passphrase)?;
    if ca.root().public_key != root_key.public_key() {
        return Err(CaError::KeyMismatch {
            key: root_key_path,
            certificate: ROOT.to_owned(),
        });
    }
    // The new key is not to be less protected than the one before it. And keys of which only
    // some open with the passphrase are found before there is another.
    ca.inner.current.open()?;
    if passphrase.is_some() {
        encrypt(directory, &ca, passphrase, passphrase)?;
    }
    let number = ca.intermediate_number() + 1;
    let made = make(&ca.inner, root_key, number, (lifetime, passphrase), now)?;

    let parent = directory.join(INTERMEDIATES);
    // An older CA has no such folder yet.
    make_directory(&parent)?;
    sync_directory(directory)?;
    let place = Place::new(number);
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let files = [
        (name(&place.key), made.key, 0o600),
        (name(&place.certificate), made.certificate, 0o644),
    ];
    put_directory(&parent.join(directory_name(number)), &files)?;
    EmbeddedCa::observe_with_at(directory, passphrase, now)?.ok_or_else(missing)
}

/// [`EmbeddedCa::reencrypt`].
pub(super) fn reencrypt(
    directory: &Path,
    old: Option<&SecretBytes>,
    new: Option<&SecretBytes>,
) -> Result<(), CaError> {
    let ca = EmbeddedCa::read(directory, old)?.ok_or_else(|| CaError::Incomplete {
        directory: directory.to_owned(),
        missing: vec![ROOT.to_owned()],
    })?;
    encrypt(directory, &ca, old, new)
}

/// Writes those keys of `ca` anew that are not encrypted with `new` yet.
fn encrypt(
    directory: &Path,
    ca: &EmbeddedCa,
    old: Option<&SecretBytes>,
    new: Option<&SecretBytes>,
) -> Result<(), CaError> {
    let root = ca
        .has_root_key()
        .then_some((ROOT_KEY, &ca.root().public_key, ROOT));
    let intermediates = ca.intermediates().map(|intermediate| {
        (
            intermediate.key_name(),
            &intermediate.certificate.public_key,
            intermediate.certificate_name(),
        )
    });
    let mut rewritten = Vec::new();
    for (name, public_key, certificate) in root.into_iter().chain(intermediates) {
        let path = directory.join(name);
        // That of an earlier intermediate may have been taken away.
        if path.symlink_metadata().is_err() {
            continue;
        }
        let text = read_key(&path)?;
        let encrypted = stored_key::is_encrypted(&text);
        // An interrupted attempt has written some of them already.
        if encrypted == new.is_some() && parse_key(&path, &text, new).is_ok() {
            continue;
        }
        let key = parse_key(&path, &text, old)?;
        if key.public_key() != public_key {
            return Err(CaError::KeyMismatch {
                key: path,
                certificate: certificate.to_owned(),
            });
        }
        let text = stored_key::write(&key, new)
            .map_err(IssueError::Key)
            .map_err(CaError::Create)?;
        rewritten.push((path, text));
    }
    for (path, text) in rewritten {
        write_atomic(&path, text.expose(), 0o600).map_err(io_error("write", &path))?;
    }
    Ok(())
}

struct Made {
    key: SecretBytes,
    certificate: SecretBytes,
}

/// The intermediate with this number, checked against the root.
fn make(
    ca: &Inner,
    root_key: PrivateKey,
    number: u32,
    (lifetime, passphrase): (Option<Duration>, Option<&SecretBytes>),
    now: OffsetDateTime,
) -> Result<Made, CaError> {
    let lifetime = lifetime_of(ca, lifetime, now)?;
    let current = &ca.current.certificate;
    // One of a kind that is imported but never made is followed by the next best.
    let key_type = current.key_type.unwrap_or(KeyType::EcdsaP384);
    let key = PrivateKey::generate(key_type)
        .map_err(IssueError::Key)
        .map_err(CaError::Create)?;
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca.root_der, root_key)
        .map_err(IssueError::Sign)
        .map_err(CaError::Create)?;
    let mut params = ca_params(
        &intermediate_name(
            ca.root.common_name.as_deref().unwrap_or("Phoenix"),
            number.max(2),
        ),
        BasicConstraints::Constrained(0),
        now,
        lifetime,
    )
    .map_err(CaError::Create)?;
    params.not_before = params.not_before.max(ca.root.not_before);
    let certificate = params
        .signed_by(key.pair(), &issuer)
        .map_err(IssueError::Sign)
        .map_err(CaError::Create)?;
    let unusable = |source| CaError::Certificate {
        path: Place::new(number).certificate.into(),
        source,
    };
    let observed = ObservedCertificate::from_der(certificate.der()).map_err(unusable)?;
    // The root may be a foreign one, with a name that cannot be written as it is there.
    if !observed.names_issuer(&ca.root)
        || !is_signed_by(certificate.der(), &ca.root_der).map_err(unusable)?
    {
        return Err(CaError::Unfit {
            path: ca.directory.join(ROOT),
            problem: "has a name or key that this program cannot sign under",
        });
    }
    Ok(Made {
        key: stored_key::write(&key, passphrase)
            .map_err(IssueError::Key)
            .map_err(CaError::Create)?,
        certificate: certificate.pem().into(),
    })
}

/// How long the next intermediate is valid: as long as it is asked for, or else as the current
/// one was, but never longer than the root.
fn lifetime_of(
    ca: &Inner,
    wanted: Option<Duration>,
    now: OffsetDateTime,
) -> Result<Duration, CaError> {
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    let root = Duration::try_from(ca.root.not_after - whole).unwrap_or_default();
    if let Some(wanted) = wanted {
        let wanted = check_lifetime(wanted).map_err(CaError::Parameters)?;
        if wanted > root {
            return Err(CaError::IntermediateOutlivesRoot {
                intermediate: wanted,
                root,
            });
        }
        return Ok(wanted);
    }
    let current = &ca.current.certificate;
    // What was issued at some time begins a little earlier.
    let spanned = current.not_after - current.not_before - BACKDATE;
    let lifetime = Duration::try_from(spanned).unwrap_or_default().min(root);
    check_lifetime(lifetime).map_err(CaError::Parameters)
}
