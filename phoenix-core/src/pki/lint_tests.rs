use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use time::macros::datetime;

use super::*;
use crate::pki::template::{Validity, ca_params, leaf_params};
use crate::pki::{CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// The DER of the object identifier 2.5.29.`last`, an extension's.
fn extension_id(last: u8) -> [u8; 5] {
    [0x06, 0x03, 0x55, 0x1d, last]
}

/// The rules that `der` breaks.
fn broken(der: &[u8]) -> Vec<LintRule> {
    lint(der)
        .expect("a certificate")
        .into_iter()
        .map(|finding| {
            assert!(!finding.problem.is_empty());
            finding.rule
        })
        .collect()
}

fn request(common_name: &str, profile: Profile, sans: &[&str], key: KeyType) -> CertificateRequest {
    let sans = sans
        .iter()
        .map(|name| name.parse().expect("name"))
        .collect();
    CertificateRequest::new(common_name, profile, sans, 90 * DAY, key).expect("valid")
}

/// An issuer of certificates that Phoenix would not make.
struct Issuing {
    params: CertificateParams,
    key: KeyPair,
}

impl Issuing {
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        Self {
            params: ca_params("CA", BasicConstraints::Constrained(0), NOW, 3650 * DAY)
                .expect("parameters"),
            key: KeyPair::generate_for(algorithm).expect("a key"),
        }
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Vec<u8> {
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(key, &issuer).expect("signed");
        certificate.der().to_vec()
    }
}

/// Parameters of a clean server's certificate.
fn server_params() -> CertificateParams {
    let request = request("a.lan", Profile::Server, &["a.lan"], KeyType::EcdsaP256);
    leaf_params(&request, &Validity::new(NOW, 90 * DAY), NOW).expect("parameters")
}

/// A server's certificate that is clean but for `change`.
fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = server_params();
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    Issuing::new(&rcgen::PKCS_ECDSA_P256_SHA256).sign(&params, &key)
}

/// A CA's certificate that is clean but for `change`.
fn ca(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params =
        ca_params("Below", BasicConstraints::Constrained(0), NOW, 365 * DAY).expect("parameters");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    Issuing::new(&rcgen::PKCS_ECDSA_P256_SHA256).sign(&params, &key)
}

