use std::path::Path;

use rustls_pki_types::{CertificateDer, UnixTime};
use time::macros::datetime;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    RevocationCheckDepth, RevocationOptionsBuilder,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::pki::{
    Bundle, CaParameters, CertificateRequest, Issuer, KeyType, Profile, RenewalReason, RenewalRule,
    renewal_reasons,
};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00.75 UTC);
const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn open(parent: &Path, key_type: KeyType) -> EmbeddedCa {
    let parameters = CaParameters::new("Test", 3650 * DAY, 1825 * DAY, key_type).expect("valid");
    let (ca, _) =
        EmbeddedCa::open_or_create_at(&parent.join("ca"), &parameters, NOW).expect("opened");
    ca
}

fn request() -> CertificateRequest {
    let sans = vec!["a.lan".parse().expect("a name")];
    CertificateRequest::new("a.lan", Profile::Server, sans, 90 * DAY, KeyType::EcdsaP256)
        .expect("valid")
}

fn issue(ca: &EmbeddedCa) -> (Bundle, Serial) {
    let bundle = ca.issue_at(&request(), NOW).expect("issued");
    let serial = bundle.leaf().serial.parse().expect("a serial number");
    (bundle, serial)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    pem::certificates(pem.as_bytes()).expect("PEM")
}

/// What webpki makes of `bundle` at `at` when it must look into `crl`.
fn verdict(bundle: &Bundle, crl: &Crl, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let list = CertRevocationList::from(BorrowedCertRevocationList::from_der(&crl.der)?);
    let lists = [&list];
    let revocation = RevocationOptionsBuilder::new(&lists)
        .expect("a list")
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let root = certificates(&bundle.root_pem());
    let anchor = webpki::anchor_from_trusted_cert(&root[0])?;
    let chain = certificates(&bundle.certificate_pem());
    let intermediates = certificates(&bundle.chain_pem());
    let seconds = u64::try_from(at.unix_timestamp()).expect("after 1970");
    EndEntityCert::try_from(&chain[0])?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::server_auth(),
            Some(revocation),
            None,
        )
        .map(drop)
}

#[test]
fn reasons_are_named_as_openssl_names_them() {
    for reason in RevocationReason::ALL {
        let name = reason.to_string();
        assert_eq!(name.parse(), Ok(reason));
        assert_eq!(name.to_ascii_lowercase().parse(), Ok(reason));
    }
    let error = "removeFromCRL".parse::<RevocationReason>();
    assert!(error.is_err_and(|error| error.to_string().contains("keyCompromise")));
}

#[test]
fn a_certificate_is_revoked_once_and_only_if_it_was_issued() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = open(parent.path(), KeyType::default());
    let (_, serial) = issue(&ca);
    let unknown: Serial = "1234".parse().expect("a serial number");
    let error = ca.revoke(&unknown, RevocationReason::default(), NOW);
    assert!(
        matches!(error, Err(RevokeError::Unknown { .. })),
        "{error:?}"
    );

    let entry = ca
        .revoke(&serial, RevocationReason::KeyCompromise, NOW)
        .expect("revoked");
    let at = datetime!(2026-03-01 12:00 UTC);
    let revocation = Revocation {
        reason: RevocationReason::KeyCompromise,
        at,
    };
    assert_eq!(entry.revoked, Some(revocation));
    assert_eq!(ca.inventory().expect("readable"), [entry]);

    let error = ca
        .revoke(&serial, RevocationReason::Superseded, NOW + DAY)
        .expect_err("again");
    assert_eq!(
        error.to_string(),
        format!("{serial} was revoked on 2026-03-01T12:00:00Z already (keyCompromise)")
    );
}

#[test]
fn of_two_that_revoke_at_once_one_succeeds() {
    let parent = tempfile::tempdir().expect("directory");
    let cas: Vec<_> = (0..4)
        .map(|_| open(parent.path(), KeyType::default()))
        .collect();
    let (_, serial) = issue(&cas[0]);
    let threads: Vec<_> = cas
        .into_iter()
        .map(|ca| {
            let serial = serial.clone();
            std::thread::spawn(move || ca.revoke(&serial, RevocationReason::default(), NOW).is_ok())
        })
        .collect();
    let succeeded = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .filter(|ok| *ok)
        .count();
    assert_eq!(succeeded, 1);
}

#[test]
fn a_list_refuses_what_was_revoked_and_nothing_else() {
    for key_type in [
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        let parent = tempfile::tempdir().expect("directory");
        let ca = open(parent.path(), key_type);
        assert_eq!(ca.crls(NOW, WEEK).expect("none issued"), []);
        let (good, _) = issue(&ca);
        let (bad, serial) = issue(&ca);
        let [before] = &ca.crls(NOW, WEEK).expect("signed")[..] else {
            panic!("one intermediate");
        };
        assert_eq!((before.number, before.revoked), (1, 0));
        assert_eq!(verdict(&good, before, NOW), Ok(()));
        assert_eq!(verdict(&bad, before, NOW), Ok(()));

        ca.revoke(&serial, RevocationReason::KeyCompromise, NOW)
            .expect("revoked");
        let [crl] = &ca.crls(NOW, WEEK).expect("signed")[..] else {
            panic!("one intermediate");
        };
        assert_eq!((crl.number, crl.revoked), (2, 1));
        assert_eq!(verdict(&good, crl, NOW), Ok(()), "{key_type}");
        assert_eq!(
            verdict(&bad, crl, NOW),
            Err(webpki::Error::CertRevoked),
            "{key_type}"
        );
        assert!(
            verdict(&good, crl, NOW + 8 * DAY).is_err(),
            "a list that is out of date"
        );
    }
}

