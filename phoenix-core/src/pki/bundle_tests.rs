use std::time::Duration;

use time::macros::datetime;

use super::*;
use crate::pki::{CaParameters, CertificateRequest, EmbeddedCa, KeyType};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);

fn ca(key_type: KeyType) -> EmbeddedCa {
    let parent = tempfile::tempdir().expect("directory");
    let parameters =
        CaParameters::new("Phoenix Test", 3650 * DAY, 1825 * DAY, key_type).expect("valid");
    let directory = parent.path().join("ca");
    let (ca, _) = EmbeddedCa::open_or_create_at(&directory, &parameters, NOW).expect("created");
    ca
}

fn names(texts: &[&str]) -> Vec<SubjectAltName> {
    texts
        .iter()
        .map(|text| text.parse().expect("name"))
        .collect()
}

fn issue(
    ca: &EmbeddedCa,
    common_name: &str,
    profile: Profile,
    sans: &[&str],
    key: KeyType,
) -> Bundle {
    let request =
        CertificateRequest::new(common_name, profile, names(sans), 90 * DAY, key).expect("valid");
    ca.sign_at(&request, NOW).expect("issued")
}

fn simple(ca: &EmbeddedCa, profile: Profile) -> Bundle {
    issue(ca, "a.lan", profile, &["a.lan"], KeyType::EcdsaP256)
}

const SANS: [&str; 6] = [
    "a.site.lan",
    "*.apps.site.lan",
    "10.0.0.25",
    "fd00::25",
    "ops@site.lan",
    "spiffe://site.lan/a",
];

/// Whatever the keys of CA and leaf: good for its purposes and names, and for no others.
fn holds(ca: &EmbeddedCa, key_type: KeyType) {
    for profile in Profile::ALL {
        let bundle = issue(ca, "a.site.lan", profile, &SANS, key_type);
        let leaf = bundle.leaf();
        assert_eq!(leaf.common_name.as_deref(), Some("a.site.lan"));
        assert_eq!(leaf.sans, names(&SANS));
        assert_eq!(leaf.other_names, 0);
        assert_eq!(leaf.profile, Some(profile));
        assert_eq!(leaf.key_type, Some(key_type));
        assert_eq!(leaf.not_before, NOW - time::Duration::minutes(5));
        assert_eq!(leaf.not_after, NOW + 90 * DAY);
        assert!(!leaf.is_ca);
        assert!(leaf.names_issuer(ca.intermediate()));
        assert!(leaf.subject_key_id.is_some());
        assert_eq!(leaf.serial.len(), 32);

        for purpose in Profile::ALL {
            let wanted = (!purpose.is_server() || profile.is_server())
                && (!purpose.is_client() || profile.is_client());
            let checked = bundle.check(purpose, &names(&SANS), NOW);
            if wanted {
                checked.expect("good for its purpose");
            } else {
                assert!(
                    matches!(
                        checked,
                        Err(CheckError::Chain {
                            source: webpki::Error::RequiredEkuNotFoundContext(_),
                            ..
                        })
                    ),
                    "{profile} as {purpose}: {checked:?}"
                );
            }
        }
        bundle
            .check(profile, &names(&["x.apps.site.lan"]), NOW)
            .expect("the wildcard covers it");
        for other in [
            "b.site.lan",
            "apps.site.lan",
            "x.y.apps.site.lan",
            "10.0.0.26",
            "dev@site.lan",
        ] {
            let name: SubjectAltName = other.parse().expect("name");
            assert_eq!(
                bundle.check(profile, std::slice::from_ref(&name), NOW),
                Err(CheckError::NameNotCovered { name })
            );
        }
    }
}

#[test]
fn every_profile_and_elliptic_key_holds_under_every_ca() {
    for ca_key in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519] {
        let ca = ca(ca_key);
        for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519] {
            holds(&ca, key_type);
        }
    }
}

#[test]
fn rsa_holds_as_ca_and_as_leaf() {
    let ca = ca(KeyType::Rsa2048);
    let leaf = issue(&ca, "", Profile::Peer, &["a.lan"], KeyType::Rsa2048);
    leaf.check(Profile::Peer, &names(&["a.lan"]), NOW)
        .expect("holds");
    assert_eq!(leaf.leaf().key_type, Some(KeyType::Rsa2048));
    assert_eq!(ca.root().key_type, Some(KeyType::Rsa2048));
    let big = issue(&ca, "ops", Profile::Client, &[], KeyType::Rsa4096);
    big.check(Profile::Client, &[], NOW).expect("holds");
    assert_eq!(big.leaf().key_type, Some(KeyType::Rsa4096));
}