/// `der` with the one place where `old` stands holding `new`, of the same length, instead.
fn patched(der: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<_> = (0..der.len())
        .filter(|place| der[*place..].starts_with(old))
        .collect();
    let [place] = places[..] else {
        panic!("{old:x?} is in {places:?}");
    };
    let mut der = der.to_vec();
    der[place..place + new.len()].copy_from_slice(new);
    der
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// An extension that holds one subject alternative name.
fn san(critical: bool, tag: u8, name: &[u8]) -> CustomExtension {
    let length = u8::try_from(name.len()).expect("short");
    let content = [&[0x30, length + 2, tag, length], name].concat();
    extension(SUBJECT_ALT_NAME, critical, &content)
}

#[test]
fn what_phoenix_issues_is_clean() {
    for ca_key in KeyType::ALL {
        if ca_key == KeyType::Rsa4096 {
            // Takes seconds and differs from 2048 bits in nothing that the rules look at.
            continue;
        }
        let parent = tempfile::tempdir().expect("directory");
        let parameters =
            CaParameters::new("Phoenix Test", 3650 * DAY, 1825 * DAY, ca_key).expect("valid");
        let (ca, _) = EmbeddedCa::open_or_create_at(&parent.path().join("ca"), &parameters, NOW)
            .expect("created");
        for pem in [ca.root_pem().to_owned(), ca.intermediate_pem()] {
            let der = crate::pki::pem::certificates(pem.as_bytes()).expect("PEM");
            assert_eq!(lint(&der[0]), Ok(vec![]), "{ca_key}");
        }
        for profile in Profile::ALL {
            for key_type in KeyType::ALL {
                if matches!(key_type, KeyType::Rsa2048 | KeyType::Rsa4096)
                    && (ca_key, profile) != (KeyType::EcdsaP256, Profile::Peer)
                {
                    continue;
                }
                for common_name in ["a.lan", ""] {
                    let sans = [
                        "*.a.lan",
                        "a.lan",
                        "10.0.0.1",
                        "fd00::1",
                        "o@a.lan",
                        "spiffe://a/b",
                    ];
                    let bundle = ca
                        .issue_at(&request(common_name, profile, &sans, key_type), NOW)
                        .expect("issued");
                    assert_eq!(
                        lint(&bundle.chain_der()[0]),
                        Ok(vec![]),
                        "{common_name:?} {profile} {key_type} under {ca_key}"
                    );
                }
            }
        }
        let nameless = request("ops", Profile::Client, &[], KeyType::EcdsaP256);
        let bundle = ca.issue_at(&nameless, NOW).expect("issued");
        assert_eq!(lint(&bundle.chain_der()[0]), Ok(vec![]));
    }
}

#[test]
fn what_the_other_tests_change_is_clean() {
    assert_eq!(broken(&leaf(|_| {})), []);
    assert_eq!(broken(&ca(|_| {})), []);
}

#[test]
fn what_is_no_certificate_is_no_finding() {
    assert!(matches!(
        lint(b"certificate"),
        Err(CertificateError::Malformed { .. })
    ));
}

#[test]
fn a_finding_says_what_is_wrong_and_where_it_is_written() {
    let findings = lint(&leaf(|params| params.key_usages = vec![])).expect("a certificate");
    assert_eq!(
        findings[0].to_string(),
        "error: it has no key usage (key-usage-present, RFC 5280 section 4.2.1.3)"
    );
    let names: std::collections::HashSet<_> =
        LintRule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(names.len(), LintRule::ALL.len());
}

#[test]
fn version() {
    let der = patched(&leaf(|_| {}), &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 1]);
    assert_eq!(broken(&der), [LintRule::Version]);
}

#[test]
fn serial_positive() {
    let number = [0x55; 16];
    let der = leaf(|params| params.serial_number = Some(SerialNumber::from(number.to_vec())));
    let mut negative = number;
    negative[0] = 0x95;
    assert_eq!(
        broken(&patched(&der, &number, &negative)),
        [LintRule::SerialPositive]
    );
    assert_eq!(
        broken(&patched(&der, &number, &[0; 16])),
        [LintRule::SerialPositive]
    );
}

#[test]
fn serial_length() {
    let of =
        |length| leaf(|params| params.serial_number = Some(SerialNumber::from(vec![0x55; length])));
    assert_eq!(broken(&of(20)), []);
    assert_eq!(broken(&of(21)), [LintRule::SerialLength]);
}

#[test]
fn serial_entropy() {
    let of =
        |length| leaf(|params| params.serial_number = Some(SerialNumber::from(vec![0x55; length])));
    assert_eq!(broken(&of(8)), []);
    assert_eq!(broken(&of(7)), [LintRule::SerialEntropy]);
}

/// The object identifiers of ECDSA with a digest: SHA-256 is 2, SHA-384 is 3, SHA-224 is 1.
fn ecdsa_with(digest: u8) -> [u8; 10] {
    [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, digest]
}

#[test]
fn signature_algorithms_equal() {
    let mut der = leaf(|_| {});
    let outer = der
        .windows(10)
        .rposition(|window| window == ecdsa_with(2))
        .expect("the outer algorithm");
    der[outer..outer + 10].copy_from_slice(&ecdsa_with(3));
    assert_eq!(broken(&der), [LintRule::SignatureAlgorithmsEqual]);
}

