//! What holds for every answer of an ACME server, and for whatever asks the responder.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use instant_acme::{ChallengeType, Error, Problem};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::error::{AcmeError, readable};
use super::responder::{Answers, serve};
use super::transport::wait;
use super::{Acme, AcmeSettings, ChallengeSolver, external_key, order};
use crate::ground::{SecretBytes, Trust};
use crate::pki::fuzzing::{ROOT, asked};
use crate::pki::key::PrivateKey;
use crate::pki::pem;
use crate::pki::request::CertificateRequest;

/// One issuer and one key for all inputs.
struct Fixture {
    acme: Acme,
    key: PrivateKey,
    request: CertificateRequest,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let roots = Trust::CaPem(pem::encode_certificate(ROOT).into_bytes());
    let directory = "https://acme.lan/dir".parse().expect("a URL");
    let settings = AcmeSettings::new(directory, roots, "/nonexistent/account.json");
    let solver = ChallengeSolver::Http01 {
        listen: ([127, 0, 0, 1], 0).into(),
    };
    let (key, request) = asked();
    Fixture {
        acme: Acme::new(settings, solver).expect("an issuer"),
        key,
        request,
    }
});

/// A problem is told in one line of bounded length, `Retry-After` is a time or nothing, and a
/// chain is a certificate for the key that it was asked for, or refused.
///
/// # Panics
/// Where that does not hold.
pub fn acme(data: &[u8]) {
    if let Ok(problem) = serde_json::from_slice::<Problem>(data) {
        let shown = readable(&problem);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.chars().count() <= 2_000, "a long message");
        let longest = Some(Duration::MAX);
        let told = AcmeError::of("ordering", Error::Api(problem), longest).to_string();
        assert!(told.chars().count() < 2_200, "a long message");
    }
    if let Ok(kind) = serde_json::from_slice::<ChallengeType>(data) {
        let _ = order::shown(&kind);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for now in [OffsetDateTime::UNIX_EPOCH, OffsetDateTime::now_utc()] {
        if let Some(wait) = wait(text, now) {
            assert!(!crate::pki::times::about(wait).is_empty());
            // Whoever reckons with it checks, as the transport does.
            let _ = std::time::Instant::now().checked_add(wait);
        }
    }
    if external_key("kid", &SecretBytes::new(data.to_vec())).is_ok() {
        assert!(text.is_ascii());
    }
    let fixture = &*FIXTURE;
    let now = OffsetDateTime::now_utc();
    let inner = &fixture.acme.inner;
    // Nobody but this process has the key, so that no certificate can be for it.
    let issued = inner.complete(&fixture.key, text, &fixture.request, now);
    assert!(issued.is_err(), "a certificate for another key");
}

/// The token that is answered, and with what.
const TOKEN: &str = "t0ken";
const AUTHORIZED: &str = "t0ken.thumbprint";

/// Whatever is asked, the responder ends, and shows an answer to who knows its token only.
///
/// # Panics
/// Where that does not hold.
pub fn responder(data: &[u8]) {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    });
    let answers: Answers = Arc::new(Mutex::new(
        [(TOKEN.to_owned(), (AUTHORIZED.to_owned(), 1))].into(),
    ));
    let answered = RUNTIME.block_on(async {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let asked = async {
            // It may hang up before all is said.
            let _ = far.write_all(data).await;
            let _ = far.shutdown().await;
            let mut answered = Vec::new();
            let _ = far.read_to_end(&mut answered).await;
            answered
        };
        let (_, answered) = tokio::join!(serve(near, answers), asked);
        answered
    });
    let within = |all: &[u8], part: &[u8]| all.windows(part.len()).any(|window| window == part);
    if within(&answered, AUTHORIZED.as_bytes()) {
        assert!(within(data, TOKEN.as_bytes()), "shown without the token");
        assert!(answered.starts_with(b"HTTP/1.") && within(&answered, b" 200 OK\r\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::fuzzed::replay;

    #[test]
    fn answers_hold() {
        replay("acme", acme);
    }

    #[test]
    fn requests_hold() {
        replay("responder", responder);
    }
}