#[test]
fn each_intermediate_tells_of_what_it_issued() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = open(parent.path(), KeyType::default());
    let (old, old_serial) = issue(&ca);
    let ca = EmbeddedCa::rotate_at(ca.directory(), None, None, NOW).expect("rotated");
    assert_eq!(
        ca.crls(NOW, WEEK).expect("signed").len(),
        1,
        "the new one issued nothing"
    );
    let (new, new_serial) = issue(&ca);
    ca.revoke(&old_serial, RevocationReason::Superseded, NOW)
        .expect("revoked");
    let crls = ca.crls(NOW, WEEK).expect("signed");
    assert_eq!(crls.len(), 2);
    assert_eq!(
        crls.iter().map(|crl| crl.number).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(
        verdict(&old, &crls[0], NOW),
        Err(webpki::Error::CertRevoked)
    );
    assert_eq!(verdict(&new, &crls[1], NOW), Ok(()));
    ca.revoke(&new_serial, RevocationReason::Superseded, NOW)
        .expect("revoked");
    let crls = ca.crls(NOW, WEEK).expect("signed");
    assert_eq!(
        verdict(&new, &crls[1], NOW),
        Err(webpki::Error::CertRevoked)
    );
}

#[test]
fn a_list_says_what_it_must() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = open(parent.path(), KeyType::default());
    let (_, first) = issue(&ca);
    let (_, second) = issue(&ca);
    ca.revoke(&first, RevocationReason::KeyCompromise, NOW)
        .expect("revoked");
    ca.revoke(&second, RevocationReason::Unspecified, NOW + DAY)
        .expect("revoked");
    assert!(matches!(
        ca.crls(NOW, Duration::from_millis(999)),
        Err(CrlError::NoTime)
    ));
    let mut crls = ca.crls(NOW + DAY, WEEK).expect("signed");
    let crl = crls.remove(0);
    assert!(crls.is_empty());
    let intermediate = certificates(&ca.intermediate_pem());
    let (_, signer) = x509_parser::parse_x509_certificate(&intermediate[0]).expect("parses");
    let (rest, list) = CertificateRevocationList::from_der(&crl.der).expect("parses");
    assert!(rest.is_empty());
    list.verify_signature(signer.public_key()).expect("signed");
    assert_eq!(list.issuer().as_raw(), signer.subject().as_raw());
    assert_eq!(list.issuer().to_string(), crl.issuer);
    let day = datetime!(2026-03-02 12:00 UTC);
    assert_eq!(list.last_update().to_datetime(), day);
    assert_eq!(
        list.next_update().map(|time| time.to_datetime()),
        Some(day + WEEK)
    );
    assert_eq!(list.crl_number().map(ToString::to_string), Some("1".into()));
    let key_id =
        list.extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            });
    assert_eq!(key_id, ca.intermediate().subject_key_id);
    let revoked: Vec<_> = list
        .iter_revoked_certificates()
        .map(|entry| {
            (
                hex::encode(entry.raw_serial()),
                entry.revocation_date.to_datetime(),
                // Absent rather than unspecified (RFC 5280 section 5.3.1).
                entry.reason_code().map(|(_, code)| code.0),
            )
        })
        .collect();
    assert_eq!(
        revoked,
        [
            (first.to_string(), datetime!(2026-03-01 12:00 UTC), Some(1)),
            (second.to_string(), day, None)
        ]
    );
    let pem = crl.pem();
    assert!(pem.starts_with("-----BEGIN X509 CRL-----\n"), "{pem}");
    let (_, read) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    assert_eq!(read.contents, crl.der);
}

#[test]
fn lists_have_numbers_that_only_grow() {
    let parent = tempfile::tempdir().expect("directory");
    for number in 1..=5 {
        // Opened anew each time, and with a clock that runs backwards.
        let ca = open(parent.path(), KeyType::default());
        issue(&ca);
        let at = NOW - time::Duration::SECOND * i32::try_from(number).expect("small");
        let crls = ca.crls(at, WEEK).expect("signed");
        assert_eq!(crls[0].number, number);
    }
}

#[test]
fn a_stored_certificate_that_was_revoked_is_due() {
    let parent = tempfile::tempdir().expect("directory");
    let ca = open(parent.path(), KeyType::default());
    let (bundle, serial) = issue(&ca);
    let (other, _) = issue(&ca);
    ca.revoke(&serial, RevocationReason::Superseded, NOW)
        .expect("revoked");
    let again = open(parent.path(), KeyType::default());
    let reasons = |bundle| {
        renewal_reasons(
            Ok(Some(bundle)),
            &request(),
            RenewalRule::TwoThirds,
            again.identity(),
            NOW,
        )
    };
    let at = datetime!(2026-03-01 12:00 UTC);
    assert_eq!(reasons(&bundle), [RenewalReason::Revoked { at }]);
    assert_eq!(
        reasons(&bundle)[0].to_string(),
        "revoked on 2026-03-01T12:00:00Z"
    );
    assert_eq!(reasons(&other), []);
}