#[test]
fn signature_algorithm() {
    let rsa = Issuing::new(&rcgen::PKCS_RSA_SHA256);
    let key = KeyPair::generate().expect("a key");
    let mut der = rsa.sign(&server_params(), &key);
    assert_eq!(broken(&der), []);
    // sha256WithRSAEncryption is 11, sha1WithRSAEncryption is 5.
    let with = |digest| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, digest];
    let places: Vec<_> = (0..der.len())
        .filter(|place| der[*place..].starts_with(&with(11)))
        .collect();
    assert_eq!(places.len(), 2);
    for place in places {
        der[place..place + 9].copy_from_slice(&with(5));
    }
    assert_eq!(broken(&der), [LintRule::SignatureAlgorithm]);
}

#[test]
fn issuer_named() {
    let mut issuing = Issuing::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    issuing.params.distinguished_name = rcgen::DistinguishedName::new();
    let key = KeyPair::generate().expect("a key");
    let der = issuing.sign(&server_params(), &key);
    assert_eq!(broken(&der), [LintRule::IssuerNamed]);
}

#[test]
fn validity_order() {
    let der = leaf(|params| params.not_after = params.not_before - time::Duration::SECOND);
    assert_eq!(broken(&der), [LintRule::ValidityOrder]);
    assert_eq!(
        broken(&leaf(|params| params.not_after = params.not_before)),
        []
    );
}

#[test]
fn validity_encoding() {
    let der = leaf(|params| {
        params.not_before = datetime!(2049-12-01 0:00 UTC);
        params.not_after = datetime!(2050-01-01 0:00 UTC);
    });
    assert_eq!(broken(&der), []);
    let der = patched(&der, b"20500101000000Z", b"20491231000000Z");
    assert_eq!(broken(&der), [LintRule::ValidityEncoding]);
}

#[test]
fn server_lifetime() {
    let valid = |days| {
        move |params: &mut CertificateParams| params.not_after = params.not_before + days * DAY
    };
    assert_eq!(broken(&leaf(valid(825))), []);
    assert_eq!(broken(&leaf(valid(826))), [LintRule::ServerLifetime]);
    let client = leaf(|params| {
        valid(826)(params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(broken(&client), []);
}

#[test]
fn common_name_length() {
    let named = |length: usize| {
        ca(|params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "a".repeat(length));
        })
    };
    assert_eq!(broken(&named(64)), []);
    assert_eq!(broken(&named(65)), [LintRule::CommonNameLength]);
}

#[test]
fn common_name_among_sans() {
    let named = |name: &'static str, purpose| {
        leaf(move |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![purpose];
            let address = SanType::IpAddress([10, 0, 0, 1].into());
            params.subject_alt_names.push(address);
        })
    };
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    assert_eq!(
        broken(&named("b.lan", server.clone())),
        [LintRule::CommonNameAmongSans]
    );
    assert_eq!(broken(&named("A.lan", server.clone())), []);
    assert_eq!(broken(&named("10.0.0.1", server)), []);
    assert_eq!(broken(&named("b", ExtendedKeyUsagePurpose::ClientAuth)), []);
}

