//! Issuing leaves with the embedded CA, by profile and kind of key, also beside bare aws-lc-rs.
//!
//! After criterion's own measurements a line per case says how the whole of issuing, from the
//! request to the PEM of key and chain, compares with the cryptography in it: generating the
//! key, and one signature of the CA's over as many octets, and encoding as many octets of PEM.
//! Both are measured in turns in the same run, so that a machine that is slow or busy is so for
//! both. The inventory is left out: its record waits for the disk. A ratio of 1 would mean that all else costs nothing; the goal is [`GOAL`].

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, criterion_group};
use phoenix_core::pki::{Bundle, CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile};

const DAY: Duration = Duration::from_secs(86_400);

/// The least part of the time of issuing that should go into cryptography.
const GOAL: f64 = 0.8;

/// Turns that each of the two takes, and certificates made in one.
const TURNS: usize = 401;
const PER_TURN: u32 = 5;

const KEY_TYPES: [KeyType; 3] = [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Ed25519];

/// Octets of a signature of the CA's: by P-256 as DER.
const SIGNATURE: usize = 71;

fn embedded_ca() -> (tempfile::TempDir, EmbeddedCa) {
    let directory = tempfile::tempdir().expect("a directory");
    let parameters = CaParameters::new("Bench CA", DAY * 3650, DAY * 1825, KeyType::EcdsaP256)
        .expect("parameters");
    let (ca, _) =
        EmbeddedCa::open_or_create(&directory.path().join("ca"), &parameters).expect("a CA");
    (directory, ca)
}

fn request(profile: Profile, key_type: KeyType) -> CertificateRequest {
    let sans = ["bench.lan", "*.bench.lan", "10.0.0.1"]
        .map(|name| name.parse().expect("a name"))
        .to_vec();
    CertificateRequest::new("bench.lan", profile, sans, DAY * 90, key_type).expect("a request")
}

fn issue(criterion: &mut Criterion) {
    let (_directory, ca) = embedded_ca();
    let now = time::OffsetDateTime::now_utc();
    let mut group = criterion.benchmark_group("issue");
    for profile in Profile::ALL {
        for key_type in KEY_TYPES {
            let request = request(profile, key_type);
            group.bench_function(format!("{profile}/{key_type}"), |bencher| {
                bencher.iter(|| ca.sign_at(&request, now).expect("issued"));
            });
        }
    }
    group.finish();
}

/// What [`EmbeddedCa::sign_at`] cannot do without, with nothing around it.
struct Bare {
    ca_key: EcdsaKeyPair,
    random: SystemRandom,
    key_type: KeyType,
    /// As large as what the CA signs.
    to_be_signed: Vec<u8>,
    /// As large as the intermediate, whose PEM is part of the chain's.
    intermediate: Vec<u8>,
}

impl Bare {
    fn like(bundle: &Bundle, key_type: KeyType) -> Self {
        let [leaf, intermediate] = &bundle.chain_der()[..] else {
            panic!("a leaf and an intermediate are expected");
        };
        Self {
            ca_key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"),
            random: SystemRandom::new(),
            key_type,
            to_be_signed: leaf[..leaf.len() - SIGNATURE].to_vec(),
            intermediate: intermediate.to_vec(),
        }
    }

    /// The PEM of the key and of what stands for the chain.
    fn issue(&self) -> (Vec<u8>, Vec<u8>) {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let key = EcdsaKeyPair::generate(algorithm).expect("a key");
            pem("PRIVATE KEY", key.to_pkcs8v1().expect("DER").as_ref())
        };
        let key = match self.key_type {
            KeyType::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::Ed25519 => {
                let key = Ed25519KeyPair::generate().expect("a key");
                let der: Pkcs8V1Der<'_> = key.as_der().expect("DER");
                pem("PRIVATE KEY", der.as_ref())
            }
            other => panic!("{other} is not measured"),
        };
        let signature = self
            .ca_key
            .sign(&self.random, &self.to_be_signed)
            .expect("a signature");
        let leaf = [&self.to_be_signed[..], signature.as_ref()].concat();
        let mut chain = pem("CERTIFICATE", &leaf);
        chain.extend(pem("CERTIFICATE", &self.intermediate));
        (key, chain)
    }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    text
}

/// How long each of [`PER_TURN`] runs of `work` takes.
fn turn<T>(mut work: impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..PER_TURN {
        black_box(work());
    }
    start.elapsed() / PER_TURN
}

/// `values` in order, and the one in the middle.
fn median<T: Copy>(mut values: Vec<T>, compare: impl FnMut(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_by(compare);
    values[values.len() / 2]
}

/// Prints a line per case: both times, and the part of the first that the second makes.
#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is run for"
)]
fn ratios() {
    let (_directory, ca) = embedded_ca();
    let now = time::OffsetDateTime::now_utc();
    println!("\nkey, certificate and PEM against bare aws-lc-rs (goal: at least {GOAL})");
    for profile in Profile::ALL {
        for key_type in KEY_TYPES {
            let request = request(profile, key_type);
            let phoenix = || {
                let bundle = ca.sign_at(&request, now).expect("issued");
                (bundle.key_pem(), bundle.chain_pem())
            };
            let bare = Bare::like(&ca.sign_at(&request, now).expect("issued"), key_type);
            let (mut ours, mut theirs, mut parts) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..TURNS {
                let (own, other) = (turn(phoenix), turn(|| bare.issue()));
                ours.push(own);
                theirs.push(other);
                parts.push(other.as_secs_f64() / own.as_secs_f64());
            }
            let part = median(parts, f64::total_cmp);
            println!(
                "{:<20} phoenix {:>7.1} µs   bare {:>7.1} µs   ratio {part:.2}{}",
                format!("{profile}/{key_type}"),
                median(ours, Duration::cmp).as_secs_f64() * 1e6,
                median(theirs, Duration::cmp).as_secs_f64() * 1e6,
                if part < GOAL { "   BELOW THE GOAL" } else { "" }
            );
        }
    }
}

criterion_group!(benches, issue);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    ratios();
}