#[test]
fn a_leaf_has_the_usages_of_its_key_and_its_names_are_critical_without_a_subject() {
    let ca = ca(KeyType::EcdsaP256);
    // (common name, key, key usage bits, whether the names are critical)
    for (common_name, key_type, usages, critical) in [
        ("a.lan", KeyType::EcdsaP256, 0b1, false),
        ("", KeyType::Ed25519, 0b1, true),
        ("", KeyType::Rsa2048, 0b101, true),
    ] {
        let bundle = issue(&ca, common_name, Profile::Server, &["a.lan"], key_type);
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&bundle.leaf_der).expect("parses");
        let usage = certificate.key_usage().expect("parses").expect("there");
        assert!(usage.critical);
        assert_eq!(usage.value.flags, usages, "{key_type}");
        let sans = certificate
            .subject_alternative_name()
            .expect("parses")
            .expect("there");
        assert_eq!(sans.critical, critical);
        let constraints = certificate
            .basic_constraints()
            .expect("parses")
            .expect("there");
        assert!(constraints.critical && !constraints.value.ca);
        assert_eq!(bundle.leaf().common_name.is_none(), common_name.is_empty());
    }
}

#[test]
fn serial_numbers_and_keys_never_repeat() {
    let ca = ca(KeyType::EcdsaP256);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..32 {
        let bundle = simple(&ca, Profile::Client);
        assert!(seen.insert(bundle.leaf().serial.clone()));
        assert!(seen.insert(hex::encode(&bundle.leaf().public_key)));
        let first = u8::from_str_radix(&bundle.leaf().serial[..2], 16).expect("digits");
        assert!((0x40..0x80).contains(&first), "positive, of 16 octets");
    }
}

#[test]
fn a_bundle_reads_back_from_its_pem_and_its_parts() {
    let ca = ca(KeyType::EcdsaP256);
    for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519] {
        let bundle = issue(&ca, "a.lan", Profile::Server, &["a.lan"], key_type);
        let whole = Bundle::from_pem(bundle.to_pem().expose()).expect("read");
        let parts = Bundle::from_parts(
            &bundle.key_pem(),
            bundle.chain_pem().as_bytes(),
            bundle.root_pem().as_bytes(),
        )
        .expect("read");
        for again in [whole, parts] {
            assert_eq!(again.to_pem(), bundle.to_pem());
            again
                .check(Profile::Server, &names(&["a.lan"]), NOW)
                .expect("holds");
        }
        let combined = bundle.combined_pem();
        let expected = format!(
            "{}{}{}",
            bundle.key_pem().expose_str().expect("text"),
            bundle.certificate_pem(),
            ca.intermediate_pem()
        );
        assert_eq!(combined.expose_str().expect("text"), expected);
    }
}

#[test]
fn a_bundle_is_stored_in_one_private_file() {
    let ca = ca(KeyType::EcdsaP256);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("bundle.pem");
    assert!(Bundle::load(&path).expect("nothing there").is_none());
    for _ in 0..2 {
        let bundle = simple(&ca, Profile::Server);
        bundle.save(&path).expect("saved");
        let loaded = Bundle::load(&path).expect("loaded").expect("there");
        assert_eq!(loaded.to_pem(), bundle.to_pem());
    }
    let mode = fs::metadata(&path).expect("stat").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(matches!(
        Bundle::load(&path),
        Err(BundleError::Exposed { mode: 0o640, .. })
    ));
    let missing = directory.path().join("missing").join("bundle.pem");
    assert!(matches!(
        simple(&ca, Profile::Server).save(&missing),
        Err(BundleError::Write { .. })
    ));
}