/// A public key without a private one.
struct Foreign(Vec<u8>, &'static SignatureAlgorithm);

impl PublicKeyData for Foreign {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

#[test]
fn key_strength() {
    // SEQUENCE of an INTEGER of so many octets and the exponent 65537.
    let rsa = |octets: u8, first: u8| {
        let [high, low] = (u16::from(octets) + 9).to_be_bytes();
        let mut der = vec![0x30, 0x82, high, low, 0x02, 0x81, octets + 1, 0, first];
        der.extend(std::iter::repeat_n(0x55, usize::from(octets) - 1));
        der.extend([2, 3, 1, 0, 1]);
        Foreign(der, &rcgen::PKCS_RSA_SHA256)
    };
    let issuing = Issuing::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (octets, first) in [(128, 0x80), (254, 0xff)] {
        let der = issuing.sign(&server_params(), &rsa(octets, first));
        assert_eq!(broken(&der), [LintRule::KeyStrength], "{octets} octets");
    }
    // The curve P-256, as which the key is encoded, becomes one that nothing knows.
    let curve = |last| [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, last];
    let der = patched(&leaf(|_| {}), &curve(7), &curve(6));
    assert_eq!(broken(&der), [LintRule::KeyStrength]);
}

#[test]
fn extension_once() {
    let der = leaf(|params| {
        params.custom_extensions.push(san(false, 0x82, b"b.lan"));
    });
    assert_eq!(broken(&der), [LintRule::ExtensionOnce]);
}

#[test]
fn extension_content() {
    // A list that is none, and one with nothing in it.
    for content in [&[0x02, 0x01, 0x00][..], &[0x30, 0x00]] {
        let der = leaf(|params| {
            params.subject_alt_names.clear();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params
                .custom_extensions
                .push(extension(SUBJECT_ALT_NAME, false, content));
        });
        assert_eq!(broken(&der), [LintRule::ExtensionContent]);
    }
}

#[test]
fn extension_unknown_critical() {
    let with = |critical| {
        leaf(move |params| {
            params.custom_extensions.push(extension(
                &[1, 3, 6, 1, 4, 1, 99_999, 1],
                critical,
                &[5, 0],
            ));
        })
    };
    assert_eq!(broken(&with(false)), []);
    assert_eq!(broken(&with(true)), [LintRule::ExtensionUnknownCritical]);
}

#[test]
fn basic_constraints_critical() {
    let der = ca(|params| {
        params.is_ca = IsCa::NoCa;
        let ca_true = extension(BASIC_CONSTRAINTS, false, &[0x30, 3, 1, 1, 0xff]);
        params.custom_extensions.push(ca_true);
        // rcgen gives a subject key identifier to CAs only.
        params.custom_extensions.push(subject_key_id(false));
    });
    assert_eq!(broken(&der), [LintRule::BasicConstraintsCritical]);
}

#[test]
fn path_length_on_ca() {
    let der = leaf(|params| {
        params.is_ca = IsCa::NoCa;
        // No cA, which is false by default, and a path length of 0.
        let length = extension(BASIC_CONSTRAINTS, true, &[0x30, 3, 2, 1, 0]);
        params.custom_extensions.push(length);
        params.custom_extensions.push(subject_key_id(false));
    });
    assert_eq!(broken(&der), [LintRule::PathLengthOnCa]);
}

#[test]
fn key_usage_present() {
    let der = leaf(|params| params.key_usages.clear());
    assert_eq!(broken(&der), [LintRule::KeyUsagePresent]);
    let der = ca(|params| params.key_usages.clear());
    assert_eq!(broken(&der), [LintRule::KeyUsagePresent]);
}

#[test]
fn key_usage_critical() {
    let der = leaf(|params| {
        params.key_usages.clear();
        // A bit string with 7 unused bits: digitalSignature.
        let usage = extension(KEY_USAGE, false, &[3, 2, 7, 0x80]);
        params.custom_extensions.push(usage);
    });
    assert_eq!(broken(&der), [LintRule::KeyUsageCritical]);
}

#[test]
fn key_usage_of_ca() {
    let der = leaf(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(broken(&der), [LintRule::KeyUsageOfCa]);
    let der = ca(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(broken(&der), [LintRule::KeyUsageOfCa]);
}

#[test]
fn key_usage_for_tls() {
    let der = leaf(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(broken(&der), [LintRule::KeyUsageForTls]);
}

#[test]
fn key_usage_of_algorithm() {
    let enciphering =
        |params: &mut CertificateParams| params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    assert_eq!(broken(&leaf(enciphering)), [LintRule::KeyUsageOfAlgorithm]);
    let mut params = server_params();
    enciphering(&mut params);
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let der = Issuing::new(&rcgen::PKCS_ECDSA_P256_SHA256).sign(&params, &rsa);
    assert_eq!(broken(&der), []);
}

#[test]
fn extended_key_usage_present() {
    let der = leaf(|params| params.extended_key_usages.clear());
    assert_eq!(broken(&der), [LintRule::ExtendedKeyUsagePresent]);
}

#[test]
fn extended_key_usage_any() {
    let der = leaf(|params| {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::Any)
    });
    assert_eq!(broken(&der), [LintRule::ExtendedKeyUsageAny]);
}

#[test]
fn extended_key_usage_critical() {
    let der = leaf(|params| {
        params.extended_key_usages.clear();
        let server_auth = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        let usage = extension(EXTENDED_KEY_USAGE, true, &server_auth);
        params.custom_extensions.push(usage);
    });
    assert_eq!(broken(&der), [LintRule::ExtendedKeyUsageCritical]);
}

#[test]
fn sans_present() {
    let der = leaf(|params| params.subject_alt_names.clear());
    assert_eq!(broken(&der), [LintRule::SansPresent]);
    let der = leaf(|params| {
        params.subject_alt_names.clear();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    assert_eq!(broken(&der), [LintRule::SansPresent]);
}

#[test]
fn sans_critical() {
    let der = leaf(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names.clear();
        params.custom_extensions.push(san(false, 0x82, b"a.lan"));
    });
    assert_eq!(broken(&der), [LintRule::SansCritical]);
}

#[test]
fn sans_not_critical() {
    let der = leaf(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(san(true, 0x82, b"a.lan"));
    });
    assert_eq!(broken(&der), [LintRule::SansNotCritical]);
}

#[test]
fn dns_name_syntax() {
    for name in [
        "my_host.lan",
        "a..lan",
        "a.lan.",
        "a.*.lan",
        "-a.lan",
        "10.0.0.1",
        "a b.lan",
        "https://a.lan",
    ] {
        let der = leaf(|params| {
            let name = SanType::DnsName(name.try_into().expect("IA5"));
            params.subject_alt_names.push(name);
        });
        assert_eq!(broken(&der), [LintRule::DnsNameSyntax], "{name}");
    }
}

#[test]
fn san_syntax() {
    // An e-mail address, a URI and an IP address that are none.
    for (tag, name) in [
        (0x81, &b"ops"[..]),
        (0x86, b"/relative"),
        (0x87, &[10, 0, 1]),
    ] {
        let der = leaf(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names.clear();
            params.custom_extensions.push(san(true, tag, name));
        });
        assert_eq!(broken(&der), [LintRule::SanSyntax], "{name:?}");
    }
}

#[test]
fn authority_key_id_present() {
    let der = leaf(|params| params.use_authority_key_identifier_extension = false);
    assert_eq!(broken(&der), [LintRule::AuthorityKeyIdPresent]);
}

#[test]
fn authority_key_id_not_critical() {
    let der = leaf(|params| {
        params.use_authority_key_identifier_extension = false;
        let id = extension(&[2, 5, 29, 35], true, &[0x30, 4, 0x80, 2, 1, 2]);
        params.custom_extensions.push(id);
    });
    assert_eq!(broken(&der), [LintRule::AuthorityKeyIdNotCritical]);
}

fn subject_key_id(critical: bool) -> CustomExtension {
    extension(&[2, 5, 29, 14], critical, &[4, 2, 1, 2])
}

#[test]
fn subject_key_id_present() {
    // It becomes an extension that nothing knows.
    let der = patched(&ca(|_| {}), &extension_id(14), &extension_id(127));
    assert_eq!(broken(&der), [LintRule::SubjectKeyIdPresent]);
}

#[test]
fn subject_key_id_of_leaf() {
    let der = leaf(|params| params.is_ca = IsCa::NoCa);
    assert_eq!(broken(&der), [LintRule::SubjectKeyIdOfLeaf]);
}

#[test]
fn subject_key_id_not_critical() {
    let der = leaf(|params| {
        params.is_ca = IsCa::NoCa;
        params.custom_extensions.push(subject_key_id(true));
    });
    assert_eq!(broken(&der), [LintRule::SubjectKeyIdNotCritical]);
}
