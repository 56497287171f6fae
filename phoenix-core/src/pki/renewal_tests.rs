use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::ground::SecretBytes;
use crate::pki::{CaParameters, EmbeddedCa, Issuer, KeyType, Profile, SubjectAltName};

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

fn names(texts: &[&str]) -> Vec<SubjectAltName> {
    texts
        .iter()
        .map(|text| text.parse().expect("name"))
        .collect()
}

fn request(
    common_name: &str,
    profile: Profile,
    sans: &[&str],
    lifetime: Duration,
    key_type: KeyType,
) -> CertificateRequest {
    CertificateRequest::new(common_name, profile, names(sans), lifetime, key_type).expect("valid")
}

fn server() -> CertificateRequest {
    request(
        "a.lan",
        Profile::Server,
        &["a.lan", "10.0.0.1"],
        90 * DAY,
        KeyType::EcdsaP256,
    )
}

fn shown(reasons: &[RenewalReason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn reasons(bundle: &Bundle, request: &CertificateRequest, ca: &EmbeddedCa) -> Vec<String> {
    shown(&renewal_reasons(
        Ok(Some(bundle)),
        request,
        RenewalRule::Before(30 * DAY),
        ca.identity(),
        NOW,
    ))
}

#[test]
fn what_is_missing_or_unreadable_is_issued() {
    let ca = ca("Test");
    let of = |stored| {
        shown(&renewal_reasons(
            stored,
            &server(),
            RenewalRule::Before(DAY),
            ca.identity(),
            NOW,
        ))
    };
    assert_eq!(of(Ok(None)), ["missing"]);
    let error = Bundle::from_pem(b"").expect_err("no bundle");
    assert_eq!(
        of(Err(&error)),
        ["unreadable: the bundle is broken: no PEM private key"]
    );
}

#[test]
fn each_difference_is_a_reason_of_its_own_and_all_are_told() {
    let ca = ca("Test");
    let bundle = ca.sign_at(&server(), NOW).expect("issued");
    assert_eq!(reasons(&bundle, &server(), &ca), Vec::<String>::new());
    let p256 = KeyType::EcdsaP256;
    let sans = ["a.lan", "10.0.0.1"];
    for (request, expected) in [
        (
            request("b.lan", Profile::Server, &sans, 90 * DAY, p256),
            "common name is `a.lan`, not `b.lan`",
        ),
        (
            request("", Profile::Server, &sans, 90 * DAY, p256),
            "common name is `a.lan`, not ``",
        ),
        (
            request("a.lan", Profile::Peer, &sans, 90 * DAY, p256),
            "profile is server, not peer",
        ),
        (
            request("a.lan", Profile::Server, &sans, 90 * DAY, KeyType::Ed25519),
            "key type is ecdsa-p256, not ed25519",
        ),
        (
            request(
                "a.lan",
                Profile::Server,
                &["10.0.0.1", "b.lan"],
                90 * DAY,
                p256,
            ),
            "SANs differ: -a.lan +b.lan",
        ),
        (
            request("a.lan", Profile::Server, &sans, 60 * DAY, p256),
            "valid for 90 days more, longer than its lifetime of 60 days",
        ),
    ] {
        assert_eq!(reasons(&bundle, &request, &ca), [expected]);
    }
    let all = request("b.lan", Profile::Client, &["b.lan"], DAY, KeyType::Ed25519);
    let found = renewal_reasons(
        Ok(Some(&bundle)),
        &all,
        RenewalRule::Before(DAY),
        ca.identity(),
        NOW,
    );
    assert!(matches!(
        found[..],
        [
            RenewalReason::Outlives { .. },
            RenewalReason::CommonName { .. },
            RenewalReason::Names(_),
            RenewalReason::Profile { .. },
            RenewalReason::KeyType { .. },
        ]
    ));
}

#[test]
fn two_thirds_of_a_life_come_at_another_moment_for_each() {
    let ca = ca("Test");
    let mut moments = std::collections::BTreeSet::new();
    for _ in 0..32 {
        let bundle = ca.sign_at(&server(), NOW).expect("issued");
        let (leaf, end) = (bundle.leaf(), bundle.not_after());
        let due = RenewalRule::TwoThirds.due(leaf, end);
        assert_eq!(due, RenewalRule::TwoThirds.due(leaf, end));
        let passed = (due - leaf.not_before) / (end - leaf.not_before);
        assert!((2.0 / 3.0 - 0.05..=2.0 / 3.0).contains(&passed), "{passed}");
        moments.insert(due);
    }
    assert!(moments.len() > 16, "{moments:?}");
}

#[test]
fn an_issuer_that_decides_by_itself_gives_no_reason_for_what_it_decided() {
    let ca = ca("Test");
    let peer = request("a", Profile::Peer, &["a.lan"], 90 * DAY, KeyType::EcdsaP256);
    let client = request("a", Profile::Client, &["a.lan"], DAY, KeyType::EcdsaP256);
    let bundle = ca.sign_at(&peer, NOW).expect("issued");
    let found = |identity: &IssuerIdentity| {
        shown(&renewal_reasons(
            Ok(Some(&bundle)),
            &client,
            RenewalRule::TwoThirds,
            identity,
            NOW,
        ))
    };
    assert_eq!(found(ca.identity()).len(), 2);
    let own = IssuerIdentity {
        wider_profiles: true,
        own_lifetimes: true,
        ..ca.identity().clone()
    };
    assert_eq!(found(&own), Vec::<String>::new());
    assert_eq!(bundle.wider_than(Profile::Client), Some(Profile::Peer));
    assert_eq!(bundle.wider_than(Profile::Peer), None);
}

#[test]
fn a_common_name_is_no_reason_only_where_the_issuer_decides_it() {
    let ca = ca("Test");
    let asked = request(
        "b",
        Profile::Server,
        &["a.lan"],
        90 * DAY,
        KeyType::EcdsaP256,
    );
    let given = request(
        "a.lan",
        Profile::Server,
        &["a.lan"],
        90 * DAY,
        KeyType::EcdsaP256,
    );
    let bundle = ca.sign_at(&given, NOW).expect("issued");
    let found = |identity: &IssuerIdentity, wanted: &CertificateRequest| {
        shown(&renewal_reasons(
            Ok(Some(&bundle)),
            wanted,
            RenewalRule::TwoThirds,
            identity,
            NOW,
        ))
    };
    assert_eq!(
        found(ca.identity(), &asked),
        ["common name is `a.lan`, not `b`"]
    );
    let own = IssuerIdentity {
        own_subjects: true,
        ..ca.identity().clone()
    };
    assert_eq!(found(&own, &asked), Vec::<String>::new());
    // The names are still those that were asked for.
    let other = request(
        "b",
        Profile::Server,
        &["b.lan"],
        90 * DAY,
        KeyType::EcdsaP256,
    );
    assert_eq!(found(&own, &other).len(), 1);
}

#[test]
fn order_of_names_and_a_longer_lifetime_are_no_reasons() {
    let ca = ca("Test");
    let bundle = ca.sign_at(&server(), NOW).expect("issued");
    let turned = request(
        "a.lan",
        Profile::Server,
        &["10.0.0.1", "a.lan"],
        365 * DAY,
        KeyType::EcdsaP256,
    );
    assert_eq!(reasons(&bundle, &turned, &ca), Vec::<String>::new());
}

#[test]
fn time_runs_out_to_the_second() {
    let ca = ca("Test");
    let bundle = ca.sign_at(&server(), NOW).expect("issued");
    let at = |left: i64| {
        let now = bundle.leaf().not_after - time::Duration::seconds(left);
        shown(&renewal_reasons(
            Ok(Some(&bundle)),
            &server(),
            RenewalRule::Before(30 * DAY),
            ca.identity(),
            now,
        ))
    };
    let day = 86_400;
    assert_eq!(at(30 * day), Vec::<String>::new());
    assert_eq!(
        at(30 * day - 1),
        ["expires in 29 days, due since 2026-04-30T12:00:00Z"]
    );
    assert_eq!(
        at(day + 7_200),
        ["expires in 26 hours, due since 2026-04-30T12:00:00Z"]
    );
    assert_eq!(
        at(119),
        ["expires in 119 seconds, due since 2026-04-30T12:00:00Z"]
    );
    assert_eq!(
        at(1),
        ["expires in 1 second, due since 2026-04-30T12:00:00Z"]
    );
    assert_eq!(
        at(0),
        ["expires in 0 seconds, due since 2026-04-30T12:00:00Z"]
    );
    assert_eq!(at(-1), ["expired 1 second ago, on 2026-05-30T12:00:00Z"]);
    assert_eq!(
        at(-3 * day),
        ["expired 3 days ago, on 2026-05-30T12:00:00Z"]
    );
    assert_eq!(
        at(90 * day + 301),
        ["not valid before 2026-03-01T11:55:00Z"]
    );
    // A clock set back by up to the backdating is no reason.
    assert_eq!(at(90 * day + 299), Vec::<String>::new());
}

#[test]
fn another_issuer_is_a_reason_even_of_the_same_name() {
    let first = ca("Test");
    let second = ca("Test");
    let bundle = first.sign_at(&server(), NOW).expect("issued");
    let found = reasons(&bundle, &server(), &second);
    let root = |ca: &EmbeddedCa| hex::encode(&ca.identity().roots[0][..8]);
    assert_eq!(
        found,
        [format!(
            "issuer changed: from CN=Test Intermediate (root SHA-256 {}…) to CN=Test Intermediate \
             (root SHA-256 {}…)",
            root(&first),
            root(&second)
        )]
    );
    // One that signs with any key below the same root is still the issuer.
    let any = IssuerIdentity {
        key_ids: Vec::new(),
        ..first.identity().clone()
    };
    assert!(any.issued(&bundle));
    let none = IssuerIdentity {
        key_ids: vec![vec![1; 20]],
        ..first.identity().clone()
    };
    assert!(!none.issued(&bundle));
}

#[test]
fn a_foreign_key_or_a_broken_chain_is_a_reason() {
    let ca = ca("Test");
    let bundle = ca.sign_at(&server(), NOW).expect("issued");
    let other = ca.sign_at(&server(), NOW).expect("issued");
    let made = |key: SecretBytes, chain: String| {
        Bundle::from_parts(&key, chain.as_bytes(), bundle.root_pem().as_bytes()).expect("readable")
    };
    let mixed = made(other.key_pem(), bundle.chain_pem());
    assert_eq!(reasons(&mixed, &server(), &ca), ["key does not match"]);
    let short = made(bundle.key_pem(), bundle.certificate_pem());
    assert_eq!(
        reasons(&short, &server(), &ca),
        ["chain is broken: the chain does not verify for a TLS server: UnknownIssuer"]
    );
}

fn any_request() -> impl Strategy<Value = CertificateRequest> {
    let keys = prop::sample::select(vec![
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Ed25519,
    ]);
    let names = prop::sample::subsequence(
        vec!["a.lan", "*.b.lan", "10.0.0.1", "fd00::1", "x@b.lan"],
        1..=5,
    );
    (
        prop::sample::select(vec!["", "a.lan", "The Portal"]),
        prop::sample::select(Profile::ALL.to_vec()),
        names,
        1u32..2_000,
        keys,
    )
        .prop_map(|(common_name, profile, names, hours, key)| {
            request(
                common_name,
                profile,
                &names,
                hours * Duration::from_secs(3_600),
                key,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn renewing_ends_and_a_reason_appears_just_when_something_differs(
        first in any_request(),
        second in any_request(),
    ) {
        let ca = ca("Test");
        let bundle = ca.sign_at(&first, NOW).expect("issued");
        let of = |bundle: &Bundle, request: &CertificateRequest| renewal_reasons(
            Ok(Some(bundle)),
            request,
            RenewalRule::Before(request.lifetime() / 3),
            ca.identity(),
            NOW,
        );
        prop_assert_eq!(of(&bundle, &first), vec![]);
        let found = of(&bundle, &second);
        prop_assert_eq!(&found, &of(&bundle, &second));
        let differs = first.common_name() != second.common_name()
            || first.profile() != second.profile()
            || first.key_type() != second.key_type()
            || first.sans() != second.sans()
            || first.lifetime() > second.lifetime()
            || first.lifetime() < second.lifetime() / 3;
        prop_assert_eq!(!found.is_empty(), differs);
        let renewed = ca.sign_at(&second, NOW).expect("issued");
        prop_assert_eq!(of(&renewed, &second), vec![]);
    }
}
