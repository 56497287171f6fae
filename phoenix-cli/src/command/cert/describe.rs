//! What is said about certificates, for people and for programs alike.

use phoenix_core::pki::{
    CertificateFile, HeldKey, HeldName, InspectedCertificate, Profile, Purpose, SubjectAltName,
    VerdictError,
};
use phoenix_core::sync::FORMAT_VERSION;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use time::OffsetDateTime;

/// The certificates of one place, described.
#[derive(Debug, Serialize)]
pub(crate) struct Description {
    pub(crate) format: u32,
    /// What was looked at, as it was named.
    pub(crate) source: String,
    pub(crate) certificates: Vec<Described>,
    pub(crate) key: HeldKey,
    /// The number of the first certificate, from 1, that did not issue the one before it.
    pub(crate) out_of_order: Option<usize>,
    pub(crate) verdicts: Vec<Verdict>,
    /// Whether the first certificate is valid for the name that a server was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<NameCheck>,
}

/// Whether a certificate is valid for a name.
#[derive(Debug, Serialize)]
pub(crate) struct NameCheck {
    pub(crate) name: String,
    pub(crate) holds: bool,
}

/// Whether the first certificate is good for a purpose.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) purpose: Purpose,
    pub(crate) holds: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    pub(crate) days_left: i64,
    pub(crate) names: Vec<HeldName>,
    pub(crate) profile: Option<Profile>,
    pub(crate) key: String,
    pub(crate) signature_algorithm: String,
    pub(crate) key_usages: Option<Vec<&'static str>>,
    pub(crate) extended_key_usages: Option<Vec<String>>,
    pub(crate) ca: Option<bool>,
    pub(crate) path_len: Option<u32>,
    pub(crate) version: u32,
    pub(crate) fingerprint_sha256: String,
    pub(crate) subject_key_id: Option<String>,
    pub(crate) authority_key_id: Option<String>,
}

impl Described {
    /// `certificate`, as it is at `now`.
    pub(crate) fn new(certificate: &InspectedCertificate, now: OffsetDateTime) -> Self {
        let observed = &certificate.observed;
        Self {
            subject: observed.subject.clone(),
            issuer: observed.issuer.clone(),
            serial: observed.serial.clone(),
            not_before: observed.not_before,
            not_after: observed.not_after,
            days_left: (observed.not_after - now).whole_days(),
            names: certificate.names.clone(),
            profile: observed.profile,
            key: certificate.key.clone(),
            signature_algorithm: certificate.signature_algorithm.clone(),
            key_usages: certificate.key_usages.clone(),
            extended_key_usages: certificate.extended_key_usages.clone(),
            ca: certificate.ca,
            path_len: certificate.path_len,
            version: certificate.version,
            fingerprint_sha256: observed.fingerprint_hex(),
            subject_key_id: observed.subject_key_id.as_deref().map(hexadecimal),
            authority_key_id: observed.authority_key_id.as_deref().map(hexadecimal),
        }
    }
}

pub(in super::super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Description {
    /// `file`, found at `source`, as it is at `now` to one who trusts `roots`.
    pub(crate) fn new(
        source: &str,
        file: &CertificateFile,
        roots: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Self {
        let verdicts = Purpose::ALL.into_iter().map(|purpose| {
            let verdict = file.verdict(purpose, roots, now);
            Verdict {
                purpose,
                holds: verdict.is_ok(),
                reason: verdict.err().map(|error| match error {
                    VerdictError::NoRoot => format!("{error}: name one with --ca"),
                    error => error.to_string(),
                }),
            }
        });
        Self {
            format: FORMAT_VERSION,
            source: source.to_owned(),
            certificates: file
                .certificates()
                .iter()
                .map(|certificate| Described::new(certificate, now))
                .collect(),
            key: file.key(),
            out_of_order: file.out_of_order().map(|index| index + 1),
            verdicts: verdicts.collect(),
            name: None,
        }
    }

    /// The same, and whether it is valid for `name`, which a server of `file` was asked for.
    pub(crate) fn asked_for(mut self, name: &str, file: &CertificateFile) -> Self {
        self.name = Some(NameCheck {
            name: name.to_owned(),
            holds: name
                .parse::<SubjectAltName>()
                .is_ok_and(|name| file.covers(&name)),
        });
        self
    }
}
