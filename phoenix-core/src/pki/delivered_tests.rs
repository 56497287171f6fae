use std::time::Duration;

use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::pki::{
    Bundle, CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile, SubjectAltName,
};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);

fn ca(common_name: &str) -> EmbeddedCa {
    let parent = tempfile::tempdir().expect("directory");
    let parameters =
        CaParameters::new(common_name, 3650 * DAY, 1825 * DAY, KeyType::default()).expect("valid");
    let directory = parent.path().join("ca");
    let (ca, _) = EmbeddedCa::open_or_create_at(&directory, &parameters, NOW).expect("created");
    ca
}

fn bundle(ca: &EmbeddedCa, sans: &[&str], profile: Profile, key_type: KeyType) -> Bundle {
    let sans: Vec<SubjectAltName> = sans
        .iter()
        .map(|text| text.parse().expect("name"))
        .collect();
    let request =
        CertificateRequest::new("a.lan", profile, sans, 90 * DAY, key_type).expect("valid");
    ca.sign_at(&request, NOW).expect("issued")
}

fn web(ca: &EmbeddedCa) -> Bundle {
    bundle(ca, &["a.lan"], Profile::Server, KeyType::EcdsaP256)
}

fn secret(text: impl Into<String>) -> SecretBytes {
    SecretBytes::from(text.into())
}

fn shown(found: &SecretBytes, wanted: &SecretBytes) -> Vec<String> {
    shown_at(found, wanted, NOW)
}

fn shown_at(found: &SecretBytes, wanted: &SecretBytes, now: OffsetDateTime) -> Vec<String> {
    delivered_differences(found, wanted, now)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn serials(have: &Bundle, want: &Bundle) -> String {
    format!(
        "serial is {}, not {}",
        have.leaf().serial,
        want.leaf().serial
    )
}

#[test]
fn every_part_equals_itself_and_differs_from_every_other() {
    let ca = ca("Test");
    let (old, new) = (web(&ca), web(&ca));
    let parts = |bundle: &Bundle| {
        [
            secret(bundle.certificate_pem()),
            secret(bundle.chain_pem()),
            bundle.key_pem(),
            bundle.combined_pem(),
            secret(bundle.root_pem()),
        ]
    };
    let serial = serials(&old, &new);
    for (index, (have, want)) in parts(&old).iter().zip(&parts(&new)).enumerate() {
        assert_eq!(shown(want, want), Vec::<String>::new());
        let expected: &[&str] = match index {
            2 => &["key does not match"],
            4 => &[],
            _ => &[&serial],
        };
        assert_eq!(shown(have, want), expected, "part {index}");
    }
    for (index, have) in parts(&new).iter().enumerate() {
        for (other, want) in parts(&new).iter().enumerate() {
            assert_eq!(shown(have, want).is_empty(), index == other);
        }
    }
}

#[test]
fn what_is_no_certificate_or_key_is_unreadable() {
    let new = web(&ca("Test"));
    let chain = secret(new.chain_pem());
    for (found, wanted, expected) in [
        (secret("mine\n"), &chain, "unreadable: no PEM certificate"),
        (
            secret("-----BEGIN CERTIFICATE-----\nAAAA\n"),
            &chain,
            "unreadable: malformed PEM",
        ),
        (
            secret(pem::encode_certificate(b"none")),
            &chain,
            "unreadable: the certificate is malformed",
        ),
        (secret(""), &new.key_pem(), "unreadable: no PEM private key"),
        (
            pem::encode("PRIVATE KEY", b"hunter2"),
            &new.key_pem(),
            "unreadable: the private key is broken",
        ),
        (
            chain.clone(),
            &new.combined_pem(),
            "unreadable: no PEM private key",
        ),
    ] {
        let differences = shown(&found, wanted);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].starts_with(expected), "{differences:?}");
        assert!(!differences[0].contains("hunter2"));
    }
    assert_eq!(
        shown(&secret("{}"), &secret("{ }")),
        ["its content differs"],
        "a file without PEM"
    );
    let written_otherwise = secret(format!("# a remark\n{}", new.chain_pem()));
    assert_eq!(shown(&written_otherwise, &chain), ["its content differs"]);
}

#[test]
fn each_field_that_differs_is_named() {
    let ca = ca("Test");
    let want = bundle(
        &ca,
        &["a.lan", "c.lan"],
        Profile::Server,
        KeyType::EcdsaP256,
    );
    let have = bundle(&ca, &["a.lan", "b.lan"], Profile::Peer, KeyType::Ed25519);
    let (have_pem, want_pem) = (
        secret(have.certificate_pem()),
        secret(want.certificate_pem()),
    );
    let serial = serials(&have, &want);
    let expected = [
        serial.as_str(),
        "SANs differ: -b.lan +c.lan",
        "profile is peer, not server",
        "key type is ed25519, not ecdsa-p256",
    ];
    assert_eq!(shown(&have_pem, &want_pem), expected);
    let late = shown_at(&have_pem, &want_pem, NOW + 100 * DAY);
    assert!(
        late[0].starts_with("expired 9 days ago") || late[0].starts_with("expired 10 days ago")
    );
    assert_eq!(late[1..], expected);
    let early = shown_at(&have_pem, &want_pem, NOW - 30 * DAY);
    assert!(early[0].starts_with("not valid before "), "{early:?}");

    assert_eq!(
        shown(&have.key_pem(), &want.key_pem()),
        ["key does not match", "key type is ed25519, not ecdsa-p256"]
    );
}

#[test]
fn another_issuer_and_another_chain_are_named() {
    let (one, other) = (ca("One"), ca("Other"));
    let (have, want) = (web(&one), web(&other));
    let differences = shown(&secret(have.chain_pem()), &secret(want.chain_pem()));
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert!(
        differences[1].starts_with("issuer changed: from CN=One"),
        "{differences:?}"
    );
    assert!(
        differences[2].starts_with("certificate 2 is CN=One"),
        "{differences:?}"
    );
    assert_eq!(
        shown(&secret(want.certificate_pem()), &secret(want.chain_pem())),
        ["has 1 certificate, not 2"]
    );
    let root = shown(&secret(have.root_pem()), &secret(want.root_pem()));
    assert!(root[0].starts_with("serial is "), "{root:?}");
    assert!(root[1].starts_with("common name is `One"), "{root:?}");
}

#[test]
fn a_key_of_another_certificate_in_the_same_file_is_told() {
    let ca = ca("Test");
    let (old, new) = (web(&ca), web(&ca));
    let mixed = [old.key_pem().expose(), new.chain_pem().as_bytes()].concat();
    assert_eq!(
        shown(&SecretBytes::new(mixed), &new.combined_pem()),
        ["key does not match"]
    );
    assert_eq!(
        shown(&new.combined_pem(), &secret(new.chain_pem())),
        ["has a private key, which does not belong there"]
    );
}

proptest! {
    #[test]
    fn any_text_differs_unless_it_is_the_wanted_one(
        found in prop::collection::vec(any::<u8>(), 0..200),
        wanted in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (found, wanted) = (SecretBytes::new(found), SecretBytes::new(wanted));
        let differences = delivered_differences(&found, &wanted, NOW);
        prop_assert_eq!(differences.is_empty(), found == wanted);
    }
}
