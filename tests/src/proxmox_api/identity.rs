//! The server's certificate: a root like `pve-root-ca.pem` and a leaf like `pve-ssl.pem`.
//!
//! Subjects, extensions and names follow the originals; keys are ECDSA where a real node has RSA.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

const FILES: [&str; 4] = [
    "pve-root-ca.pem",
    "pve-root-ca.key",
    "pve-ssl.pem",
    "pve-ssl.key",
];
const NAMES: &str = "pve-ssl.names";

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate library refused.
    #[error("the server's certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("the server's identity could not be kept in {path}")]
    Keep {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kept file is not what was written.
    #[error("the kept identity is not PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// TLS refused the pair.
    #[error("the server's certificate and key were refused")]
    Tls(#[from] rustls::Error),
}

/// A root and a leaf it signed.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) ca_pem: String,
    ca_key: String,
    leaf_pem: String,
    leaf_key: String,
}

impl Identity {
    /// The identity kept in `directory`, or a new one (kept there when a directory is given).
    /// A kept leaf for other names is replaced by one from the same root.
    pub(super) fn obtain(
        directory: Option<&Path>,
        node: &str,
        names: &[String],
    ) -> Result<Self, IdentityError> {
        let Some(directory) = directory else {
            return Self::create(node, names);
        };
        let keep = |source| IdentityError::Keep {
            path: directory.to_owned(),
            source,
        };
        let wanted = names.join("\n");
        if directory.join(FILES[0]).exists() {
            let read = |name: &str| fs::read_to_string(directory.join(name)).map_err(keep);
            let mut kept = Self {
                ca_pem: read(FILES[0])?,
                ca_key: read(FILES[1])?,
                leaf_pem: read(FILES[2])?,
                leaf_key: read(FILES[3])?,
            };
            if read(NAMES)? != wanted {
                (kept.leaf_pem, kept.leaf_key) = leaf(&kept.ca_pem, &kept.ca_key, node, names)?;
                kept.save(directory, &wanted).map_err(keep)?;
            }
            return Ok(kept);
        }
        let made = Self::create(node, names)?;
        made.save(directory, &wanted).map_err(keep)?;
        Ok(made)
    }

    fn create(node: &str, names: &[String]) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Proxmox Virtual Environment");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "PVE Cluster Manager CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
        params.not_after = params.not_before + Duration::days(3650);
        let key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&key)?.pem();
        let ca_key = key.serialize_pem();
        let (leaf_pem, leaf_key) = leaf(&ca_pem, &ca_key, node, names)?;
        Ok(Self {
            ca_pem,
            ca_key,
            leaf_pem,
            leaf_key,
        })
    }

    fn save(&self, directory: &Path, names: &str) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let contents = [&self.ca_pem, &self.ca_key, &self.leaf_pem, &self.leaf_key];
        for (name, content) in FILES.into_iter().zip(contents).skip(1) {
            write_private(&directory.join(name), content)?;
        }
        write_private(&directory.join(NAMES), names)?;
        // Last: its presence says that the others are whole.
        write_private(&directory.join(FILES[0]), &self.ca_pem)
    }

    /// SHA-256 of the leaf's DER, `AA:BB:..`, as the server shows it per node.
    pub(super) fn fingerprint(&self) -> Result<String, IdentityError> {
        let der = CertificateDer::from_pem_slice(self.leaf_pem.as_bytes())?;
        let hash = digest(&SHA256, &der);
        let pairs: Vec<String> = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Ok(pairs.join(":"))
    }

    /// TLS 1.2 and 1.3, HTTP/1.1 only, the leaf sent without its root.
    pub(super) fn tls(&self) -> Result<Arc<rustls::ServerConfig>, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(self.leaf_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.leaf_key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Arc::new(config))
    }
}

fn leaf(
    ca_pem: &str,
    ca_key: &str,
    node: &str,
    names: &[String],
) -> Result<(String, String), IdentityError> {
    let issuer = Issuer::from_ca_cert_pem(ca_pem, KeyPair::from_pem(ca_key)?)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "PVE Cluster Node");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Proxmox Virtual Environment");
    params.distinguished_name.push(DnType::CommonName, node);
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = params.not_before + Duration::days(730);
    let key = KeyPair::generate()?;
    let pem = params.signed_by(&key, &issuer)?.pem();
    Ok((pem, key.serialize_pem()))
}

fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_identity_stays_until_its_names_change() {
        let directory = tempfile::tempdir().expect("directory");
        let path = Some(directory.path());
        let names = ["127.0.0.1".to_owned(), "pve1".to_owned()];
        let first = Identity::obtain(path, "pve1", &names).expect("made");
        let again = Identity::obtain(path, "pve1", &names).expect("read");
        assert_eq!(
            first.fingerprint().expect("hash"),
            again.fingerprint().expect("hash")
        );
        let more = Identity::obtain(path, "pve1", &names[..1]).expect("leaf");
        assert_eq!(more.ca_pem, first.ca_pem);
        assert_ne!(
            more.fingerprint().expect("hash"),
            first.fingerprint().expect("hash")
        );
        assert_eq!(first.fingerprint().expect("hash").len(), 95);
        more.tls().expect("usable");
    }
}
