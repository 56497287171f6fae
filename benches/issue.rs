//! Issuing leaves with the embedded CA, by profile and kind of key.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use phoenix_core::pki::{CaParameters, CertificateRequest, EmbeddedCa, KeyType, Profile};

const DAY: Duration = Duration::from_secs(86_400);

fn issue(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let parameters = CaParameters::new("Bench CA", DAY * 3650, DAY * 1825, KeyType::EcdsaP256)
        .expect("parameters");
    let (ca, _) =
        EmbeddedCa::open_or_create(&directory.path().join("ca"), &parameters).expect("a CA");
    let now = time::OffsetDateTime::now_utc();
    let mut group = criterion.benchmark_group("issue");
    for profile in [Profile::Server, Profile::Client, Profile::Peer] {
        for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
            let sans = vec![
                "bench.lan".parse().expect("a name"),
                "*.bench.lan".parse().expect("a wildcard"),
                "10.0.0.1".parse().expect("an address"),
            ];
            let request = CertificateRequest::new("bench.lan", profile, sans, DAY * 90, key_type)
                .expect("a request");
            group.bench_function(format!("{profile}/{key_type}"), |bencher| {
                bencher.iter(|| ca.sign_at(&request, now).expect("issued"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, issue);
criterion_main!(benches);
