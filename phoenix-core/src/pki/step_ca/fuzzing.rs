//! What holds for every answer of a step-ca server, and for what is taken from it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::issuer::{Encrypted, Page, Server, StepCa, chosen};
use super::jwe::{JweError, Sealed, decrypt};
use super::limits::{Claims as Limits, go_duration};
use super::settings::StepCaSettings;
use super::token::{Claims, Signer};
use super::wire::{Answer, Wire};
use crate::ground::{SecretBytes, Trust};
use crate::pki::fuzzing::{ROOT, asked};
use crate::pki::key::PrivateKey;
use crate::pki::observed::fingerprint;
use crate::pki::pem;
use crate::pki::request::{CertificateRequest, Profile};

/// The most rounds of PBKDF2 that are done for an input.
const FEW_ROUNDS: u32 = 1_000;

/// The password of the inputs that decrypt, and their content.
const PASSWORD: &[u8] = b"p";
const CONTENT: &[u8] = b"{\"kty\":\"EC\"}";

const URL: &str = "https://ca.lan";

/// A text is refused before any work is done for it, or is a compact JWE that asks for acceptable
/// work, that a wrong password does not open and the right one to what was sealed.
///
/// # Panics
/// Where that does not hold.
pub fn jwe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sealed = match Sealed::parse(text) {
        Ok(sealed) => sealed,
        Err(error) => {
            assert!(!matches!(
                error,
                JweError::WrongPassword | JweError::Damaged
            ));
            let shown = error.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert!(shown.len() < 1_000, "a message of {} octets", shown.len());
            return;
        }
    };
    assert!(sealed.rounds.get() <= 5_000_000);
    if sealed.rounds.get() > FEW_ROUNDS {
        return;
    }
    match sealed.open(PASSWORD) {
        Ok(content) => assert_eq!(&content[..], CONTENT, "another content is authentic"),
        Err(error) => assert!(matches!(error, JweError::WrongPassword | JweError::Damaged)),
    }
    assert_eq!(decrypt(text, b"another"), Err(JweError::WrongPassword));
}

/// One issuer, one server and one key for all inputs.
struct Fixture {
    issuer: StepCa,
    server: Server,
    key: PrivateKey,
    request: CertificateRequest,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let url = URL.parse().expect("a URL");
    let root = rustls_pki_types::CertificateDer::from(ROOT.to_vec());
    let root_pem = pem::encode_certificate(&root);
    let client = Trust::CaPem(root_pem.clone().into_bytes());
    let client = client.client().expect("a client");
    let settings = StepCaSettings::new(
        URL.parse().expect("a URL"),
        fingerprint(&root),
        BTreeMap::from([(Profile::Server, "ops".to_owned())]),
        SecretBytes::from("secret".to_owned()),
    );
    let (key, request) = asked();
    Fixture {
        issuer: StepCa::new(settings),
        server: Server {
            wire: Wire::new(&url, client, Arc::new(Semaphore::new(1))).expect("a wire"),
            root,
            root_pem,
        },
        key,
        request,
    }
});

/// An answer makes no sense, or is what was asked for; either can be told in a line. What a server
/// says is never shown raw or at length, nothing that it says of lifetimes overflows, and no key
/// makes a token that is not three parts.
///
/// # Panics
/// Where that does not hold.
pub fn step_ca(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        durations(text);
    }
    if let Ok(limits) = serde_json::from_slice::<Limits>(data) {
        bounds(&limits);
    }
    signer(data);
    answer(data);
}

fn durations(text: &str) {
    let Some(duration) = go_duration(text) else {
        return;
    };
    assert!(!text.is_empty() && !text.contains(['-', '+', ' ']));
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    // One whole number of seconds or more, small enough for a float to hold exactly.
    if let (Ok(count), Some(length)) = (
        digits.parse::<u32>(),
        [("h", 3_600), ("m", 60), ("s", 1)]
            .into_iter()
            .find_map(|(name, length)| (name == unit).then_some(length)),
    ) {
        assert_eq!(duration, Duration::from_secs(u64::from(count) * length));
    }
}

fn bounds(limits: &Limits) {
    let _ = limits.shortest();
    assert_ne!(limits.longest(), Some(Duration::ZERO), "{limits:?}");
}

fn signer(data: &[u8]) {
    let signer = match Signer::from_jwk(data) {
        Ok(signer) => signer,
        Err(error) => {
            assert!(error.to_string().len() < 1_000, "a long message");
            return;
        }
    };
    let names = FIXTURE.request.sans();
    let claims = Claims {
        issuer: "ops",
        audience: "https://ca.lan/1.0/sign",
        subject: "app",
        sans: names,
        root: &[1; 32],
        csr: &[2; 32],
        now: OffsetDateTime::UNIX_EPOCH,
    };
    let token = signer.token("kid", &claims).expect("a token");
    assert_eq!(token.split('.').filter(|part| !part.is_empty()).count(), 3);
}

fn answer(data: &[u8]) {
    let fixture = &*FIXTURE;
    let wire = &fixture.server.wire;
    let answer = Answer {
        status: 500,
        body: data.to_vec(),
        request_id: "id".to_owned(),
        date: None,
    };
    let refused = answer.refused("sign a certificate").to_string();
    assert!(!refused.contains(char::is_control), "{refused:?}");
    assert!(refused.chars().count() < 600, "a long message");
    if let Ok(page) = wire.parse::<Page>(&answer) {
        for listed in &page.provisioners {
            bounds(&listed.claims.clone().unwrap_or_default());
            if let Ok((found, _)) = chosen(&page.provisioners, &listed.name) {
                assert_eq!(found.name, listed.name);
            }
            listed
                .encrypted_key
                .iter()
                .for_each(|key| jwe(key.as_bytes()));
        }
        let missing = chosen(&page.provisioners, "\n").err();
        assert!(missing.is_some() || page.provisioners.iter().any(|one| one.name == "\n"));
    }
    if let Ok(encrypted) = wire.parse::<Encrypted>(&answer) {
        jwe(encrypted.key.as_bytes());
    }
    // Nobody but this process has the key, so that no certificate can be for it.
    let issued = fixture.issuer.bundle(
        &fixture.server,
        "ops",
        &fixture.request,
        &fixture.key,
        &answer,
    );
    assert!(issued.is_err(), "a certificate for another key");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::fuzzed::replay;

    #[test]
    fn encrypted_keys_hold() {
        replay("jwe", jwe);
    }

    #[test]
    fn answers_hold() {
        replay("step_ca", step_ca);
    }
}