#[test]
fn a_broken_bundle_is_refused_without_being_quoted() {
    let bundle = simple(&ca(KeyType::EcdsaP256), Profile::Server);
    let text = |secret: SecretBytes| secret.expose_str().expect("text").to_owned();
    let key = text(bundle.key_pem());
    let secret_line = key.lines().nth(1).expect("a line").to_owned();
    let chain = bundle.chain_pem();
    let root = bundle.root_pem();
    let whole = text(bundle.to_pem());
    for (pem, expected) in [
        (String::new(), "no PEM private key"),
        (format!("{chain}{root}"), "no PEM private key"),
        (key.clone(), "no PEM certificate"),
        (format!("{key}{key}{chain}{root}"), "more than one"),
        (format!("{key}{}", bundle.certificate_pem()), "no root"),
        (format!("{key}{chain}"), "no root"),
        (whole[..whole.len() - 30].to_owned(), "malformed PEM"),
        (
            format!("{}{chain}{root}", text(pem::encode("PRIVATE KEY", b"x"))),
            "broken or of an unknown kind",
        ),
        (
            format!("{key}{}{root}", pem::encode_certificate(b"x")),
            "malformed",
        ),
    ] {
        let error = Bundle::from_pem(pem.as_bytes()).expect_err("refused");
        let mut message = format!("{error} {error:?}");
        if let Some(source) = std::error::Error::source(&error) {
            message.push_str(&source.to_string());
        }
        assert!(message.contains(expected), "{message} for {expected}");
        assert!(!message.contains(&secret_line));
    }
}

#[test]
fn a_bundle_with_something_foreign_in_it_is_found_out() {
    let own = ca(KeyType::EcdsaP256);
    let bundle = simple(&own, Profile::Server);
    let other = simple(&own, Profile::Server);
    // The same names, other keys.
    let foreign = simple(&ca(KeyType::EcdsaP256), Profile::Server);
    let made = |key: &Bundle, chain: &Bundle, root: &Bundle| {
        Bundle::from_parts(
            &key.key_pem(),
            chain.chain_pem().as_bytes(),
            root.root_pem().as_bytes(),
        )
        .expect("readable")
        .check(Profile::Server, &names(&["a.lan"]), NOW)
    };
    made(&bundle, &bundle, &other).expect("the same root");
    assert_eq!(made(&other, &bundle, &bundle), Err(CheckError::KeyMismatch));
    assert!(matches!(
        made(&bundle, &bundle, &foreign),
        Err(CheckError::Chain { .. })
    ));
    let without_intermediate = Bundle::from_parts(
        &bundle.key_pem(),
        bundle.certificate_pem().as_bytes(),
        bundle.root_pem().as_bytes(),
    )
    .expect("readable");
    assert_eq!(
        without_intermediate.check(Profile::Server, &[], NOW),
        Err(CheckError::Chain {
            purpose: "server",
            source: webpki::Error::UnknownIssuer
        })
    );
}

#[test]
fn times_are_checked_to_the_second_over_the_whole_chain() {
    let ca = ca(KeyType::EcdsaP256);
    let bundle = simple(&ca, Profile::Peer);
    let check = |now| bundle.check(Profile::Peer, &[], now);
    let second = time::Duration::SECOND;
    let leaf = bundle.leaf();
    check(leaf.not_before).expect("valid");
    check(leaf.not_after).expect("valid");
    assert!(matches!(
        check(leaf.not_before - second),
        Err(CheckError::NotYetValid { .. })
    ));
    assert_eq!(
        check(leaf.not_after + second)
            .expect_err("expired")
            .to_string(),
        "the certificate of CN=a.lan expired on 2026-05-30T12:00:00Z"
    );
}

#[test]
fn a_wildcard_that_most_clients_ignore_is_issued_and_checked_all_the_same() {
    let bundle = issue(
        &ca(KeyType::EcdsaP256),
        "site",
        Profile::Server,
        &["*.lan"],
        KeyType::EcdsaP256,
    );
    bundle
        .check(Profile::Server, &names(&["*.lan", "a.lan"]), NOW)
        .expect("as issued");
    // What the caveat is about.
    let leaf = EndEntityCert::try_from(&bundle.leaf_der).expect("leaf");
    let name = names(&["a.lan"])[0].server_name().expect("a name");
    leaf.verify_is_valid_for_subject_name(&name)
        .expect_err("rustls does not match it");
}

#[test]
fn debug_shows_no_key() {
    let bundle = simple(&ca(KeyType::EcdsaP256), Profile::Server);
    let shown = format!("{bundle:?}");
    assert!(
        shown.starts_with("Bundle { subject: \"CN=a.lan\""),
        "{shown}"
    );
    assert!(!shown.contains("PRIVATE"));
    assert!(!shown.contains("key"));
}
