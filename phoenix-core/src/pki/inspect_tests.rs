use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::pki::{Bundle, CaParameters, CertificateRequest, EmbeddedCa, KeyType};

const DAY: Duration = Duration::from_secs(86_400);

fn ca() -> EmbeddedCa {
    let parent = tempfile::tempdir().expect("directory");
    let parameters =
        CaParameters::new("Test", 3650 * DAY, 1825 * DAY, KeyType::default()).expect("valid");
    let (ca, _) =
        EmbeddedCa::open_or_create(&parent.path().join("ca"), &parameters).expect("created");
    ca
}

fn issue(ca: &EmbeddedCa, profile: Profile, sans: &[&str], key_type: KeyType) -> Bundle {
    let sans = sans.iter().map(|san| san.parse().expect("name")).collect();
    let request =
        CertificateRequest::new("test", profile, sans, 30 * DAY, key_type).expect("valid");
    ca.sign_at(&request, OffsetDateTime::now_utc())
        .expect("issued")
}

fn read(content: &[u8]) -> CertificateFile {
    CertificateFile::read(content).expect("read")
}

#[test]
fn a_bundle_is_taken_apart_whole() {
    let ca = ca();
    let sans = [
        "*.a.lan",
        "10.0.0.1",
        "::1",
        "ops@a.lan",
        "spiffe://a.lan/x",
    ];
    let bundle = issue(&ca, Profile::Peer, &sans, KeyType::default());
    let file = read(bundle.to_pem().expose());
    assert_eq!(file.certificates().len(), 3);
    assert_eq!(file.key(), HeldKey::Matches);
    assert_eq!(file.out_of_order(), None);
    assert_eq!(file.first_to_end().0, 0);

    let [leaf, intermediate, root] = file.certificates() else {
        panic!("three");
    };
    let names: Vec<(&str, &str)> = leaf
        .names
        .iter()
        .map(|name| (name.kind, name.value.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("DNS", "*.a.lan"),
            ("IP", "10.0.0.1"),
            ("IP", "::1"),
            ("e-mail", "ops@a.lan"),
            ("URI", "spiffe://a.lan/x"),
        ]
    );
    assert_eq!(leaf.version, 3);
    assert_eq!(leaf.key, "ecdsa-p256");
    assert_eq!(leaf.signature_algorithm, "ecdsa-with-SHA256");
    assert_eq!(leaf.key_usages.as_deref(), Some(&["digitalSignature"][..]));
    assert_eq!(
        leaf.extended_key_usages.as_deref(),
        Some(&["serverAuth".to_owned(), "clientAuth".to_owned()][..])
    );
    assert_ne!(leaf.ca, Some(true));
    assert_eq!(
        (intermediate.ca, intermediate.path_len),
        (Some(true), Some(0))
    );
    assert_eq!((root.ca, root.path_len), (Some(true), None));
    assert_eq!(file.roots(), [root.der().clone()]);
    assert!(file.covers(&"x.a.lan".parse().expect("name")));
    assert!(!file.covers(&"a.lan".parse().expect("name")));
}

#[test]
fn the_verdict_is_the_verifiers_and_says_why() {
    let ca = ca();
    let now = OffsetDateTime::now_utc();
    let bundle = issue(&ca, Profile::Client, &["ops@a.lan"], KeyType::default());
    let file = read(bundle.chain_pem().as_bytes());
    let root = read(bundle.root_pem().as_bytes());
    let roots = root.roots();
    assert_eq!(file.verdict(Purpose::Client, &roots, now), Ok(()));
    assert_eq!(
        file.verdict(Purpose::Server, &roots, now),
        Err(VerdictError::Usage)
    );
    assert_eq!(
        file.verdict(Purpose::Client, &[], now),
        Err(VerdictError::NoRoot)
    );
    // Another CA of the same name.
    let other = issue(
        &self::ca(),
        Profile::Client,
        &["b@a.lan"],
        KeyType::default(),
    );
    let others = read(other.root_pem().as_bytes()).roots();
    assert_eq!(
        file.verdict(Purpose::Client, &others, now),
        Err(VerdictError::Signature)
    );
    let alone = read(bundle.certificate_pem().as_bytes());
    assert_eq!(
        alone.verdict(Purpose::Client, &roots, now),
        Err(VerdictError::UnknownIssuer)
    );
    assert_eq!(
        file.verdict(Purpose::Client, &roots, now + 31 * DAY),
        Err(VerdictError::Expired {
            at: bundle.leaf().not_after
        })
    );
    assert!(matches!(
        file.verdict(Purpose::Client, &roots, now - DAY),
        Err(VerdictError::NotYetValid { .. })
    ));
    assert_eq!(
        root.verdict(Purpose::Server, &roots, now),
        Err(VerdictError::IsCa)
    );
}

