//! Another intermediate below the same root.

use std::path::Path;
use std::time::Duration;

use rcgen::BasicConstraints;
use time::OffsetDateTime;

use super::create::intermediate_name;
use super::error::CaError;
use super::files::{
    INTERMEDIATES, Place, ROOT_KEY, directory_name, make_directory, put_directory, read_key,
    sync_directory,
};
use super::{EmbeddedCa, Inner};
use crate::ground::SecretBytes;
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::observed::{ObservedCertificate, is_signed_by};
use crate::pki::request::{KeyType, check_lifetime};
use crate::pki::template::{BACKDATE, ca_params};

/// [`EmbeddedCa::rotate_at`].
pub(super) fn rotate(
    directory: &Path,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
) -> Result<EmbeddedCa, CaError> {
    let missing = || CaError::Incomplete {
        directory: directory.to_owned(),
        missing: vec![super::files::ROOT.to_owned()],
    };
    // One that has expired can still be followed by another.
    let ca = EmbeddedCa::read(directory)?.ok_or_else(missing)?;
    ca.check_root_time(now)?;
    let root_key_path = directory.join(ROOT_KEY);
    if !ca.inner.has_root_key {
        return Err(CaError::NoRootKey {
            path: root_key_path,
        });
    }
    let text = read_key(&root_key_path)?;
    let root_key = PrivateKey::from_pem(text.expose()).map_err(|source| CaError::Key {
        path: root_key_path,
        source,
    })?;
    let number = ca.intermediate_number() + 1;
    let made = make(&ca.inner, root_key, number, lifetime, now)?;

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
    EmbeddedCa::observe_at(directory, now)?.ok_or_else(missing)
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
    lifetime: Option<Duration>,
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
            path: ca.directory.join(super::files::ROOT),
            problem: "has a name or key that this program cannot sign under",
        });
    }
    Ok(Made {
        key: key.to_pem(),
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
