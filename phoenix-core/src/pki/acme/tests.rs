use super::*;
use crate::pki::{KeyType, Profile};

fn settings(directory: &str, trust: Trust) -> AcmeSettings {
    AcmeSettings::new(
        directory.parse().expect("url"),
        trust,
        "/nonexistent/account.json",
    )
}

fn http() -> ChallengeSolver {
    ChallengeSolver::Http01 {
        listen: ([127, 0, 0, 1], 0).into(),
    }
}

#[derive(Debug)]
struct NoHook;

#[async_trait]
impl DnsHook for NoHook {
    async fn set(&self, _: &TxtRecord, _: Deadline) -> Result<(), HookError> {
        Err("not to be called".into())
    }

    async fn clear(&self, _: &TxtRecord, _: Deadline) -> Result<(), HookError> {
        Err("not to be called".into())
    }
}

fn root() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("root").pem().into_bytes()
}

#[test]
fn settings_are_checked_without_contacting_anybody() {
    let made = |settings| {
        Acme::new(settings, http())
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let ca = Trust::CaPem(root());
    made(settings("https://192.0.2.1/dir", ca.clone())).expect("usable");
    made(settings("http://192.0.2.1/dir", ca.clone())).expect_err("not https");
    let pinned = made(settings(
        "https://192.0.2.1/dir",
        Trust::Fingerprint([0; 32]),
    ))
    .expect_err("no roots");
    assert!(pinned.contains("acme.roots"), "{pinned}");
    let mut broken = settings("https://192.0.2.1/dir", ca);
    broken.roots = Some(b"no PEM".to_vec());
    made(broken).expect_err("no root in it");
}

#[tokio::test]
async fn what_can_never_be_proven_is_refused_before_anybody_is_contacted() {
    let dns = ChallengeSolver::Dns01 {
        hook: Arc::new(NoHook),
        propagation: Duration::ZERO,
    };
    for (solver, name, expected) in [
        (http(), "*.a.lan", "a wildcard takes dns-01"),
        (dns.clone(), "10.0.0.1", "an IP address takes http-01"),
        (dns, "ops@a.lan", "not `"),
        (http(), "", "needs a DNS name"),
    ] {
        let acme = Acme::new(
            settings("https://192.0.2.1/dir", Trust::CaPem(root())),
            solver,
        )
        .expect("made");
        let names = if name.is_empty() {
            Vec::new()
        } else {
            vec![name.parse().expect("name")]
        };
        let request = CertificateRequest::new(
            "a",
            Profile::Client,
            names,
            Duration::from_secs(3_600),
            KeyType::EcdsaP256,
        )
        .expect("request");
        let error = acme
            .issue(&request, Deadline::after(Duration::from_secs(5)))
            .await
            .expect_err("refused");
        let text = error.source().expect("a cause").to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_record_belongs_to_the_name_without_its_star() {
    assert_eq!(
        TxtRecord::new("*.a.lan", "v".into()).name,
        "_acme-challenge.a.lan"
    );
    assert_eq!(
        TxtRecord::new("a.lan", "v".into()).name,
        "_acme-challenge.a.lan"
    );
}
