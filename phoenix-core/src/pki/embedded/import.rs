//! A CA that was made elsewhere.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::error::CaError;
use super::files::{
    NewFile, Place, ROOT, ROOT_KEY, certificate, first_entry, parse_key, put_directory,
};
use super::{EmbeddedCa, check_ca, check_time, is_signed};
use crate::ground::SecretBytes;
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::observed::ObservedCertificate;
use crate::pki::request::{CertificateRequest, KeyType, Profile};
use crate::pki::template::{Validity, leaf_params};
use crate::pki::{pem, stored_key};

/// A root and an intermediate from elsewhere, as PEM.
///
/// Keys are PKCS#8, SEC1 or PKCS#1; PKCS#8 may be encrypted (PBES2). `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct ImportedCa {
    /// The root's certificate.
    pub root_pem: Vec<u8>,
    /// The root's key. Without it no further intermediate can be made.
    pub root_key: Option<SecretBytes>,
    /// The certificate of the intermediate that is to sign.
    pub intermediate_pem: Vec<u8>,
    /// Its key.
    pub intermediate_key: SecretBytes,
    /// What those of the keys are encrypted with that are.
    pub passphrase: Option<SecretBytes>,
}

/// [`EmbeddedCa::import_at`].
pub(super) fn import(
    directory: &Path,
    imported: &ImportedCa,
    passphrase: Option<&SecretBytes>,
    now: OffsetDateTime,
) -> Result<EmbeddedCa, CaError> {
    let occupied = |found| CaError::Occupied {
        directory: directory.to_owned(),
        found,
    };
    if directory.exists()
        && let Some(found) = first_entry(directory)?
    {
        return Err(occupied(found));
    }
    let files = check(imported, passphrase, now)?;
    if !put_directory(directory, &files)? {
        return Err(occupied(ROOT.to_owned()));
    }
    EmbeddedCa::observe_with_at(directory, passphrase, now)?
        .ok_or_else(|| occupied(ROOT.to_owned()))
}

/// The files of the CA, when it is one that can be used.
fn check(
    imported: &ImportedCa,
    passphrase: Option<&SecretBytes>,
    now: OffsetDateTime,
) -> Result<Vec<NewFile>, CaError> {
    let [root_path, root_key_path, path, key_path] = [
        "the given root",
        "the given root's key",
        "the given intermediate",
        "the given intermediate's key",
    ]
    .map(Path::new);
    let unfit = |path: &Path, problem| CaError::Unfit {
        path: path.to_owned(),
        problem,
    };
    let (root_der, root) = certificate(root_path, &imported.root_pem)?;
    let (der, intermediate) = certificate(path, &imported.intermediate_pem)?;
    check_ca(root_path, &root)?;
    check_ca(path, &intermediate)?;
    if !root.is_self_issued() || !is_signed(root_path, &root_der, &root_der)? {
        return Err(unfit(root_path, "is not signed with its own key"));
    }
    if root.fingerprint == intermediate.fingerprint {
        return Err(unfit(
            path,
            "is the root: leaves are signed by an intermediate below it",
        ));
    }
    if !intermediate.names_issuer(&root) || !is_signed(path, &der, &root_der)? {
        return Err(unfit(
            path,
            "is not signed by the given root, or does not name its key",
        ));
    }
    if root.path_length == Some(0) {
        return Err(unfit(
            root_path,
            "has path length 0 and allows no intermediate",
        ));
    }
    check_time(root_path, &root, now)?;
    check_time(path, &intermediate, now)?;
    let key_of = |path: &Path, text, certificate: &ObservedCertificate, name: &str| {
        let key = parse_key(path, text, imported.passphrase.as_ref())?;
        if key.public_key() != certificate.public_key {
            return Err(CaError::KeyMismatch {
                key: path.to_owned(),
                certificate: name.to_owned(),
            });
        }
        Ok(key)
    };
    let key = key_of(
        key_path,
        &imported.intermediate_key,
        &intermediate,
        "the given intermediate",
    )?;
    let stored = |key: &PrivateKey| {
        stored_key::write(key, passphrase)
            .map_err(IssueError::Key)
            .map_err(CaError::Create)
    };
    let place = Place::new(1);
    let mut files: Vec<NewFile> = vec![
        (place.key, stored(&key)?, 0o600),
        (
            place.certificate,
            pem::encode_certificate(&der).into(),
            0o644,
        ),
        (
            ROOT.to_owned(),
            pem::encode_certificate(&root_der).into(),
            0o644,
        ),
    ];
    if let Some(text) = &imported.root_key {
        let key = key_of(root_key_path, text, &root, "the given root")?;
        files.push((ROOT_KEY.to_owned(), stored(&key)?, 0o600));
    }
    try_signing(path, &der, &intermediate, key, now)?;
    Ok(files)
}

/// Signs a leaf that nobody gets: a foreign name may be one that cannot be written as it is in
/// the intermediate's certificate.
fn try_signing(
    path: &Path,
    der: &CertificateDer<'static>,
    intermediate: &ObservedCertificate,
    key: PrivateKey,
    now: OffsetDateTime,
) -> Result<(), CaError> {
    let unfit = || CaError::Unfit {
        path: path.to_owned(),
        problem: "has a name or key that this program cannot sign under",
    };
    let request = CertificateRequest::new(
        "trial",
        Profile::Client,
        Vec::new(),
        std::time::Duration::from_secs(60),
        KeyType::EcdsaP256,
    )
    .map_err(CaError::Parameters)?;
    let leaf_key = PrivateKey::generate(KeyType::EcdsaP256)
        .map_err(IssueError::Key)
        .map_err(CaError::Create)?;
    let issuer = rcgen::Issuer::from_ca_cert_der(der, key).map_err(|_| unfit())?;
    let leaf = leaf_params(
        &request,
        &Validity::new(now, request.lifetime()),
        intermediate.not_before,
    )
    .map_err(CaError::Create)?
    .signed_by(leaf_key.pair(), &issuer)
    .map_err(|_| unfit())?;
    let observed = ObservedCertificate::from_der(leaf.der()).map_err(|_| unfit())?;
    if !observed.names_issuer(intermediate) || !is_signed(path, leaf.der(), der)? {
        return Err(unfit());
    }
    Ok(())
}