#[test]
fn an_expired_root_vouches_for_nothing() {
    let ca = ca();
    let bundle = issue(&ca, Profile::Server, &["a.lan"], KeyType::default());
    let file = read(bundle.chain_pem().as_bytes());
    let roots = read(bundle.root_pem().as_bytes()).roots();
    let late = bundle.root().not_after + DAY;
    assert_eq!(
        file.verdict(Purpose::Server, &roots, late),
        Err(VerdictError::Expired {
            at: bundle.root().not_after
        })
    );
}

#[test]
fn whose_the_key_is_is_told_for_every_kind() {
    let ca = ca();
    let all: Vec<Bundle> = KeyType::ALL
        .into_iter()
        .filter(|kind| *kind != KeyType::Rsa4096)
        .map(|kind| issue(&ca, Profile::Server, &["a.lan"], kind))
        .collect();
    for (index, bundle) in all.iter().enumerate() {
        let chain = bundle.chain_pem();
        let own = bundle.key_pem();
        let other = all[(index + 1) % all.len()].key_pem();
        let with = |key: &[u8]| read(&[key, chain.as_bytes()].concat()).key();
        assert_eq!(read(chain.as_bytes()).key(), HeldKey::None);
        assert_eq!(with(own.expose()), HeldKey::Matches);
        assert_eq!(with(other.expose()), HeldKey::Mismatch);
        assert_eq!(
            with(&[own.expose(), other.expose()].concat()),
            HeldKey::Several
        );
        for locked in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
             AAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert_eq!(with(locked.as_bytes()), HeldKey::Encrypted);
            let both = [own.expose(), locked.as_bytes()].concat();
            assert_eq!(with(&both), HeldKey::Several);
        }
        let broken = b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(with(broken), HeldKey::Unusable);
    }
}

#[test]
fn der_is_read_and_disorder_found() {
    let ca = ca();
    let bundle = issue(&ca, Profile::Server, &["a.lan"], KeyType::default());
    let chain = bundle.chain_der();
    let file = read(&chain[0]);
    assert_eq!(file.leaf().observed, *bundle.leaf());
    let swapped = CertificateFile::of(vec![chain[1].clone(), chain[0].clone()]).expect("read");
    assert_eq!(swapped.out_of_order(), Some(1));
    assert_eq!(swapped.first_to_end().0, 1);
}

#[test]
fn what_ends_first_counts_wherever_it_stands_and_foreign_names_are_shown() {
    let signed = |year| {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.subject_alt_names = vec![rcgen::SanType::OtherName((vec![1, 2, 3], "x".into()))];
        let key = rcgen::KeyPair::generate().expect("key");
        CertificateDer::from(params.self_signed(&key).expect("signed"))
    };
    let chain = [2041, 2040, 2035, 2042].map(signed);
    let file = CertificateFile::of(chain.to_vec()).expect("read");
    let (index, first) = file.first_to_end();
    assert_eq!((index, first.observed.not_after.year()), (2, 2035));
    assert_eq!(first.names[0].kind, "other");
    assert_eq!(first.names[0].value, "1.2.3");
    assert_eq!((first.ca, &first.key_usages), (None, &None));
}

#[test]
fn what_is_no_certificate_is_said_and_numbered() {
    assert_eq!(
        CertificateFile::read(b"x").expect_err("none"),
        CertificateError::Pem(PemError::NoCertificate)
    );
    let bundle = issue(&ca(), Profile::Server, &["a.lan"], KeyType::default());
    let text = format!(
        "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        bundle.certificate_pem()
    );
    let error = CertificateFile::read(text.as_bytes()).expect_err("broken");
    assert!(error.to_string().contains("number 2"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = CertificateFile::read(&content);
        let text = [b"-----BEGIN CERTIFICATE-----\n".as_slice(), &content].concat();
        let _ = CertificateFile::read(&text);
        let der = [&[0x30, 0x82][..], &content].concat();
        let _ = CertificateFile::read(&der);
    }
}
